"""Fingers and eyes of any armature, by the names that rigs give them.

Known spellings: SMPL-H and SMPL-X (``left_index1``), Mixamo (``mixamorig:LeftHandIndex1``), Unreal (``index_01_l``),
MakeHuman (``finger2-1.L``, the thumb being finger 1), Rigify (``DEF-f_index.01.L``), Biped (``Bip01 L Finger1``, the
thumb being finger 0), Character Creator (``CC_Base_L_Index1``), VRM (``J_Bip_L_Index1``), Daz (``lIndex1``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

FINGERS: dict[str, tuple[str, ...]] = {
    "thumb": ("thumb",),
    "index": ("index",),
    "middle": ("middle", "mid"),
    "ring": ("ring",),
    "little": ("pinky", "pinkie", "little"),
}
"""The fingers as the keypoints name them, and how rigs do."""

_WORDS = {word: finger for finger, words in FINGERS.items() for word in words}
_FINGER = re.compile(
    r"(?:^[lr]?|[^a-z][lr]?|hand|left|right|finger)(thumb|index|middle|mid|ring|pinky|pinkie|little)(?:finger)?[^a-z0-9]*(\d*)"
)
_NUMBERED = re.compile(r"finger(\d)[^a-z0-9]*(\d*)")
_TIP = re.compile(r"(nub|tip|end)($|[^a-z])")
_OTHER = re.compile(
    r"metacarpal|carpal|palm|twist|ik($|[^a-z])|ctrl|control|pole|target|master|tweak|roll|volume|helper|string"
)
_NOT_EYE = re.compile(
    r"lid|brow|lash|target|ctrl|control|aim|look|corner|master|bag|socket|ik($|[^a-z])|nub|end($|[^a-z])"
)
_LEFT = re.compile(r"(^|[^a-z])l($|[^a-z])|left")
_RIGHT = re.compile(r"(^|[^a-z])r($|[^a-z])|right")
_PREFIXES = ("DEF-", "ORG-", "")
_MECHANISM = ("DEF-", "ORG-", "MCH-", "VIS-", "WGT-")


@dataclass(frozen=True)
class Finger:
    """A finger's bones.

    Attributes:
        bones: names from the palm outwards.
        tip: whether the last of them only marks the fingertip by its head.
    """

    bones: tuple[str, ...]
    tip: bool


def side_of(name: str) -> str:
    """``left``, ``right`` or "" by a bone's name."""
    short = name.rsplit(":", 1)[-1]
    lower = short.lower()
    for side, pattern in (("left", _LEFT), ("right", _RIGHT)):
        if pattern.search(lower):
            return side
    if re.match(r"[lr][A-Z]", short):
        return "left" if short[0] == "l" else "right"
    return ""


def _plain(names: Iterable[str], prefix: str) -> dict[str, str]:
    """Name without the prefix to the name itself, of the bones that carry just that prefix."""
    return {
        name[len(prefix) :]: name
        for name in names
        if name.startswith(prefix) and not name[len(prefix) :].startswith(_MECHANISM)
    }


def finger_bones(parents: dict[str, str], *, plain_only: bool = False) -> dict[tuple[str, str], Finger]:
    """The fingers of a skeleton, by side (``left``, ``right``) and finger (``thumb`` ... ``little``).

    Args:
        parents: name of each bone to that of its parent, "" for none.
        plain_only: pass over what carries Rigify's prefixes.
    """
    for prefix in ("",) if plain_only else _PREFIXES:
        found: dict[tuple[str, str], list[tuple[int, str]]] = {}
        for short, name in _plain(parents, prefix).items():
            part = _finger_of(short)
            if part is not None:
                side, finger, number = part
                found.setdefault((side, finger), []).append((number, name))
        fingers = {}
        for key, bones in found.items():
            chain = _chain([name for _, name in sorted(bones)], parents)
            if len(chain) >= 2:
                tip = len(chain) >= 4 or bool(_TIP.search(chain[-1].lower()))
                fingers[key] = Finger(tuple(chain[:4]), tip)
        if fingers:
            return fingers
    return {}


def _finger_of(name: str) -> tuple[str, str, int] | None:
    """Side, finger and number of the segment that a bone is, or None."""
    side, lower = side_of(name), name.rsplit(":", 1)[-1].lower()
    if not side or _OTHER.search(lower):
        return None
    last = 99 if _TIP.search(lower) else 0
    match = _NUMBERED.search(lower)
    if match:
        finger, segment = int(match[1]), match[2]
        # Biped counts from 0 and writes the first segment without a number; MakeHuman from 1, with "-1".
        counted_from = 1 if re.search(r"finger\d-\d", lower) else 0
        if not 0 <= finger - counted_from < 5:
            return None
        return side, tuple(FINGERS)[finger - counted_from], last or int(segment or 0)
    match = _FINGER.search(lower)
    if match is None:
        return None
    return side, _WORDS[match[1]], last or int(match[2] or 0)


def _chain(names: list[str], parents: dict[str, str]) -> list[str]:
    """The bones that follow each other from parent to child; a bone that is no descendant of the last is left out."""
    chain: list[str] = []
    for name in names:
        if not chain or chain[-1] in _above(name, parents):
            chain.append(name)
    return chain


def _above(name: str, parents: dict[str, str]) -> list[str]:
    line = []
    while (name := parents.get(name, "")) and name not in line:
        line.append(name)
    return line


def eye_bones(names: Iterable[str], *, plain_only: bool = False) -> dict[str, str]:
    """The bones of the eyeballs by side, where both are there; else none."""
    names = list(names)
    for prefix in ("",) if plain_only else _PREFIXES:
        found: dict[str, str] = {}
        for short, name in sorted(_plain(names, prefix).items(), key=lambda item: (len(item[0]), item[0])):
            lower = short.rsplit(":", 1)[-1].lower()
            side = side_of(short)
            if side and "eye" in lower and not _NOT_EYE.search(lower):
                found.setdefault(side, name)
        if len(found) == 2:
            return found
    return {}
