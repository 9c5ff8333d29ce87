"""Hair and hats of the dressed world, drawn at random.

Shape letters: V vertices of the body, N columns, R rows. At rest in metres: Y up, facing +Z, left at +X.
"""

from __future__ import annotations

import numpy as np

from ..shot.types import SMPL_JOINT_NAMES
from .patterns import Cloth, contrasting
from .tailor import ROWS, Tailor, around, reach, rounded_box

_HAIR = 1
"""The region of the body."""
_JOINT = {name: i for i, name in enumerate(SMPL_JOINT_NAMES)}


def hair_colour(rng: np.random.Generator, painted: np.ndarray) -> np.ndarray:
    """A colour (3,) of hair: mostly about that which is painted on the head."""
    return _tinted(rng, painted if rng.random() < 0.7 else _natural(rng))


def _natural(rng: np.random.Generator) -> np.ndarray:
    """A colour (3,) of hair."""
    tones = [[0.07, 0.05, 0.04], [0.22, 0.13, 0.08], [0.42, 0.27, 0.14], [0.75, 0.58, 0.33], [0.5, 0.2, 0.09]]
    tones.append([0.72, 0.71, 0.7])
    return np.array(tones[rng.integers(len(tones))])


def _tinted(rng: np.random.Generator, colour: np.ndarray) -> np.ndarray:
    return np.clip(colour * rng.uniform(0.8, 1.25) + rng.normal(0, 0.02, 3), 0.02, 1)


def _strands(rng: np.random.Generator, colour: np.ndarray, columns: int, rows: int) -> np.ndarray:
    """Colours (N,R,3) of hair: every column a little different, lighter towards the tips."""
    tone = rng.uniform(0.75, 1.25, (columns, 1, 1)) * np.linspace(0.92, rng.uniform(0.9, 1.3), rows)[:, None]
    return (colour * tone).clip(0, 1)


def _head(tailor: Tailor) -> np.ndarray:
    return (tailor.rest[:, 1] > 0.56) & (abs(tailor.rest[:, 0]) < 0.12)


def put_on_hair(rng: np.random.Generator, tailor: Tailor, colour: np.ndarray, hat: bool) -> None:
    """Cut, hanging, tied or curled hair; under a ``hat`` it lies close."""
    kinds = ("none", "short", "bob", "long", "tail", "pigtails", "bun", "curls")
    kind = rng.choice(kinds, p=[0.05, 0.24, 0.17, 0.24, 0.1, 0.06, 0.07, 0.07])
    if kind == "none" or (hat and kind in ("bun", "curls")):
        return
    covers = tailor.regions == _HAIR
    if not covers.any():
        return
    rest = tailor.rest
    edge = tailor.from_edge(covers, _head(tailor) & (tailor.regions != _HAIR))
    thick = rng.uniform(0.05, 0.1) if kind == "curls" else rng.uniform(0.012, 0.034)
    thick = min(thick, 0.012) if hat else thick
    top = rest[covers][:, 1].max()
    volume = thick * np.clip(edge / 0.03, 0.25, 1) ** 0.6
    if kind == "short" and not hat:
        volume *= 1 + rng.uniform(0, 1.0) * np.clip((rest[:, 1] - top + 0.06) / 0.06, 0, 1)
    if kind in ("curls", "short"):
        lumps = rng.normal(0, 1, (3, 3)) * (40 if kind == "curls" else 60)
        volume = volume * (1 + 0.2 * np.sin(rest @ lumps + rng.uniform(0, 6, 3)).sum(axis=1) / 3)
    tone = 1 + 0.16 * np.sin(rest @ (rng.normal(0, 1, 3) * 120))
    tailor.shell(covers, volume, colour * tone[:, None], _HAIR)
    weights = np.eye(len(tailor.joints))[_JOINT["head"]]
    centre = tailor.axis(0.62, 0.68, 0.12)
    if kind in ("bob", "long"):
        count = 26
        front = rng.uniform(0.75, 1.25)
        angles = np.linspace(front, 2 * np.pi - front, count)
        length = rng.uniform(0.12, 0.24) if kind == "bob" else rng.uniform(0.26, 0.62)
        lengths = length * rng.uniform(0.88, 1.08, count)
        high = top - rng.uniform(0.045, 0.07)
        share = np.linspace(0, 1, ROWS)
        body = reach(tailor.between(high - 0.05, high + 0.01, 0.12), centre, angles)[:, None]
        skull = reach(tailor.between(0.57, 0.68, 0.12), centre, angles)[:, None]
        bell = rng.uniform(0.0, 0.07)
        wide = (
            body
            - 0.004
            + (np.maximum(skull - body, 0) + 0.012) * np.minimum(share * length / 0.07, 1)
            + bell * share * min(length, 0.3)
        )
        curl = rng.uniform(0, 0.012) * (rng.random() < 0.5)
        wide = wide + curl * np.sin(rng.uniform(0, 6, (count, 1)) + share * length * rng.uniform(40, 80))
        spots = around(centre, angles, wide, high - share * lengths[:, None])
        tailor.sheet(
            spots,
            _strands(rng, colour, count, ROWS),
            _HAIR,
            weights,
            stiffness=rng.uniform(0.5, 3),
            margin=0.02,
            hoop=rng.uniform(0.05, 0.25),
        )
    elif kind in ("tail", "pigtails"):
        for side in (0.0,) if kind == "tail" else (-1.0, 1.0):
            _tail(rng, tailor, colour, weights, centre, side, top)
    elif kind == "bun":
        size = rng.uniform(0.03, 0.055)
        back = reach(tailor.between(0.6, 0.68, 0.12), centre, np.array([np.pi]))[0]
        lift = rng.uniform(0.0, 0.12)
        spots = rounded_box(
            np.full(3, size),
            np.array([0.0, top - 0.07 + lift, centre[1] - back * (1 - 6 * lift / 1.0) - 0.3 * size]),
            1.0,
        )
        tailor.solid(spots, _strands(rng, colour, *spots.shape[:2]), _HAIR, weights)


