"""What an installation of the package carries besides Python files."""

from __future__ import annotations

import tomllib

from ..conftest import ROOT


def test_templates_are_package_data() -> None:
    everywhere = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["package-data"]["*"]
    templates = list((ROOT / "backend").rglob("*.jinja"))
    assert templates and all(any(path.match(pattern) for pattern in everywhere) for path in templates)
    assert all((path.parent / "__init__.py").is_file() for path in templates)
