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
from .parametric import BODY, FULL, LATENT, LATENTS, ROOT, are_positions, has_pose, numbers
from .types import MotionError
from .wording import with_usual_names

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
    if isinstance(data, (list, tuple)):
        return _merged([(str(i), _search(v, f"{label} {i}".strip(), seen)) for i, v in enumerate(data)])
    return []


def _search_mapping(data: Mapping[str, Any], label: str, seen: list[int]) -> list[Found]:
    record = {str(k): v for k, v in data.items()}
    if "smpl" in record and isinstance(record["smpl"], (list, tuple)) and ("tid" in record or "tracked_ids" in record):
        return _phalp_frame(record)
    if has_pose(record):
        return _unbatched(record, label)
    record = with_usual_names(record)
    if has_pose(record):
        return _unbatched(record, label)
    for key in JOINTS:
        value = record.get(key)
        if _is_joints(value) and (key not in FULL or are_positions(value)):
            rest = {k: v for k, v in record.items() if k != key}
            return several(value, label, rest)
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
    parts = [(k, _search(v, f"{label} {k}".strip(), seen)) for k, v in _ordered(record)]
    return _merged(parts)


def _ordered(record: dict[str, Any]) -> list[tuple[str, Any]]:
    """Frames by number where all keys end in one, as file names do; else as they come."""
    numbered = [re.search(r"(\d+)\D*$", k) for k in record]
    if len(record) > 1 and all(numbered):
        return sorted(record.items(), key=lambda kv: int(re.findall(r"\d+", kv[0])[-1]))
    return list(record.items())


def _is_joints(value: Any) -> bool:
    if isinstance(value, (list, tuple)) and len(value) == 1:
        value = value[0]
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu" or value.ndim < 3:
        return False
    return joint_layout(value.shape) is not None


def several(value: Any, label: str, beside: Mapping[str, Any]) -> list[Found]:
    """Joint positions as bodies: one, or one for each entry of a first dimension before frames."""
    value = value[0] if isinstance(value, (list, tuple)) else value
    axis = (joint_layout(value.shape) or (0, -2))[1]
    leading = [side for side in value.shape[:axis] if side != 1]
    count = len(leading) - (axis == -2)
    if count <= 0:
        return [Found(label, {**beside, "joints": value}, joints=True)]
    lengths = beside.get("lengths")
    value = value.reshape(leading[0], *leading[1:], *value.shape[axis:])
    out = []
    for index, one in enumerate(value):
        if isinstance(lengths, (np.ndarray, list, tuple)) and len(lengths) == len(value) and count == 1:
            frames = max(1, int(np.asarray(lengths[index]).reshape(-1)[0]))
            one = one[..., :frames] if axis == -3 else one[:frames]
        texts = beside.get("text")
        told = str(texts[index]) if isinstance(texts, (np.ndarray, list, tuple)) and len(texts) > index else str(index)
        out += several(
            one, f"{label} {told}".strip(), {k: v for k, v in beside.items() if k not in ("lengths", "text")}
        )
    return out


def _unbatched(record: dict[str, Any], label: str) -> list[Found]:
    """A record whose arrays have persons before frames (B,T,...) as one for each person."""
    root = next((np.asarray(record[k]) for k in ROOT if record.get(k) is not None), None)
    body = next((np.asarray(record[k]) for k in BODY if record.get(k) is not None), None)
    world = any(k in record for k in ("pose_world", "trans_world", "cam_R", "world"))
    if root is None or body is None or body.ndim != 3 or body.shape[-1] not in (63, 69) or body.shape[0] == 1:
        return [Found(label, record, world=world)]
    count, frames = body.shape[:2]
    out = []
    for b in range(count):
        one = {
            k: v[b] if isinstance(v, np.ndarray) and v.ndim and v.shape[0] == count and k != "cam_R" else v
            for k, v in record.items()
        }
        mask = one.get("track_mask", one.get("vis_mask"))
        if isinstance(mask, np.ndarray) and mask.shape == (frames,):
            shown = np.flatnonzero(mask > 0)
            if len(shown):
                span = slice(int(shown[0]), int(shown[-1]) + 1)
                one = {
                    k: v[span] if isinstance(v, np.ndarray) and v.ndim and v.shape[0] == frames else v
                    for k, v in one.items()
                }
        out.append(Found(f"{label} person {b}".strip(), one, world=world))
    return out


def _phalp_frame(record: dict[str, Any]) -> list[Found]:
    """One frame of PHALP's results: bodies with their track ids."""
    ids = record.get("tid", record.get("tracked_ids", []))
    cameras = record.get("camera", [])
    out = []
    for i, body in enumerate(record["smpl"]):
        if not isinstance(body, Mapping) or not has_pose({str(k): v for k, v in body.items()}):
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
    if found.joints:
        return False
    body = next((np.asarray(found.record[k]) for k in BODY if found.record.get(k) is not None), None)
    if body is None:
        return False
    return body.size in (63, 69, 21 * 9, 23 * 9)


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
    record: dict[str, Any] = {}
    for key, value in rows[0].items():
        if key in ("track_id", "id", "gender") or not isinstance(value, (np.ndarray, list, tuple)):
            record[key] = value
        elif all(key in row for row in rows):
            try:
                series = [numbers(row[key], key) for row in rows]
            except MotionError:
                if key in (*ROOT, *BODY):
                    raise
                continue
            if len({s.shape for s in series}) == 1:
                inner = [s[0] if s.ndim > 1 and s.shape[0] == 1 else s for s in series]
                record[key] = np.stack(inner)
    if filled:
        record["filled_frames"] = filled
    return Found(f"track {name}", record, world=entries[0][1].world)
