"""Biovision Hierarchy (.bvh): text with a skeleton (HIERARCHY) and one row of channels a frame (MOTION).

Letters: T frames, J joints (end sites are no joints), K end sites.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

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
    if "\0" in text[:4096]:
        raise MotionError("file", "is not a text file, so no BVH")
    start, motion = _split(_with_points(text))
    joints = _parse_hierarchy(start)
    frames, frame_time, digits, values = _parse_motion(motion, start.count("\n"))

    nodes = [n for n in joints if not n.site]
    index = {id(n): i for i, n in enumerate(nodes)}
    parents = np.array([-1 if n.parent < 0 else index[id(joints[n.parent])] for n in nodes])
    offsets = np.array([n.offset for n in nodes], dtype=np.float64)
    ends = [n for n in joints if n.site]
    width = sum(len(n.channels) for n in nodes)
    notes: tuple[str, ...] = ()
    if len(values) != frames * width:
        whole = len(values) // width if width else 0
        # Writers miscount by one; whole rows beyond what is promised are frames all the same.
        if not width or len(values) % width or whole < max(1, frames - 1):
            raise MotionError(
                "MOTION",
                f"{frames} frames of {width} channels need {frames * width} numbers, but the file holds {len(values)}; "
                "it is truncated or its header is wrong. Export it again",
            )
        notes = (f"the file promises {frames} frames and holds {whole}, all of which were read",)
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


def _with_points(text: str) -> str:
    """Text with decimal points, without comments, its line ends plain."""
    text = text.lstrip("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    text = re.sub(r"^[ \t]*(#|//|;).*$", "", text, flags=re.MULTILINE)
    if "," in text:
        # A comma is a decimal one where no number has a point; else it separates.
        points = re.search(r"\d\.\d", text.replace("End Site", "")) is not None
        text = re.sub(r"(?<=\d),(?=[\s-])|,(?=\s)", " ", text) if points else re.sub(r"(?<=\d),(?=\d)", ".", text)
        text = re.sub(r"(?<=\d),(?=[-\d])", " ", text)
    return text


def _split(text: str) -> tuple[str, str]:
    """The text before and from the line MOTION on."""
    if not text.lstrip().upper().startswith("HIERARCHY"):
        raise MotionError("file", "does not start with HIERARCHY, so it is no BVH")
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if line.strip().upper() == "MOTION":
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
            joints[stack[-1]].offset = _offset(joints[stack[-1]].name, rest)
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


def _offset(name: str, words: list[str]) -> tuple[float, float, float]:
    try:
        values = tuple(float(w) for w in words)
    except ValueError:
        values = ()
    if len(values) != 3 or not np.isfinite(values).all() or max(map(abs, values)) > 1e6:
        raise MotionError("HIERARCHY", f"OFFSET of '{name}' is not three numbers: '{' '.join(words)[:60]}'")
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


def _parse_motion(text: str, first_line: int) -> tuple[int, float, int, np.ndarray]:
    """Frame count, seconds a frame (0 when absent), the decimals of that, and all numbers of the rows."""
    frames, frame_time, digits, rows = -1, 0.0, 15, 0
    lines = text.split("\n")
    for number, raw in enumerate(lines[1:], start=1):
        line = raw.strip()
        lower = line.lower()
        if not line:
            continue
        try:
            if lower.startswith("frames:"):
                counted = float(line[7:])
                if counted != int(counted):
                    raise ValueError
                frames = int(counted)
            elif lower.startswith("frame time:"):
                frame_time = float(line[11:])
                digits = len(line.partition(".")[2]) if "e" not in lower[11:] else 15
            else:
                rows = number
                break
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
    body = "\n".join(lines[rows:])
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
    return frames, frame_time, digits, values


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
