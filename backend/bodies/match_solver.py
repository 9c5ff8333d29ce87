"""The least squares behind ``matching``: what pins say, and what is known of people without a picture.

Levenberg and Marquardt's damping, exact derivatives, several beginnings at once. Lengths in the picture are in its
longer sides, from its middle.

Shape letters: B beginnings, J joints, A joints that turn, S shape components, P spots, U unknowns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .figure import SPOTS, Figure, Match
from .rotations import axis_angle_to_matrix, matrix_to_axis_angle, swing

FOCAL = 50 / 36
"""Focal length to begin with, over the picture's longer side: what a 50 mm lens has."""
_NOISE = 0.006
"""Standard deviation of a pin, in heights of the body."""
_ROBUST = 4.0
"""Standard deviations beyond which a pin counts by its distance and no more by its square."""
_FOCAL_SPREAD, _DISTANCE_SPREAD, _SIDE_SPREAD = 0.15, 1.0, 1.0
_TILT_SPREAD = np.radians((15.0, 25.0))
"""Of the body's up: to the side, and towards or from the camera."""
_TURN_SPREAD = 0.4
"""Of turning about from where a beginning stands, as a sine."""
_LIMIT = 0.05
"""Radians beyond a joint's limit that count as one standard deviation."""
_STRAINED = 40.0
"""Variances that all joints together are off how people stand from which on it is told; 15 are many."""
TURNS = np.radians((0.0, 50.0, -50.0, 180.0, 130.0, -130.0))
"""Turns from the camera to begin with."""
_TURNED_AWAY = 1.0
"""Cost of a body that turns its back."""

_POSES: Mapping[str, tuple[Sequence[float], Sequence[float], Sequence[float], Sequence[float]]] = {
    "spine1": ((0, 0, 0), (9, 6, 7), (-30, -25, -25), (45, 25, 25)),
    "spine2": ((0, 0, 0), (6, 6, 6), (-25, -25, -25), (40, 25, 25)),
    "spine3": ((0, 0, 0), (6, 7, 6), (-25, -25, -25), (40, 25, 25)),
    "neck": ((0, 0, 0), (12, 15, 10), (-40, -50, -30), (40, 50, 30)),
    "head": ((0, 0, 0), (12, 20, 10), (-40, -50, -30), (40, 50, 30)),
    "left_collar": ((0, 0, 0), (5, 7, 8), (-15, -20, -15), (15, 20, 30)),
    "left_shoulder": ((0, -5, -55), (25, 35, 40), (-80, -130, -110), (80, 70, 100)),
    "left_elbow": ((0, -25, 0), (12, 40, 10), (-60, -150, -30), (60, 3, 30)),
    "left_wrist": ((0, 0, 0), (10, 10, 10), (-60, -30, -70), (60, 30, 70)),
    "left_hip": ((-8, 0, 3), (28, 16, 12), (-130, -50, -45), (35, 50, 60)),
    "left_knee": ((12, 0, 0), (35, 5, 4), (-3, -15, -12), (150, 15, 12)),
    "left_ankle": ((0, 0, 0), (14, 10, 8), (-40, -35, -25), (55, 35, 25)),
    "left_foot": ((0, 0, 0), (8, 3, 3), (-40, -10, -10), (20, 10, 10)),
}
"""Degrees about each axis of the rest pose in which a person of whom nothing is known stands, their standard
deviations, and the least and most that the joint turns. The right side mirrors the left. Other joints stay at rest."""


def _joint_table() -> dict[str, np.ndarray]:
    """(4,3) radians of each joint that turns: mean, spread, least, most."""
    found = {}
    for name, rows in _POSES.items():
        table = np.radians(np.array(rows, np.float64))
        found[name] = table
        if name.startswith("left_"):
            mirrored = table * (1, -1, -1)
            mirrored[1] = table[1]
            mirrored[2:] = np.sort(mirrored[2:], axis=0)
            found[name.replace("left_", "right_")] = mirrored
    return found


