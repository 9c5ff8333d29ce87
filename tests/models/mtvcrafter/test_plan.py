"""What a shot becomes, and what is refused before anything is loaded."""

from __future__ import annotations

import sys
from dataclasses import replace
from math import log
from subprocess import run

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from maquette.backend.catalogue.models import model_spec
from maquette.backend.models.family import EngineError
from maquette.backend.models.mtvcrafter.plan import make_plan, nearest_size, sizes, steps_and_guidance
from maquette.backend.shot import Background, Settings

from ...builders import make_shot, png
from .builders import TINY_17B, dancing, tiny_spec, write_lora

B7, B17 = model_spec("mtvcrafter-7b"), model_spec("mtvcrafter-17b")


def with_character(shot, **changes):
    return replace(shot, characters=(replace(shot.characters[0], **changes),))


def test_needs_no_torch():
    code = "import maquette.backend.models.mtvcrafter.plan, sys; sys.exit('torch' in sys.modules)"
    assert run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("spec", [B7, B17], ids=lambda spec: spec.id)
def test_a_fitting_shot(spec):
    plan = make_plan(spec, dancing(49, model=spec.id, width=512, height=512))
    assert (plan.width, plan.height, plan.frames) == (512, 512, 49)
    assert plan.model_size == (512, 512) and plan.model_frames == 49 and plan.windows == ((0, 49),)
    words = "takes no text" if spec is B7 else ""
    assert all(words in note for note in plan.notes) and len(plan.notes) == (1 if words else 0)


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        (lambda shot: replace(shot, characters=()), "characters", "no character"),
        (lambda shot: make_shot(frames=9, characters=2), "characters", "takes one, so unmark the others"),
        (lambda shot: with_character(shot, reference=None), "characters[0].reference", "set its reference"),
        (lambda shot: with_character(shot, joints=None), "characters[0].joints", "use a rigged body"),
        (lambda shot: replace(shot, settings=Settings(steps=0)), "settings.steps", "choose 1 to 1000"),
        (lambda shot: replace(shot, settings=Settings(guidance=99.0)), "settings.guidance", "choose 0 to 50"),
        (lambda shot: replace(shot, settings=Settings(height=-4)), "settings.height", "set at least 1"),
    ],
)
@pytest.mark.parametrize("spec", [B7, B17], ids=lambda spec: spec.id)
def test_refused(spec, change, field, words):
    with pytest.raises(EngineError, match=words) as caught:
        make_plan(spec, change(dancing(9, model=spec.id)))
    assert caught.value.field == field


def test_a_body_behind_the_camera_is_refused():
    shot = dancing(9, model=B7.id)
    turned = shot.clip.viewmats.copy()
    turned[:, 2] *= -1
    turned[:, 0] *= -1
    with pytest.raises(EngineError, match="behind the camera for 100%") as caught:
        make_plan(B7, replace(shot, clip=replace(shot.clip, viewmats=turned)))
    assert caught.value.field == "clip.viewmats"


def test_too_many_frames():
    with pytest.raises(EngineError, match="50 frames.*at most 49, so shorten the range to 49, or choose") as caught:
        make_plan(B7, dancing(50, model=B7.id))
    assert caught.value.field == "clip"
    with pytest.raises(EngineError, match="at most 961.*in parts"):
        make_plan(B17, dancing(962, model=B17.id))


@given(frames=st.integers(1, 400))
def test_windows_of_17b_cover_the_shot(frames):
    plan = make_plan(B17, dancing(frames, model=B17.id))
    assert plan.frames == frames and plan.model_frames == plan.windows[-1][1] >= frames
    assert plan.windows[0][0] == 0
    for (start, stop), (following, _) in zip(
        plan.windows, plan.windows[1:] + ((plan.model_frames - 9, 0),), strict=True
    ):
        assert stop - start == 49 and following == stop - 9
    assert len(plan.windows) == 1 or plan.windows[-2][1] < frames
    assert any("holding the last pose" in note for note in plan.notes) == (plan.model_frames != frames)


def test_a_short_shot_is_held_and_cut():
    plan = make_plan(B7, dancing(20, model=B7.id))
    assert plan.frames == 20 and plan.model_frames == 49
    assert any("20 frames were generated as 49, holding the last pose" in note for note in plan.notes)


def test_sizes_of_17b():
    found = sizes(B17)
    assert (512, 512) in found and (256, 1024) in found and (1024, 256) in found and len(found) == 49
    assert all(w % 16 == 0 and h % 16 == 0 and abs(log(w * h / 512**2)) < 0.035 for w, h in found)
    assert sizes(B7) == [(512, 512)]


@given(aspect=st.floats(0.25, 4))
def test_the_nearest_size_is_near(aspect):
    width, height = nearest_size(sizes(B17), aspect)
    assert abs(log(width / height / aspect)) < 0.07


@pytest.mark.parametrize(
    ("size", "model", "result"),
    [
        ((1920, 1080), (688, 384), (686, 386)),
        ((1080, 1920), (384, 688), (386, 686)),
        ((512, 512), (512, 512), (512, 512)),
    ],
)
def test_17b_works_at_the_clip_s_aspect(size, model, result):
    plan = make_plan(B17, dancing(49, model=B17.id, width=size[0], height=size[1]))
    assert plan.model_size == model and (plan.width, plan.height) == result


@pytest.mark.parametrize(
    ("size", "result"), [((1920, 1080), (910, 512)), ((540, 960), (512, 910)), ((64, 64), (512, 512))]
)
def test_7b_shows_the_middle_square(size, result):
    plan = make_plan(B7, dancing(49, model=B7.id, width=size[0], height=size[1]))
    assert plan.model_size == (512, 512) and (plan.width, plan.height) == result
    said = "\n".join(plan.notes)
    assert ("set Picture to frame for" in said) == ("choose a model that takes" in said) == (result != (512, 512))


