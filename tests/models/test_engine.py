"""From a Shot to frames: planning, seeds, progress, cancel, clear errors."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from maquette.backend.catalogue.models import ModelError, ModelSpec, model_spec, read_spec
from maquette.backend.models.engine import Engine, load_engine
from maquette.backend.models.family import Cancelled, EngineError, Progress
from maquette.backend.models.isa.family import carry, condition
from maquette.backend.models.isa.plan import make_plan
from maquette.backend.models.isa.transformer import ISATransformer3DModel
from maquette.backend.models.registry import list_models
from maquette.backend.raster.carry import carry_shot
from maquette.backend.shot import Media, Shot

from .conftest import TINY_TOML, TINY_TRANSFORMER, make_shot
from .given import begun, isa_engine


@pytest.fixture(scope="module")
def engine(tiny_spec) -> Engine:
    return Engine(tiny_spec, device="cpu")


def generate(engine: Engine, shot: Shot):
    return engine.generate(shot, lambda _: None, lambda: False)


@pytest.mark.parametrize("frames", [1, 7, 9, 22])
def test_result_has_the_clips_frames_rate_and_aspect(engine, frames):
    result = generate(engine, make_shot(frames=frames, width=64, height=48))
    assert result.frames.shape[0] == frames and result.frames.dtype == np.uint8
    assert result.fps == 12.0
    assert result.frames.shape[2] / result.frames.shape[1] == pytest.approx(64 / 48, rel=0.05)


def correcting(spec: ModelSpec, vae, short_side: int = 0, **config) -> Engine:
    """An engine around a new transformer that counts from the carried film, and gives nothing yet."""
    limits = {**spec.limits, "max_short_side": short_side} if short_side else spec.limits
    torch.manual_seed(0)
    model = ISATransformer3DModel(**TINY_TRANSFORMER, prediction="residual", **config).eval()
    return isa_engine(replace(spec, limits=limits), vae=deepcopy(vae), transformer=model)


def lean(engine: Engine, by: float) -> None:
    """Let the transformer give ``by`` everywhere."""
    engine.load(engine.begin(make_shot()))
    torch.nn.init.constant_(engine.networks["transformer"].patch_out.bias, by)


@pytest.mark.parametrize("start", ["noise", "carried"])
@pytest.mark.parametrize(
    ("frames", "width", "height", "result", "model"),
    [
        (9, 64, 64, (32, 32), (32, 32)),
        (7, 64, 36, (56, 32), (64, 32)),  # frames held, and a size that the model does not take
        (41, 36, 64, (32, 56), (32, 64)),  # several windows, several chunks of the VAE
    ],
)
def test_nothing_to_correct_gives_the_carried_film_bit_for_bit(
    tiny_spec, vae, start, frames, width, height, result, model
):
    engine = correcting(tiny_spec, vae, 64, start=start)
    shot = make_shot(frames=frames, width=width, height=height)
    plan = engine.plan(shot)
    assert (plan.width, plan.height) == result and plan.model_size == model
    film = carry_shot(shot, *result).frames
    assert np.array_equal(generate(engine, shot).frames, film)
    # Something to correct moves it, by what the VAE makes of the difference alone.
    lean(engine, 0.3)
    assert not np.array_equal(generate(engine, shot).frames, film)


@pytest.mark.parametrize("by", [0.0, 0.3])
def test_weights_that_correct_nothing_are_not_read(tiny_spec, vae, tmp_path, by):
    torch.manual_seed(0)
    model = ISATransformer3DModel(**TINY_TRANSFORMER, prediction="residual", start="carried")
    torch.nn.init.constant_(model.patch_out.bias, by)
    model.save_pretrained(tmp_path / "transformer")
    vae.save_pretrained(tmp_path / "vae")
    engine = Engine(replace(tiny_spec, folder=tmp_path), "cpu")
    shot = make_shot()
    result = generate(engine, shot)
    assert set(engine.networks) == ({"vae", "transformer"} if by else set())
    assert result.metadata["start"] == "carried" and {"seed", "steps", "guidance"} <= set(result.metadata)
    assert np.array_equal(result.frames, carry_shot(shot, 32, 32).frames) is not bool(by)


def test_the_correction_alone_goes_through_the_vae(tiny_spec, vae):
    engine = correcting(tiny_spec, vae, start="carried")
    shot = make_shot()
    lean(engine, 0.3)
    run = begun(engine, shot)
    carried = carry(run)
    with torch.no_grad():
        z = condition(run, carried).carried_latents
        change = vae.decode(vae.denormalize(z + 0.3)).sample - vae.decode(vae.denormalize(z)).sample
    wanted = carried.frames + 127.5 * change[0].permute(1, 2, 3, 0).numpy()
    made = generate(engine, shot).frames
    assert np.abs(made - wanted.clip(0, 255)).max() <= 0.51
    assert np.abs(made.astype(int) - carried.frames).mean() > 1


def test_a_model_without_noise_says_that_seeds_change_nothing(tiny_spec, vae):
    spec = replace(tiny_spec, components={"transformer": {"start": "carried"}})
    engine = correcting(spec, vae, start="carried")
    lean(engine, 0.1)
    first, second = (generate(engine, make_shot(seed=seed)) for seed in (0, 5))
    assert np.array_equal(first.frames, second.frames)
    assert first.metadata["start"] == "carried"
    assert not any("seed" in note for note in first.notes) and any("seed" in note for note in second.notes)


@pytest.mark.parametrize("change", ["points", "reference", "background", "camera"])
def test_every_condition_reaches_the_video(engine, change):
    shot = make_shot(points=16)
    character = shot.characters[0]
    if change == "points":
        other = replace(shot, characters=(replace(character, points=character.points + np.float32(0.3)),))
    elif change == "reference":
        looks = replace(character.reference, image=make_shot(characters=2).characters[1].reference.image)
        other = replace(shot, characters=(replace(character, reference=looks),))
    elif change == "background":
        other = replace(shot, background=make_shot(background=False).background)
    else:
        # Bodies and camera turned alike leave NDC as it was; only the rays differ.
        Ks = shot.clip.Ks.copy()
        Ks[:, 0, 0] *= 1.2
        other = replace(shot, clip=replace(shot.clip, Ks=Ks))
    assert not np.array_equal(generate(engine, shot).frames, generate(engine, other).frames)


def test_cancel_between_windows_of_one_step(engine):
    """A long shot does not wait for all its windows."""
    asked = []

    def cancelled() -> bool:
        asked.append(1)
        return len(asked) > 12

    seen = []
    with pytest.raises(Cancelled):
        engine.generate(make_shot(frames=60, steps=1), seen.append, cancelled)
    assert all(report.step == 0 for report in seen if report.stage == "denoising")


def test_two_characters_and_no_reference(engine):
    result = generate(engine, make_shot(characters=2, reference=False, background=False))
    assert any("person 0, person 1" in note for note in result.notes)


def test_metadata_says_how_it_was_made(engine):
    metadata = generate(engine, make_shot(seed=5, guidance=1.0)).metadata
    assert metadata["seed"] == 5 and metadata["guidance"] == 1.0 and metadata["steps"] == 2
    assert metadata["model"] == "tiny"


def test_no_character_is_refused(engine):
    with pytest.raises(EngineError, match="no character") as caught:
        generate(engine, replace(make_shot(), characters=()))
    assert caught.value.field == "characters"


def test_a_damaged_reference_is_named(engine):
    shot = make_shot()
    character = shot.characters[0]
    broken = replace(character.reference, image=Media(b"\x89PNG no", "image/png"))
    with pytest.raises(EngineError) as caught:
        generate(engine, replace(shot, characters=(replace(character, reference=broken),)))
    assert caught.value.field == "characters[0].reference.image"


@pytest.mark.parametrize(
    ("settings", "field"),
    [({"steps": 0}, "settings.steps"), ({"guidance": -1.0}, "settings.guidance"), ({"width": 0}, "settings.width")],
)
def test_bad_settings_name_their_field(tiny_spec, settings, field):
    with pytest.raises(EngineError) as caught:
        shot = make_shot()
        make_plan(tiny_spec, replace(shot, settings=replace(shot.settings, **settings)))
    assert caught.value.field == field


def test_too_many_frames(tiny_spec):
    with pytest.raises(EngineError, match="at most 200"):
        make_plan(tiny_spec, make_shot(frames=201))


@given(
    frames=st.integers(1, 200),
    width=st.integers(16, 4000),
    height=st.integers(16, 4000),
    asked=st.tuples(*[st.none() | st.integers(1, 5000)] * 2),
)
def test_plans_fit_the_model(frames, width, height, asked):
    spec = _spec()
    shot = make_shot(frames=1, reference=False, background=False, width=width, height=height)
    shot = replace(
        shot,
        clip=replace(shot.clip, viewmats=np.zeros((frames, 4, 4), np.float32)),
        settings=replace(shot.settings, width=asked[0], height=asked[1]),
    )
    plan = make_plan(spec, shot)
    assert plan.frames == frames <= plan.model_frames < frames + 4 and plan.model_frames % 4 == 1
    assert all(side % 16 == 0 and 16 <= side <= 64 for side in plan.model_size)
    assert plan.windows[0][0] == 0 and plan.windows[-1][1] == plan.model_frames
    covered = set().union(*(range(*window) for window in plan.windows))
    assert covered == set(range(plan.model_frames))
    if max(width, height) <= 2 * min(width, height):
        assert plan.width / plan.height == pytest.approx(width / height, rel=0.1)
    if (frames, width, height, *asked) == (9, 32, 32, None, None):
        assert plan.notes == ()


def _spec() -> ModelSpec:
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tiny.toml"
        path.write_text(TINY_TOML, "utf-8")
        return read_spec(path)


@pytest.mark.parametrize(
    ("clip", "asked", "result", "model"),
    [
        ((1920, 1080), (None, None), (910, 512), (912, 512)),
        ((1080, 1920), (None, None), (512, 910), (512, 912)),
        ((500, 500), (None, None), (496, 496), (496, 496)),
        ((1024, 768), (None, None), (682, 512), (688, 512)),
        ((448, 256), (None, None), (448, 256), (448, 256)),
        ((1920, 1080), (1920, 1080), (1920, 1080), (1920, 1088)),
        ((3840, 2160), (3840, 2160), (1920, 1080), (1920, 1088)),
        ((1920, 1080), (None, 128), (228, 128), (224, 128)),
        ((1920, 1080), (32, None), (114, 64), (112, 64)),
    ],
)
def test_sizes_of_the_embedded_model(clip, asked, result, model):
    """Its short side is 512 by default, less in a smaller clip, and 1080 at most, at the clip's aspect to the pixel."""
    shot = make_shot(frames=1, width=clip[0], height=clip[1])
    shot = replace(shot, settings=replace(shot.settings, width=asked[0], height=asked[1]))
    plan = make_plan(model_spec("isa-nano"), shot)
    assert ((plan.width, plan.height), plan.model_size) == (result, model)
    assert plan.width / plan.height == pytest.approx(clip[0] / clip[1], abs=1.5 / min(result))


