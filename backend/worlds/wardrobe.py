"""What bodies of the dressed world wear: skirts, coats, wide trousers, bags and shoes, drawn at random.

Shape letters: V vertices of the body, N columns, R rows. At rest in metres: Y up, facing +Z, left at +X.
"""

from __future__ import annotations

import numpy as np

from ..shot.types import SMPL_JOINT_NAMES
from .headwear import hair_colour, put_on_hair, put_on_hat
from .outfit import Outfit
from .patterns import Cloth, contrasting, random_colour
from .tailor import ROWS, Tailor, around, reach, rounded_box

_SKIN, _HAIR, _SHIRT, _TROUSERS, _SHOES = range(5)
"""Regions of the body."""
_JOINT = {name: i for i, name in enumerate(SMPL_JOINT_NAMES)}


def random_outfit(rng: np.random.Generator, tailor: Tailor, hair: np.ndarray) -> Outfit | None:
    """An outfit on the body that ``tailor`` has; ``hair``: (3,) the colour of what is painted on its head."""
    colour = hair_colour(rng, hair)
    if rng.random() < 0.75:
        _footwear(rng, tailor)
    lower = rng.choice(["none", "trousers", "skirt", "dress"], p=[0.16, 0.3, 0.34, 0.2])
    if lower == "trousers":
        _trousers(rng, tailor)
    upper = rng.choice(["none", "jumper", "coat", "cape"], p=[0.2, 0.2, 0.53, 0.07])
    if lower == "dress":
        cloth = Cloth(rng)
        _top(rng, tailor, cloth, rng.uniform(0.006, 0.012))
        _skirt(rng, tailor, cloth, rng.uniform(0.04, 0.1))
        upper = upper if rng.random() < 0.35 else "none"
    elif lower == "skirt":
        _skirt(rng, tailor, Cloth(rng), rng.uniform(-0.02, 0.07))
    if upper == "jumper":
        _top(rng, tailor, Cloth(rng), rng.uniform(0.012, 0.03))
    elif upper == "coat":
        _coat(rng, tailor, lower in ("skirt", "dress"))
    elif upper == "cape":
        _cape(rng, tailor)
    if rng.random() < 0.14:
        _scarf(rng, tailor)
    kind = rng.choice(["none", "rucksack", "shoulder", "hand"], p=[0.58, 0.17, 0.13, 0.12])
    if kind == "rucksack":
        _rucksack(rng, tailor)
    elif kind == "shoulder":
        _shoulder_bag(rng, tailor)
    elif kind == "hand":
        _handbag(rng, tailor)
    hat = rng.random() < 0.27
    put_on_hair(rng, tailor, colour, hat)
    if hat:
        put_on_hat(rng, tailor)
    return tailor.finish(np.append(rng.normal(0, 0.45, 2), 0.0))


def _drape(
    tailor: Tailor, angles: np.ndarray, top: float, length: np.ndarray | float, flare: float, gap: float
) -> tuple[np.ndarray, np.ndarray]:
    """A skirt's spots (N,R,3) at rest, and how far down its length each lies (R,).

    Args:
        top: height of its first row. length: metres, of each column (N,) or of all.
        flare: radians by which its sides lean outwards. gap: metres off the body.
    """
    centre = tailor.axis(top - 0.05, top + 0.05)
    share = np.linspace(0, 1, ROWS)
    lengths = np.broadcast_to(length, angles.shape)
    radius = np.zeros((len(angles), ROWS))
    heights = top - share * float(lengths.mean()) * np.cos(flare)
    first = None
    for r, y in enumerate(heights):
        body = reach(tailor.between(y - 0.06, y + 0.06, 0.24), centre, angles) if y > -0.88 else radius[:, r - 1]
        body = body + (gap if r else 0.6 * gap)
        first = body if first is None else first
        lean = first + share[r] * lengths * np.sin(flare)
        radius[:, r] = np.maximum(lean, body) if y > -0.32 else np.maximum(lean, 0.8 * body)
    down = top - share * lengths[:, None] * np.cos(flare)
    return around(centre, angles, radius, down), share


