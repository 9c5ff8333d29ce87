"""Find the bodies in whatever nesting a tracker writes: by person, by frame, by both, batched or one array each.

Layouts understood: WHAM (a dict by person; world before camera), GVHMR (``smpl_params_global`` before
``smpl_params_incam``), SLAHMR (persons stacked in the first dimension), PHALP and 4D-Humans (a dict by frame, a list of
bodies in each, ``tid`` telling who is who), smplx-style records of one frame each in a list, AMASS-like flat files, and
motion diffusion models (clips stacked, frames last, ``lengths`` beside). Keys of other trackers are read by their
words: GLAMR's ``smpl_orient_world`` is a root's turn in the world.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .joints import joint_layout
from .keys import FULL_COUNTS, LATENTS, are_positions, find_keys, looks_like_joints, pose_lead, shape_of
from .parametric import LATENT, numbers, orthonormal
from .types import MotionError

WORLD_FIRST = ("smpl_params_global", "smpl_params_world", "world", "global", "smplx_world")
CAMERA_NEXT = ("smpl_params_incam", "incam", "camera_space")
JOINTS = (
    "pose",
    "joints",
    "joints3d",
    "joints3d_nonparam",
    "3d_joints",
    "keypoints3d",
    "positions",
    "pred_joints3d",
    "motion",
    "motions",
    "new_joints",
    "joint",
    "joints_3d",
    "pred_joints",
    "joints3D",
    "smpl_joints",
    "xyz",
)
MAX_NODES = 2_000_000

_UNNAMED = re.compile(r"(arr|array|data|motion|person|people|human|subject|track|clip|p|id)?_?\d*", re.IGNORECASE)
"""Keys that say nothing about what their arrays are."""
_MOTION_X = {"root_orient": slice(0, 3), "pose_body": slice(3, 66), "pose_hand": slice(66, 156),
             "pose_jaw": slice(156, 159), "trans": slice(309, 312), "betas": slice(312, 322)}  # fmt: skip
"""Columns of Motion-X's 322 numbers a frame; between them are expression and shape of the face."""
_ELSEWHERE = {
    251: "KIT's features, whose 21 joints are not SMPL's",
    135: "22 joints of six numbers each and a translation",
    69: "axis-angle of 23 joints without the root",
    63: "axis-angle of 21 joints without the root",
    6: "six numbers a joint, which writers order differently; convert them to axis-angle or matrices",
    4: "quaternions, which writers order differently; convert them to axis-angle or matrices",
}
"""What an array of so many numbers, in its last dimension, is likely to be that cannot be read by itself."""


@dataclass
class Found:
    """One body in a file.

    Attributes:
        label: where in the file, such as ``person 3``.
        record: key -> value of its parameters; for joint positions ``{"joints": (T,24,3)}`` and what stood beside them.
        joints: whether it is joint positions rather than rotations.
        world: whether the file calls these parameters global.
    """

    label: str
    record: dict[str, Any]
    joints: bool = False
    world: bool = False


def find_bodies(data: Any) -> list[Found]:
    """All bodies in a file's data, in its order.

    Raises:
        MotionError: when there are none.
    """
    found = _search(data, "", [0])
    if not found:
        if shape := shape_of(data):
            known = _ELSEWHERE.get(shape[-1])
            raise MotionError("array", f"shape {shape} is not (frames, 24, 3): SMPL's 24 joints are needed, or its "
                              f"first 22{f'; this looks like {known}' if known else ''}")  # fmt: skip
        if isinstance(data, Mapping):
            for key, value in data.items():
                if re.search("embedding|latent|vposer", str(key), re.IGNORECASE) and np.shape(value)[-1:] == (LATENTS,):
                    raise MotionError(str(key), LATENT)
        raise MotionError("poses", f"no body in this file: {_describe(data)}. Needed are 'poses', or 'global_orient' "
                          "with 'body_pose', or joint positions (T,24,3)")  # fmt: skip
    return found


def _describe(data: Any) -> str:
    if isinstance(data, Mapping):
        return f"its keys are {', '.join(str(k)[:40] for k in list(data)[:12]) or 'none'}"
    if isinstance(data, (list, tuple)):
        return f"it is a list of {len(data)}" + (f" {type(data[0]).__name__}" if data else "")
    if isinstance(data, np.ndarray):
        return f"it is one array of shape {data.shape}"
    return f"it is one {type(data).__name__}"


def _search(data: Any, label: str, seen: list[int]) -> list[Found]:
    seen[0] += 1
    if seen[0] > MAX_NODES:
        raise MotionError("file", "holds too many parts to be a motion")
    if isinstance(data, np.ndarray) and data.dtype.hasobject:
        data = data.tolist()
    if isinstance(data, Mapping):
        return _search_mapping(data, label, seen)
    if shape_of(data):
        return _unnamed(np.asarray(data), label)
    if isinstance(data, (list, tuple)):
        return _merged([(str(i), _search(v, f"{label} {i}".strip(), seen)) for i, v in enumerate(data)])
    return []


