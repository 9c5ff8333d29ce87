"""From a shot to frames in both modes, at tiny sizes with weights by the recipe."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import WanAnimatePipeline
from maquette.backend.control.films import ControlFilms
from maquette.backend.control.fitting import squeezed
from maquette.backend.media import background_frames
from maquette.backend.models.control.animate.family import AnimateFamily, pictures
from maquette.backend.models.control.build import load_scheduler
from maquette.backend.models.control.inputs import grown
from maquette.backend.models.engine import Engine
from maquette.backend.models.family import Result
from maquette.backend.models.frames import frames_to_tensor, tensor_to_frames
from maquette.backend.models.wan import denormalized, encode_film
from maquette.backend.raster.carry import carry_shot
from maquette.backend.shot import Shot

from ..builders import animated_shot


def run(engine: Engine, shot: Shot, reports: list | None = None) -> Result:
    return engine.generate(shot, (lambda _: None) if reports is None else reports.append, lambda: False)


@pytest.fixture(scope="module")
def engine(tiny_animate) -> Engine:
    return Engine(tiny_animate, "cpu")


@pytest.fixture(scope="module")
def plain(engine) -> Result:
    return run(engine, animated_shot())


def test_a_shot_becomes_a_film(engine, plain):
    assert plain.frames.shape == (5, 32, 32, 3) and plain.frames.std() > 2
    known = {"steps": 2, "guidance": 1.0, "fps": 24.0, "flow_shift": 5.0, "windows": 1}
    assert known.items() <= plain.metadata.items()
    assert "text_encoder" not in engine.networks and "image_encoder" in engine.networks


def test_the_plate_stays_the_plate(engine):
    shot = animated_shot(mode="replace", margin=2)
    frames = run(engine, shot).frames
    films = ControlFilms(squeezed(shot, 32, 32))
    cover = np.stack([films.picture("silhouettes", t)[..., 0] > 0 for t in range(5)])
    plate = background_frames(shot, 32, 32)
    assert plate is not None
    np.testing.assert_array_equal(frames[~grown(cover, 2)], plate[~grown(cover, 2)])
    assert np.abs(frames[cover].astype(int) - plate[cover]).mean() > 10


@pytest.mark.parametrize(("mode", "overlap"), [("replace", "1"), ("animate", "5")])
def test_segments_go_on_as_in_the_published_pipeline(engine, tiny_animate, mode, overlap, monkeypatch):
    """Segment by segment with pictures drawn for each, or the published pipeline with the whole film at once."""
    frames, face = (17, "looks") if overlap == "1" else (21, "none")
    shot = animated_shot(frames, mode=mode, overlap=overlap, face=face)
    seen: dict[str, Any] = {}
    sample = AnimateFamily.sample

    def remembered(self, run, conditions):
        seen["given"], seen["run"] = conditions, run
        seen["made"] = sample(self, run, conditions)
        return seen["made"]

    monkeypatch.setattr(AnimateFamily, "sample", remembered)
    assert run(engine, shot).metadata["windows"] == 2
    given, made = seen["given"], np.concatenate(seen["made"])
    nothing: Any = None
    stock = WanAnimatePipeline(
        nothing, nothing, engine.networks["vae"], load_scheduler(tiny_animate, (32, 32)), nothing, nothing,
        engine.networks["transformer"],
    )  # fmt: skip
    stock.set_progress_bar_config(disable=True)
    monkeypatch.setattr(stock, "encode_image", lambda *_: given.pipeline.seen)
    kept = given.leads.kept
    found = stock(
        image=given.leads.picture,
        pose_video=pictures(given.leads.pose),
        face_video=pictures(given.leads.face),
        background_video=None if kept is None else pictures(kept.frames),
        mask_video=None if kept is None else pictures(255 * kept.make.astype(np.uint8)),
        prompt_embeds=seen["run"].texts["somebody"],
        height=32,
        width=32,
        segment_frame_length=9 if overlap == "1" else 13,
        num_inference_steps=2,
        mode=mode,
        prev_segment_conditioning_frames=int(overlap),
        generator=torch.Generator().manual_seed(3),
        output_type="pt",
    ).frames  # type: ignore[union-attr]
    assert given.leads.face.any() == (face == "looks")
    film = tensor_to_frames(2 * found[0].transpose(0, 1) - 1)
    assert len(film) == len(made)
    assert np.abs(film.astype(int) - made).max() <= 1


def test_starting_from_the_carried_film(engine, plain):
    """Held to the end it is the carried film as the VAE gives it back; not at all, nothing changes."""
    np.testing.assert_array_equal(run(engine, animated_shot(carried_start=0.0)).frames, plain.frames)
    reports: list = []
    frames = run(engine, animated_shot(9, carried_start=1.0), reports).frames
    assert [report.step for report in reports if report.stage == "denoising"] == [0]
    vae = engine.networks["vae"]
    latents = encode_film(vae, frames_to_tensor(carry_shot(squeezed(animated_shot(9), 32, 32), 32, 32).frames))
    coded = tensor_to_frames(vae.decode(denormalized(vae, latents)).sample[0])
    np.testing.assert_allclose(frames, coded, atol=1)
