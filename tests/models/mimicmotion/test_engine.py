"""MimicMotion end to end on the CPU, with a tiny configuration and weights from the recipe."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import cpu_offload_with_hook
from maquette.backend.catalogue.models import model_spec
from maquette.backend.media import encode_png
from maquette.backend.models.engine import Engine, load_engine
from maquette.backend.models.family import Cancelled, Progress
from maquette.backend.models.frames import frames_to_tensor, tensor_to_frames
from maquette.backend.models.memory.footprint import GB, fitting_chunk
from maquette.backend.models.memory.placement import Placement
from maquette.backend.models.mimicmotion import family as module
from maquette.backend.models.mimicmotion.plan import make_plan
from maquette.backend.raster.carry import carry_shot
from maquette.backend.shot import Background, Settings, Shot, load_shot, save_shot

from ...builders import png
from ..given import begun
from .conftest import make_shot, with_character


@pytest.fixture(scope="module")
def engine(model_dir: Path) -> Engine:
    engine = load_engine("mimicmotion", "cpu", [model_dir])
    assert isinstance(engine, Engine)
    return engine


def generate(engine: Engine, shot: Shot):
    return engine.generate(shot, lambda _: None, lambda: False)


@pytest.fixture(scope="module")
def plain(engine: Engine) -> np.ndarray:
    """The frames of the plainest shot."""
    return generate(engine, make_shot(1)).frames


@pytest.mark.parametrize(("frames", "width", "height"), [(1, 64, 64), (4, 96, 64), (12, 64, 64)])
def test_a_shot_becomes_a_video_of_its_length_rate_and_aspect(engine, frames, width, height):
    result = generate(engine, make_shot(frames, width, height))
    assert len(result.frames) == frames and result.frames.dtype == np.uint8 and result.fps == 12
    assert result.frames.shape[2] / result.frames.shape[1] == pytest.approx(width / height, rel=0.05)
    assert result.frames.std() > 1
    assert result.metadata["windows"] == (3 if frames == 12 else 1)
    assert result.metadata["options"]["motion_bucket"] == 127


@pytest.mark.parametrize("change", ["pose", "picture", "reference pose", "guidance", "fps", "motion_bucket", "noise"])
def test_every_input_reaches_the_video(engine, plain, change):
    shot = make_shot(1)
    character = shot.characters[0]
    keypoints, looks = character.keypoints, character.reference
    if change == "pose":
        moved = keypoints.points.copy()
        moved[:, 3:5] += (-0.3, 0, 0.3)
        other = with_character(shot, keypoints=replace(keypoints, points=moved))
    elif change == "picture":
        dark = encode_png(np.full((64, 64, 3), 30, np.uint8))
        other = with_character(shot, reference=replace(looks, image=dark))
    elif change == "reference pose":
        moved = looks.keypoints.points.copy()
        moved[:, 3:5] += (-0.3, 0, 0.3)
        other = with_character(shot, reference=replace(looks, keypoints=replace(looks.keypoints, points=moved)))
    elif change == "guidance":
        other = replace(shot, settings=replace(shot.settings, guidance=1.0))
    else:
        name, value = {"noise": ("noise_augmentation", 0.5), "fps": ("fps", 30)}.get(change, (change, 5))
        other = replace(shot, settings=replace(shot.settings, options={name: value}))
    assert not np.array_equal(plain, generate(engine, other).frames)


def test_a_start_from_the_carried_film(engine):
    shot = replace(make_shot(3), background=Background("still", (png(16, 8, (90, 160, 40)),)))

    def started(strength: float) -> np.ndarray:
        options = {"carried_start": strength}
        return generate(engine, replace(shot, settings=replace(shot.settings, options=options))).frames

    plain = generate(engine, shot).frames
    assert np.array_equal(started(0.0), plain)
    film = carry_shot(shot, *engine.plan(shot).model_size).frames
    # The reference is decoded along with the film.
    film = np.concatenate([engine.family.prepare(begun(engine, shot)).reference[None], film])
    vae = engine.networks["vae"]
    with torch.no_grad():
        z = vae.encode(frames_to_tensor(film).transpose(0, 1)).latent_dist.mode()
        coded = tensor_to_frames(vae.decode(z, num_frames=4).sample.transpose(0, 1))[1:]
    wanted = engine.family.fit(engine.spec, coded, *plain.shape[2:0:-1])
    assert np.abs(started(1.0).astype(int) - wanted).max() <= 1
    half = started(0.5)
    assert (half != plain).any() and (half != wanted).any()


def test_it_stops_between_the_tiles_of_a_step(engine):
    asked: list[bool] = []
    told: list[Progress] = []

    def cancelled() -> bool:
        if told[-1].stage != "denoising":
            return False
        asked.append(True)
        return len(asked) > 3  # once for the report, then before each evaluation: three tiles of two branches

    with pytest.raises(Cancelled):
        engine.generate(make_shot(12), told.append, cancelled)
    assert told[-1].step == 0 and len(asked) == 4


def test_frame_0_is_not_part_of_the_video(engine):
    """The reference leads the sequence that is denoised, and is dropped at the end."""
    told: list[Progress] = []
    result = engine.generate(make_shot(4), told.append, lambda: False)
    assert [p.steps for p in told if p.stage == "decoding"][-1] == 5 and len(result.frames) == 4


def test_a_shot_from_a_file_gives_the_same_video(engine, plain, tmp_path):
    save_shot(make_shot(1), tmp_path / "one.shot")
    assert np.array_equal(generate(engine, load_shot(tmp_path / "one.shot")).frames, plain)


def test_a_shot_with_joints_alone_can_be_rendered(engine):
    shot = make_shot(2)
    looks = replace(shot.characters[0].reference, keypoints=None)
    result = generate(engine, with_character(shot, keypoints=None, reference=looks))
    assert any("no keypoints" in note for note in result.notes)


def test_notes_of_the_picture_reach_the_animator(engine):
    import io

    from maquette.backend.shot import Media
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(np.full((64, 64, 4), (200, 100, 50, 128), np.uint8), "RGBA").save(stream, "PNG")
    shot = make_shot(2)
    looks = replace(shot.characters[0].reference, image=Media(stream.getvalue(), "image/png"))
    assert any("plain grey" in note for note in generate(engine, with_character(shot, reference=looks)).notes)


def test_fewer_frames_are_decoded_at_once_where_memory_is_short():
    """A frame of 1024 x 576 takes 1.9 GB at half precision."""
    spec = model_spec("mimicmotion")
    plan = make_plan(spec, make_shot(2, 1920, 1080))
    for gigabytes, chunk in ((1, 1), (5, 2), (10, 5), (40, 8)):
        assert fitting_chunk(spec, plan, 8, gigabytes * GB, 2) == chunk
    assert fitting_chunk(spec, plan, 8, 10 * GB, 4) == 2


def test_old_networks_are_gone_before_new_ones_are_read(model_dir, monkeypatch):
    """Offload hooks tie a network to itself, so that dropping it does not free it."""
    engine = load_engine("mimicmotion", "cpu", [model_dir])
    unet = begun(engine, make_shot(1)).networks["unet"]
    cpu_offload_with_hook(unet, torch.device("cpu"))
    old = weakref.ref(unet)
    del unet
    monkeypatch.setattr(Placement, "serves", lambda *_: False)
    there = []
    read = module.load_network
    monkeypatch.setattr(module, "load_network", lambda *args: there.append(old() is not None) or read(*args))
    gc.disable()
    try:
        begun(engine, make_shot(1))
    finally:
        gc.enable()
    assert there == [False] * 4


def test_settings_default_to_the_descriptions(engine):
    metadata = generate(engine, replace(make_shot(1), settings=Settings(model="mimicmotion"))).metadata
    assert (metadata["steps"], metadata["guidance"]) == (2, 2.0)
