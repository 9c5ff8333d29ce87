"""One door for all motion files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .bvh import BvhClip, parse_bvh
from .families import PELVIS_REST, embed_smpl24, to_body
from .fitting import rest_basis
from .glitches import leading_pose, mend
from .ground import floor
from .joints import joints_to_motion
from .kinematics import JOINT, axis_angle_to_matrix, matrix_to_axis_angle, place, to_global
from .parametric import Parameters, read_parameters
from .rates import exact_rate, find_rate
from .reading import read_data
from .retarget import retarget
from .trackers import Found, find_bodies
from .types import WARNING, BodyMotion, MotionError, check_fps
from .upright import describe_up, detect_up, levelling, turn_to_z

if TYPE_CHECKING:
    from ..bodies import BodyModel

DEFAULT_FPS = 30.0
BOUND = 10.0
"""Degrees that a visible line may be off before the animator is warned."""


@dataclass(frozen=True)
class _Told:
    """What the caller chose; see ``load_motion``."""

    fps: float | None
    up: str | None
    level: bool
    fit_shape: bool
    heights: bool
    watch: Callable[[float], None] | None


def load_motion(
    path: str | PathLike[str],
    *,
    body: BodyModel | None = None,
    fps: float | None = None,
    clip: int = 0,
    up: str | None = None,
    level: bool = True,
    fit_shape: bool = True,
    keep_lead: bool = False,
    heights: bool = False,
    shape: np.ndarray | None = None,
    watch: Callable[[float], None] | None = None,
) -> BodyMotion:
    """Read a motion file: BVH, AMASS or SMPL-X .npz, trackers' .pkl/.npz/.pt, joint positions (T,24,3).

    What the file is, its content says. World becomes Z up and metres; soles go to z = 0. What was detected or assumed
    stands in the motion's notes.

    Args:
        path: the file.
        body: whose motion it is to be. None: the embedded body for joint positions and BVH; the file's own family for
            body parameters (``to_body`` takes that to any body later).
        fps: the file's frames per second, where it tells none or is wrong.
        clip: which body or clip of a file with several, from 0.
        up: the file's up axis (``Y``, ``-Y``, ``Z``...), instead of detecting it.
        level: take a camera's tilt (10 to 35 degrees) out of camera-space motion.
        fit_shape: for joint positions, fit the body's shape too.
        heights: leave heights as the file has them, for stairs and uneven ground: the clip is moved up or down once.
        shape: (S,) what the body has, for skeletons: they tell none, and strides follow its legs.
        watch: told the part done, 0 to 1, of what takes long; what it raises ends the reading.
        keep_lead: keep a T-pose that stands before the motion and from which it jumps; else it is left out.

    Raises:
        MotionError: naming the field at fault and what to do.
    """
    if fps is not None:
        fps = check_fps(fps)
    kind, data = read_data(path)
    name = Path(path).stem
    if kind == "bvh":
        if clip:
            raise MotionError("clip", f"a BVH file holds one clip; clip {clip} does not exist")
        skeleton = parse_bvh(data)
        told = None
        if skeleton.frame_time > 1e-9:
            told = exact_rate(
                1.0 / skeleton.frame_time, 0.5 * 10.0**-skeleton.digits / skeleton.frame_time / skeleton.frame_time
            )
        rate, note = _rate(told, fps)
        motion = retarget_clip(skeleton, body or _embedded(), name, rate, up=up, heights=heights, shape=shape)
        return _without_lead(replace(motion, notes=_noted(*skeleton.notes, *motion.notes, note)), keep_lead)
    one, notes = _pick(find_bodies(data), clip)
    if len(notes):
        name = f"{name} {clip}"
    choices = _Told(fps, up, level, fit_shape, heights, watch)
    motion = (_from_joints if one.joints else _from_parameters)(one, data, body, name, choices)
    return _without_lead(replace(motion, notes=(*notes, *motion.notes)), keep_lead)


def _without_lead(motion: BodyMotion, keep: bool) -> BodyMotion:
    count = leading_pose(motion)
    if not count:
        return motion
    frames = f"{count} frame" + ("s" if count > 1 else "")
    if keep:
        return motion.noting(f"the motion begins with {frames} of T-pose, from which it jumps")
    return replace(motion, poses=motion.poses[count:], trans=motion.trans[count:]).noting(
        f"{frames} of T-pose before the motion were left out"
    )


def _embedded() -> BodyModel:
    from ..bodies import embedded

    return embedded()


def _pick(found: list[Found], clip: int) -> tuple[Found, tuple[str, ...]]:
    if not isinstance(clip, (int, np.integer)) or not 0 <= clip < len(found):
        have = "one clip" if len(found) == 1 else f"{len(found)} clips, 0 to {len(found) - 1}"
        raise MotionError("clip", f"{clip} does not exist: the file holds {have}")
    if len(found) == 1:
        return found[0], ()
    label = f" ({found[clip].label})" if not found[clip].label.isdecimal() and found[clip].label else ""
    return found[clip], (f"the file holds {len(found)} clips or persons; this is number {clip}{label}",)


def _rate(told: float | None, given: float | None) -> tuple[float, str]:
    """Frames per second and the sentence about it."""
    if given is not None:
        known = told is not None and np.isfinite(told) and abs(told - given) > 1e-3
        return given, f"{given:g} fps as given" + (f", instead of the file's {told:g}" if known else "")
    if told is None or not np.isfinite(told) or told <= 0:
        return DEFAULT_FPS, f"the file tells no frame rate; {DEFAULT_FPS:g} fps assumed. Give it with fps="
    return check_fps(told), ""


def _noted(*sentences: str) -> tuple[str, ...]:
    return tuple(s for s in sentences if s)


def retarget_clip(
    clip: BvhClip,
    body: BodyModel,
    name: str,
    fps: float,
    *,
    up: str | None = None,
    heights: bool = False,
    shape: np.ndarray | None = None,
    mended: bool = True,
) -> BodyMotion:
    """Any skeleton's frames on a body, its soles on z = 0; see ``load_motion``.

    Args:
        shape: (S,) what the body has; it is the motion's too.
        mended: take a tracker's glitches out.

    Raises:
        MotionError: when the skeleton is not understood.
    """
    result = retarget(clip, body, up=up, shape=shape)
    error, told = _fidelity(result.errors)
    motion = BodyMotion(
        fps=fps,
        poses=embed_smpl24(result.poses, body),
        trans=result.trans,
        betas=shape,
        family=body.family,
        name=name,
        notes=_noted(*result.notes, f"retargeted to body {body.id}: {told[0]}", *told[1:]),
        body=body.id,
        source_error=error,
    )
    return floor(mend(motion) if mended else motion, body, lift=not heights)


def _fidelity(errors: Mapping[str, np.ndarray]) -> tuple[dict[str, float], list[str]]:
    """Median and worst line of a retarget, and the sentences about it."""
    middles = {name: float(np.median(angles)) for name, angles in errors.items()}
    worst = {name: float(np.percentile(angles, 98)) for name, angles in errors.items()}
    last = max(worst, key=lambda name: worst[name])
    every = float(np.mean([angles.mean() for angles in errors.values()]))
    told = [f"bone directions {every:.1f} degrees off in the mean, at most {worst[last]:.1f} ({last})"]
    told += [
        f"{WARNING}{name} is {middles[name]:.0f} degrees from the file's, up to {worst[name]:.0f}"
        for name in sorted(worst, key=lambda name: -worst[name])
        if worst[name] > BOUND
    ]
    return {"bones_deg": every, "worst_deg": worst[last], **{f"{n}_deg": m for n, m in middles.items()}}, told


def _told_rate(one: Found, data: Any, frames: int) -> tuple[float | None, bool]:
    """What ``find_rate`` finds in a body's own record, else anywhere in its file."""
    own = find_rate(one.record, frames)
    return own if own[0] is not None else find_rate(data, frames)