def test_what_was_fitted_is_said(tiny_spec):
    notes = make_plan(tiny_spec, make_shot(frames=30, width=64, height=36, points=40)).notes
    text = "\n".join(notes)
    assert "30 frames were generated as 33" in text
    assert "window of 9" in text
    assert "resized" in text
    assert "16 of each character's points" in text


def test_registry_lists_all_and_explains_what_is_missing(model_dir, tmp_path):
    statuses = {status.spec.id: status for status in list_models([model_dir])}
    assert {"isa-nano", "isa-small", "isa-base", "isa-4b", "tiny"} <= set(statuses)
    assert next(iter(statuses)) == "isa-nano"
    assert statuses["tiny"].available
    assert not statuses["isa-4b"].available and "no weights" in statuses["isa-4b"].reason
    (tmp_path / "tiny.toml").write_text(TINY_TOML, "utf-8")
    with pytest.raises(ModelError, match=r"vae/config\.json"):
        load_engine("tiny", extra_dirs=[tmp_path])
    with pytest.raises(ModelError, match="choose one of isa-nano"):
        load_engine("nonsense")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("id = ", "is not TOML"),
        ('id = "tiny"', "description is missing"),
        (TINY_TOML.replace("tiny", "huge"), "file's name"),
    ],
)
def test_a_wrong_description_is_explained(tmp_path, text, says):
    (tmp_path / "tiny.toml").write_text(text, "utf-8")
    with pytest.raises(ModelError, match=says):
        read_spec(tmp_path / "tiny.toml")


def test_a_stop_within_a_file_is_a_stop():
    """Whatever library reads the file then."""
    shot = make_shot(frames=1, steps=1)

    def stopped_after(asks: int) -> int:
        """How often it was asked while weights were read."""
        asked, now = [], [""]

        def cancelled() -> bool:
            asked.extend([1] if now[0] == "loading" else [])
            return len(asked) > asks or now[0] == "encoding"

        def heard(progress: Progress) -> None:
            now[0] = progress.stage

        with pytest.raises(Cancelled):
            load_engine("isa-nano", "cpu").generate(shot, heard, cancelled)
        return len(asked)

    every = stopped_after(10**9)
    for part in range(1, 8):
        stopped_after(every * part // 8)
