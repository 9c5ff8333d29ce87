"""From a shot to frames, at tiny sizes with weights by the recipe."""

from __future__ import annotations

from dataclasses import replace
from shutil import copytree

import numpy as np
import pytest
import torch
from maquette.backend.catalogue.models import find_specs
from maquette.backend.models.engine import Engine, load_engine
from maquette.backend.models.family import Cancelled, EngineError
from maquette.backend.models.frames import frames_to_tensor, tensor_to_frames
from maquette.backend.models.memory import placement
from maquette.backend.models.memory.arrangement import Mode, Strategy
from maquette.backend.models.mtvcrafter.inputs import hold_last
from maquette.backend.models.registry import plan_shot, status
from maquette.backend.raster.carry import carry_shot
from maquette.backend.shot import Background, Settings, Shot

from ...builders import png
from .builders import SIZE, TINY_17B, dancing, tiny_spec, write_lora

RED, BLUE = (220, 40, 30), (30, 60, 210)


class Run:
    """One generation, and what it reported."""

    def __init__(self, engine: Engine, shot: Shot, stop_at: tuple[str, int] | None = None) -> None:
        self.reports: list = []
        self.asked = 0

        def stopped() -> bool:
            self.asked += 1
            last = self.reports[-1] if self.reports else None
            return last is not None and (last.stage, last.step) == stop_at

        self.result = engine.generate(shot, self.reports.append, stopped)


@pytest.fixture(scope="module")
def engines(tiny_7b, tiny_17b) -> dict[str, Engine]:
    return {"7b": Engine(tiny_7b, "cpu"), "17b": Engine(tiny_17b, "cpu")}


@pytest.fixture(params=["7b", "17b"], scope="module")
def engine(engines, request) -> Engine:
    return engines[request.param]


@pytest.fixture(scope="module")
def plain(engine) -> Run:
    """Sixteen frames of a dance."""
    return Run(engine, dancing(16, model=engine.spec.id))


def test_a_shot_becomes_a_film(engine, plain):
    shot = dancing(16, model=engine.spec.id)
    result = plain.result
    assert result.frames.shape == (16, 32, 32, 3) and result.frames.dtype == np.uint8
    assert result.frames.std() > 2 and result.fps == shot.clip.fps
    denoised = [report for report in plain.reports if report.stage == "denoising"]
    assert [(report.step, report.steps) for report in denoised] == [(0, 2), (1, 2), (2, 2)]
    assert result.metadata["model"] == engine.spec.id and result.metadata["steps"] == 2
    assert result.metadata["token_loss"] > 0.1
    assert any("token loss" in note for note in result.notes)
    assert set(engine.plan(shot).notes) <= set(result.notes)


def test_the_registry_finds_and_runs_it(tiny_models, tiny_7b):
    shot = dancing(9, model="tiny-7b")
    assert status(find_specs([tiny_models])["tiny-7b"]).available
    assert plan_shot(shot, [tiny_models]).model_frames == 49
    engine = load_engine("tiny-7b", "cpu", [tiny_models])
    assert isinstance(engine, Engine)
    assert engine.generate(shot, lambda _: None, lambda: False).frames.shape == (9, 32, 32, 3)


def test_motion_reference_and_steps_matter(engine, plain):
    shot = dancing(16, model=engine.spec.id)
    frames = plain.result.frames.astype(int)
    others = {
        "motion": dancing(16, model=engine.spec.id, phase=2.0, sway=0.6),
        "reference": dancing(16, model=engine.spec.id, reference=png(64, 64, BLUE)),
        "steps": replace(shot, settings=replace(shot.settings, steps=3)),
        "guidance": replace(shot, settings=replace(shot.settings, guidance=1.0)),
    }
    for name, other in others.items():
        assert np.abs(Run(engine, other).result.frames - frames).max() > 2, name


def test_only_17b_reads_the_prompt(engines):
    for name, engine in engines.items():
        shot = replace(dancing(9, model=engine.spec.id), settings=Settings(steps=1))
        texts = [
            Run(engine, replace(shot, prompt=text)).result.frames for text in ("a person dances", "a person waves")
        ]
        assert np.array_equal(*texts) == (name == "7b")


