"""What MOFA-Video makes of a shot, and what it refuses before anything is loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from maquette.backend.catalogue.models import PRESETS, ModelSpec, model_spec, read_spec
from maquette.backend.models.family import EngineError
from maquette.backend.models.mofa.plan import fit_picture, make_plan, needs_propagation
from maquette.backend.models.registry import plan_shot
from maquette.backend.shot import Background, Clip, Media, Settings, Shot

from ...builders import make_shot, png
from ..tiny import save_weights
from .shots import cut_out, locked, shot_of, small_preset, track, with_person


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    return small_preset(tmp_path_factory.mktemp("models"), "mofa-trajectory")


@pytest.fixture(scope="module")
def hybrid(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    return small_preset(tmp_path_factory.mktemp("models"), "mofa-hybrid")


@pytest.fixture(scope="module")
def published() -> ModelSpec:
    return read_spec(PRESETS / "mofa-trajectory.toml")


def refusal(spec: ModelSpec, shot: Shot) -> EngineError:
    with pytest.raises(EngineError) as caught:
        make_plan(spec, shot)
    assert "\n" not in str(caught.value)
    return caught.value


def of_size(clip_width: int, clip_height: int, **settings) -> Shot:
    return replace(
        make_shot(2, width=clip_width, height=clip_height, reference=png(8, 8)), settings=Settings(**settings)
    )


@pytest.mark.parametrize(
    ("clip", "size", "parity", "scaled"),
    [
        ((1920, 1080), (896, 512), (896, 512), (910, 512)),
        ((1080, 1920), (512, 896), (512, 896), (512, 910)),
        ((512, 512), (512, 512), (512, 512), (512, 512)),
        ((640, 480), (704, 512), (640, 512), (683, 512)),
        ((1500, 1000), (768, 512), (768, 512), (768, 512)),
    ],
)
def test_sizes(published: ModelSpec, clip, size, parity, scaled) -> None:
    whole = fit_picture(published, of_size(*clip))
    assert whole.size == whole.scaled == size
    assert abs(whole.result[0] / whole.result[1] / (clip[0] / clip[1]) - 1) < 0.01
    cut = fit_picture(published, of_size(*clip, options={"parity": True}))
    assert (cut.size, cut.result, cut.scaled) == (parity, parity, scaled)


@given(
    width=st.integers(64, 4000),
    height=st.integers(64, 4000),
    asked=st.one_of(st.none(), st.integers(1, 3000)),
    parity=st.booleans(),
)
def test_any_size_is_one_that_the_model_takes(width: int, height: int, asked: int | None, parity: bool) -> None:
    spec = read_spec(PRESETS / "mofa-trajectory.toml")
    shot = of_size(width, height, height=asked, options={"parity": parity})
    if max(width / height, height / width) > 5:
        with pytest.raises(EngineError, match="clip"):
            fit_picture(spec, shot)
        return
    fit = fit_picture(spec, shot)
    assert all(side % 64 == 0 and side >= 256 for side in fit.size)
    assert (fit.size[0] >= fit.size[1]) == (width >= height) or fit.size[0] == fit.size[1]
    assert max(fit.size) <= 1280
    assert 0 <= fit.offset[0] < 32 + 1
    assert 0 <= fit.offset[1] < 32 + 1
    # Squeezed by at most half a step, or cut by less than one.
    shape = fit.scaled[0] / fit.scaled[1] / (width / height)
    assert 0.87 < shape < 1.15


def test_a_size_that_is_asked_for(published: ModelSpec) -> None:
    assert fit_picture(published, of_size(1920, 1080, height=384)).size == (704, 384)
    assert fit_picture(published, of_size(1920, 1080, width=1280)).size == (1280, 704)
    plan = make_plan(published, replace(make_shot(5, width=192, height=108), settings=Settings(height=430)))
    assert any("Size auto x 430 became" in note for note in plan.notes)
    with pytest.raises(EngineError, match=r"settings\.width"):
        fit_picture(published, of_size(192, 108, width=0))


def test_frames(spec: ModelSpec, published: ModelSpec) -> None:
    short = make_plan(published, shot_of(published, 5))
    assert (short.frames, short.model_frames, short.windows) == (5, 25, ((0, 25),))
    assert any("holding the last pose" in note for note in short.notes)
    long = make_plan(spec, shot_of(spec, 9))
    assert (long.frames, long.model_frames) == (9, 9)
    assert long.windows == ((0, 4), (3, 6), (5, 8), (6, 9))
    assert any("4 overlapping windows" in note for note in long.notes)
    error = refusal(spec, shot_of(spec, 21))
    assert error.field == "clip"
    assert "at most 20" in str(error)


def test_the_picture_must_be_the_first_frame(spec: ModelSpec) -> None:
    shot = shot_of(spec)
    assert make_plan(spec, shot).model_size == (128, 64)
    person = shot.characters[0]
    assert person.reference is not None

    later = replace(person.reference, viewmat=shot.clip.viewmats[3])
    error = refusal(spec, with_person(shot, reference=later))
    assert error.field == "characters[0].reference"
    assert "set the reference frame to the shot's first frame" in str(error)

    posed = replace(person.reference, points=person.reference.points + np.float32(0.4))
    assert "another moment" in str(refusal(spec, with_person(shot, reference=posed)))

    # The same camera at another size is fine, another shape is not.
    K = person.reference.K * np.array([[2], [2], [1]], np.float32)
    large = replace(person.reference, image=png(192, 128), K=K)
    make_plan(spec, with_person(shot, reference=large))
    square = replace(person.reference, image=png(64, 64))
    assert "crop it to the clip's shape" in str(refusal(spec, with_person(shot, reference=square)))

    damaged = replace(person.reference, image=Media(b"\x89PNG nothing", "image/png"))
    assert refusal(spec, with_person(shot, reference=damaged)).field == "characters[0].reference.image"


def test_everybody_must_be_in_the_picture(spec: ModelSpec) -> None:
    shot = shot_of(spec, characters=2)
    make_plan(spec, shot)
    error = refusal(spec, with_person(with_person(shot, 0, reference=None), 1, reference=None))
    assert error.field == "characters[0].reference"
    # An opaque picture is the whole first frame; a cut-out shows one person.
    make_plan(spec, with_person(shot, 1, reference=None))
    cut = with_person(shot, 0, reference=cut_out(shot, 0, (255, 0, 0), slice(0, 20)))
    make_plan(spec, cut)
    error = refusal(spec, with_person(cut, 1, reference=None))
    assert error.field == "characters[1].reference"
    assert "Body 2 would be missing" in str(error)


def test_a_picture_without_characters_is_the_background(spec: ModelSpec, hybrid: ModelSpec) -> None:
    shot = replace(shot_of(spec), characters=(), meshes=())
    make_plan(spec, shot)
    assert refusal(spec, replace(shot, background=Background())).field == "background.media"
    assert refusal(hybrid, shot).field == "characters"


def test_something_must_move(spec: ModelSpec) -> None:
    shot = locked(replace(shot_of(spec), characters=(), meshes=(), tracks=()))
    assert "nothing moves" in str(refusal(spec, shot))
    flag = track(shot, np.array([0.0, 0.0, 0.9]), np.array([0.1, 0, 0]))
    make_plan(spec, replace(shot, tracks=(flag,)))
    dense = replace(shot, tracks=(flag,), settings=replace(shot.settings, options={"motion": "dense"}))
    assert refusal(spec, dense).field == "tracks"
    followed = replace(shot, settings=replace(shot.settings, options={"motion": "tracks"}))
    assert "nothing to follow" in str(refusal(spec, followed))
    hidden = replace(shot_of(spec), tracks=(replace(flag, name="Kite", visibility=np.zeros(5, bool)),))
    assert any("without effect: Kite" in note for note in make_plan(spec, hidden).notes)
    zoom = shot.clip.Ks * np.linspace(1, 1.2, 5, dtype=np.float32)[:, None, None]
    zoom[:, 2, 2] = 1
    clip = Clip(24.0, 96, 64, shot.clip.viewmats, zoom)
    make_plan(spec, replace(shot, clip=clip))


def test_a_face_is_needed_for_the_hybrid(hybrid: ModelSpec) -> None:
    shot = shot_of(hybrid)
    make_plan(hybrid, shot)
    error = refusal(hybrid, with_person(shot, keypoints=None))
    assert error.field == "characters"
    assert "68 landmarks" in str(error)


def test_options_are_checked(spec: ModelSpec) -> None:
    for name, value in (("motion", "sparse"), ("strength", 9.0), ("occlusion", 1), ("parity", "yes")):
        assert refusal(spec, shot_of(spec, options={name: value})).field == f"settings.options.{name}"


def test_following_needs_its_part(tmp_path: Path) -> None:
    spec = small_preset(tmp_path, "mofa-trajectory")
    shot = shot_of(spec)
    assert needs_propagation(spec, shot)
    # Without any weights that is not the first thing to say.
    make_plan(spec, shot)
    save_weights(spec, leave_out=("cmp",))
    error = refusal(spec, shot)
    assert error.field == "settings.options.motion"
    assert "cmp" in str(error)
    make_plan(spec, shot_of(spec, options={"motion": "dense"}))
    make_plan(spec, replace(shot, tracks=()))


def test_planning_needs_no_torch() -> None:
    import subprocess
    import sys

    code = "import maquette.backend.models.mofa.plan, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_published_models_are_found() -> None:
    for name in ("mofa-trajectory", "mofa-hybrid"):
        spec = model_spec(name)
        assert spec.limits["first_frame_reference"] == 1
        plan = plan_shot(replace(shot_of(spec), settings=Settings(model=name)))
        assert plan.model_size == (768, 512)
