"""The held-out set: how many characters its shots have, their aspects, and which seeds."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from maquette.backend.evaluation import sets
from maquette.backend.evaluation.evaluate import by_kind
from maquette.backend.evaluation.measures import ASPECTS
from maquette.backend.evaluation.sets import DRESSED, _characters, describe, held_out, real_motions, shot_size
from maquette.backend.motions.types import BodyMotion
from maquette.backend.training.data import HELD_OUT


def test_every_fourth_shot_has_two_characters_and_every_eighth_three():
    shots = held_out(8, 1, 16, 8)
    assert [len(shot.points) for shot in shots] == [1, 1, 1, 2, 1, 1, 1, 3]
    assert [shot.seed for shot in shots] == [HELD_OUT + i for i in range(8)]
    assert all(shot.truth is not None for shot in shots)
    assert describe(shots) == ("8 shots of 1 frames, 32 x 16, 16 x 32, 16 x 16, 1 with two characters, 1 with three")
    assert describe(shots[:4]).endswith("1 with two characters")


def test_dressed_shots_have_seeds_of_their_own_and_the_same_cast():
    shots = held_out(4, 1, 16, 8, dressed=True)
    assert [shot.seed for shot in shots] == [DRESSED + i for i in range(4)]
    assert [len(shot.points) for shot in shots] == [1, 1, 1, 2]
    assert any(not shot.lit_references for shot in shots) or any(shot.furniture is not None for shot in shots)


def test_aspects_come_in_turn_and_with_every_number_of_characters():
    assert [shot_size(i, 256) for i in range(4)] == [(448, 256), (256, 448), (256, 256), (336, 256)]
    found = Counter((shot_size(i, 256), _characters(i)) for i in range(32))
    assert sorted(found.values()) == [1] * 8 + [6] * 4


@pytest.mark.parametrize("size", [64, 128, 256, 512])
def test_sides_are_multiples_of_16_and_about_the_aspect(size):
    for i, ratio in enumerate(ASPECTS.values()):
        width, height = shot_size(i, size)
        assert min(width, height) == size and width % 16 == height % 16 == 0
        assert width / height == pytest.approx(ratio, rel=0.07)


def test_the_ablation_sees_squares():
    shots = held_out(4, 1, 32, 8, square=True)
    assert all(shot.video.shape == (1, 32, 32, 3) for shot in shots)
    assert np.array_equal(shots[2].video, held_out(3, 1, 32, 8)[2].video)


def test_real_motions_move_bare_bodies_and_dressed_people_in_turn(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for name in ("a.bvh", "b.bvh"):
        (tmp_path / name).touch()
    motions = {
        name: BodyMotion(24.0, rng.normal(0, 0.2, (9, 24, 3)).astype(np.float32), np.zeros((9, 3), np.float32))
        for name in ("a.bvh", "b.bvh")
    }
    monkeypatch.setattr(sets, "load_motion", lambda path, body: motions[path.name])
    shots = real_motions(tmp_path, 5, 1, 16, 8)
    assert [shot.dressed for shot in shots] == [False, True, False, True, True]
    kinds = by_kind(shots)
    assert kinds["dressed people"].tolist() == [shot.dressed for shot in shots]
    assert (kinds["bare bodies"] == ~kinds["dressed people"]).all()
    assert "bare bodies" not in by_kind(shots[:1])
