"""The two halves stay apart: Blender's without torch, the backend's without bpy."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from ..conftest import HAS_BPY, HAS_TORCH, ROOT
from .reading import imports_in

BACKEND_ONLY = (
    "torch", "diffusers", "transformers", "accelerate", "safetensors", "scipy", "PIL", "av", "imageio", "fastapi",
    "uvicorn", "cv2", "sse_starlette", "tqdm", "platformdirs", "multipart", "psutil", "torchmetrics", "matplotlib",
    "smplx", "jinja2",
)  # fmt: skip
"""Packages that Blender's own Python does not have."""

IN_BLENDER = ("operators", "panels", "scene", "backend/shot", "backend/bodies", "backend/motions", "backend/catalogue",
              "backend/client")  # fmt: skip
BLENDER_ONLY = ("bpy", "bmesh", "mathutils", "bpy_extras", "gpu")
WITHOUT_BLENDER = "backend"

_BLOCKER = """
import importlib, importlib.abc, importlib.util, pathlib, sys

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ImportError(f"blocked: {{name}}")

sys.meta_path.insert(0, Blocker())
root = pathlib.Path({root!r})
spec = importlib.util.spec_from_file_location("maquette", root / "__init__.py", submodule_search_locations=[str(root)])
package = importlib.util.module_from_spec(spec)
sys.modules["maquette"] = package
spec.loader.exec_module(package)
for pattern in {patterns!r}:
    count = 0
    for path in sorted(root.glob(pattern)):
        if path.name in ("__main__.py", "setup.py"):
            continue
        parts = ["maquette", *path.relative_to(root).with_suffix("").parts]
        importlib.import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
        count += 1
    print(count)
"""


def import_all(patterns: list[str], blocked: tuple[str, ...]) -> list[int]:
    """Import every matching module in a new interpreter that lacks ``blocked``; return how many each pattern has."""
    code = _BLOCKER.format(blocked=set(blocked), root=str(ROOT), patterns=patterns)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/", timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return [int(count) for count in done.stdout.split()[-len(patterns) :]]


@pytest.mark.skipif(not HAS_TORCH, reason="the whole backend imports only in the backend's environment")
def test_backend_imports_without_blender(monkeypatch: pytest.MonkeyPatch):
    """In this interpreter, which has none of Blender's modules: what is imported already was imported without them."""
    assert not set(BLENDER_ONLY) & sys.modules.keys()
    for name in BLENDER_ONLY:
        monkeypatch.setitem(sys.modules, name, None)
    found = [path for path in (ROOT / WITHOUT_BLENDER).rglob("*.py") if path.name != "__main__.py"]
    assert len(found) > 20
    for path in sorted(found):
        parts = ["maquette", *path.relative_to(ROOT).with_suffix("").parts]
        importlib.import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))


@pytest.mark.skipif(not HAS_BPY, reason="the add-on imports only in Blender's environment")
def test_what_blender_runs_imports_without_the_backends_packages():
    counts = import_all([*(f"{folder}/**/*.py" for folder in IN_BLENDER), "*.py"], BACKEND_ONLY)
    assert all(count >= 1 for count in counts), counts


def imports_of(path: Path) -> set[str]:
    """Absolute top-level names imported anywhere in a file, functions included."""
    names: set[str] = set()
    for node in imports_in(path):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif node.level == 0 and node.module:
            names.add(node.module.partition(".")[0])
    return names


def test_no_import_hides_in_a_function():
    for folder in IN_BLENDER:
        for path in (ROOT / folder).rglob("*.py"):
            found = imports_of(path) & set(BACKEND_ONLY)
            assert not found, f"{path.relative_to(ROOT)} imports {found}"
    for path in (ROOT / WITHOUT_BLENDER).rglob("*.py"):
        found = imports_of(path) & set(BLENDER_ONLY)
        assert not found, f"{path.relative_to(ROOT)} imports {found}"


def test_code_that_ships_imports_itself_relatively():
    """Inside Blender the package is called ``bl_ext.<repository>.maquette``."""
    for folder in (*IN_BLENDER, "backend"):
        for path in (ROOT / folder).rglob("*.py"):
            assert "maquette" not in imports_of(path), path.relative_to(ROOT)
