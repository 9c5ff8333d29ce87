"""What LTX is given of a shot, and how its segments go together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from maquette.backend.catalogue.models import model_spec
from maquette.backend.models.carried_start import CarriedPicture
from maquette.backend.models.control.ltx.family import guidance
from maquette.backend.models.control.ltx.inputs import KNOWN, Pictures, as_before, keyframes
from maquette.backend.models.control.plan import make_plan, segments
from maquette.backend.models.family import EngineError
from maquette.backend.shot import Settings

from ..builders import in_context_shot

SPEC = model_spec("ltx-2.3")


@given(st.integers(1, 961), st.sampled_from([9, 17, 25]), st.integers(0, 4), st.integers(0, 99), st.booleans())
@settings(max_examples=60, deadline=None)
def test_keyframes_are_spread_over_what_each_segment_makes(frames, overlap, count, seed, first):
    windows = segments(SPEC, frames, overlap)
    length = windows[-1][1]
    looks = np.random.default_rng(seed).random(length).astype(np.float32)
    nothing = np.zeros((length, 1, 1, 3), np.uint8)
    shown = Pictures(nothing[0] if first else None, CarriedPicture(nothing, nothing[..., 0], looks, 0.0))
    assert length >= frames and (length - 1) % 8 == 0
    for i, (start, stop) in enumerate(windows):
        assert stop - start <= SPEC.limits["window_frames"] and (stop - start - 1) % 8 == 0
        before = overlap if i else 0
        assert not i or start == windows[i - 1][1] - overlap
        found, left_out = keyframes(shown, (start, stop), before, count)
        assert len(found) + left_out <= count
        assert [place.frame for place in found] == sorted({place.frame for place in found})
        for place in found:
            # As diffusers places the first frame of a latent.
            assert place.frame == start + max(0, 8 * (place.index - 1) + 1) and start + before <= place.frame < stop
            assert shown.known(place.frame) >= KNOWN
        if first and count and not i:
            assert found[0].frame == 0
        if count and i:
            assert found or left_out, "each segment has a hold of its own"


@given(st.integers(0, 99), st.floats(0.9, 1.1), st.integers(-12, 12))
@settings(max_examples=30, deadline=None)
def test_a_segment_s_colours_are_those_of_the_one_before(seed, gain, offset):
    film = np.random.default_rng(seed).integers(60, 180, (6, 8, 8, 3), np.uint8)
    drifted = np.rint(film * gain + offset).clip(0, 255).astype(np.uint8)
    assert np.abs(as_before(drifted, film[:2]).astype(int) - film).max() <= 2
    np.testing.assert_array_equal(as_before(film, film[:2]), film)


def test_sizes_and_frames_are_snapped_and_told():
    shot = replace(in_context_shot(52), settings=Settings(width=1280, height=720))
    shot = replace(shot, clip=replace(shot.clip, width=1280, height=720, fps=25.0))
    plan = make_plan(SPEC, shot)
    assert plan.model_size == (1280, 704) and plan.width * 9 == pytest.approx(plan.height * 16, abs=16)
    assert plan.frames == 52 and plan.model_frames == 57 and plan.windows == ((0, 57),)
    said = " ".join(plan.notes)
    assert "Generated at 1280 x 704 and resized to" in said
    assert "52 at 25 were made as 50 at 24" in said and "50 frames were generated as 57" in said and "8k+1" in said
    # Without a film of half the size beside it, steps are half as wide.
    alone = replace(shot, settings=replace(shot.settings, width=864, height=486, options={"control": "none"}))
    assert make_plan(SPEC, alone).model_size == (864, 480)
    assert make_plan(SPEC, replace(alone, settings=replace(alone.settings, options={}))).model_size == (896, 512)


def test_long_films_are_made_in_segments():
    plan = make_plan(SPEC, in_context_shot(500))
    assert len(plan.windows) == 3 and plan.model_frames >= 500
    assert any("in 3 segments of" in note for note in plan.notes)


def test_what_it_refuses_and_says():
    with pytest.raises(EngineError, match="poses are drawn of characters"):
        make_plan(SPEC, replace(in_context_shot(2, control="pose"), characters=()))
    shot = replace(in_context_shot(2, control="none", keyframes=0, frame_rate=30), prompt="")
    notes = " ".join(make_plan(SPEC, shot).notes)
    assert "only the prompt leads" in notes and "No prompt" in notes and "was trained at 24" in notes


def test_guidance_is_all_or_nothing():
    """As diffusers takes it; at 1 no branch but one is computed."""
    on, off = guidance(SPEC, 4.0), guidance(SPEC, 1.0)
    assert (on["guidance_scale"], on["audio_guidance_scale"], on["stg_scale"], on["modality_scale"]) == (4, 7, 1, 3)
    assert on["spatio_temporal_guidance_blocks"] == [28] and on["audio_guidance_rescale"] == 0.7
    neutral = {"guidance_scale": 1.0, "stg_scale": 0.0, "modality_scale": 1.0, "guidance_rescale": 0.0}
    assert off == neutral | {f"audio_{name}": value for name, value in neutral.items()}