def _unnamed(array: np.ndarray, label: str) -> list[Found]:
    """Bodies of an array of which nothing but its numbers tells what it is: positions, rotations, features."""
    shape = array.shape
    if array.dtype.kind not in "fiu" or not array.size:
        return []
    if shape[-1] == 322:
        return _persons({key: array[..., columns] for key, columns in _MOTION_X.items()}, label)
    if shape[-1] in (66, 72):
        return _unnamed(array.reshape(*shape[:-1], -1, 3), label)
    if shape[-2:] == (3, 3) and pose_lead(shape, FULL_COUNTS) is not None and orthonormal(array):
        return _persons({"poses": array}, label)
    if joint_layout(shape) and (shape[-2:] not in ((24, 3), (22, 3)) or are_positions(array)):
        return _joint_bodies(array, label, {})
    if shape[-1] == 263 and array.ndim <= 3:
        return [Found(label, {"joints": array}, joints=True)]
    return _persons({"poses": array}, label) if pose_lead(shape, FULL_COUNTS) is not None else []


def _search_mapping(data: Mapping[str, Any], label: str, seen: list[int]) -> list[Found]:
    record = {str(k): v for k, v in data.items()}
    if "smpl" in record and isinstance(record["smpl"], (list, tuple)) and ("tid" in record or "tracked_ids" in record):
        return _phalp_frame(record)
    if find_keys(record).any:
        return _persons(record, label)
    for key in JOINTS:
        if joint_layout(shape_of(record.get(key))) and (key != "pose" or are_positions(record[key])):
            rest = {k: v for k, v in record.items() if k != key}
            return _joint_bodies(np.asarray(record[key]), label, rest)
    for group, world in ((WORLD_FIRST, True), (CAMERA_NEXT, False)):
        for name in group:
            if isinstance(record.get(name), Mapping):
                # What stands beside the group (rates, gender) belongs to it.
                beside = {k: v for k, v in record.items() if not isinstance(v, (Mapping, list, tuple))}
                found = _search({**beside, **record[name]}, label, seen)
                if found:
                    for one in found:
                        one.world = one.world or world
                        if name.startswith("smpl_params"):
                            one.record.setdefault("surface_model_type", "smplx")
                    return found
    ordered = _ordered(record)
    if len({shape_of(v) for v in record.values()}) == 1 and all(_UNNAMED.fullmatch(k) for k in record):
        whole = np.array([v for _, v in ordered]) if shape_of(ordered[0][1]) in _FRAMES else None
        if whole is not None:
            return _unnamed(whole, label)
    parts = []
    for key, value in ordered:
        if not shape_of(value) or _UNNAMED.fullmatch(key) or _are_joints(key, np.asarray(value)):
            parts.append((key, _search(value, f"{label} {key}".strip(), seen)))
    return _merged(parts)


def _are_joints(key: str, array: np.ndarray) -> bool:
    """Whether an array under any name is a person's joints in space."""
    layout = joint_layout(array.shape)
    if layout is None or array.dtype.kind not in "fiu" or "2d" in key.lower():
        return False
    return looks_like_joints(np.moveaxis(array, -1, -3) if layout[1] == -3 else array)


_FRAMES = ((24, 3), (22, 3), (72,), (66,))
"""Shapes of one frame."""


def _ordered(record: dict[str, Any]) -> list[tuple[str, Any]]:
    """Frames by number where all keys end in one, as file names do; else as they come."""
    numbered = [re.search(r"(\d+)\D*$", k) for k in record]
    if len(record) > 1 and all(numbered):
        return sorted(record.items(), key=lambda kv: int(re.findall(r"\d+", kv[0])[-1]))
    return list(record.items())


def _persons_second(array: np.ndarray) -> bool:
    """Whether (A,B,...) is B persons' values in A frames rather than A persons' or clips' in B frames.

    The steps from frame to frame are smaller than those from person to person.
    """
    along, across = (np.nanmean(np.abs(np.diff(array, axis=axis))) for axis in (0, 1))
    return array.shape[1] < array.shape[0] and bool(0 < along < across)


def _joint_bodies(array: np.ndarray, label: str, beside: Mapping[str, Any]) -> list[Found]:
    """Joint positions as bodies: one, or one for each entry of the dimensions beside frames."""
    joints, axis = joint_layout(array.shape) or (0, -2)
    if axis == -3:
        array = np.moveaxis(array, -1, -3)
    lead = [side for side in array.shape[:-2] if side != 1]
    array = array.reshape(*lead, joints, 3)
    if len(lead) < 2:
        return [Found(label, {**beside, "joints": array}, joints=True)]
    if len(lead) == 2 and axis == -2 and _persons_second(array):
        array = np.swapaxes(array, 0, 1)
    lengths, texts = beside.get("lengths"), beside.get("text")
    rest = {k: v for k, v in beside.items() if k not in ("lengths", "text")}
    out = []
    for index, one in enumerate(array):
        if len(lead) == 2 and shape_of(lengths)[:1] == array.shape[:1]:
            one = one[: max(1, int(np.asarray(lengths)[index].reshape(-1)[0]))]
        told = str(texts[index]) if isinstance(texts, (np.ndarray, list, tuple)) and len(texts) > index else str(index)
        out += _joint_bodies(one, f"{label} {told}".strip(), rest)
    return out


