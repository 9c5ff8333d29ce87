"""Biovision Hierarchy (.bvh): text with a skeleton (HIERARCHY) and one row of channels a frame (MOTION).

Letters: T frames, J joints (end sites are no joints), K end sites.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .rates import USUAL, exact_rate
from .types import MotionError

MAX_JOINTS = 2_000
MAX_VALUES = 30_000_000

_POSITION = {"xposition": 0, "yposition": 1, "zposition": 2}
_ROTATION = {"xrotation": 0, "yrotation": 1, "zrotation": 2}


@dataclass(frozen=True, eq=False)
class BvhClip:
    """A parsed BVH file, in its own units and axes.

    Attributes:
        names: J joint names as written.
        parents: (J,) index of the parent, -1 for the root; parents come first.
        offsets: (J,3) offset from the parent in the zero pose; for the root its place in the zero pose.
        sites: (K,3) offset of each end site from the joint ``site_parents`` (K,).
        rotations: (T,J,3,3) of each joint relative to its parent.
        translations: (T,J,3) offset from the parent in each frame.
        frame_time: seconds a frame; 0 where the file tells none.
        digits: decimals with which the file writes it.
        notes: sentences for the animator.
    """

    names: tuple[str, ...]
    parents: np.ndarray
    offsets: np.ndarray
    sites: np.ndarray
    site_parents: np.ndarray
    rotations: np.ndarray
    translations: np.ndarray
    frame_time: float
    digits: int = 15
    notes: tuple[str, ...] = ()

    def zero_pose(self) -> np.ndarray:
        """(J,3) joint positions with every rotation zero and the root at the origin."""
        places = np.zeros_like(self.offsets)
        for j, parent in enumerate(self.parents):
            if parent >= 0:
                places[j] = places[parent] + self.offsets[j]
        return places

    def with_sites(self) -> BvhClip:
        """The clip with its end sites as joints that are called "" and never turn; those of no length are left out."""
        ends = np.linalg.norm(self.sites, axis=-1) > 1e-6
        offsets, frames = self.sites[ends], len(self.rotations)
        still = np.broadcast_to(np.eye(3), (frames, len(offsets), 3, 3))
        fixed = np.broadcast_to(offsets, (frames, len(offsets), 3))
        return replace(
            self,
            names=(*self.names, *[""] * len(offsets)),
            parents=np.concatenate([self.parents, self.site_parents[ends]]),
            offsets=np.concatenate([self.offsets, offsets]),
            sites=self.sites[:0],
            site_parents=self.site_parents[:0],
            rotations=np.concatenate([self.rotations, still], axis=1),
            translations=np.concatenate([self.translations, fixed], axis=1),
        )

    def part(self, keep: Sequence[int]) -> BvhClip:
        """The clip of some joints only (ascending, each with its ancestors), without end sites."""
        index = {old: new for new, old in enumerate(keep)}
        return replace(
            self,
            names=tuple(self.names[j] for j in keep),
            parents=np.array([index.get(int(self.parents[j]), -1) for j in keep]),
            offsets=self.offsets[keep],
            sites=self.sites[:0],
            site_parents=self.site_parents[:0],
            rotations=self.rotations[:, keep],
            translations=self.translations[:, keep],
        )

    def world(self) -> tuple[np.ndarray, np.ndarray]:
        """Global rotations (T,J,3,3) and joint positions (T,J,3) of every frame."""
        turns = np.empty_like(self.rotations)
        places = np.empty_like(self.translations)
        for j, parent in enumerate(self.parents):
            if parent < 0:
                turns[:, j], places[:, j] = self.rotations[:, j], self.translations[:, j]
                continue
            turns[:, j] = turns[:, parent] @ self.rotations[:, j]
            places[:, j] = places[:, parent] + np.einsum("tab,tb->ta", turns[:, parent], self.translations[:, j])
        return turns, places


@dataclass
class _Joint:
    name: str
    parent: int
    line: int
    offset: tuple[float, float, float] | None = None
    channels: tuple[str, ...] = ()
    site: bool = False


def parse_bvh(text: str) -> BvhClip:
    """Parse the text of a BVH file.

    Channels may come in any order and number; where a joint below the root carries position channels they replace
    its offset, unless they are zero throughout (some writers leave them empty).

    Raises:
        MotionError: with the line at fault, for anything that is not one complete skeleton with one root and as many
            complete rows of finite numbers as the file promises.
    """
    text = text.strip("\ufeff\0\x1a")
    if "\0" in text[:4096]:
        raise MotionError("file", "is not a text file, so no BVH")
    start, motion = _split(_without_comments(text))
    joints = _parse_hierarchy(start)
    frames, frame_time, digits, values, notes = _parse_motion(motion, start.count("\n"))

    nodes = [n for n in joints if not n.site]
    index = {id(n): i for i, n in enumerate(nodes)}
    parents = np.array([-1 if n.parent < 0 else index[id(joints[n.parent])] for n in nodes])
    offsets = np.array([n.offset for n in nodes], dtype=np.float64)
    ends = [n for n in joints if n.site]
    width = sum(len(n.channels) for n in nodes)
    if len(values) != frames * width:
        whole = len(values) // width if width else 0
        # Writers miscount by one; whole rows beyond what is promised are frames all the same.
        if not width or len(values) % width or whole < max(1, frames - 1):
            raise MotionError(
                "MOTION",
                f"{frames} frames of {width} channels need {frames * width} numbers, but the file holds {len(values)}; "
                "it is truncated or its header is wrong. Export it again",
            )
        notes += (f"the file promises {frames} frames and holds {whole}, all of which were read",)
        frames = whole
    rows = values.reshape(frames, width)
    rotations = np.broadcast_to(np.eye(3), (frames, len(nodes), 3, 3)).copy()
    translations = np.broadcast_to(offsets, (frames, len(nodes), 3)).copy()
    column = 0
    for j, node in enumerate(nodes):
        moved = {}
        for channel in node.channels:
            if channel in _POSITION:
                moved[_POSITION[channel]] = rows[:, column]
            else:
                rotations[:, j] = rotations[:, j] @ _axis_rotation(_ROTATION[channel], np.radians(rows[:, column]))
            column += 1
        if moved and (parents[j] < 0 or any(np.any(v) for v in moved.values())):
            for axis, series in moved.items():
                translations[:, j, axis] = series
    return BvhClip(
        names=tuple(n.name for n in nodes),
        parents=parents,
        offsets=offsets,
        sites=np.array([n.offset for n in ends], dtype=np.float64).reshape(-1, 3),
        site_parents=np.array([index[id(joints[n.parent])] for n in ends], dtype=int),
        rotations=rotations,
        translations=translations,
        frame_time=frame_time,
        digits=digits,
        notes=notes,
    )


def _without_comments(text: str) -> str:
    """Text without comments, its line ends plain."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not any(mark in text for mark in ("#", "//", ";", "%", "--", "/*")):
        return text
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    return re.sub(r"^[ \t]*(#|//|;|%|--).*$", "", text, flags=re.MULTILINE)