@dataclass(eq=False)
class State:
    """Where B solutions stand.

    Attributes:
        turns: (B,J,3,3) of each joint relative to its parent.
        place: (B,3) of the root: x and y over its distance, and the logarithm of that.
        focal: (B,) logarithm.
        betas: (B,S).
        across: (B,3) level and across the way that the body faced to begin with; unit length.
    """

    turns: np.ndarray
    place: np.ndarray
    focal: np.ndarray
    betas: np.ndarray
    across: np.ndarray

    def joined(self, other: State) -> State:
        return State(*(np.concatenate([own, more]) for own, more in zip(self._all(), other._all(), strict=True)))

    def taken(self, which: np.ndarray) -> State:
        return State(*(own[which] for own in self._all()))

    def _all(self) -> tuple[np.ndarray, ...]:
        return self.turns, self.place, self.focal, self.betas, self.across


@dataclass(frozen=True, eq=False)
class Posed:
    """A state's joints.

    Attributes:
        axes: (B,J,3,3) of each joint in the camera's frame.
        positions: (B,J,3) metres.
        moved: (B,J,3,S) by each shape component.
        spots: (B,P,3) metres.
    """

    axes: np.ndarray
    positions: np.ndarray
    moved: np.ndarray
    spots: np.ndarray


class Solver:
    """The least squares of some pins. Lengths in the picture are in its longer sides, from its middle."""

    def __init__(
        self, figure: Figure, pins: Mapping[str, np.ndarray], betas: np.ndarray, side: int, shaped: bool
    ) -> None:
        self.figure, self.side, self.pins = figure, side, pins
        self.betas = np.zeros(figure.directions.shape[2])
        self.betas[: len(betas)] = betas[: len(self.betas)]
        self._shapes = len(self.betas) if shaped else 0
        table = _joint_table()
        self._turning = np.array([0, *(j for j, name in enumerate(figure.names) if name in table)])
        rows = np.stack([table[figure.names[j]] for j in self._turning[1:]])
        self._mean, self._spread, self._least, self._most = rows.transpose(1, 0, 2)
        names = list(SPOTS)
        self._joints = figure.joints
        self._chosen = np.array([names.index(name) for name in pins], dtype=int)
        self._places = np.array(list(pins.values()), dtype=np.float64).reshape(-1, 2)
        above = np.zeros((len(figure.names),) * 2, dtype=bool)
        for j, parent in enumerate(figure.parents):
            above[j] = above[parent] if parent >= 0 else False
            above[j, j] = True
        self._moves = above[np.ix_(self._joints, self._turning)]

    # -- beginnings ----------------------------------------------------------------------------------------------

    def state_of(self, match: Match) -> State:
        """Where a match stands."""
        betas = self.betas.copy()
        betas[: len(match.betas)] = match.betas[: len(betas)]
        turns = axis_angle_to_matrix(np.asarray(match.poses, np.float64))[None]
        at = self.figure.heads[0] + self.figure.directions[0] @ betas + match.trans
        depth = max(float(at[2]), 1e-3)
        place = np.array([[at[0] / depth, at[1] / depth, np.log(depth)]])
        return State(turns, place, np.array([np.log(match.focal)]), betas[None], _across(turns))

    def standing(self, turns: np.ndarray, focal: float) -> State:
        """Upright bodies, turned (B,) radians from the camera."""
        count = len(turns)
        state = State(
            np.tile(np.eye(3), (count, len(self.figure.names), 1, 1)),
            np.tile([0.0, 0.0, np.log(3.0)], (count, 1)),
            np.full(count, np.log(focal)),
            np.tile(self.betas, (count, 1)),
            np.zeros((count, 3)),
        )
        state.turns[:, self._turning[1:]] = axis_angle_to_matrix(self._mean)
        upright = np.diag([1.0, -1.0, -1.0])
        about = np.zeros((count, 3))
        about[:, 1] = turns
        state.turns[:, 0] = upright @ axis_angle_to_matrix(about)
        state.across[:] = _across(state.turns)
        return state

    def placed(self, state: State, otherwise: np.ndarray) -> State:
        """Bodies moved such that they cover about what the pins do.

        Args:
            otherwise: (3,) place of those of which the pins do not say how large they are.
        """
        posed = self.pose(state)
        seen = posed.spots[:, self._chosen] - posed.positions[:, :1]
        focal = np.exp(state.focal)
        want, have = (np.sqrt(np.square(x - x.mean(axis=-2, keepdims=True)).sum(axis=-1).mean(axis=-1))
                      for x in (self._places, seen[..., :2]))  # fmt: skip
        usual = np.exp(otherwise[2])
        depth = np.where(want > 1e-3, focal * have / max(float(want), 1e-3), usual)
        depth = np.clip(depth, usual / 6, usual * 6)
        middle = self._places.mean(axis=0) - (seen.mean(axis=1)[:, :2] / depth[:, None]) * focal[:, None]
        state.place[:] = np.column_stack([middle / focal[:, None], np.log(depth)])
        return state

    def flipped(self, state: State) -> State:
        """One state (1,...) with each limb mirrored in the picture's plane, which shows the same from afar."""
        names, parents = self.figure.names, self.figure.parents
        posed = self.pose(state)
        found = []
        limbs = [
            (f"{side}_{upper}", f"{side}_{lower}", f"{side}_{end}", parts)
            for side in ("left", "right")
            for upper, lower, end in (("shoulder", "elbow", "wrist"), ("hip", "knee", "ankle"))
            for parts in ((True, True), (True, False), (False, True))
        ]
        for upper, lower, end, parts in limbs:
            made = state.taken(np.zeros(1, dtype=int))
            above = posed.axes[0, parents[names.index(upper)]]
            for joint, further, mirrored in ((upper, lower, parts[0]), (lower, end, parts[1])):
                a, b = names.index(joint), names.index(further)
                along = posed.positions[0, b] - posed.positions[0, a]
                goal = along * (1, 1, -1) if mirrored else along
                axes = swing(along, goal) @ posed.axes[0, a]
                made.turns[0, a] = above.T @ axes
                above = axes
            found.append(made)
        joined = found[0]
        for made in found[1:]:
            joined = joined.joined(made)
        return joined

    # -- solving -------------------------------------------------------------------------------------------------

    def pose(self, state: State) -> Posed:
        figure = self.figure
        count, joints = state.turns.shape[:2]
        axes = np.empty((count, joints, 3, 3))
        positions = np.empty((count, joints, 3))
        moved = np.zeros((count, joints, 3, figure.directions.shape[2]))
        rest = figure.heads + np.einsum("jcs,bs->bjc", figure.directions, state.betas)
        depth = np.exp(state.place[:, 2:])
        root = np.concatenate([state.place[:, :2] * depth, depth], axis=1)
        for j, parent in enumerate(figure.parents):
            if parent < 0:
                axes[:, j], positions[:, j] = state.turns[:, j], root
                continue
            above = axes[:, parent]
            axes[:, j] = above @ state.turns[:, j]
            positions[:, j] = positions[:, parent] + (above @ (rest[:, j] - rest[:, parent])[..., None])[..., 0]
            if self._shapes:
                moved[:, j] = moved[:, parent] + above @ (figure.directions[j] - figure.directions[parent])
        at = self._joints
        spots = positions[:, at] + (axes[:, at] @ figure.offsets[..., None])[..., 0]
        return Posed(axes, positions, moved, spots)

    def solve(self, state: State, steps: int) -> tuple[State, np.ndarray]:
        """Improve all states; returns them and their costs (B,)."""
        noise = _NOISE * self.figure.height * np.exp(state.focal - state.place[:, 2])
        damping = np.full(len(state.place), 1e-2)
        cost, gradient, curvature = self.linear(state, noise)
        for _ in range(steps):
            diagonal = np.einsum("buu->bu", curvature)
            damped = curvature.copy()
            np.einsum("buu->bu", damped)[:] += damping[:, None] * diagonal + 1e-9
            step = np.linalg.solve(damped, -gradient[..., None])[..., 0]
            tried = self.moved(state, step)
            found = self.linear(tried, noise)
            better = found[0] < cost
            gain = np.where(better, (cost - found[0]) / np.maximum(cost, 1e-9), 0)
            for own, new in zip(state._all(), tried._all(), strict=True):
                own[better] = new[better]
            for own, new in zip((cost, gradient, curvature), found, strict=True):
                own[better] = new[better]
            damping = np.clip(np.where(better, damping / 5, damping * 6), 1e-7, 1e6)
            if ((gain < 1e-4) & (better | (damping > 1e3))).all():
                break
        facing = self.pose(state).axes[:, 0, 2, 2]  # -1 towards the camera, 1 away from it
        return state, cost + _TURNED_AWAY * (1 + facing)

    def match(self, state: State, which: int) -> Match:
        state = state.taken(np.array([which]))
        posed = self.pose(state)
        focal = np.exp(state.focal)
        apart = np.linalg.norm(project(posed.spots[:, self._chosen], focal)[0] - self._places, axis=-1) * self.side
        angles = matrix_to_axis_angle(state.turns[0, self._turning[1:]])
        odd = np.square((angles - self._mean) / self._spread).sum(axis=1)
        strained = self.figure.names[self._turning[1 + int(odd.argmax())]] if odd.sum() > _STRAINED else ""
        betas = state.betas[0]
        rest = self.figure.heads[0] + self.figure.directions[0] @ betas
        return Match(
            poses=matrix_to_axis_angle(state.turns[0]),
            trans=posed.positions[0, 0] - rest,
            betas=betas,
            focal=float(focal[0]),
            errors=dict(zip(self.pins, apart.tolist(), strict=True)),
            tall=float(self.figure.height * focal[0] / np.exp(state.place[0, 2]) * self.side),
            strained=strained,
        )

    def moved(self, state: State, step: np.ndarray) -> State:
        turning = self._turning
        count = 3 * len(turning)
        turns = state.turns.copy()
        by = axis_angle_to_matrix(step[:, :count].reshape(len(step), -1, 3))
        turns[:, turning] = turns[:, turning] @ by
        place = state.place + step[:, count : count + 3]
        betas = state.betas.copy()
        betas[:, : self._shapes] += step[:, count + 4 :]
        return State(turns, place, state.focal + step[:, count + 3], betas, state.across)

    def linear(self, state: State, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Cost (B,), its gradient (B,U) and Gauss and Newton's curvature (B,U,U)."""
        posed = self.pose(state)
        cost, residual, slope = self._of_pins(state, posed, noise)
        known = self._of_people(state, posed)
        cost = cost + sum(np.square(part[0]).sum(axis=1) for part in known)
        residual = np.concatenate([residual, *(part[0] for part in known)], axis=1)
        slope = np.concatenate([slope, *(part[1] for part in known)], axis=1)
        turned = slope.transpose(0, 2, 1)
        return cost, (turned @ residual[..., None])[..., 0], turned @ slope

    def _unknowns(self) -> int:
        return 3 * len(self._turning) + 4 + self._shapes

    def _of_pins(self, state: State, posed: Posed, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        which, turning = self._chosen, self._turning
        spots = posed.spots[:, which]
        focal = np.exp(state.focal)
        depth = np.maximum(spots[..., 2:], 1e-3)
        flat = spots[..., :2] / depth
        # What moving a spot does to its pixel.
        pixel = np.zeros((*spots.shape[:2], 2, 3))
        pixel[..., 0, 0] = pixel[..., 1, 1] = 1
        pixel[..., 2] = -flat
        pixel *= (focal[:, None, None] / depth)[..., None]
        arms = spots[:, :, None] - posed.positions[:, None, turning]
        arms *= self._moves[which][None, :, :, None]
        axes = posed.axes[:, turning].transpose(0, 1, 3, 2)
        turned = np.cross(axes[:, None], arms[:, :, :, None]).reshape(*spots.shape[:2], -1, 3)
        slope = np.zeros((*spots.shape[:2], 2, self._unknowns()))
        count = 3 * len(turning)
        slope[..., :count] = pixel @ turned.transpose(0, 1, 3, 2)
        z = np.exp(state.place[:, 2])
        along = np.zeros((len(z), 3, 3))
        along[:, 0, 0] = along[:, 1, 1] = z
        along[:, :, 2] = posed.positions[:, 0]
        slope[..., count : count + 3] = pixel @ along[:, None]
        slope[..., count + 3] = flat * focal[:, None, None]
        if self._shapes:
            slope[..., count + 4 :] = pixel @ posed.moved[:, self._joints[which]]
        residual = (flat * focal[:, None, None] - self._places) / noise[:, None, None]
        slope /= noise[:, None, None, None]
        # Huber's loss; its gradient is that of a square that counts less the farther off it is.
        far = np.linalg.norm(residual, axis=-1)
        beyond = np.maximum(far - _ROBUST, 0)
        cost = (np.square(far) - np.square(beyond)).sum(axis=1)
        weight = np.sqrt(_ROBUST / np.maximum(far, _ROBUST))[..., None]
        weighted = (slope * weight[..., None]).reshape(len(z), -1, slope.shape[-1])
        return cost, (residual * weight).reshape(len(z), -1), weighted

    def _of_people(self, state: State, posed: Posed) -> list[tuple[np.ndarray, np.ndarray]]:
        count, turning = len(state.place), self._turning
        unknowns, joints = self._unknowns(), 3 * len(turning)
        angles = matrix_to_axis_angle(state.turns[:, turning[1:]])
        by = _inverse_right_jacobian(angles)
        off = angles - self._mean
        over = np.maximum(angles - self._most, 0) + np.minimum(angles - self._least, 0)
        parts = []
        for values, scale in ((off, 1 / self._spread), (over, (over != 0) / _LIMIT)):
            slope = np.zeros((count, len(turning) - 1, 3, unknowns))
            scaled = by * scale[..., None]
            for a in range(len(turning) - 1):
                slope[:, a, :, 3 * a + 3 : 3 * a + 6] = scaled[:, a]
            parts.append(((values * scale).reshape(count, -1), slope.reshape(count, -1, unknowns)))
        # The way up, in the camera's frame.
        axes = posed.axes[:, 0]
        spread = 1 / _TILT_SPREAD
        slope = np.zeros((count, 2, unknowns))
        for k, sign, column in ((0, 1, 2), (2, -1, 0)):
            slope[:, :, k] = sign * axes[:, (0, 2), column] * spread
        parts.append((axes[:, (0, 2), 1] * spread, slope))
        # One pin is to move the body rather than to turn it about.
        slope = np.zeros((count, 1, unknowns))
        slope[:, 0, 0] = -(state.across * axes[:, :, 1]).sum(axis=1) / _TURN_SPREAD
        slope[:, 0, 1] = (state.across * axes[:, :, 0]).sum(axis=1) / _TURN_SPREAD
        parts.append(((state.across * axes[:, :, 2]).sum(axis=1, keepdims=True) / _TURN_SPREAD, slope))
        lens = np.concatenate([state.place, state.focal[:, None]], axis=1) - (0, 0, np.log(4.0), np.log(FOCAL))
        spreads = np.array([_SIDE_SPREAD, _SIDE_SPREAD, _DISTANCE_SPREAD, _FOCAL_SPREAD])
        slope = np.zeros((count, 4, unknowns))
        slope[:, range(4), range(joints, joints + 4)] = 1 / spreads
        parts.append((lens / spreads, slope))
        if self._shapes:
            slope = np.zeros((count, self._shapes, unknowns))
            slope[:, range(self._shapes), range(joints + 4, unknowns)] = 1
            parts.append((state.betas - self.betas, slope))
        return parts


def _across(turns: np.ndarray) -> np.ndarray:
    """(B,3) of ``State``, by the turns (B,J,3,3) of the joints."""
    ahead = turns[:, 0, :, 2]
    across = np.stack([-ahead[:, 2], np.zeros(len(ahead)), ahead[:, 0]], axis=1)
    return across / np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-6)


def project(spots: np.ndarray, focal: np.ndarray) -> np.ndarray:
    """(B,P,2) longer sides of the picture from its middle."""
    return spots[..., :2] / np.maximum(spots[..., 2:], 1e-3) * focal[:, None, None]


def _inverse_right_jacobian(v: np.ndarray) -> np.ndarray:
    """How axis-angle vectors (...,3) change by a small turn after theirs (...,3,3).

    Solà et al., "A micro Lie theory for state estimation in robotics", 2018, Eq. 144.
    """
    angle = np.linalg.norm(v, axis=-1)[..., None, None]
    safe = np.maximum(angle, 1e-4)
    half = safe / 2
    factor = np.where(angle < 1e-3, 1 / 12, (1 - half / np.tan(half)) / safe**2)
    cross = np.zeros((*v.shape, 3))
    cross[..., 2, 1], cross[..., 0, 2], cross[..., 1, 0] = v[..., 0], v[..., 1], v[..., 2]
    cross[..., 1, 2], cross[..., 2, 0], cross[..., 0, 1] = -v[..., 0], -v[..., 1], -v[..., 2]
    return np.eye(3) + cross / 2 + factor * (cross @ cross)