def _footwear(rng: np.random.Generator, tailor: Tailor) -> None:
    """Shoes that stand off the foot, or boots."""
    y = tailor.rest[:, 1]
    boots = rng.random() < 0.4
    covers = (tailor.regions == _SHOES) | (
        (tailor.regions == _TROUSERS) & (y < (rng.uniform(-0.8, -0.45) if boots else -2))
    )
    away = tailor.normals * rng.uniform(0.006, 0.02)
    away[:, 1] = np.maximum(away[:, 1], 0)
    toe = (tailor.rest[:, 2] > 0.12) & (tailor.regions == _SHOES)
    away[toe, 2] += rng.uniform(0, 0.03)
    colour = random_colour(rng)
    colours = np.tile(colour, (len(y), 1))
    sole = y < tailor.rest[:, 1].min() + 0.025
    colours[sole] = contrasting(rng, colour) if rng.random() < 0.5 else colour * 0.4
    tailor.shell(covers, away, colours, _SHOES)


def _trousers(rng: np.random.Generator, tailor: Tailor) -> None:
    """Trousers wider than the legs, down to the knees or to the ankles."""
    x, y, z = tailor.rest.T
    hem = rng.uniform(-0.6, -0.4) if rng.random() < 0.25 else rng.uniform(-0.9, -0.78)
    covers = (tailor.regions == _TROUSERS) & (y > hem)
    flared = rng.random() < 0.4
    begin = -0.45 if flared and hem < -0.7 else -0.08
    width = rng.uniform(0.015, 0.055) + (rng.uniform(0.02, 0.05) if flared else 0)
    wide = 0.008 + width * np.clip((begin - y) / (begin - min(hem, begin - 0.2)), 0, 1)
    side = np.where(x > 0, 1.0, -1.0)
    hips, knees, ankles = (tailor.joints[_JOINT[f"left_{name}"]] for name in ("hip", "knee", "ankle"))
    # From the leg's own axis, so that the cloth falls straight instead of following the calf.
    level = [ankles[1], knees[1], hips[1]]
    middle = np.stack(
        [
            side * np.interp(y, level, [ankles[0], knees[0], hips[0]]),
            np.interp(y, level, [ankles[2] + 0.01, knees[2], hips[2]]),
        ],
        axis=1,
    )
    out = np.stack([x, z], axis=1) - middle
    out /= np.linalg.norm(out, axis=1, keepdims=True) + 1e-6
    leg = (y < hips[1] - 0.02)[:, None]
    away = np.where(leg, np.stack([out[:, 0], np.zeros(len(y)), out[:, 1]], axis=1), tailor.normals) * wide[:, None]
    tailor.shell(covers, away, Cloth(rng)(tailor.rest), _TROUSERS, loose=0.5)


def _top(rng: np.random.Generator, tailor: Tailor, cloth: Cloth, thick: float, low: float = 0.0) -> None:
    """A jumper, or the upper part of a dress or a coat, ``thick`` metres off the skin, down to a height."""
    x, y, _ = tailor.rest.T
    sleeve = rng.choice([0.19, 0.33, 0.66], p=[0.15, 0.2, 0.65])
    neck = rng.uniform(0.42, 0.47)
    covers = (abs(x) < sleeve) & (y > low) & (tailor.regions <= _TROUSERS) & (tailor.regions != _HAIR)
    covers &= (y < neck) | (abs(x) > 0.11)
    wide = rng.uniform(0, 0.045) if rng.random() < 0.4 else 0.0
    arm = np.clip((abs(x) - 0.24) / max(sleeve - 0.24, 0.05), 0, 1)
    offset = thick + wide * arm + 0.4 * thick * np.clip((0.2 - y) / 0.2, 0, 1) * (abs(x) < 0.2)
    tailor.shell(covers, offset, cloth(tailor.rest), _SHIRT, loose=0.35)