def _plain_numbers(text: str) -> str:
    """Numbers of one part of a file with decimal points, nothing between thousands, and blanks between numbers."""
    if not any(mark in text for mark in ",;\u00a0\u202f'\u2019"):
        return text
    text = re.sub(r",(?=\s|$)|;", " ", text)
    if re.search(r"\d[\u00a0\u202f'\u2019]\d{3}(?!\d)", text):
        text = re.sub(r"(?<=\d)[\u00a0\u202f'\u2019](?=\d{3}(?!\d))", "", text)
    if "," not in text:
        return text
    words = [word for word in text.split() if "," in word]
    if all(re.fullmatch(r"[-+]?\d{1,3}(,\d{3})+(\.\d*)?", word) for word in words) and "." in text:
        return text.replace(",", "")
    if all(re.fullmatch(r"[-+]?(\d{1,3}(\.\d{3})+|\d*),\d*([eE][-+]?\d+)?", word) for word in words):
        return re.sub(r"\S*,\S*", lambda found: found[0].replace(".", "").replace(",", "."), text)
    return text.replace(",", " ")


def _split(text: str) -> tuple[str, str]:
    """The text before and from the line MOTION on; what stands before HIERARCHY is left out."""
    start = re.search(r"^[ \t]*HIERARCHY\b", text, re.MULTILINE | re.IGNORECASE)
    if start is None:
        raise MotionError("file", "has no line HIERARCHY, so it is no BVH")
    text = re.sub(r"[^\n]", "", text[: start.start()]) + text[start.start() :]
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if line.strip().rstrip(":").upper() == "MOTION":
            return "\n".join(lines[:number]) + "\n", "\n".join(lines[number:])
    raise MotionError("MOTION", "is missing: the file ends within the skeleton. Export it again")


