"""Kinds of motion as functions of time: passages through poses, walks, turns, jumps and dances.

Shape letters: T moments, J joints.

Each kind takes the moments (T,) in seconds that it is shown at, in any order and at any pace, so that the caller may
slow it, stop it or run it backwards. Angles are those of ``poses``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .poses import INDEX, UPPER, arms_out, put, random_pose, stand

GRAVITY = 9.81


@dataclass(frozen=True, eq=False)
class Action:
    """What a body does, apart from where it stands.

    Attributes:
        degrees: (T,24,3) Euler angles.
        yaw: (T,) radians turned to the left since some moment.
        air: (T,) metres that the pelvis has risen above the straight line from take-off to landing; 0 on the floor.
        leap: (T,) metres that leaps have carried the body forward.
    """

    degrees: np.ndarray
    yaw: np.ndarray
    air: np.ndarray
    leap: np.ndarray


def _on_floor(degrees: np.ndarray, yaw: np.ndarray | None = None) -> Action:
    still = np.zeros(len(degrees))
    return Action(degrees, still if yaw is None else yaw, still, still)


def _ease(share: np.ndarray) -> np.ndarray:
    """From 0 to 1 with no speed at either end."""
    share = np.clip(share, 0, 1)
    return share * share * (3 - 2 * share)


def through(at: np.ndarray, stops: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Smooth passage through ``values`` (K,...) at the moments ``stops`` (K,), resting for an instant at each.

    Args:
        at: (T,), held at the ends beyond the stops.
    """
    left = np.clip(np.searchsorted(stops, at, side="right") - 1, 0, len(stops) - 2)
    ease = _ease((at - stops[left]) / (stops[left + 1] - stops[left]))
    ease = ease.reshape(-1, *[1] * (values.ndim - 1))
    return values[left] * (1 - ease) + values[left + 1] * ease


def through_keys(rng: np.random.Generator, seconds: np.ndarray) -> Action:
    """From one random pose to the next."""
    gap = rng.uniform(0.4, 1.6)
    first = rng.uniform(0, gap)
    keys = [random_pose(rng) for _ in range(int(np.ceil((seconds.max() + first) / gap)) + 2)]
    return _on_floor(through(seconds + first, np.arange(len(keys)) * gap, np.stack(keys)))


def _still(rng: np.random.Generator, seconds: np.ndarray) -> np.ndarray:
    return np.repeat(stand(rng)[None], len(seconds), axis=0)


def walk(rng: np.random.Generator, seconds: np.ndarray) -> Action:
    """A walk or jog; sometimes with the knees high, and sometimes the arms do something else."""
    pace = rng.uniform(0.7, 1.5)
    swing = rng.uniform(18, 34) * pace**0.5
    degrees = _still(rng, seconds)
    start = rng.uniform(0, 2 * np.pi)
    elbow = rng.uniform(-75, -8)
    arm = rng.uniform(0.5, 1.1) * swing
    spread = rng.uniform(-78, -62)
    high = rng.uniform(15, 40) if rng.random() < 0.15 else 0.0
    for side, shift in (("left_", 0.0), ("right_", np.pi)):
        phase = 2 * np.pi * pace * seconds + start + shift
        # The knee bends most while the leg swings forward, a quarter turn before the hip is bent most.
        swinging = (1 + np.cos(phase)) / 2
        raised = high * np.clip(np.sin(phase + 0.6), 0, None) ** 2
        put(degrees, side + "hip", -swing * np.sin(phase) - max(4.0, swing - 22) - raised, 0, 2)
        put(degrees, side + "knee", 6 + 28 * pace * swinging + 6 * np.sin(2 * phase) ** 2 + 1.4 * raised)
        put(degrees, side + "ankle", 8 * np.sin(phase))
        put(degrees, side + "shoulder", arm * np.sin(phase), 0, spread)
        put(degrees, side + "elbow", 0, elbow - 8 * np.sin(phase))
    degrees[:, INDEX["spine2"], 1] += 6 * np.sin(2 * np.pi * pace * seconds + start)
    if rng.random() < 0.25:
        degrees[:, UPPER] = through_keys(rng, seconds).degrees[:, UPPER]
    return _on_floor(degrees)


