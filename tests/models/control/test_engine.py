"""From a shot to frames, at tiny sizes with weights by the recipe."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from maquette.backend.control.films import ControlFilms
from maquette.backend.control.fitting import shot_at, squeezed
from maquette.backend.media import background_frames
from maquette.backend.models.control.inputs import grown
from maquette.backend.models.engine import Engine
from maquette.backend.models.family import Cancelled, EngineError, NotFinite, Result
from maquette.backend.models.frames import frames_to_tensor, tensor_to_frames
from maquette.backend.models.wan import denormalized, encode_film
from maquette.backend.raster.carry import carry_shot
from maquette.backend.shot import Shot

from .builders import led_shot


def run(engine: Engine, shot: Shot, reports: list | None = None) -> Result:
    return engine.generate(shot, (lambda _: None) if reports is None else reports.append, lambda: False)


@pytest.fixture(scope="module")
def engine(tiny_vace) -> Engine:
    return Engine(tiny_vace, "cpu")


@pytest.fixture(scope="module")
def plain(engine) -> tuple[Result, list]:
    reports: list = []
    return run(engine, led_shot(), reports), reports


def test_a_shot_becomes_a_film(engine, plain):
    result, reports = plain
    assert result.frames.shape == (6, 32, 32, 3) and result.frames.std() > 2 and result.fps == 24
    denoised = [report for report in reports if report.stage == "denoising"]
    assert [(report.step, report.steps) for report in denoised] == [(0, 2), (1, 2), (2, 2)]
    assert denoised[-1].preview.shape == (32, 32, 3)
    assert {report.stage for report in reports} == {"encoding", "loading", "denoising", "decoding"}
    known = {"steps": 2, "guidance": 5.0, "fps": 16, "flow_shift": 3.0, "references": 2, "model_size": [32, 32]}
    assert known.items() <= result.metadata.items()
    assert set(engine.plan(led_shot()).notes) <= set(result.notes) and any("Depth: white is" in n for n in result.notes)
    np.testing.assert_array_equal(run(engine, led_shot()).frames, result.frames)


@pytest.mark.parametrize(
    "change",
    [{"control": "pose"}, {"strength": 0.2}, {"references": 0}, {"negative_prompt": "blurred"}],
    ids=lambda change: next(iter(change)),
)
def test_options_matter(engine, plain, change):
    assert np.abs(run(engine, led_shot(options=change)).frames.astype(int) - plain[0].frames).max() > 2


def test_prompt_and_guidance_matter(engine, plain):
    shot = led_shot(prompt="a person waves")
    assert np.abs(run(engine, shot).frames.astype(int) - plain[0].frames).max() > 2
    unguided = [
        replace(led_shot(options={"negative_prompt": text}), settings=replace(shot.settings, guidance=1.0))
        for text in ("blurred", "a person")
    ]
    np.testing.assert_array_equal(*(run(engine, each).frames for each in unguided))


def test_texts_are_read_first_and_once(engine, plain):
    """The text encoder is let go before the others come; a text that was read is not read again."""
    assert "text_encoder" not in engine.networks
    before = dict(engine.networks)
    run(engine, led_shot())
    reports: list = []
    run(engine, replace(led_shot(), settings=replace(led_shot().settings, seed=9)), reports)
    assert [report.step for report in reports if report.stage == "loading"] == [0, 3]
    reports.clear()
    run(engine, led_shot(prompt="a person dances"), reports)
    assert [report.step for report in reports if report.stage == "loading"] == [0, 0, 3]
    assert all(engine.networks[name] is network for name, network in before.items())


def test_the_plate_stays_the_plate(engine):
    shot = led_shot(options={"keep": "background", "margin": 2})
    frames = run(engine, shot).frames
    films = ControlFilms(squeezed(shot, 32, 32))
    cover = np.stack([films.picture("silhouettes", t)[..., 0] > 0 for t in range(6)])
    plate = background_frames(shot, 32, 32)
    assert plate is not None
    np.testing.assert_array_equal(frames[~grown(cover, 2)], plate[~grown(cover, 2)])
    assert np.abs(frames[cover].astype(int) - plate[cover]).mean() > 10


def test_starting_from_the_carried_film(engine, plain):
    """Held to the end it is the carried film as the VAE gives it back; in between the model makes some of it."""
    film = carry_shot(led_shot(), 32, 32).frames.astype(float)
    away, steps = [], []
    for strength in (0.0, 0.5, 1.0):
        reports: list = []
        frames = run(engine, led_shot(options={"carried_start": strength}), reports).frames
        away.append(np.abs(frames - film).mean())
        steps.append([report.step for report in reports if report.stage == "denoising"])
    assert steps == [[0, 1, 2], [0, 1, 2], []] and len({round(each, 3) for each in away}) == 3
    vae = engine.networks["vae"]
    drawn = carry_shot(shot_at(squeezed(led_shot(), 32, 32), np.arange(5) * 1.5, 16), 32, 32).frames
    latents = encode_film(vae, frames_to_tensor(drawn))
    coded = tensor_to_frames(vae.decode(denormalized(vae, latents)).sample[0])
    np.testing.assert_allclose(frames[::3], coded[:4:2], atol=1)


def test_a_long_shot_lasts_as_long_as_its_range(engine):
    result = run(engine, led_shot(14, options={"keep": "known"}))
    assert result.frames.shape == (14, 32, 32, 3) and result.metadata["windows"] == 2
    assert 0 < result.metadata["window_seam"] < 2, "fused at every step"


def test_cancelling_stops_before_the_next_evaluation(engine, plain):
    calls: list = []
    handle = engine.networks["transformer"].register_forward_hook(lambda *_: calls.append(1))
    with pytest.raises(Cancelled):
        engine.generate(led_shot(), lambda _: None, lambda: len(calls) == 1)
    handle.remove()
    assert len(calls) == 1


def test_numbers_that_go_wrong_end_it(engine, plain):
    handle = engine.networks["transformer"].register_forward_pre_hook(
        lambda _, args, named: (args, {**named, "hidden_states": named["hidden_states"] * float("nan")}),
        with_kwargs=True,
    )
    with pytest.raises(NotFinite, match="transformer"):
        run(engine, led_shot())
    handle.remove()


def test_what_a_film_lacks_is_told_before_weights_are_read(tiny_vace, monkeypatch):
    engine = Engine(tiny_vace, "cpu")
    monkeypatch.setattr(engine, "load", lambda *_: pytest.fail("weights were read"))
    with pytest.raises(EngineError, match="captured without it") as caught:
        run(engine, replace(led_shot(options={"control": "clay"}), clay=None))
    assert caught.value.field == "clay"