def _parse_hierarchy(text: str) -> list[_Joint]:
    """Joints and end sites in the order of the file."""
    joints: list[_Joint] = []
    stack: list[int] = []
    pending = -1
    for number, raw in enumerate(text.replace("{", "\n{\n").replace("}", "\n}\n").split("\n")):
        words = raw.split()
        if not words or (number == 0 and words[0].upper() == "HIERARCHY"):
            continue
        head, rest = words[0].upper(), words[1:]
        head = "END" if head == "ENDSITE" else head
        if head == "HIERARCHY" and not joints:
            continue
        if head in ("ROOT", "JOINT", "END"):
            if pending >= 0:
                raise MotionError("HIERARCHY", f"'{joints[pending].name}' lacks its opening brace")
            if head == "ROOT" and joints:
                raise MotionError(
                    "HIERARCHY",
                    f"a second root '{' '.join(rest)}' follows '{joints[0].name}': one body a file can be read. "
                    "Export each body by itself",
                )
            if head != "ROOT" and not stack:
                raise MotionError("HIERARCHY", f"'{raw.strip()}' stands outside the root")
            if len(joints) >= MAX_JOINTS:
                raise MotionError("HIERARCHY", f"more than {MAX_JOINTS} joints")
            name = "End Site" if head == "END" else " ".join(rest)
            if not name:
                raise MotionError("HIERARCHY", f"joint {len(joints) + 1} has no name")
            joints.append(_Joint(name, stack[-1] if stack else -1, number, site=head == "END"))
            pending = len(joints) - 1
        elif head == "{":
            if pending < 0:
                raise MotionError("HIERARCHY", "an opening brace stands before any joint")
            stack.append(pending)
            pending = -1
        elif head == "}":
            if not stack:
                raise MotionError("HIERARCHY", "has one closing brace too many")
            stack.pop()
        elif head == "OFFSET" and stack:
            joints[stack[-1]].offset = _offset(joints[stack[-1]].name, raw.strip()[len("OFFSET") :])
        elif head == "CHANNELS" and stack:
            joints[stack[-1]].channels = _channels(joints[stack[-1]], rest)
        else:
            raise MotionError("HIERARCHY", f"'{raw.strip()[:60]}' is not understood")
    if not joints:
        raise MotionError("HIERARCHY", "holds no joint")
    if stack or pending >= 0:
        raise MotionError("HIERARCHY", "ends before its last closing brace: the file is truncated")
    for joint in joints:
        if joint.offset is None:
            raise MotionError("HIERARCHY", f"'{joint.name}' has no OFFSET")
    return joints


def _offset(name: str, text: str) -> tuple[float, float, float]:
    try:
        values = tuple(float(w) for w in _plain_numbers(text).split())
    except ValueError:
        values = ()
    if len(values) != 3 or not np.isfinite(values).all() or max(map(abs, values)) > 1e6:
        raise MotionError("HIERARCHY", f"OFFSET of '{name}' is not three numbers: '{text.strip()[:60]}'")
    return values[0], values[1], values[2]


def _channels(joint: _Joint, words: list[str]) -> tuple[str, ...]:
    names = tuple(w.lower() for w in words[1:])
    if joint.site:
        raise MotionError("HIERARCHY", "an End Site has CHANNELS")
    if not words or not words[0].isdecimal() or int(words[0]) != len(names):
        raise MotionError("HIERARCHY", f"CHANNELS of '{joint.name}' does not count its names: '{' '.join(words)[:80]}'")
    for name in names:
        if name not in _POSITION and name not in _ROTATION:
            raise MotionError("HIERARCHY", f"'{joint.name}' has an unknown channel '{name[:40]}'")
    if len(set(names)) != len(names):
        raise MotionError("HIERARCHY", f"'{joint.name}' names a channel twice")
    return names