def test_where_the_set_stands_does_not_matter(engine, plain):
    """Bodies and camera move together: the same film."""
    shot = dancing(16, model=engine.spec.id)
    turn = np.eye(4, dtype=np.float32)
    turn[:3, :3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    turn[:3, 3] = [3, -2, 1]
    character = shot.characters[0]
    moved = replace(
        shot,
        clip=replace(shot.clip, viewmats=shot.clip.viewmats @ np.linalg.inv(turn)),
        characters=(replace(character, joints=character.joints @ turn[:3, :3].T + turn[:3, 3]),),
    )
    assert np.abs(Run(engine, moved).result.frames.astype(int) - plain.result.frames).max() <= 1


@pytest.mark.parametrize(("name", "frames", "width"), [("7b", 9, 96), ("17b", 22, 64)])
def test_a_start_from_the_carried_film(engines, name, frames, width):
    engine = engines[name]
    if name == "17b":
        limits = {**engine.spec.limits, "window_frames": 17}
        engine = Engine(replace(engine.spec, limits=limits), "cpu")
    shot = dancing(frames, model=engine.spec.id, width=width, height=64 if name == "17b" else 48)
    beside = {"beside": "black"} if name == "7b" else {}
    settings = replace(shot.settings, options=beside)
    shot = replace(shot, background=Background("still", (png(16, 8, (90, 160, 40)),)), settings=settings)

    def started(strength: float) -> np.ndarray:
        options = {"carried_start": strength, **beside}
        return Run(engine, replace(shot, settings=replace(shot.settings, options=options))).result.frames

    plain, plan = Run(engine, shot).result.frames, engine.plan(shot)
    assert len(plan.windows) == (1 if name == "7b" else 2)
    assert np.array_equal(started(0.0), plain)
    film = carry_shot(shot, plan.width, plan.height).frames
    left = (plan.width - SIZE) // 2
    film = hold_last(film[:, :, left : left + SIZE], plan.model_frames)
    parts = []
    with torch.no_grad():
        for start, stop in plan.windows:
            vae = engine.networks["vae"]
            z = vae.encode(frames_to_tensor(film[start:stop])[None].to(vae.dtype)).latent_dist.mode()
            parts.append(tensor_to_frames(vae.decode(z).sample[0].float())[9 if start else 0 :])
    wanted = np.concatenate(parts)[:frames]
    shown = started(1.0)[:, :, left : left + SIZE]
    # Latents that were scaled and scaled back are rounded to the VAE's precision once more.
    assert np.abs(shown.astype(int) - wanted).max() <= (1 if vae.dtype == torch.float32 else 6)
    half = started(0.5)[:, :, left : left + SIZE]
    assert (half != plain[:, :, left : left + SIZE]).any() and (half != wanted).any()


def test_cancelling_stops_within_a_step(engine):
    """Asked before each of the two evaluations of a guided step."""
    calls = []
    handle = engine.networks["transformer"].register_forward_hook(lambda *_: calls.append(1))
    with pytest.raises(Cancelled):
        engine.generate(dancing(9, model=engine.spec.id), lambda _: None, lambda: len(calls) == 1)
    handle.remove()
    assert len(calls) == 1


def test_long_shots_go_in_windows(engines):
    engine = engines["17b"]
    shot = dancing(60, model=engine.spec.id)
    run = Run(engine, shot)
    assert run.result.frames.shape == (60, 32, 32, 3) and run.result.metadata["windows"] == 2
    steps = [(report.step, report.steps) for report in run.reports if report.stage == "denoising"]
    assert steps == [(i, 4) for i in range(5)]
    assert [r.step for r in run.reports if r.stage == "decoding"] == [1, 2]
    alone = Run(engine, dancing(49, model=engine.spec.id)).result.frames
    np.testing.assert_array_equal(run.result.frames[:49], alone)
    assert np.abs(np.diff(run.result.frames[48:].astype(int), axis=0)).max() > 0


def test_7b_lays_its_square_in_the_middle(engines):
    engine = engines["7b"]
    shot = replace(dancing(9, model=engine.spec.id, width=96, height=48), background=Background("none"))
    frames = Run(engine, shot).result.frames
    assert frames.shape == (9, 32, 64, 3)
    assert frames[:, :, :16].max() == 0 and frames[:, :, 48:].max() == 0 and frames[:, :, 16:48].std() > 2
    # Before a background the frame is full, and what the model made is the same within.
    red = replace(shot, background=Background("still", (png(96, 48, (200, 30, 30)),)))
    filled = Run(engine, red).result.frames
    sides = np.concatenate([filled[:, :, :16], filled[:, :, 48:]], 2)
    assert np.abs(sides.reshape(-1, 3).astype(int) - (200, 30, 30)).max() <= 2
    carried = Run(engine, replace(red, settings=replace(red.settings, options={"beside": "carried"}))).result
    np.testing.assert_array_equal(carried.frames[:, :, 18:46], filled[:, :, 18:46])
    film = carry_shot(red, 64, 32).frames
    np.testing.assert_array_equal(carried.frames[:, :, :16], film[:, :, :16])


def test_7b_makes_a_wide_picture_where_it_is_asked_to(engines):
    """Its tokens' places are whole numbers at any size."""
    engine = engines["7b"]
    shot = dancing(9, model=engine.spec.id, width=96, height=48)
    red = replace(shot, background=Background("still", (png(96, 48, (200, 30, 30)),)))
    result = Run(engine, replace(red, settings=replace(red.settings, options={"picture": "frame"}))).result
    assert result.metadata["model_size"] == [48, 32] and result.frames.shape == (9, 32, 64, 3)
    assert result.frames[:, :, 8:56].std() > 2
    assert np.abs(result.frames[:, :, :8].reshape(-1, 3).astype(int) - (200, 30, 30)).max() <= 2


def test_17b_takes_the_clip_s_shape(engines):
    engine = engines["17b"]
    shot = dancing(9, model=engine.spec.id, width=160, height=40)
    result = Run(engine, shot).result
    assert result.metadata["model_size"] == [64, 16] and result.frames.shape == (9, 16, 64, 3)


def test_few_steps(tiny_17b, tmp_path):
    copytree(tiny_17b.folder, tmp_path / "tiny-17b")
    spec = tiny_spec(tmp_path, TINY_17B)
    write_lora(spec)
    engine = Engine(spec, "cpu")
    shot = dancing(9, model=spec.id)
    plain = Run(engine, shot).result
    fast = Run(engine, replace(shot, settings=Settings(options={"few_steps": True}))).result
    assert (plain.metadata["few_steps"], fast.metadata["few_steps"]) == (False, True)
    assert (fast.metadata["steps"], fast.metadata["guidance"]) == (1, 1.0)
    unmerged = Run(engine, replace(shot, settings=Settings(steps=1, guidance=1.0))).result
    assert np.abs(fast.frames.astype(int) - unmerged.frames).max() > 2
    np.testing.assert_array_equal(Run(engine, shot).result.frames, plain.frames)
    path = spec.folder / "lora" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(EngineError, match="not a LoRA for Tiny 17B"):
        Run(Engine(spec, "cpu"), replace(shot, settings=Settings(options={"few_steps": True})))


def test_refusals_come_before_loading(tiny_7b, monkeypatch):
    engine = Engine(tiny_7b, "cpu")
    monkeypatch.setattr(engine, "load", lambda *_: pytest.fail("weights were read"))
    shot = dancing(9, model=tiny_7b.id)
    character = shot.characters[0]
    broken = replace(character.reference, image=replace(character.reference.image, data=b"no picture"))
    for changes in ({"joints": None}, {"reference": None}, {"reference": broken}):
        with pytest.raises(EngineError):
            Run(engine, replace(shot, characters=(replace(character, **changes),)))
    with pytest.raises(EngineError, match="at most 49"):
        Run(engine, dancing(60, model=tiny_7b.id))


@pytest.mark.parametrize("arrangement", [Strategy(), Strategy(Mode.RESIDENT, tiling=True, casting=True)], ids=str)
def test_other_arrangements_and_types_make_about_the_same(engine, plain, monkeypatch, arrangement):
    """bfloat16, and weights stored in 8 bits: nothing reads weights where they do not lie."""
    shot = dancing(16, model=engine.spec.id)
    wanted = plain.result.frames.astype(float)
    monkeypatch.setattr(placement, "check_fits", lambda *_: arrangement)
    monkeypatch.setattr(placement, "cast", lambda part: part.name == "transformer")
    other = Engine(engine.spec, "cpu")
    other.dtype = torch.bfloat16
    run = Run(other, shot)
    dtypes = {parameter.dtype for parameter in other.networks["transformer"].parameters()}
    assert (torch.float8_e4m3fn in dtypes) == arrangement.casting and torch.bfloat16 in dtypes
    assert run.result.metadata["placement"] == str(arrangement) and run.result.metadata["dtype"] == "bfloat16"
    assert np.abs(run.result.frames - wanted).mean() < 0.2 * wanted.std()


def test_loading_happens_once(engine, plain):
    before = engine.networks
    Run(engine, dancing(12, model=engine.spec.id))
    assert all(engine.networks[name] is part for name, part in before.items())
    assert all(p.dtype == torch.float32 for p in before["tokenizer"].parameters())