def _from_joints(one: Found, data: Any, body: BodyModel | None, name: str, told: _Told) -> BodyMotion:
    body = body or _embedded()
    rate, note = _rate(_told_rate(one, data, len(one.record["joints"]))[0], told.fps)
    motion = joints_to_motion(
        one.record["joints"],
        body,
        fps=rate,
        name=name,
        up=told.up,
        level=told.level,
        fit_shape=told.fit_shape,
        watch=told.watch,
    )
    return floor(motion.noting(note), body, lift=not told.heights, follow=not told.heights)


def _from_parameters(one: Found, data: Any, body: BodyModel | None, name: str, told: _Told) -> BodyMotion:
    record: Mapping[str, Any] = one.record
    parameters = read_parameters(record)
    found, dataset = _told_rate(one, data, len(parameters.poses))
    rate, note = _rate(found, told.fps)
    poses, trans, notes = _upright(parameters, one, dataset, told)
    filled = int(record.get("filled_frames", 0))
    if filled:
        notes.append(f"{filled} frames in which the tracker lost this person repeat the one before")
    motion = BodyMotion(
        fps=rate,
        poses=poses,
        trans=trans,
        betas=parameters.betas,
        family=parameters.family,
        gender=parameters.gender,
        name=name,
        notes=_noted(*parameters.notes, *notes, note),
    )
    motion = mend(motion)
    if body is not None:
        follow = not dataset and not one.world and not told.heights
        return to_body(motion, body, follow=follow, lift=not told.heights)
    return _floored_alone(motion)


