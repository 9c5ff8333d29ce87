"""What a rig is made of: bodies, poses, and the naming schemes of foreign skeletons."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from .reader import PRESETS, Preset, build

_LIMBS = ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")
_ENDS = ("foot", "collar", "hand")
LIMB_ROLES = tuple(f"{side}_{limb}" for side in ("left", "right") for limb in _LIMBS)
REQUIRED = ("pelvis", "spine", "head", *LIMB_ROLES)
"""What a naming scheme must name."""

ROLES = (*REQUIRED, "neck", *(f"{side}_{end}" for side in ("left", "right") for end in _ENDS))
"""What it can name: SMPL's joints, with its spine as one chain."""

JOINTS = (*(role for role in ROLES if role != "spine"), "spine1", "spine2", "spine3")
"""SMPL's 24 joints by name, in no order."""


def _known(names: Mapping[str, object], known: tuple[str, ...]) -> None:
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"joints.{unknown[0]} is no joint; choose from {', '.join(known)}")


@dataclass(frozen=True)
class Pose(Preset):
    """One file of ``presets/poses``.

    Attributes:
        joints: SMPL joint name -> rotation vector (x, y, z) in degrees, relative to the parent, in the canonical frame
            (Y up, facing +Z, left side at +X). Joints that are not named rest; the root turns from the body's upright
            facing.
    """

    FOLDER: ClassVar[Path] = PRESETS / "poses"
    description: str = ""
    order: float = 100
    joints: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _known(self.joints, JOINTS)


@dataclass(frozen=True)
class Scheme(Preset):
    """One file of ``presets/skeletons``; the README there explains it.

    Attributes:
        joints: role -> names, for a chain (``spine``, ``neck``) from the pelvis upwards, else in order of preference.
    """

    FOLDER: ClassVar[Path] = PRESETS / "skeletons"
    joints: Mapping[str, tuple[str, ...]]

    def __post_init__(self) -> None:
        _known(self.joints, ROLES)
        if missing := [role for role in REQUIRED if not self.joints.get(role)]:
            raise ValueError(f"joints.{missing[0]} is missing; name the joint that stands for it")


def write_scheme(folder: Path, label: str, joints: Mapping[str, Sequence[str]], name: str = "") -> Path:
    """Write a naming scheme as a file like those of ``presets/skeletons``, whole or not at all.

    Args:
        folder: where; made if missing.
        label: what the animator reads.
        joints: as in ``Scheme``.
        name: of the file that it replaces, without ending. Empty: a new one, named after the label.

    Raises:
        CatalogueError: a joint that is needed is missing.
        OSError: it cannot be written.
    """
    build(Scheme, {"joints": {role: list(names) for role, names in joints.items()}}, f"{label}: ", id="", label=label)
    folder.mkdir(parents=True, exist_ok=True)
    stem = re.sub(r"\W+", "_", label.lower()).strip("_")[:60] or "skeleton"
    taken = {path.stem.lower() for path in folder.glob("*.toml")}
    names = (stem, *(f"{stem}_{number}" for number in range(2, len(taken) + 3)))
    path = folder / f"{name or next(each for each in names if each not in taken)}.toml"
    lines = [f"label = {_quoted(label)}", "", "[joints]"]
    lines += [f"{role} = [{', '.join(map(_quoted, found))}]" for role, found in joints.items()]
    part = path.with_suffix(".part")
    part.write_text("\n".join(lines) + "\n", "utf-8")
    os.replace(part, path)
    return path


def _quoted(text: str) -> str:
    """A string of TOML, which escapes as JSON does."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


@dataclass(frozen=True)
class ShapeComponent:
    """What the animator reads of one of a body's shape components; an entry ``[[shape]]``.

    Attributes:
        label: of the slider.
        description: what grows with it.
    """

    label: str
    description: str = ""


@dataclass(frozen=True)
class BodyFile(Preset):
    """One file of ``presets/bodies``.

    Attributes:
        family: ``smpl``, ``smplh`` or ``smplx``.
        file: the body's .npz beside it.
        license: SPDX expression, or empty when unknown.
        source: what it was made from.
        shape: its shape components, in order, as far as they have names.
    """

    FOLDER: ClassVar[Path] = PRESETS / "bodies"
    family: Literal["smpl", "smplh", "smplx"]
    file: str
    description: str = ""
    license: str = ""
    source: str = ""
    shape: tuple[ShapeComponent, ...] = ()
