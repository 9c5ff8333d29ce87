"""The packages of ``maquette``, whose root folder is the repository's: setuptools' own discovery knows no such root."""

from setuptools import find_packages, setup

below = find_packages(include=("backend", "backend.*", "presets"))
setup(packages=["maquette", *(f"maquette.{name}" for name in below)])
