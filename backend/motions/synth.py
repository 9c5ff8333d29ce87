"""A walk made from nothing but a body: planned footsteps, legs by inverse kinematics, the trunk's and arms' swing.

The gait cycle follows textbook figures (Perry and Burnfield, "Gait Analysis", 2010; Winter, "Biomechanics and Motor
Control of Human Movement", 2009): a foot stands for about 0.62 of a cycle, rolls over heel, sole and ball, and swings
for the rest; the pelvis rises at mid-stance, sways to the standing leg, turns with the leading leg, and the shoulders
and arms turn against it. Phase 0 is the left heel's strike, 0.5 the right's. Letters: T frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .families import embed_smpl24
from .fitting import rest_basis
from .kinematics import JOINT, axis_angle_to_matrix, frame_of, matrix_to_axis_angle, smooth
from .types import BodyMotion, MotionError, check_fps

if TYPE_CHECKING:
    from ..bodies import BodyModel

STANCE = 0.62
"""Part of the cycle that a foot stands."""
FLAT, HEEL_OFF = 0.09, 0.33
"""Phases at which the sole comes flat to the floor and the heel leaves it."""
STRIKE_PITCH, PUSH_PITCH = np.radians(20.0), np.radians(-52.0)
"""The foot's pitch, toes up positive, at heel strike and at toe-off."""
MID_STANCE = 0.31
UNDER = 0.275
"""Phase at which the standing ankle passes under the body's middle."""
_STRETCH = 0.994  # of the leg's length, at most: a straight knee locks and pops


@dataclass(frozen=True)
class _Style:
    """One walker's way, drawn from the seed."""

    cadence: float
    arms: float
    width: float
    toe_out: float
    lean: float
    bounce: float


def generate_walk(
    seconds: float,
    fps: float,
    *,
    speed: float = 1.25,
    seed: int = 0,
    body: BodyModel | None = None,
    radius: float | None = None,
    heading: float = -90.0,
) -> BodyMotion:
    """A steady walk on z = 0.

    Args:
        seconds: duration, at most 600.
        fps: frames per second.
        speed: metres per second along the path, 0.4 to 2.2.
        seed: the walker's style (cadence, arm swing, step width, lean) and small irregularities; the same seed gives
            the same motion.
        body: who walks; None is the embedded body.
        radius: of a circle walked counter-clockwise about the origin, in metres, at least 0.8; None walks straight,
            passing the origin half way.
        heading: direction of travel at the start in degrees from +X towards +Y; -90 comes towards Blender's front view.

    Returns:
        BodyMotion of ``floor(seconds * fps) + 1`` frames.

    Raises:
        MotionError: for a number out of range.
    """
    fps = check_fps(fps)
    for name, value, low, high in (("seconds", seconds, 0.0, 600.0), ("speed", speed, 0.4, 2.2)):
        if not (np.isfinite(value) and low <= value <= high):
            raise MotionError(name, f"{value} is outside {low:g} to {high:g}")
    if radius is not None and not (np.isfinite(radius) and 0.8 <= radius <= 1000):
        raise MotionError("radius", f"{radius} is outside 0.8 to 1000 metres")
    if body is None:
        from ..bodies import embedded

        body = embedded()
    rng = np.random.default_rng(seed)
    style = _Style(
        cadence=1 + 0.03 * float(rng.standard_normal()),
        arms=float(rng.uniform(0.85, 1.15)),
        width=float(rng.uniform(0.8, 1.2)),
        toe_out=float(np.radians(rng.uniform(4, 8))),
        lean=float(np.radians(rng.uniform(1.5, 4))),
        bounce=float(rng.uniform(0.85, 1.1)),
    )
    base, _ = rest_basis(body)
    times = np.arange(int(np.floor(seconds * fps + 1e-6)) + 1) / fps

    legs = 0.5 * sum(float(np.linalg.norm(base[j + 3] - base[j])) for j in (1, 2, 4, 5))
    # Step length grows with the root of speed and with the leg (walk ratio: Sekiya et al. 1996).
    step = 0.69 * np.sqrt(speed / 1.3) * (legs / 0.82) / style.cadence
    cycle = 2 * step / speed
    path = _Path(speed, np.radians(heading), radius, float(times[-1]))
    phase = times / cycle + rng.uniform(0, 1)
    start = phase[0] * cycle

    feet = [_foot(base, body, side, times + start, cycle, path, start, style) for side in ("left", "right")]
    goal, pelvis = _trunk(base, phase, times, path, style, speed, rng)
    hips = goal[:, 0] @ (base[[1, 2]] - base[0]).T  # (T,3,2)
    pelvis = _lowered(pelvis, hips, feet, base)
    local = _legs(goal, pelvis, hips, feet, base)
    _arms(local, phase, style, speed)
    trans = pelvis - base[0]
    motion = BodyMotion(
        fps=fps,
        poses=embed_smpl24(matrix_to_axis_angle(local), body),
        trans=trans,
        family=body.family,
        name="walk",
        notes=(f"generated walk, {speed:g} m/s, steps of {step:.2f} m, seed {seed}",),
        body=body.id,
    )
    return motion


