"""The pose and the camera in which a picture shows a body, from spots of the body that are pinned to the picture.

Damped least squares of what the pins say, and of what is known of people without a picture (how far joints bend and how
they mostly stand), so that few pins give a plausible pose. A flat picture does not tell near from far: several
beginnings are solved together, and the best solution is kept.

Everything is in the camera's frame, OpenCV's (x right, y down, z forward); poses are as in ``model``, the root's
turning the body's canonical frame into the camera's.

Shape letters: J joints, S shape components, P spots.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from .figure import GOOD, SPOTS, Figure, Match, label
from .match_solver import FOCAL, TURNS, Posed, Solver, project
from .types import BodyError

__all__ = ["GOOD", "SPOTS", "Figure", "Match", "first_guess", "joints_of", "label", "match_pins", "spots_of"]

_FILL = 0.85
"""Share of the picture that a body fills of which nothing is known."""


def joints_of(figure: Figure, match: Match) -> np.ndarray:
    """(J,3) metres in the camera's frame."""
    return _solver(figure, match)[1].positions[0]


def spots_of(figure: Figure, match: Match, width: int, height: int) -> np.ndarray:
    """(P,2) pixels at which a picture shows each of ``SPOTS``."""
    _, posed = _solver(figure, match)
    return project(posed.spots, np.array([match.focal]))[0] * max(width, height) + (width / 2, height / 2)


def first_guess(
    figure: Figure, betas: np.ndarray, width: int, height: int, box: tuple[float, float, float, float] | None = None
) -> Match:
    """The body upright, facing the camera.

    Args:
        betas: (S,) shape.
        width, height: of the picture, in pixels.
        box: left, top, right and bottom of the figure in it, where that is known; else it fills most of the picture.
    """
    side = max(width, height)
    if box is None:
        middle, tall = np.array([0.5, 0.5]) * (width, height), _FILL * min(height, 2 * width)
    else:
        middle, tall = np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2]), max(box[3] - box[1], 1.0)
    solver = Solver(figure, {}, np.asarray(betas, np.float64), side, False)
    state = solver.standing(np.zeros(1), FOCAL)
    depth = FOCAL * figure.height * side / tall
    # Of a standing body the middle lies a little below its root.
    lowest, highest = (figure.heads[:, 1].min() - 0.05 * figure.height, figure.heads[:, 1].max())
    drop = (highest + lowest) / 2 - figure.heads[0, 1] + 0.05 * figure.height
    place = (middle - (width / 2, height / 2)) / side / FOCAL
    state.place[0] = (place[0], place[1] + drop / depth, np.log(depth))
    return solver.match(state, 0)


def match_pins(
    figure: Figure,
    pins: Mapping[str, tuple[float, float]],
    width: int,
    height: int,
    start: Match,
    *,
    shape: np.ndarray | None = None,
    live: bool = False,
) -> Match:
    """Find pose and camera such that spots of the body lie where they are pinned.

    Args:
        pins: pixels of the picture by names of ``SPOTS``.
        start: where to begin; without pins it is what comes out, but for ``errors``.
        shape: (S,) where the shape is looked for as well, what it is most likely; else it is that of ``start``.
        live: refine ``start`` alone, in a few milliseconds, for a pin that is being dragged.

    Raises:
        BodyError: a pin that no body has, or that lies nowhere.
    """
    for name, place in pins.items():
        if name not in SPOTS:
            raise BodyError("pins", f"no body has a '{name}'; pins can be {', '.join(SPOTS)}")
        if not np.isfinite(place).all():
            raise BodyError("pins", f"'{name}' lies nowhere; put it onto the picture again")
    if not pins:
        return replace(start, errors={})
    side = max(width, height)
    places = {name: (np.asarray(at, np.float64) - (width / 2, height / 2)) / side for name, at in pins.items()}
    solver = Solver(figure, places, start.betas if shape is None else shape, side, shape is not None)
    state = solver.state_of(start)
    if live:
        state, _ = solver.solve(state, 8)
        return solver.match(state, 0)
    if len(pins) > 1:
        state = state.joined(solver.placed(solver.standing(TURNS, start.focal), state.place[0]))
    state, cost = solver.solve(state, 25)
    best = state.taken(np.array([int(cost.argmin())]))
    state, cost = solver.solve(best.joined(solver.flipped(best)), 25)
    return solver.match(state, int(cost.argmin()))


def _solver(figure: Figure, match: Match) -> tuple[Solver, Posed]:
    solver = Solver(figure, {}, match.betas, 1, False)
    return solver, solver.pose(solver.state_of(match))