def _upright(
    parameters: Parameters, one: Found, dataset: bool, told: _Told
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Poses and translation with Z up, which a dataset's axes are as a rule.

    The body's own upright comes from the embedded body's bones.
    """
    up = told.up
    base, _ = rest_basis(_embedded())
    frames = len(parameters.poses)
    local = np.broadcast_to(np.eye(3), (frames, 24, 3, 3)).copy()
    local[:, :22] = axis_angle_to_matrix(parameters.poses[:, :22])
    pelvis = np.array(PELVIS_REST[parameters.family])
    joints = place(to_global(local), base - base[0] + pelvis, parameters.trans)
    ankles = joints[:, [JOINT["left_ankle"], JOINT["right_ankle"]]].mean(axis=1)
    uprights = joints[:, JOINT["neck"]] - ankles
    notes: list[str] = []
    if up:
        axis, sure = up, True
        notes.append(f"up axis {up} as given")
    else:
        axis, sure = detect_up(uprights, "Z" if dataset else "Y" if one.world else "-Y")
        if dataset and axis != "Z" and _lies_on_z(joints):
            axis, sure = "Z", True
        notes.append(describe_up(axis, sure))
    turn = turn_to_z(axis)
    if told.level and axis == "-Y" and not up and not one.world:
        extra, tilt = levelling(uprights @ turn.T)
        if tilt:
            turn = extra @ turn
            notes.append(f"the camera's tilt of {np.degrees(tilt):.0f} degrees was taken out; keep it with level=False")
    poses = parameters.poses.copy()
    poses[:, 0] = matrix_to_axis_angle(turn @ local[:, 0])
    trans = (parameters.trans + pelvis) @ turn.T - pelvis
    return poses, trans, notes


def _lies_on_z(joints: np.ndarray) -> bool:
    """Whether a body lies on the floor z = 0: its lowest joint stays just above it, and its pelvis does too."""
    lowest = joints[..., 2].min(axis=1)
    low, high = np.percentile(lowest, [5, 95])
    return bool(low > -0.04 and high < 0.2 and np.percentile(joints[:, 0, 2], 5) > 0.03)


def _floored_alone(motion: BodyMotion) -> BodyMotion:
    """A motion of a body that is not at hand, moved up or down as the embedded body in its place would be."""
    stand_in = _embedded()
    as_if = to_body(replace(motion, betas=None, notes=()), stand_in)
    rest = np.asarray(stand_in.joints_rest(np.zeros(stand_in.shapedirs.shape[2], np.float32)), float)[0]
    shift = as_if.trans[:, 2] + rest[2] - (motion.trans[:, 2] + PELVIS_REST[motion.family][2])
    height = float(np.median(shift))
    if abs(height) < 0.12:
        return motion  # it already stands on z = 0, within what two bodies differ by
    trans = motion.trans.copy()
    trans[:, 2] += height
    return replace(motion, trans=trans).noting(f"moved {height:+.2f} m in height so that standing feet are near z = 0")
