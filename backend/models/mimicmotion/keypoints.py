"""Where the keypoints lie at the moment of the reference picture (no torch).

Shape letters: T frames, K the 128 keypoints of ``KEYPOINT_NAMES``, N surface points.
"""

from __future__ import annotations

import numpy as np

from ...control import keypoints as control
from ...control.keypoints import nearest_points, skin_state
from ...shot import KEYPOINT_NAMES, Character, Keypoints, KeypointState, ShotError
from ..family import EngineError


def character_keypoints(character: Character, field: str) -> tuple[Keypoints, list[str]]:
    """As ``control.keypoints.character_keypoints``, with an EngineError for a shot that has none."""
    try:
        return control.character_keypoints(character, field)
    except ShotError as error:
        raise EngineError(error.field, str(error).removeprefix(f"{error.field}: ")) from error


def reference_keypoints(character: Character, keypoints: Keypoints, field: str) -> tuple[Keypoints, list[str]]:
    """The keypoints at the moment of the reference picture (T=1), and notes for the animator.

    When the reference has none of its own, each of the character's is carried over from the shot's first frame with
    the skin around it, whose place in the picture is known.

    Args:
        keypoints: the character's, see ``character_keypoints``.
        field: dotted path of the character.

    Raises:
        EngineError: no reference.
    """
    reference = character.reference
    if reference is None:
        raise EngineError(
            f"{field}.reference",
            f"{character.name} has no reference picture; set its reference to Render or Picture",
        )
    if reference.keypoints is not None:
        return reference.keypoints, []
    before, after = character.points[0].astype(np.float64), reference.points.astype(np.float64)
    seen = np.ones(len(after), bool) if reference.visibility is None else reference.visibility
    points = np.zeros((1, len(KEYPOINT_NAMES), 3), np.float32)
    state = np.zeros((1, len(KEYPOINT_NAMES)), np.uint8)
    for i in np.flatnonzero(keypoints.state[0] != KeypointState.ABSENT):
        at = keypoints.points[0, i].astype(np.float64)
        patch = nearest_points(before, at)
        points[0, i] = _carry(at, before[patch], after[patch])
        state[0, i] = skin_state(seen[None, patch])[0]
    return Keypoints(points, state), [
        f"The reference of {character.name} holds no keypoints: its pose was carried over with the skin"
    ]


def _carry(at: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """``at`` (3,) moved by the rigid motion that best takes points ``before`` (n,3) to ``after`` (Kabsch 1976)."""
    from_centre, to_centre = before.mean(axis=0), after.mean(axis=0)
    u, _, vt = np.linalg.svd((before - from_centre).T @ (after - to_centre))
    u[:, -1] *= np.sign(np.linalg.det(u @ vt))
    return (at - from_centre) @ (u @ vt) + to_centre