def _skirt(rng: np.random.Generator, tailor: Tailor, cloth: Cloth, top: float) -> None:
    count = 30
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    length = rng.choice([rng.uniform(0.32, 0.5), rng.uniform(0.5, 0.75), rng.uniform(0.75, 0.97)], p=[0.4, 0.4, 0.2])
    flare = np.radians(rng.uniform(4, 14) if rng.random() < 0.4 else rng.uniform(14, 38))
    spots, share = _drape(tailor, angles, top, min(length, 0.95 + top), flare, 0.014)
    pleats = int(rng.integers(5, 11))
    depth = rng.uniform(0.0, 0.03) * share * (rng.random() < 0.6)
    wave = np.sin(pleats * angles)[:, None] * depth
    spots[..., 0] += wave * np.sin(angles)[:, None]
    spots[..., 2] += wave * np.cos(angles)[:, None]
    colours = cloth(spots)
    colours *= 1 + (0.35 * wave / 0.03)[..., None]
    if rng.random() < 0.3:
        colours[:, -2:] = contrasting(rng, cloth.base)
    tailor.sheet(
        spots, colours, _TROUSERS, wrap=True, stiffness=rng.uniform(0.6, 5), margin=0.018, hoop=rng.uniform(0.2, 0.4)
    )


def _coat(rng: np.random.Generator, tailor: Tailor, over_skirt: bool) -> None:
    """A jacket or a coat, with tails that are open in front."""
    cloth = Cloth(rng)
    thick = rng.uniform(0.014, 0.034)
    tails = rng.random() < 0.7
    waist = rng.uniform(0.03, 0.1) if tails else rng.uniform(-0.12, 0.0)
    _top(rng, tailor, cloth, thick, waist)
    if tails:
        count, gap = 28, rng.uniform(0.06, 0.3)
        angles = np.linspace(gap, 2 * np.pi - gap, count)
        room = 0.05 if over_skirt else 0.0
        lean = np.radians(rng.uniform(22, 38) if over_skirt else rng.uniform(4, 18))
        spots, _ = _drape(tailor, angles, waist + 0.02, rng.uniform(0.2, 0.85), lean, 0.012 + room)
        tailor.sheet(
            spots,
            cloth(spots),
            _SHIRT,
            stiffness=rng.uniform(1.0, 6),
            margin=0.02 + thick / 2 + room,
            hoop=rng.uniform(0.2, 0.4),
        )


def _cape(rng: np.random.Generator, tailor: Tailor) -> None:
    cloth = Cloth(rng)
    count, gap = 30, rng.uniform(0.5, 1.3)
    angles = np.linspace(gap, 2 * np.pi - gap, count)
    centre = tailor.axis(0.42, 0.46, 0.1)
    share = np.linspace(0, 1, ROWS)
    length = rng.uniform(0.45, 1.1)
    # Over the shoulders first, then down.
    out = np.minimum(share * length / 0.22, 1.0)
    wide = 0.075 + (0.13 + 0.11 * np.abs(np.sin(angles))[:, None]) * out + 0.16 * share * length
    down = 0.485 - share * length + 0.11 * out - 0.02
    tailor.sheet(
        around(centre, angles, wide, down),
        cloth(around(centre, angles, wide, down)),
        _SHIRT,
        stiffness=rng.uniform(0.3, 2),
        margin=0.03,
        hoop=0.3,
    )


def _scarf(rng: np.random.Generator, tailor: Tailor) -> None:
    cloth = Cloth(rng)
    angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    centre = tailor.axis(0.44, 0.5, 0.08)
    neck = reach(tailor.between(0.46, 0.5, 0.08), centre, angles)
    bulge = np.array([0.0, 0.03, 0.042, 0.03, 0.0])
    spots = around(centre, angles, neck[:, None] + bulge, np.array([0.43, 0.435, 0.46, 0.49, 0.5]))
    weights = tailor.weights[tailor.nearest(spots, abs(tailor.rest[:, 0]) < 0.12)].reshape(16, 5, -1)
    tailor.solid(spots, cloth(spots), _SHIRT, weights)
    side, length = rng.choice([-1, 1]), rng.uniform(0.2, 0.55)
    across = side * np.linspace(0.02, 0.1, 3)
    down = 0.45 - np.linspace(0, length, ROWS)
    front = tailor.outer()[(abs(tailor.rest[:, 0]) < 0.12) & (tailor.rest[:, 1] > 0.2) & (tailor.rest[:, 1] < 0.5)]
    z = np.full((3, ROWS), front[:, 2].max() + 0.02)
    z[:, 0] = centre[1] + 0.09
    tail = np.stack([np.repeat(across[:, None], ROWS, 1), np.repeat(down[None], 3, 0), z], axis=-1)
    tailor.sheet(tail, cloth(tail), _SHIRT, stiffness=0.6, margin=0.03, hoop=0.1)


