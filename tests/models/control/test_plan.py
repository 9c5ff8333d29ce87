"""What the models make of a shot: rate, frames, windows, size, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from maquette.backend.catalogue.models import model_spec
from maquette.backend.models.control.plan import frames_in_time, make_plan
from maquette.backend.models.family import EngineError
from maquette.backend.models.windows import even_windows
from maquette.backend.shot import Background, Settings, Shot

from ...builders import make_shot
from .builders import animated_shot, led_shot

SPEC = model_spec("vace-1.3b")
ANIMATE = model_spec("wan-animate-14b")


def shot_of(frames: int, fps: float = 24.0, width: int = 1280, height: int = 720, **options: Any) -> Shot:
    shot = make_shot(frames=1, points=4, width=width, height=height)
    viewmats, Ks = (np.repeat(each, frames, axis=0) for each in (shot.clip.viewmats, shot.clip.Ks))
    clip = replace(shot.clip, fps=fps, viewmats=viewmats, Ks=Ks)
    return replace(shot, clip=clip, characters=(), settings=Settings(options=options), prompt="a dancer")


@given(st.integers(1, 300), st.sampled_from([8.0, 12.0, 15.0, 16.0, 23.976, 24.0, 25.0, 30.0, 60.0]))
def test_the_model_s_frames_last_as_long_as_the_range(frames: int, fps: float):
    shot = shot_of(frames, fps)
    plan, count = make_plan(SPEC, shot), frames_in_time(shot.clip, 16)
    assert plan.frames == frames and plan.model_frames % 4 == 1 and plan.model_frames >= max(count, 17)
    # Every moment of the range lies between two frames of the model, and none is made for nothing.
    assert (count - 2) / 16 < (frames - 1) / fps <= (count - 1) / 16 + 1e-6
    assert plan.model_frames <= max(17, count + 3)
    assert any("16 frames per second" in note for note in plan.notes) == (fps != 16)
    assert any("holding the last pose" in note for note in plan.notes) == (plan.model_frames != count)


@given(st.integers(1, 300), st.integers(2, 40), st.integers(0, 60))
def test_windows_follow_each_other_and_overlap(latents: int, window: int, overlap: int):
    windows = even_windows(latents, window, overlap)
    assert windows[0].start == 0 and windows[-1].stop == latents
    assert all(len(part) == min(window, latents) for part in windows)
    for before, after in pairwise(windows):
        assert before.start < after.start <= before.stop - min(overlap, window - 1)


def test_a_long_shot_is_made_in_windows():
    plan = make_plan(SPEC, shot_of(240))
    assert plan.windows[0] == (0, 81) and plan.windows[-1][1] == plan.model_frames
    assert all(stop - start in (81, 84) for start, stop in plan.windows)
    assert any("fused at every step" in note for note in plan.notes)
    assert len(make_plan(SPEC, shot_of(81, 16)).windows) == 1


@settings(max_examples=30)
@given(st.integers(1, 900), st.sampled_from(["1", "5"]), st.sampled_from([16.0, 24.0, 30.0]))
def test_segments_go_on_from_each_other_and_hardly_a_frame_is_made_for_nothing(frames: int, overlap: str, fps: float):
    shot = replace(animated_shot(1), settings=Settings(options={"overlap": overlap}))
    clip = shot_of(frames, fps).clip
    plan = make_plan(ANIMATE, replace(shot, clip=clip))
    count, shared = frames_in_time(clip, 30), int(overlap)
    assert plan.windows[0][0] == 0 and plan.windows[-1][1] == plan.model_frames >= count
    assert len({stop - start for start, stop in plan.windows}) == 1
    length = plan.windows[0][1]
    assert length % 4 == 1 and 17 <= length <= 77 and all(a[1] - b[0] == shared for a, b in pairwise(plan.windows))
    # As few segments as can be, and at most a latent frame too many in each.
    assert len(plan.windows) == max(1, -(-(count - shared) // (77 - shared)))
    assert plan.model_frames <= max(17, count + 4 * len(plan.windows))


def test_what_animate_refuses_and_says():
    shot = replace(animated_shot(2), characters=animated_shot(2, mode="replace").characters)
    person = shot.characters[0]
    bare = replace(person, reference=None, further_references=())
    boneless = replace(person, keypoints=None, joints=None)
    nowhere = replace(shot, background=Background(), settings=Settings(options={"mode": "replace"}))
    for wrong, field in (
        (replace(shot, characters=(bare,)), "characters[0].reference"),
        (replace(shot, characters=(boneless,)), "characters[0].keypoints"),
        (replace(shot, characters=(person, person)), "characters"),
        (nowhere, "settings.options.mode"),
    ):
        with pytest.raises(EngineError) as caught:
            make_plan(ANIMATE, wrong)
        assert caught.value.field == field
    notes = " ".join(make_plan(ANIMATE, shot).notes)
    assert "trained at 30 frames" in notes and "2 frames were generated as 17" in notes
    plan = make_plan(ANIMATE, replace(shot, settings=Settings()))
    assert "makes 30 frames per second: 2 at 24 were made as 3" in " ".join(plan.notes)


def test_sizes_are_multiples_of_16_and_said():
    plan = make_plan(SPEC, shot_of(24, width=1920, height=1080))
    assert all(side % 16 == 0 for side in plan.model_size)
    assert abs(plan.width / plan.height - 16 / 9) < 0.01
    assert any(f"Generated at {plan.model_size[0]} x {plan.model_size[1]}" in note for note in plan.notes)


@pytest.mark.parametrize(
    ("changes", "options", "field", "said"),
    [
        ({"background": Background()}, {"keep": "background"}, "settings.options.keep", "no background"),
        ({"background": Background(), "bare": True}, {"keep": "known"}, "settings.options.keep", "neither looks"),
        ({"characters": ()}, {"keep": "background"}, "characters", "there are none"),
        ({"characters": ()}, {"control": "pose"}, "characters", "mark at least one"),
        ({}, {"control": "edges"}, "settings.options.control", "choose one of depth"),
        ({}, {"negative_prompt": 3}, "settings.options.negative_prompt", "write at most"),
    ],
)
def test_what_is_refused(changes, options, field, said):
    shot = led_shot(options=options)
    if changes.pop("bare", False):
        bare = tuple(replace(c, reference=None, further_references=()) for c in shot.characters)
        changes["characters"] = bare
    with pytest.raises(EngineError, match=said) as caught:
        make_plan(SPEC, replace(shot, **changes))
    assert caught.value.field == field


def test_what_is_not_led_is_said():
    shot = led_shot(options={"control": "none"}, prompt=" ")
    notes = " ".join(make_plan(SPEC, shot).notes)
    assert "only the prompt and the references lead" in notes and "No prompt" in notes
    bare = replace(shot, characters=tuple(replace(c, reference=None, further_references=()) for c in shot.characters))
    assert "No reference picture for" in " ".join(make_plan(SPEC, bare).notes)