@pytest.mark.parametrize(
    ("size", "model", "result", "words"),
    [
        ((1920, 1080), (720, 480), (854, 480), "makes 720 x 480: the middle of the picture, 84% of it, with"),
        ((1080, 1920), (480, 720), (480, 854), "480 x 720: the middle of the picture, 84%"),
        ((1200, 800), (720, 480), (720, 480), ""),
        ((900, 1000), (512, 512), (512, 568), "512 x 512: the middle of the picture, 90%"),
        ((512, 512), (512, 512), (512, 512), ""),
    ],
)
def test_7b_takes_the_size_that_covers_most_where_it_is_asked_to(size, model, result, words):
    shot = dancing(49, model=B7.id, width=size[0], height=size[1])
    plan = make_plan(B7, replace(shot, settings=Settings(options={"picture": "frame"})))
    assert plan.model_size == model and (plan.width, plan.height) == result
    said = [note for note in plan.notes if "the middle of the picture" in note]
    assert bool(said) == bool(words) and (not words or (words in said[0] and "set Picture" not in said[0]))


def test_what_stands_beside_7b_s_picture_is_told():
    def said(background: str = "still", **options: str) -> str:
        shot = dancing(49, model=B7.id, width=1920, height=1080)
        shot = replace(shot, settings=Settings(options=options), background=Background("none"))
        if background == "still":
            shot = replace(shot, background=Background("still", (png(64, 36),)))
        return next(note for note in make_plan(B7, shot).notes if "the middle of the picture" in note)

    assert (
        "56% of it, with the background beside it (Beside the Picture); set Picture to frame for 720 x 480, " in said()
    )
    assert "which covers 84%" in said() and "with black beside it" in said("none")
    assert "with the carried film beside it" in said(beside="carried") and "black" in said(beside="black")


def test_a_size_that_is_not_made_is_said():
    shot = dancing(49, model=B17.id)
    plan = make_plan(B17, replace(shot, settings=Settings(width=1024)))
    assert (plan.width, plan.height) == (512, 512)
    assert any("Size 1024 x auto became 512 x 512" in note for note in plan.notes)


def test_framing_is_warned_of():
    shot = dancing(49, model=B7.id)
    for axis, metres, words in ((2, 6.0, "move the camera closer"), (1, -2.0, "lie outside the training set")):
        moved = shot.characters[0].joints + shot.clip.viewmats[0, axis, :3] * metres
        notes = make_plan(B7, with_character(shot, joints=moved)).notes
        assert any(words in note for note in notes), notes


def test_prompts():
    shot = dancing(49, model=B17.id)
    assert not make_plan(B17, shot).notes
    (note,) = make_plan(B17, replace(shot, prompt=" ")).notes
    assert note == 'No prompt: the model is told "a person is moving"'


def test_few_steps_need_their_file(tmp_path):
    spec = tiny_spec(tmp_path, TINY_17B)
    shot = dancing(49, model=spec.id)
    asked = replace(shot, settings=Settings(options={"few_steps": True}))
    assert steps_and_guidance(spec, shot) == (2, 3.0)
    with pytest.raises(EngineError, match="few-step LoRA of Tiny 17B is not in .*lora.*turn few steps off") as caught:
        make_plan(spec, asked)
    assert caught.value.field == "settings.options.few_steps"
    write_lora(spec)
    assert "Few steps: 1 denoising steps without guidance" in make_plan(spec, asked).notes
    assert steps_and_guidance(spec, asked) == (1, 1.0)
    with pytest.raises(EngineError, match="choose true or false"):
        make_plan(spec, replace(shot, settings=Settings(options={"few_steps": 3})))


@pytest.mark.parametrize(("steps", "runs"), [(None, 10), (50, 10), (7, 7)])
def test_few_steps_are_the_most(tmp_path, steps, runs):
    """A quality level fills in the model's usual number, which is not what the LoRA was made for."""
    spec = replace(B17, folder=tmp_path)
    write_lora(spec)
    shot = dancing(49, model=spec.id)
    shot = replace(shot, settings=Settings(steps=steps, guidance=4.0, options={"few_steps": True}))
    assert steps_and_guidance(spec, shot) == (runs, 1.0)
    assert f"Few steps: {runs} denoising steps without guidance" in make_plan(spec, shot).notes


@pytest.mark.parametrize(("metres", "said"), [(0.0, False), (0.1, False), (0.4, True)])
def test_17b_begins_with_the_reference(metres, said):
    shot = dancing(49, model=B17.id)
    reference = shot.characters[0].reference
    points = reference.points.copy()
    points[3, 2] += metres
    moved = with_character(shot, reference=replace(reference, points=points))
    assert any("expect a jump" in note for note in make_plan(B17, moved).notes) == said
    assert not any("expect a jump" in note for note in make_plan(B7, moved).notes)
    other = with_character(shot, reference=replace(reference, viewmat=np.diag([1, 1, 1, 1]).astype(np.float32)))
    assert any("expect a jump" in note for note in make_plan(B17, other).notes)


def test_published_defaults():
    """Steps and guidance of the published programs."""
    assert steps_and_guidance(B7, dancing(9, model=B7.id)) == (50, 3.0)
    assert steps_and_guidance(B17, dancing(9, model=B17.id)) == (50, 6.0)
    assert B17.components["sampling"]["few_steps"] == 10
    assert B17.components["scheduler"] == {"shift": 5.0}
    assert np.isclose(sum(source.gigabytes for source in B7.sources), B7.memory["weights_gb"], atol=0.2)