def _straps(tailor: Tailor, covers: np.ndarray, colour: np.ndarray) -> None:
    worn = covers & np.isin(tailor.regions, (_SKIN, _SHIRT, _TROUSERS))
    tailor.shell(worn, np.full(len(worn), 0.012), np.tile(colour, (len(worn), 1)), _SHIRT)


def _rucksack(rng: np.random.Generator, tailor: Tailor) -> None:
    x, y, z = tailor.rest.T
    cloth = Cloth(rng)
    half = np.array([rng.uniform(0.11, 0.17), rng.uniform(0.14, 0.25), rng.uniform(0.05, 0.1)])
    back = tailor.between(0.05, 0.42, 0.14)[:, 2].min()
    spots = rounded_box(half, np.array([0.0, rng.uniform(0.2, 0.26), back - 0.8 * half[2]]))
    tailor.solid(spots, cloth(spots), _SHIRT, np.eye(len(tailor.joints))[_JOINT["spine3"]], loose=0.01)
    inner = rng.uniform(0.065, 0.085)
    _straps(
        tailor,
        (abs(x) > inner) & (abs(x) < inner + 0.045) & (y > 0.1) & ((z > 0.06) | (y > 0.36)) & (y < 0.5),
        cloth.base * 0.6,
    )


def _shoulder_bag(rng: np.random.Generator, tailor: Tailor) -> None:
    x, y, _ = tailor.rest.T
    side = rng.choice([-1, 1])
    cloth = Cloth(rng)
    half = np.array([rng.uniform(0.04, 0.07), rng.uniform(0.09, 0.15), rng.uniform(0.1, 0.17)])
    hip = abs(tailor.between(-0.15, 0.0, 0.24)[:, 0]).max()
    spots = rounded_box(half, np.array([side * (hip + half[0] * 0.9), -0.06, 0.04]))
    tailor.solid(spots, cloth(spots), _SHIRT, np.eye(len(tailor.joints))[_JOINT["pelvis"]], loose=0.035)
    # From the bag over the chest to the other shoulder.
    line = (y - 0.02) - (side * hip - x * 1.0) * (0.42 / (hip + 0.08)) * side
    _straps(tailor, (abs(line) < 0.035) & (y > -0.02) & (y < 0.5) & (abs(x) < 0.22), cloth.base * 0.5)


def _handbag(rng: np.random.Generator, tailor: Tailor) -> None:
    """A bag that swings from a hand."""
    side = rng.choice(["left", "right"])
    cloth = Cloth(rng)
    hand = tailor.joints[_JOINT[f"{side}_hand"]]
    width, depth = rng.uniform(0.09, 0.17), rng.uniform(0.03, 0.06)
    tall, handle = rng.uniform(0.16, 0.3), rng.uniform(0.08, 0.16)
    angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    outline = np.stack(
        [np.sign(np.sin(angles)) * abs(np.sin(angles)) ** 0.4, np.sign(np.cos(angles)) * abs(np.cos(angles)) ** 0.4]
    )
    down = np.concatenate([[0.0, 0.5 * handle, handle], handle + np.linspace(0.01, tall, ROWS - 4), [handle + tall]])
    wide = np.array([0.08, 0.1, 0.12, *[1.0] * (ROWS - 4), 0.05])
    x = hand[0] + outline[0][:, None] * wide * width
    z = hand[2] + outline[1][:, None] * wide * depth
    # Hanging straight down is upright: what lies along a column is its length.
    spots = np.stack([x, np.broadcast_to(hand[1] - down, x.shape), z], axis=-1)
    weights = np.eye(len(tailor.joints))[_JOINT[f"{side}_hand"]]
    tailor.sheet(spots, cloth(spots), _SHIRT, weights, wrap=True, stiffness=14.0, margin=0.01, hoop=0.0, upright=True)