def turn_around(rng: np.random.Generator, seconds: np.ndarray) -> Action:
    """Small steps on the spot while the body turns; the head looks ahead."""
    pace = rng.uniform(1.0, 1.7)
    lift = rng.uniform(14, 30)
    degrees = _still(rng, seconds)
    start = rng.uniform(0, 2 * np.pi)
    speed = rng.choice([-1.0, 1.0]) * rng.uniform(1.0, 3.0)
    wave = rng.uniform(0.15, 0.5)
    for side, shift in (("left_", 0.0), ("right_", np.pi)):
        up = np.clip(np.sin(2 * np.pi * pace * seconds + start + shift), 0, None) ** 2
        put(degrees, side + "hip", -4 - lift * up, -3.0, 3)
        put(degrees, side + "knee", 8 + 1.9 * lift * up)
        put(degrees, side + "ankle", -4 + 6 * up)
    # The turn goes faster and slower, but never back.
    slow = 2 * np.pi * wave * seconds + rng.uniform(0, 2 * np.pi)
    yaw = speed * (seconds - 0.8 * np.sin(slow) / (2 * np.pi * wave))
    ahead = np.degrees(speed) * (1 - 0.8 * np.cos(slow)) * 0.1
    put(degrees, "neck", degrees[:, INDEX["neck"], 0], np.clip(0.6 * ahead, -28, 28))
    put(degrees, "spine3", 0, np.clip(0.3 * ahead, -9, 9))
    if rng.random() < 0.3:
        degrees[:, UPPER] = through_keys(rng, seconds).degrees[:, UPPER]
    return _on_floor(degrees, yaw)