def _parse_motion(text: str, first_line: int) -> tuple[int, float, int, np.ndarray, tuple[str, ...]]:
    """Frame count, seconds a frame (0 when absent), the decimals of that, all numbers of the rows, and notes."""
    frames, frame_time, digits, rows, notes = -1, 0.0, 15, 0, ()
    lines = text.split("\n")
    for number, raw in enumerate(lines[1:], start=1):
        line = raw.strip()
        if not line:
            continue
        told = re.fullmatch(r"(frames|frame\s*time|frame\s*rate)\s*:?\s*(.*)", line, re.IGNORECASE)
        if told is None:
            rows = number
            break
        try:
            name, value = told[1].lower(), _plain_numbers(told[2]).strip()
            if name == "frames":
                frames = int(value) if value.isdecimal() else int(_whole(float(value)))
            else:
                frame_time, digits, notes = _frame_time(value, name.endswith("rate"))
        except (ValueError, OverflowError):
            raise MotionError("MOTION", f"line {first_line + number + 1} is not a number: '{line[:60]}'") from None
    if frames < 0:
        raise MotionError("MOTION", "does not say 'Frames:'")
    if frames == 0:
        raise MotionError("MOTION", "holds no frame")
    if not np.isfinite(frame_time) or frame_time < 0:
        raise MotionError("MOTION", f"'Frame Time: {frame_time}' is no duration")
    if not rows:
        raise MotionError("MOTION", f"promises {frames} frames but holds none: the file is truncated. Export it again")
    body = _plain_numbers("\n".join(lines[rows:]))
    if body.count(" ") + body.count("\t") > 40 * MAX_VALUES:
        raise MotionError("MOTION", f"holds more than {MAX_VALUES} numbers")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # numpy warns where it stops at a word that is no number
            values = np.fromstring(body, dtype=np.float64, sep=" ")
    except (ValueError, DeprecationWarning):
        word = next((w for w in body.split() if not _is_number(w)), "")
        raise MotionError("MOTION", f"holds something that is not a number: '{word[:40]}'") from None
    if len(values) > MAX_VALUES:
        raise MotionError("MOTION", f"holds more than {MAX_VALUES} numbers")
    if not np.isfinite(values).all():
        raise MotionError("MOTION", "holds NaN or infinity; clean the file or cut those frames")
    return frames, frame_time, digits, values, notes


def _whole(value: float) -> float:
    if value != int(value):
        raise ValueError
    return value


def _frame_time(text: str, rate: bool) -> tuple[float, int, tuple[str, ...]]:
    """Seconds a frame of what stands behind ``Frame Time:`` (or, if ``rate``, ``Frame Rate:``), its decimals, notes.

    No frame lasts a second: such times are frames per second where that is a usual rate, else milliseconds.
    """
    found = re.fullmatch(r"([-+.\deE]+|nan|inf)\s*(ms|s|sec|secs|seconds|fps)?", text, re.IGNORECASE)
    if found is None:
        raise ValueError
    value, unit = float(found[1]), (found[2] or "").lower()
    digits = len(found[1].partition(".")[2]) if "e" not in found[1].lower() else 15
    if rate or unit == "fps" or (not unit and exact_rate(value, 0.0) in USUAL and value > 1):
        note = () if rate else (f"the frame time {text} was read as frames per second",)
        return (1 / value if value > 0 else 0.0), 15, note
    if unit == "ms" or (not unit and value > 1):
        return value / 1000, digits + 3, (f"the frame time {text} was read as milliseconds",)
    return value, digits, ()


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _axis_rotation(axis: int, angles: np.ndarray) -> np.ndarray:
    """(T,3,3) turns by angles (T,) in radians about x, y or z."""
    out = np.zeros((*angles.shape, 3, 3))
    i, k = (axis + 1) % 3, (axis + 2) % 3
    cos, sin = np.cos(angles), np.sin(angles)
    out[..., axis, axis] = 1
    out[..., i, i] = out[..., k, k] = cos
    out[..., k, i], out[..., i, k] = sin, -sin
    return out
