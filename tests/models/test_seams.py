"""Where windows meet: which frames lie across, and whether a film shows it."""

from __future__ import annotations

from math import isnan, nan

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from maquette.backend.models.family import Plan
from maquette.backend.models.seams import film_seam, seam_note
from maquette.backend.models.windows import even_windows, joins, seam
from maquette.backend.raster.carry import carry_shot

from .control.builders import led_shot

CPU = torch.device("cpu")


@given(st.integers(2, 60), st.integers(2, 20), st.integers(0, 19), st.sampled_from([0.5, 1.0, 1.5, 1.875]))
@settings(max_examples=60, deadline=None)
def test_every_edge_inside_has_its_frames(latents, window, overlap, rate):
    windows = [(part.start, part.stop) for part in even_windows(latents, window, overlap)]
    frames = int((latents - 1) * rate) + 1
    found = joins(windows, frames, rate)
    assert all(0 <= pairs.start < pairs.stop < frames for pairs in found)
    edges = {edge for window in windows for edge in window} - {0, latents}
    if rate == 1:
        assert found == [range(edge - 1, edge) for edge in sorted(edges)]
    for edge in edges:
        # The moments of the model's frames on both sides, in frames of the film, lie within one of the ranges.
        before, after = (edge - 1) * rate, edge * rate
        assert after > frames - 1 or any(p.start <= before + 1e-6 and after <= p.stop + 1e-6 for p in found)


def test_a_seam_is_a_multiple_of_the_change_elsewhere():
    changes = [2.0, 2.0, 9.0, 2.0, nan, 3.0]
    assert seam(changes, [range(2, 3)]) == 4.5
    assert seam(changes, [range(1, 3)]) == 4.5, "the worst of the frames that a jump is spread over"
    assert seam([0.0, 1.0, 0.0], [range(1, 2)]) == 2.0, "what does not move is not divided by"
    assert isnan(seam(changes, [])) and isnan(seam(changes, [range(4, 5)]))


def test_a_film_with_a_seam_is_told_from_one_without():
    shot = led_shot(14)
    film = carry_shot(shot, 48, 48).frames
    plan = Plan(48, 48, 14, ((0, 9), (5, 14)), (), (48, 48), 14)
    jumping = film.copy()
    jumping[9:] = np.clip(film[9:].astype(int) + 30, 0, 255)
    smooth, seamed = (film_seam(shot, plan, each, shot.clip.fps, CPU) for each in (film, jumping))
    assert smooth < 1.5 and seamed > 4 * smooth
    assert not seam_note(smooth) and f"{seamed:.1f} times" in seam_note(seamed)
    one = Plan(48, 48, 14, ((0, 14),), (), (48, 48), 14)
    assert isnan(film_seam(shot, one, jumping, shot.clip.fps, CPU)) and not seam_note(nan)