def _tail(
    rng: np.random.Generator,
    tailor: Tailor,
    colour: np.ndarray,
    weights: np.ndarray,
    centre: np.ndarray,
    side: float,
    top: float,
) -> None:
    """A tail of hair, from the back of the head or from one ``side`` of it."""
    angle = np.pi if side == 0 else side * 1.9
    high = top - rng.uniform(0.03, 0.11)
    out = reach(tailor.between(high - 0.03, high + 0.03, 0.12), centre, np.array([angle]))[0]
    direction = np.array([np.sin(angle), np.cos(angle)])
    length, thick = rng.uniform(0.16, 0.48), rng.uniform(0.018, 0.034)
    share = np.linspace(0, 1, ROWS)
    away = out + 0.01 + 0.05 * np.sin(np.minimum(share * length / 0.12, 1) * np.pi / 2)
    down = high - np.maximum(share * length - 0.03, 0)
    girth = thick * np.sin(np.pi * (0.12 + 0.86 * share)) ** 0.6
    if rng.random() < 0.3:
        girth = girth * (1 + 0.3 * np.sin(share * length * 90))
    turns = np.linspace(0, 2 * np.pi, 7, endpoint=False)[:, None]
    x = centre[0] + direction[0] * away + girth * np.cos(turns)
    z = centre[1] + direction[1] * away + girth * np.sin(turns)
    spots = np.stack([x, np.broadcast_to(down, x.shape), z], axis=-1)
    tailor.sheet(
        spots,
        _strands(rng, colour, 7, ROWS),
        _HAIR,
        weights,
        wrap=True,
        stiffness=rng.uniform(0.5, 3),
        margin=0.01,
        hoop=0.0,
    )


def put_on_hat(rng: np.random.Generator, tailor: Tailor) -> None:
    """A cap, a hat with a brim, a beanie, a top hat or a cone."""
    kind = rng.choice(["cap", "brim", "beanie", "tall", "cone"], p=[0.3, 0.28, 0.26, 0.08, 0.08])
    head = _head(tailor)
    top = tailor.rest[head][:, 1].max()
    centre = tailor.axis(top - 0.1, top - 0.03, 0.12)
    angles = np.linspace(0, 2 * np.pi, 22, endpoint=False)
    skull = reach(tailor.between(top - 0.1, top + 0.1, 0.12), centre, angles) + 0.006
    wide = rng.uniform(0.05, 0.13)
    droop = rng.uniform(-0.02, 0.035)
    # Share of the skull's outline, metres more, height above the skull's top.
    profiles = {
        "cap": [(1, 0, -0.07), (1, 0.006, -0.03), (0.86, 0, 0.01), (0.5, 0, 0.035), (0, 0, 0.042)],
        "brim": [(1, wide, -0.06 - droop), (1, 0.5 * wide, -0.06), (1, 0, -0.055), (1, 0, 0.0),
                 (0.86, 0, 0.045), (0, 0, 0.05)],
        "beanie": [(1, 0.004, -0.085), (1, 0.012, -0.07), (1, 0.006, -0.02), (0.75, 0, 0.035),
                   (0.35, 0, 0.06), (0, 0, 0.065)],
        "tall": [(1, 0.05, -0.055), (1, 0, -0.05), (1.02, 0, 0.09), (0, 0, 0.095)],
        "cone": [(1, 0.0, -0.05), (0.5, 0, 0.11), (0, 0, 0.26)],
    }  # fmt: skip
    share, more, height = np.array(profiles[str(kind)]).T
    radius = skull[:, None] * share + more
    spots = around(centre, angles, radius, top + height)
    if kind != "tall":
        # Lower behind than in front.
        spots[..., 1] += 0.022 * np.cos(angles)[:, None] * (share > 0.9)
    cloth = Cloth(rng)
    weights = np.eye(len(tailor.joints))[_JOINT["head"]]
    colours = cloth(spots)
    if kind in ("brim", "tall", "beanie") and rng.random() < 0.6:
        colours[:, 2 if kind == "brim" else 1] = contrasting(rng, cloth.base)
    tailor.solid(spots, colours, _HAIR, weights, lining=True)
    if kind == "cap":
        turned = np.pi if rng.random() < 0.15 else 0.0
        fan = np.linspace(-0.95, 0.95, 11) + turned
        edge = reach(tailor.between(top - 0.1, top + 0.1, 0.12), centre, fan) + 0.006
        out = np.linspace(0, 1, 4) * (0.075 * np.cos((fan - turned) * 0.9)[:, None] ** 0.5)
        low = top - 0.066 + 0.02 * np.cos(fan)[:, None] - 0.25 * out
        visor = around(centre, fan, edge[:, None] - 0.004 + out, low)
        tailor.solid(visor, cloth(visor) * 0.85, _HAIR, weights, wrap=False, lining=True)
    elif kind == "beanie" and rng.random() < 0.4:
        ball = rounded_box(np.full(3, 0.025), np.array([centre[0], top + 0.08, centre[1]]), 1.0)
        tailor.solid(ball, np.full((*ball.shape[:2], 3), 1.0) * contrasting(rng, cloth.base), _HAIR, weights)
