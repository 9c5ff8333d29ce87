"""The held-out set: how many characters its shots have, and which seeds."""

from __future__ import annotations

from maquette.backend.evaluation.sets import describe, held_out
from maquette.backend.training.data import HELD_OUT


def test_every_fourth_shot_has_two_characters_and_every_eighth_three():
    shots = held_out(8, 1, 16, 8)
    assert [len(shot.points) for shot in shots] == [1, 1, 1, 2, 1, 1, 1, 3]
    assert [shot.seed for shot in shots] == [HELD_OUT + i for i in range(8)]
    assert all(shot.truth is not None for shot in shots)
    assert describe(shots) == "8 shots of 1 frames, 16 x 16, 1 with two characters, 1 with three"
    assert describe(shots[:4]).endswith("1 with two characters")
