"""Imports point one way among the rooms; type-only ones and those inside functions count."""

from __future__ import annotations

import ast
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from ..conftest import ROOT
from .reading import imports_in

_NUMPY = {"backend/shot", "backend/bodies", "backend/motions"}
_SHARED = _NUMPY | {"backend/catalogue", "backend/farm", "backend/wire", "backend/client"}
_PICTURES = _NUMPY | {"backend/media", "backend/raster"}
_DRAWN = _PICTURES | {"backend/control"}
_NETWORKS = _DRAWN | {"backend/catalogue", "backend/models"}
_BLENDER = _SHARED | {"scene", "scene/rig", "scene/camera", "scene/capture", "scene/screen", "scene/job"}

ALLOWED: dict[str, set[str]] = {
    "backend/shot": {"backend/catalogue"},
    "backend/bodies": {"backend/catalogue", "backend/shot"},
    "backend/motions": {"backend/catalogue", "backend/shot", "backend/bodies"},
    "backend/catalogue": set(),
    "backend/farm": {"backend/catalogue", "backend/shot"},
    "backend/wire": set(),
    "backend/client": {"backend/wire"},
    "backend/media": {"backend/shot"},
    "backend/raster": {"backend/shot", "backend/bodies", "backend/media"},
    "backend/control": _PICTURES - {"backend/motions"} | {"backend/catalogue"},
    "backend/models": _DRAWN - {"backend/motions"} | {"backend/catalogue"},
    "backend/server": {"backend/shot", "backend/media", "backend/models", "backend/catalogue", "backend/wire"},
    "backend/worlds": _PICTURES,
    "backend/training": _NETWORKS | {"backend/worlds"},
    "backend/evaluation": _NETWORKS | {"backend/worlds", "backend/training"},
    "backend/ablation": _NETWORKS | {"backend/worlds", "backend/training", "backend/evaluation"},
    "backend/batch": _NETWORKS - {"backend/motions"} | {"backend/client", "backend/evaluation"},
    "backend/check_body": {"backend/bodies"},
    "backend/export_cameras": {"backend/shot"},
    "backend/inspect": {"backend/shot", "backend/media", "backend/raster"},
    "backend/cli": {"backend/models"},
    "backend": set(),
    "presets": set(),
    "scene": _SHARED,
    "scene/rig": _SHARED | {"scene"},
    "scene/camera": _SHARED | {"scene", "scene/rig"},
    "scene/capture": _SHARED | {"scene", "scene/rig", "scene/camera"},
    "scene/screen": _SHARED | {"scene", "scene/rig", "scene/camera", "scene/capture"},
    "scene/job": _SHARED | {"scene", "scene/rig", "scene/camera", "scene/capture", "scene/screen"},
    "operators": _BLENDER,
    "panels": _BLENDER | {"operators"},
    ".": _BLENDER | {"operators", "panels"},
}
"""The rooms that each room may import, besides itself."""


def files() -> list[Path]:
    """The package's own files, as paths from its root."""
    tops = sorted({room.partition("/")[0] for room in ALLOWED} - {"."})
    below = [path for top in tops for path in (ROOT / top).rglob("*.py")]
    return sorted(path.relative_to(ROOT) for path in [*ROOT.glob("*.py"), *below] if path.name != "setup.py")


def room_of(path: Path) -> str:
    """A file's room: its folder, two deep; a file of ``backend`` itself is a room of its own."""
    if path.parts[:-1] == ("backend",) and path.name != "__init__.py":
        return path.with_suffix("").as_posix()
    return "/".join(path.parts[:-1][: 1 if path.parts[0] == "presets" else 2]) or "."


@cache
def imports_of(path: Path) -> set[Path]:
    """The package's files that a file imports anywhere."""
    found = set()
    for node in imports_in(ROOT / path):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        base = path.parts[: len(path.parts) - node.level] + tuple(node.module.split(".") if node.module else ())
        for alias in node.names:
            found.add(_module(*base, alias.name) or _module(*base))
    return found - {None, path}


def _module(*parts: str) -> Path | None:
    """The file of a module, or None where the name is no module."""
    candidates = (Path(*parts).with_suffix(".py"), Path(*parts, "__init__.py")) if parts else (Path("__init__.py"),)
    return next((path for path in candidates if (ROOT / path).is_file()), None)


def test_every_room_has_its_arrows():
    """A new folder must be placed; and of what stands in the table only the wire need not be there yet."""
    rooms = {room_of(path) for path in files()}
    assert rooms <= set(ALLOWED)
    assert set(ALLOWED) - rooms <= {"backend/wire"}


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_arrows_point_one_way(room):
    for path in files():
        if room_of(path) == room:
            for found in imports_of(path):
                assert room_of(found) in ALLOWED[room] | {room}, f"{path} imports {found}"


def test_rooms_have_an_order():
    """The table itself allows no circle."""
    TopologicalSorter(ALLOWED).prepare()


def test_no_circle_among_files():
    TopologicalSorter({path: imports_of(path) for path in files()}).prepare()