def jump(rng: np.random.Generator, seconds: np.ndarray) -> Action:
    """Crouch, leave the floor, land on bent knees, rise; over and over, some with a turn or a leap forward."""
    prepare, push = rng.uniform(0.25, 0.45), rng.uniform(0.18, 0.24)
    flight = rng.uniform(0.28, 0.58)
    absorb, rise, rest = rng.uniform(0.14, 0.22), rng.uniform(0.25, 0.4), rng.uniform(0.02, 0.35)
    stops = np.cumsum([0.0, prepare, push, flight / 2, flight / 2, absorb, rise, rest])
    cycle = stops[-1]
    # Start near the middle: a short clip shows the body in the air more often than at rest.
    at = seconds + rng.uniform(0.5 * prepare, stops[4])
    count, at = np.floor(at / cycle), at % cycle

    base = stand(rng)
    # Legs are drawn up only as far as there is time for.
    tuck = rng.choice([0.05, rng.uniform(0.5, 1.5) * flight])
    depth, landing = rng.uniform(0.3, 0.7), rng.uniform(0.35, 0.7)
    bend = np.array([0.08, depth, 0.0, tuck, 0.15, landing, 0.08, 0.08])
    point = np.array([0.0, 0.0, 32.0, 25.0, 20.0, 0.0, 0.0, 0.0])
    toes = np.array([0.0, 0.0, -25.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    apart = rng.uniform(10, 35) * (rng.random() < 0.3)
    split = rng.uniform(15, 40) * (rng.random() < 0.25)
    keys = np.repeat(base[None], len(stops), axis=0)
    up, forward = rng.uniform(-60, 70), rng.uniform(-85, 0)
    for side, way in (("left_", 1.0), ("right_", -1.0)):
        hip = -90 * bend
        hip[3] += way * split
        out = np.full(len(stops), 4.0)
        out[3] += apart
        put(keys, side + "hip", np.minimum(hip, 20), 0, out)
        put(keys, side + "knee", 112 * bend + 4)
        put(keys, side + "ankle", -20 * np.minimum(bend * 1.4, 1) + point)
        put(keys, side + "foot", toes)
        arms = np.array([-70.0, -72, 0.5 * (up - 70), up, 0.5 * (up - 70), -68, -70, -70])
        ahead = np.array([0.0, 22, forward / 2, forward, forward / 2, -20, 0, 0])
        put(keys, side + "shoulder", np.array([0.0, 28, 0, 0, 0, 0, 0, 0]), ahead, arms)
        put(keys, side + "elbow", 0, np.array([-12.0, -25, -20, -20, -30, -40, -12, -12]))
    put(keys, "spine1", 20 * bend, 0, 0)
    keys[-1] = keys[0]

    since, left = at - stops[2], stops[4] - at
    air = np.where((since > 0) & (left > 0), GRAVITY / 2 * since * left, 0.0)
    flown = np.clip(since / flight, 0, 1)
    spin = rng.choice([0.5, 1.0]) * rng.choice([-np.pi, np.pi]) if flight > 0.4 and rng.random() < 0.6 else 0.0
    reach = rng.uniform(0.2, 0.9) if rng.random() < 0.35 else 0.0
    turned = spin * (_ease(flown) + count)
    return Action(through(at, stops, keys), turned, air, reach * (flown + count))


def dance(rng: np.random.Generator, seconds: np.ndarray) -> Action:
    """A rhythm in knees, hips and both arms, with steps to the side, kicks or spins."""
    beat = 60 / rng.uniform(85, 145)
    at = seconds / beat + rng.uniform(0, 8)
    phase = 2 * np.pi * at
    bounce, sway, twist = rng.uniform(8, 30), rng.uniform(2, 11), rng.uniform(0, 25)
    degrees = np.zeros((len(seconds), len(INDEX), 3))

    # Arms go through four poses in as many beats; mirrored, or each arm one step behind the other.
    poses = np.stack([random_pose(rng) if rng.random() < 0.7 else arms_out(rng) for _ in range(4)])
    right = [i for i in UPPER if list(INDEX)[i].startswith("right_")]
    left = [i for i in UPPER if i not in right]
    arms = np.concatenate([poses, poses[:1]])
    share = rng.choice([1.0, 0.5])
    degrees[:, left] = through(at * share % 4, np.arange(5.0), arms[:, left])
    how = rng.integers(3)
    if how == 2:
        degrees[:, right] = through((at * share + 1) % 4, np.arange(5.0), arms[:, right])
    else:
        degrees[:, right] = through((at * share + 2 * how) % 4, np.arange(5.0), arms[:, left]) * [1, -1, -1]

    down = (1 - np.cos(phase)) / 2
    side = np.sin(phase / 2)
    put(degrees, "pelvis", 0, twist * side, sway * side)
    put(degrees, "spine2", 4 * down, -0.4 * twist * side, -0.6 * sway * side)
    put(degrees, "spine3", 0, -0.35 * twist * side, -0.4 * sway * side)
    put(degrees, "neck", 8 * down - 3, 0.2 * twist * side)

    step = rng.choice(["stay", "side", "kick", "march"], p=[0.25, 0.4, 0.2, 0.15])
    wide, high = rng.uniform(10, 24), rng.uniform(18, 60)
    for name, way in (("left_", 0.0), ("right_", 1.0)):
        # Each leg has every second beat.
        own = np.clip(np.sin(np.pi * (at - way)), 0, None)
        hip, knee, out = -0.9 * bounce * down, 6 + 1.8 * bounce * down, np.full(len(at), 4.0)
        if step == "side":
            # One leg steps out and the other follows, twice; then the same back.
            leads = np.floor(at / 4) % 2 == way
            own = np.where(leads, np.sin(np.pi * at), -np.sin(np.pi * at)).clip(0)
            out = 4 + wide * np.where(leads, np.sin(np.pi * (at % 2) / 2) ** 2, 0.0)
            hip, knee = hip - 0.5 * high * own**2, knee + 0.9 * high * own**2
        elif step == "kick":
            hip, knee = hip - high * own**2, knee + 0.3 * high * np.sin(2 * np.pi * (at - way)).clip(0) ** 2
        elif step == "march":
            hip, knee = hip - high * own**2, knee + 1.5 * high * own**2
        put(degrees, name + "hip", hip, rng.uniform(-8, 4), out)
        put(degrees, name + "knee", knee)
        put(degrees, name + "ankle", -0.5 * bounce * down + 12 * own**2)
    yaw = np.zeros(len(at))
    if rng.random() < 0.35:
        # A whole turn in some four beats, rest in the next four.
        whole = rng.choice([-2.0, 2.0]) * np.pi
        yaw = whole * (np.floor(at / 8) + _ease((at % 8) / 4))
    elif rng.random() < 0.5:
        yaw = rng.uniform(0.1, 0.5) * np.sin(phase / 4)
    return _on_floor(degrees, yaw)


ACTIONS: tuple[tuple[Callable[[np.random.Generator, np.ndarray], Action], float], ...] = (
    (through_keys, 0.5),
    (walk, 0.24),
    (turn_around, 0.07),
    (jump, 0.08),
    (dance, 0.11),
)
"""Kinds of motion, and how often each is drawn."""
