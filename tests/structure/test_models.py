"""Inside backend/models: floors that import only those below, and families that nothing but their presets names."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from ..conftest import ROOT
from .test_arrows import files, imports_of

MODELS = Path("backend/models")
FAMILIES = sorted(path.parent.name for path in (ROOT / MODELS).glob("*/family.py"))
FLOORS = (
    {"registry.py"},
    {
        f"weights/{name}.py"
        for name in ("component", "reading", "writing", "finding", "recognising", "gguf_files", "gguf_header")
    },
    {"lora", "loading.py"},
    {"memory"},
    {"engine.py", "generation.py", "finishing.py"},
    set(FAMILIES),
    {"render.py", "weights"},
)
"""From the lowest, by file or folder. Below them lies what all share; on top, what is left of ``weights``: its
commands, and how much a model takes."""


def floor_of(path: Path) -> int:
    """A file's floor; 0 for what all share."""
    inside = path.relative_to(MODELS)
    for name in (inside.as_posix(), inside.parts[0]):
        for floor, names in enumerate(FLOORS, 1):
            if name in names:
                return floor
    assert len(inside.parts) == 1, f"{path}: no floor has this folder"
    return 0


def inner() -> list[Path]:
    return [path for path in files() if path.is_relative_to(MODELS)]


def test_floors_import_only_those_below() -> None:
    assert {floor_of(path) for path in inner()} == set(range(len(FLOORS) + 1))
    for path in inner():
        for found in imports_of(path):
            if found.is_relative_to(MODELS):
                assert floor_of(found) <= floor_of(path), f"{path} imports {found}, which is above it"


def test_only_a_family_and_its_presets_know_it() -> None:
    """Adding one touches nothing else; what learns or measures may be about families of its own choice."""
    for path in files():
        inside = path.parts[2] if path.is_relative_to(MODELS) else ""
        if path.as_posix().startswith(("backend/training", "backend/evaluation", "backend/ablation")):
            continue
        known = {found.parts[2] for found in imports_of(path) if found.is_relative_to(MODELS)}
        if path != Path("backend/shot/framing.py"):  # what it holds framing against lies beside MTVCrafter's preset
            # A family that bears the name of a room of the backend is not meant where that is called.
            words = set(re.findall(r"[\"'](\w+)[\"']", (ROOT / path).read_text("utf-8")))
            known |= {word for word in words if not (ROOT / "backend" / word).is_dir()}
        assert not (known - {inside}) & set(FAMILIES), path


def test_every_family_has_a_description_and_every_description_a_family() -> None:
    presets = (ROOT / "presets" / "models").glob("*.toml")
    engines = {tomllib.loads(path.read_text("utf-8"))["engine"] for path in presets}
    assert engines == set(FAMILIES)
    for family in FAMILIES:
        assert "\ndef make_plan(" in (ROOT / MODELS / family / "plan.py").read_text("utf-8")