def _persons(record: dict[str, Any], label: str) -> list[Found]:
    """A record as bodies: one, or one for each person or clip where its arrays have a dimension beside frames."""
    keys = find_keys(record)
    world = keys.world or "cam_R" in record or bool({"trans_world", "world"} & record.keys())
    lead = tuple(side for side in keys.lead if side != 1)
    if len(lead) < 2:
        return [Found(label, record, world=world)]
    pose = np.asarray(record[keys.poses or keys.body])
    second = len(lead) == 2 and _persons_second(pose.reshape(*lead, -1))
    count, frames = (lead[1], lead[0]) if second else (int(np.prod(lead[:-1])), lead[-1])

    def of(value: Any, person: int) -> Any:
        array = np.asarray(value) if shape_of(value) else None
        if array is not None and array.shape[: len(keys.lead)] == keys.lead:
            array = array.reshape(*lead, *array.shape[len(keys.lead) :])
            return array[:, person] if second else array.reshape(count, frames, *array.shape[len(lead) :])[person]
        return (
            value[person] if isinstance(value, (np.ndarray, list, tuple)) and np.shape(value)[:1] == (count,) else value
        )

    out = []
    for person in range(count):
        one = {key: of(value, person) for key, value in record.items()}
        mask = one.get("track_mask", one.get("vis_mask"))
        if isinstance(mask, np.ndarray) and mask.shape == (frames,) and np.any(mask > 0):
            shown = np.flatnonzero(mask > 0)
            span = slice(int(shown[0]), int(shown[-1]) + 1)
            one = {k: v[span] if isinstance(v, np.ndarray) and v.shape[:1] == (frames,) else v for k, v in one.items()}
        out.append(Found(f"{label} person {person}".strip(), one, world=world))
    return out


def _phalp_frame(record: dict[str, Any]) -> list[Found]:
    """One frame of PHALP's results: bodies with their track ids."""
    ids = record.get("tid", record.get("tracked_ids", []))
    cameras = record.get("camera", [])
    out = []
    for i, body in enumerate(record["smpl"]):
        if not isinstance(body, Mapping) or not find_keys({str(k): v for k, v in body.items()}).any:
            continue
        one = {str(k): v for k, v in body.items()}
        if i < len(cameras) and "transl" not in one:
            one["transl"] = np.asarray(cameras[i]).reshape(-1)
        one["track_id"] = ids[i] if i < len(ids) else i
        out.append(Found(f"track {one['track_id']}", one))
    return out


def _merged(parts: list[tuple[str, list[Found]]]) -> list[Found]:
    """Bodies of several parts; where the parts are single frames, one body over time for each track."""
    bodies = [one for _, found in parts for one in found]
    frames = [found for _, found in parts if found]
    if len(frames) < 2 or not all(_single(one) for one in bodies):
        return bodies
    tracks: dict[str, list[tuple[int, Found]]] = {}
    for time, (_, found) in enumerate(parts):
        for place, one in enumerate(found):
            known = one.record.get("track_id", one.record.get("id", place))
            tracks.setdefault(str(known), []).append((time, one))
    return [_stacked(name, entries) for name, entries in tracks.items()]


def _single(found: Found) -> bool:
    """Whether a body is one frame."""
    if found.joints:
        return len(found.record["joints"]) == 1 or found.record["joints"].ndim == 2
    return all(side == 1 for side in find_keys(found.record).lead)


def _stacked(name: str, entries: list[tuple[int, Found]]) -> Found:
    """One record over time; frames in which the track is missing are filled with the last one seen."""
    times = [t for t, _ in entries]
    wanted = range(times[0], times[-1] + 1)
    by_time = dict(entries)
    rows: list[dict[str, Any]] = []
    filled = 0
    last: dict[str, Any] = {}
    for t in wanted:
        if t in by_time:
            last = by_time[t].record
        else:
            filled += 1
        rows.append(last)
    keys = find_keys(rows[0])
    needed = (keys.poses, keys.root, keys.body, "joints")
    record: dict[str, Any] = {}
    for key, value in rows[0].items():
        if key in ("track_id", "id", "gender") or not isinstance(value, (np.ndarray, list, tuple)):
            record[key] = value
        elif all(key in row for row in rows):
            try:
                series = [numbers(row[key], key) for row in rows]
            except MotionError:
                if key in needed:
                    raise
                continue
            if len({s.shape for s in series}) == 1:
                inner = [s[0] if s.ndim > 1 and s.shape[0] == 1 else s for s in series]
                record[key] = np.stack(inner)
    if filled:
        record["filled_frames"] = filled
    return Found(f"track {name}", record, joints=entries[0][1].joints, world=entries[0][1].world)
