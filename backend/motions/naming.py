"""What joints are called: names without their dressing, and the schemes that say which name stands for what."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from ..catalogue.reader import CatalogueError, list_presets
from ..catalogue.rig import LIMB_ROLES, Scheme
from .types import MotionError

SIDES = ("left", "right")
TRIPLES = (("hip", "knee", "ankle"), ("shoulder", "elbow", "wrist"))
OWN = [Path(folder) for folder in os.environ.get("MAQUETTE_SKELETONS", "").split(os.pathsep) if folder]
"""Folders of the user's own schemes, beside those of ``presets/skeletons``."""
_LEFT = {"l", "left", "lft", "lf", "lt", "links", "gauche", "izquierda", "izq", "sinistra", "左"}
_RIGHT = {"r", "right", "rgt", "rt", "rg", "rechts", "droite", "droit", "derecha", "der", "destra", "右"}

Name = tuple[str, str]
"""A joint's side (``left``, ``right`` or "") and the rest of its name."""
NAMELESS: Name = ("", "")
"""What an end site is called."""


Known = tuple[Scheme, dict[str, list[Name]]]
"""A scheme, and its plain names by role."""


@cache
def _published(folder: Path) -> tuple[Known, ...]:
    try:
        return tuple((scheme, _plain_scheme(scheme)) for scheme in list_presets(Scheme, folder).values())
    except CatalogueError as error:
        raise MotionError("skeleton", str(error)) from error


def _own(faults: list[CatalogueError]) -> list[Scheme]:
    """The user's own schemes, the newest first; what cannot be read is told to ``faults``."""
    found = []
    for folder in OWN:
        for scheme in list_presets(Scheme, folder, faults.append).values():
            found.append(((folder / f"{scheme.id}.toml").stat().st_mtime_ns, scheme))
    return [scheme for _, scheme in sorted(found, key=lambda item: -item[0])]


def schemes(faults: list[CatalogueError]) -> list[Known]:
    """All schemes, the user's own last; files of these that cannot be read are told to ``faults``.

    Raises:
        MotionError: a file of ``presets/skeletons`` cannot be read.
    """
    return [*_published(Scheme.FOLDER), *((scheme, _plain_scheme(scheme)) for scheme in _own(faults))]


def joint_labels(names: Sequence[str], parents: Sequence[int] | np.ndarray) -> list[str]:
    """Names without namespace, each once: of several alike the second is ``Leg #2``; an end site is ``Foot End``."""
    out: list[str] = []
    seen: Counter[str] = Counter()
    for name, parent in zip(names, parents, strict=True):
        label = re.split(r"[:|]", name)[-1] or name or f"{out[parent]} End"
        seen[label] += 1
        out.append(label if seen[label] == 1 else f"{label} #{seen[label]}")
    return out


def own_scheme(names: Sequence[str], parents: np.ndarray) -> tuple[Scheme, dict[str, list[int]]] | None:
    """The user's newest scheme all of whose joints are there by their very labels, and its joints by role."""
    where = {label: joint for joint, label in enumerate(joint_labels(names, parents))} if OWN else {}
    for scheme in _own([]) if OWN else ():
        if all(name in where for options in scheme.joints.values() for name in options):
            return scheme, {role: [where[name] for name in options] for role, options in scheme.joints.items()}
    return None


def plain_names(names: Sequence[str]) -> list[Name]:
    """Names without namespace, separators, case and what nearly all share; the side apart, however it is spelled."""
    words = [_words(re.split(r"[:|]", name)[-1]) for name in names]
    known = {word for line in words for word in line}

    def sided(line: list[str]) -> tuple[str, list[str]]:
        for index, word in enumerate(line):
            for side, spellings, letter, other in (("left", _LEFT, "l", "r"), ("right", _RIGHT, "r", "l")):
                if word in spellings:
                    return side, line[:index] + line[index + 1 :]
                rest = ""
                if len(word) > 2 and word[0] == letter and other + word[1:] in known:
                    rest = word[1:]
                elif len(word) > 2 and word[-1] == letter and word[:-1] + other in known:
                    rest = word[:-1]
                rest = word.replace(side, "", 1) if side in word else rest
                if rest:
                    return side, [*line[:index], rest, *line[index + 1 :]]
        return "", line

    lines = [sided(line) for line in words]
    told = sum(map(bool, words))
    while True:
        first, count = max(Counter(rest[0] for _, rest in lines if rest).items(), key=lambda kv: kv[1], default=("", 0))
        if told < 4 or count < 0.85 * told:
            return [(side, "".join(rest)) for side, rest in lines]
        lines = [(side, rest[1:] if rest[:1] == [first] else rest) for side, rest in lines]


def _words(name: str) -> list[str]:
    """LeftUpLeg, left_up_leg and spine_01 as words in lower case, numbers without leading zeros."""
    found = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_A-Za-z]", name)
    return [str(int(word)) if word.isdecimal() else word.lower() for word in found]


def _plain_scheme(scheme: Scheme) -> dict[str, list[Name]]:
    listed = [(role, name) for role, options in scheme.joints.items() for name in options]
    out: dict[str, list[Name]] = {}
    for (role, _), name in zip(listed, plain_names([name for _, name in listed]), strict=True):
        out.setdefault(role, []).append(name)
    return out


def match(
    wanted: Mapping[str, list[Name]], names: list[Name], parents: np.ndarray
) -> tuple[dict[str, int], list[str], float]:
    """Joints by role, what is missing of limbs and head, and how many names the scheme explains.

    A wrist or ankle may be the nameless end of its limb.
    """
    where = {name: index for index, name in reversed(list(enumerate(names)))}
    joints: dict[str, int] = {}
    explained = 0.0
    for role, options in wanted.items():
        hits = [where[option] for option in options if option in where]
        if role in ("spine", "neck"):
            explained += len(hits) - 0.5 * (len(options) - len(hits))
        elif hits:
            joints[role] = hits[0]
            explained += 1
    for side in SIDES:
        for _, middle, last in TRIPLES:
            below = np.flatnonzero(parents == joints.get(f"{side}_{middle}", -2))
            ends = [int(j) for j in below if names[j] == NAMELESS]
            if ends and f"{side}_{last}" not in joints:
                joints[f"{side}_{last}"] = ends[0]
    missing = [" ".join(wanted[role][0]).strip() for role in (*LIMB_ROLES, "head") if role not in joints]
    return joints, missing, explained