class _Path:
    """Where the walker is at a time, and where it heads."""

    def __init__(self, speed: float, heading: float, radius: float | None, duration: float) -> None:
        self.speed, self.heading, self.radius = speed, heading, radius
        self.back = 0.5 * duration * speed

    def at(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Places (...,2) and headings (...,) in radians."""
        if self.radius is None:
            ahead = np.array([np.cos(self.heading), np.sin(self.heading)])
            return (times * self.speed - self.back)[..., None] * ahead, np.full(np.shape(times), self.heading)
        turned = self.heading - np.pi / 2 + times * self.speed / self.radius
        places = self.radius * np.stack([np.cos(turned), np.sin(turned)], axis=-1)
        return places, turned + np.pi / 2


def _world(heading: np.ndarray) -> np.ndarray:
    """(...,3,3) from the canonical frame to a world in which the body faces along ``heading``."""
    cos, sin, zero, one = np.cos(heading), np.sin(heading), np.zeros_like(heading), np.ones_like(heading)
    left = np.stack([-sin, cos, zero], axis=-1)
    up = np.stack([zero, zero, one], axis=-1)
    return np.stack([left, up, np.stack([cos, sin, zero], axis=-1)], axis=-1)


def _about(axis: int, angles: np.ndarray) -> np.ndarray:
    """(T,3,3) turns by angles (T,) about a canonical axis."""
    vector = np.zeros((*np.shape(angles), 3))
    vector[..., axis] = angles
    return axis_angle_to_matrix(vector)


def _ease(x: np.ndarray) -> np.ndarray:
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


@dataclass(frozen=True, eq=False)
class _Steps:
    """One foot over time.

    Attributes:
        ankle: (T,3) place of the ankle; turn: (T,3,3) global turn of the foot; bend: (T,) of the toes against the foot,
            up positive; stands: (T,) bool.
    """

    ankle: np.ndarray
    turn: np.ndarray
    bend: np.ndarray
    stands: np.ndarray


def _foot(
    base: np.ndarray,
    body: BodyModel,
    side: str,
    clock: np.ndarray,
    cycle: float,
    path: _Path,
    start: float,
    style: _Style,
) -> _Steps:
    """Footsteps of one side. ``clock`` (T,) is time since a left heel strike; path time is clock - start."""
    from .ground import soles

    sign = 1.0 if side == "left" else -1.0
    ankle, ball = base[JOINT[f"{side}_ankle"]], base[JOINT[f"{side}_foot"]]
    under = soles(body)
    own = under.left == (side == "left")
    reach = under.offsets[own] + np.where((under.joints[own] == JOINT[f"{side}_foot"])[:, None], ball - ankle, 0)
    heel = reach[np.argmin(reach[:, 2])] * (0, 1, 1)  # in the middle of the foot
    height = -reach[:, 1].min()
    toe = ball - ankle
    spread = 0.052 * style.width

    def pitch(part: np.ndarray) -> np.ndarray:
        """The foot's pitch (toes up) over its stance."""
        return (
            STRIKE_PITCH * (1 - _ease(part / FLAT))
            + PUSH_PITCH * np.clip((part - HEEL_OFF) / (STANCE - HEEL_OFF), 0, 1) ** 1.8
        )

    def stance(index: np.ndarray, part: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ankle place, yaw and pitch of step ``index`` at phase ``part`` after its strike."""
        strike = (index + (0.0 if side == "left" else 0.5)) * cycle
        middle, yaw = path.at(strike + UNDER * cycle - start)
        left = np.stack([-np.sin(yaw), np.cos(yaw)], axis=-1)
        yaw = yaw + sign * style.toe_out
        flat = np.concatenate([middle + sign * spread * left, np.full((*np.shape(yaw), 1), height)], axis=-1)
        angle = pitch(part)
        level, tipped = _world(yaw), _world(yaw) @ _about(0, -angle)
        pivot = np.where((part < HEEL_OFF)[..., None], heel, toe)
        return flat + np.einsum("...ab,...b->...a", level - tipped, pivot), yaw, angle

    phase = clock / cycle - (0.0 if side == "left" else 0.5)
    index, part = np.floor(phase), phase - np.floor(phase)
    stands = part < STANCE
    place_now, yaw, angle = stance(index, np.minimum(part, STANCE))
    step = 1e-3
    end = np.full_like(part, STANCE)
    off, off_yaw, off_angle = stance(index, end)
    before, _, before_angle = stance(index, end - step)
    on, on_yaw, on_angle = stance(index + 1, np.zeros_like(part))
    after, _, after_angle = stance(index + 1, np.full_like(part, step))
    span = 1 - STANCE
    w = np.clip((part - STANCE) / span, 0, 1)
    swing_place = _hermite(off, (off - before) / step * span, on, (after - on) / step * span, w[:, None])
    swing_place[:, 2] += 0.045 * np.sin(np.pi * w) ** 2 * (1 - 0.5 * w)
    swing_angle = _hermite(off_angle, (off_angle - before_angle) / step * span * 0.5, on_angle,
                           (after_angle - on_angle) / step * span * 0.3, w)  # fmt: skip
    swing_yaw = off_yaw + _ease(w) * (on_yaw - off_yaw)
    ankles = np.where(stands[:, None], place_now, swing_place)
    angles = np.where(stands, angle, swing_angle)
    yaws = np.where(stands, yaw, swing_yaw)
    # Standing on the ball, the toes stay flat; in the swing they come back and lift a little.
    bend = np.where(stands, np.maximum(0, -angle), -off_angle * (1 - _ease(w / 0.5)) + 0.12 * np.sin(np.pi * w) ** 2)
    bend = np.where(stands & (part < HEEL_OFF), 0, bend)
    return _Steps(ankles, _world(yaws) @ _about(0, -angles), bend, stands)


def _hermite(a: np.ndarray, slope_a: np.ndarray, b: np.ndarray, slope_b: np.ndarray, w: np.ndarray) -> np.ndarray:
    return (
        (2 * w**3 - 3 * w**2 + 1) * a
        + (w**3 - 2 * w**2 + w) * slope_a
        + (3 * w**2 - 2 * w**3) * b
        + (w**3 - w**2) * slope_b
    )


def _trunk(
    base: np.ndarray, phase: np.ndarray, times: np.ndarray, path: _Path, style: _Style, speed: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Local rotations (T,24,3,3) with pelvis, spine and head set, and the pelvis' place (T,3) but for its height."""
    count, wave = len(phase), 2 * np.pi * phase
    places, heading = path.at(times)
    strength = np.clip(speed / 1.3, 0.4, 1.4)
    toward_left = np.cos(wave - 2 * np.pi * MID_STANCE)  # 1 where the left leg stands in the middle
    left = np.stack([-np.sin(heading), np.cos(heading)], axis=-1)
    ahead = np.stack([np.cos(heading), np.sin(heading)], axis=-1)
    pelvis = np.zeros((count, 3))
    pelvis[:, :2] = places + 0.022 * toward_left[:, None] * left
    pelvis[:, :2] += 0.008 * np.sin(2 * wave)[:, None] * ahead
    pelvis[:, 2] = style.bounce * 0.021 * strength * np.cos(2 * (wave - 2 * np.pi * UNDER))

    yaw = -np.radians(5.0) * strength * np.cos(wave)  # left side leads at its strike
    roll = np.radians(3.0) * np.cos(wave - 2 * np.pi * (MID_STANCE - 0.08))  # the swinging side drops
    tip = np.radians(2.0) + np.radians(0.8) * np.cos(2 * wave)
    local = np.broadcast_to(np.eye(3), (count, 24, 3, 3)).copy()
    local[:, 0] = _world(heading) @ _about(1, yaw) @ _about(2, roll) @ _about(0, tip)
    against = (
        np.radians(4.0) * strength * np.cos(wave + np.radians(10.0)) - yaw
    )  # the shoulders' turn, late by a little
    for name, share in (("spine1", 0.25), ("spine2", 0.35), ("spine3", 0.40)):
        local[:, JOINT[name]] = (
            _about(1, share * against)
            @ _about(2, -share * 0.9 * roll)
            @ _about(0, share * (style.lean - np.radians(2.0)) * np.ones(count))
        )
    # The head looks ahead whatever the trunk does, and wanders a little.
    drift = smooth(rng.standard_normal((count, 2)), 0.6 * max(1.0, (count - 1) / max(times[-1], 1e-6)))
    drift *= np.radians(2.0) / max(float(np.abs(drift).max()), 1e-9)
    look = -(yaw + against) + drift[:, 0]
    for name in ("neck", "head"):
        local[:, JOINT[name]] = (
            _about(1, 0.5 * look) @ _about(0, 0.5 * (drift[:, 1] - style.lean)) @ _about(2, -0.05 * roll)
        )
    return local, pelvis


def _lowered(pelvis: np.ndarray, hips: np.ndarray, feet: list[_Steps], base: np.ndarray) -> np.ndarray:
    """The pelvis at the height at which no leg is stretched beyond its length."""
    out = pelvis.copy()
    highest = np.full(len(pelvis), np.inf)
    for k, foot in enumerate(feet):
        hip = JOINT["left_hip"] + k
        length = float(np.linalg.norm(base[hip + 3] - base[hip]) + np.linalg.norm(base[hip + 6] - base[hip + 3]))
        flat = foot.ankle[:, :2] - (pelvis[:, :2] + hips[:, :2, k])
        room = (_STRETCH * length) ** 2 - np.sum(flat**2, axis=1)
        if (room <= 0).any():
            raise MotionError("speed", "the steps are longer than these legs reach; walk slower")
        highest = np.minimum(highest, foot.ankle[:, 2] - hips[:, 2, k] + np.sqrt(room))
    out[:, 2] += float(np.min(highest - pelvis[:, 2]))
    return out


def _legs(local: np.ndarray, pelvis: np.ndarray, hips: np.ndarray, feet: list[_Steps], base: np.ndarray) -> np.ndarray:
    """Hip, knee, ankle and toe turns that put each ankle where its foot is, the knee bending over the toes."""
    root = local[:, 0]
    for k, foot in enumerate(feet):
        hip = JOINT["left_hip"] + k
        knee, ankle, ball = hip + 3, hip + 6, hip + 9
        thigh, shin = base[knee] - base[hip], base[ankle] - base[knee]
        wanted = foot.ankle - pelvis - hips[:, :, k]
        # |thigh + Rx(bend) shin| = distance, solved for the knee's bend about x.
        p = thigh[1] * shin[1] + thigh[2] * shin[2]
        q = thigh[2] * shin[1] - thigh[1] * shin[2]
        r = 0.5 * (np.sum(wanted**2, axis=1) - thigh @ thigh - shin @ shin) - thigh[0] * shin[0]
        bend = np.arctan2(q, p) + np.arccos(np.clip(r / np.hypot(p, q), -1, 1))
        local[:, knee] = _about(0, bend)
        reach = thigh + local[:, knee] @ shin
        lateral = foot.turn[:, :, 0]  # the foot's own left
        mixed = 0.5 * lateral + 0.5 * root[:, :, 0]
        source = frame_of(np.broadcast_to([1.0, 0, 0], reach.shape), -reach)
        target = frame_of(mixed, -wanted)
        turn = target @ np.swapaxes(source, -1, -2)
        local[:, hip] = np.swapaxes(root, -1, -2) @ turn
        local[:, ankle] = np.swapaxes(turn @ local[:, knee], -1, -2) @ foot.turn
        local[:, ball] = _about(0, -foot.bend)
    return local


def _arms(local: np.ndarray, phase: np.ndarray, style: _Style, speed: float) -> None:
    """Arms hang and swing against the legs; elbows bend more on the way forward."""
    strength = style.arms * np.clip(speed / 1.3, 0.4, 1.5)
    for side, sign, shift in (("left", 1.0, 0.0), ("right", -1.0, 0.5)):
        wave = 2 * np.pi * (phase - shift)
        swing = np.radians(4.0) - np.radians(19.0) * strength * np.cos(wave)  # behind at its own leg's strike
        late = np.radians(18.0) - np.radians(10.0) * strength * np.cos(wave - 0.35)
        hang = np.full_like(phase, np.radians(70.0))
        local[:, JOINT[f"{side}_collar"]] = _about(2, -sign * np.full_like(phase, np.radians(6.0)))
        local[:, JOINT[f"{side}_shoulder"]] = _about(0, -swing) @ _about(2, -sign * hang) @ _about(0, 0.15 * swing)
        local[:, JOINT[f"{side}_elbow"]] = _about(1, -sign * late)
        local[:, JOINT[f"{side}_wrist"]] = _about(1, -sign * np.full_like(phase, np.radians(8.0)))
