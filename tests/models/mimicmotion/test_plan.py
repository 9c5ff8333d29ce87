"""What a shot is told before any GPU time is spent."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from maquette.backend.catalogue.models import ModelSpec, model_spec
from maquette.backend.models.family import EngineError
from maquette.backend.models.mimicmotion.plan import make_plan, window_of
from maquette.backend.shot import Keypoints, KeypointState, Media, Shot

from .conftest import make_shot, with_character

PUBLISHED = model_spec("mimicmotion")


def refused(shot: Shot, spec: ModelSpec = PUBLISHED) -> EngineError:
    with pytest.raises(EngineError) as caught:
        make_plan(spec, shot)
    return caught.value


@pytest.mark.parametrize(
    ("clip", "model"),
    [((1920, 1080), (1024, 576)), ((1080, 1920), (576, 1024)), ((512, 512), (768, 768)), ((960, 720), (896, 640))],
)
def test_the_size_follows_the_clips_aspect(clip, model):
    plan = make_plan(PUBLISHED, make_shot(width=clip[0], height=clip[1]))
    assert plan.model_size == model
    assert plan.width / plan.height == pytest.approx(clip[0] / clip[1], rel=0.005)


def test_long_shots_are_planned_in_tiles():
    plan = make_plan(PUBLISHED, make_shot(frames=138))
    assert plan.frames == 138
    assert plan.windows == ((0, 71), (66, 137), (67, 138))
    assert any("138 frames are longer than MimicMotion's window of 72" in note for note in plan.notes)
    even = make_plan(PUBLISHED, make_shot(frames=138, options={"tiling": "even"}))
    assert even.windows == ((0, 71), (34, 105), (67, 138))
    short = make_plan(PUBLISHED, make_shot(frames=5))
    assert short.windows == ((0, 5),) and not any("window" in note for note in short.notes)


def test_the_first_checkpoint_brings_its_own_window(tmp_path):
    spec = replace(PUBLISHED, folder=tmp_path)
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "maquette.json").write_text(json.dumps({"made_of": {"files": [["MimicMotion_1.pth", 1]]}}))
    assert window_of(spec, make_shot(2)) == 16
    assert window_of(spec, make_shot(2, options={"window": 40})) == 40
    assert make_plan(spec, make_shot(31)).windows[0] == (0, 15)
    assert window_of(replace(PUBLISHED, folder=tmp_path / "none"), make_shot(2)) == 72


def test_two_characters_are_too_many_for_a_model_of_one():
    shot = make_shot()
    error = refused(replace(shot, characters=(*shot.characters, replace(shot.characters[0], name="Bert"))))
    assert error.field == "characters"
    assert "2 characters (Anna, Bert); MimicMotion takes one" in str(error)


def test_a_shot_without_a_character_or_a_reference_is_refused():
    assert refused(replace(make_shot(), characters=())).field == "characters"
    error = refused(with_character(make_shot(), reference=None))
    assert error.field == "characters[0].reference" and "Anna has no reference picture" in str(error)


def test_a_damaged_reference_is_refused():
    shot = make_shot()
    looks = replace(shot.characters[0].reference, image=Media(b"no picture", "image/png"))
    error = refused(with_character(shot, reference=looks))
    assert error.field == "characters[0].reference.image" and "damaged" in str(error)


def test_a_reference_that_does_not_show_the_body_is_refused():
    shot = make_shot()
    aside = shot.characters[0].reference.viewmat.copy()
    aside[0, 3] += 50
    error = refused(with_character(shot, reference=replace(shot.characters[0].reference, viewmat=aside)))
    assert error.field == "characters[0].reference" and "shows nothing of Anna's body" in str(error)


def test_too_many_frames_are_refused():
    spec = replace(PUBLISHED, limits={**PUBLISHED.limits, "max_frames": 4})
    assert "5 frames; MimicMotion makes at most 4" in str(refused(make_shot(), spec))


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"window": 500}, "settings.options.window"),
        ({"window": 7.5}, "settings.options.window"),
        ({"overlap": 0}, "settings.options.overlap"),
        ({"window": 16, "overlap": 15}, "settings.options.overlap"),
        ({"tiling": "wild"}, "settings.options.tiling"),
        ({"noise_augmentation": 2}, "settings.options.noise_augmentation"),
    ],
)
def test_options_out_of_range_are_refused(options, field):
    assert refused(make_shot(options=options)).field == field


def test_frames_without_the_body_are_mentioned_and_a_shot_of_them_refused():
    shot = make_shot()
    keypoints = shot.characters[0].keypoints
    state = keypoints.state.copy()
    state[1:3] = KeypointState.HIDDEN
    plan = make_plan(PUBLISHED, with_character(shot, keypoints=Keypoints(keypoints.points, state)))
    assert any(note.startswith("2 of 5 frames show next to nothing of Anna") for note in plan.notes)
    gone = Keypoints(keypoints.points, np.full_like(state, KeypointState.HIDDEN))
    assert refused(with_character(shot, keypoints=gone)).field == "clip"


def test_a_reference_framed_otherwise_is_mentioned():
    shot = make_shot()
    looks = shot.characters[0].reference
    far = looks.viewmat.copy()
    far[2, 3] += 4.0
    plan = make_plan(PUBLISHED, with_character(shot, reference=replace(looks, viewmat=far)))
    assert any("2.2 times as large in the first frame as in the reference" in note for note in plan.notes)
    assert not any("times as" in note for note in make_plan(PUBLISHED, shot).notes)


def test_a_moving_camera_is_mentioned():
    shot = make_shot()
    moving = shot.clip.viewmats.copy()
    moving[:, 0, 3] += np.linspace(0, 0.3, len(moving))
    plan = make_plan(PUBLISHED, replace(shot, clip=replace(shot.clip, viewmats=moving)))
    assert any("moving camera" in note for note in plan.notes)
    assert not any("camera" in note for note in make_plan(PUBLISHED, shot).notes)


def test_a_faster_rate_than_the_model_learned_is_mentioned():
    shot = make_shot(5)
    assert not any("frames per second" in note for note in make_plan(PUBLISHED, shot).notes)
    fast = replace(shot, clip=replace(shot.clip, fps=30.0))
    assert any("12 to 15 frames per second and gets 30" in note for note in make_plan(PUBLISHED, fast).notes)
