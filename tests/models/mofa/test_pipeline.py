"""Sampling: what SVD is told, guidance, windows, both adapters, stopping."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from diffusers.hooks.group_offloading import apply_group_offloading
from hypothesis import given
from hypothesis import strategies as st
from maquette.backend.models.mofa import pipeline as module
from maquette.backend.models.mofa.pipeline import MOFAPipeline, Steering
from maquette.backend.models.mofa.splat import PixelMotion
from maquette.backend.models.svd import new_scheduler
from maquette.backend.models.windows import periodic_windows
from torch import Tensor

from .networks import noise, tiny_parts, tiny_spec, without_hooks


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    return tiny_spec(tmp_path_factory.mktemp("models"), hybrid=True)


@pytest.fixture(scope="module")
def parts(spec):
    return tiny_parts(spec)


@pytest.fixture
def pipeline(spec, parts):
    yield MOFAPipeline(**parts, scheduler=new_scheduler(spec))
    for net in parts.values():
        without_hooks(net)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


PICTURE = torch.rand(1, 3, 64, 64, generator=seeded(5))


def steering(frames: int = 3, **more: Any) -> Steering:
    return Steering(PixelMotion(6 * noise(1, frames - 1, 2, 64, 64, seed=1)), **more)


def hybrid(frames: int = 3, mask: float = 1.0) -> Steering:
    drawn = torch.rand(1, frames, 3, 64, 64, generator=seeded(2))
    return steering(frames, landmarks=drawn, face_mask=torch.full((1, 1, 64, 64), mask))


def sample(pipeline: MOFAPipeline, steer: Steering, seed: int = 0, **options: Any) -> Tensor:
    options = {"num_inference_steps": 1, "output_type": "latent", "generator": seeded(seed), **options}
    return pipeline(PICTURE, steer, **options).latents


class Calls:
    """Positional arguments of a module's calls."""

    def __init__(self, net: torch.nn.Module) -> None:
        self.args: list[tuple[Any, ...]] = []
        net.register_forward_pre_hook(lambda _, args: self.args.append(args))


def halves(monkeypatch, unconditional: float, conditional: float) -> None:
    """Replace the steered UNet by two constants."""

    def predict(_: Any, given: Tensor, *__: Any) -> Tensor:
        parts = zip(given.chunk(2), (unconditional, conditional), strict=True)
        first, second = (torch.full_like(x[:, :, :4], v) for x, v in parts)
        return torch.cat([first, second])

    monkeypatch.setattr(module, "predict", predict)


def predictions(pipeline: MOFAPipeline, monkeypatch) -> list[Tensor]:
    """What the scheduler is given at each step."""
    given: list[Tensor] = []
    step = pipeline.scheduler.step
    monkeypatch.setattr(pipeline.scheduler, "step", lambda *args: given.append(args[0].clone()) or step(*args))
    return given


def test_frames_come_out(pipeline):
    by_motion, by_both = (
        pipeline(PICTURE, steer, num_inference_steps=2, generator=seeded(), decode_chunk=2).frames
        for steer in (steering(), hybrid())
    )
    assert by_motion.shape == by_both.shape == (1, 3, 3, 64, 64)
    assert by_motion.isfinite().all() and by_both.isfinite().all() and not torch.allclose(by_motion, by_both)


def test_clip_sees_the_picture_as_it_is(pipeline):
    """Not normalised by CLIP's mean and deviation, as SVD's own pipeline does."""
    calls = Calls(pipeline.image_encoder)
    flat = torch.full((1, 3, 64, 64), 0.25)
    embedding = pipeline.embed_picture(flat)
    seen = calls.args[0][0]
    assert seen.shape == (1, 3, 32, 32) and torch.allclose(seen, torch.tensor(0.25), atol=1e-5)
    mean, std = (torch.tensor(x)[:, None, None] for x in ((0.481, 0.458, 0.408), (0.269, 0.261, 0.276)))
    normalised = pipeline.image_encoder((seen - mean) / std).image_embeds
    assert embedding.shape == (1, 1, 32) and not torch.allclose(embedding[:, 0], normalised, atol=1e-2)


def test_svd_is_told_the_same_ids_whatever_the_clip(pipeline):
    nets = (pipeline.unet, pipeline.controlnet, pipeline.landmark_controlnet)
    calls = [Calls(net) for net in nets if net is not None]
    sample(pipeline, hybrid())
    for call in calls:
        assert len(call.args) == 1
        for args in call.args:
            assert torch.allclose(args[3], torch.tensor([[6.0, 128.0, 0.02]] * 2))


def test_pictures_as_each_network_takes_them(pipeline, monkeypatch):
    adapter, encoded = Calls(pipeline.controlnet), []
    encode = pipeline.vae.encode
    monkeypatch.setattr(pipeline.vae, "encode", lambda x: encoded.append(x) or encode(x))
    sample(pipeline, steering())
    assert torch.allclose(adapter.args[0][4], 2 * PICTURE - 1)
    added = (encoded[0] - (2 * PICTURE - 1)) / 0.02
    assert float(added.std()) == pytest.approx(1, abs=0.05) and float(added.mean()) == pytest.approx(0, abs=0.05)


def test_picture_latents_are_not_scaled(pipeline):
    """SVD takes them unscaled beside scaled noise."""
    calls = Calls(pipeline.unet)
    sample(pipeline, steering())
    noised = 2 * PICTURE - 1 + 0.02 * torch.randn(PICTURE.shape, generator=seeded())
    expected = pipeline.vae.encode(noised).latent_dist.mode()
    given = calls.args[0][0]
    assert torch.allclose(given[1, :, 4:], expected.expand(3, -1, -1, -1), atol=1e-5)
    assert not given[0, :, 4:].any()


def test_both_halves_of_guidance_are_steered(pipeline, monkeypatch):
    seen: list[tuple[Any, ...]] = []
    predict = module.predict
    monkeypatch.setattr(module, "predict", lambda *args: seen.append(args) or predict(*args))
    sample(pipeline, steering())
    _, given, _, embeds, _, residuals = seen[0]
    assert given.shape[0] == 2 and not embeds[0].any() and embeds[1].any()
    assert torch.equal(given[0, :, :4], given[1, :, :4])
    assert all(len(x) == 6 and x[:3].any() and x[3:].any() for x in (*residuals.down, residuals.mid))


def test_guidance_rises_from_frame_to_frame(pipeline, monkeypatch):
    halves(monkeypatch, 10.0, 11.0)
    given = predictions(pipeline, monkeypatch)
    sample(pipeline, steering(5))
    assert torch.allclose(given[0][0, :, 0, 0, 0], 10 + torch.linspace(1, 3, 5))


def test_no_guidance_costs_half(pipeline):
    calls = Calls(pipeline.unet)
    sample(pipeline, steering(), max_guidance_scale=1.0)
    assert calls.args[0][0].shape[0] == 1 and calls.args[0][1].ndim == 0


def test_windows_as_published():
    assert periodic_windows(25, 25, 12) == [list(range(25))]
    first, second, third, last = periodic_windows(50, 25, 12)
    assert first == list(range(25))
    assert second == [0, *range(13, 37)] and third == [0, *range(25, 49)]
    assert last == [0, *range(26, 50)]


@given(st.integers(2, 120), st.integers(3, 30), st.data())
def test_windows_cover_every_frame(frames, window, data):
    stride = data.draw(st.integers(1, window - 1))
    windows = periodic_windows(frames, window, stride)
    assert {frame for indices in windows for frame in indices} == set(range(frames))
    for indices in windows:
        assert len(indices) == min(window, frames) and indices[0] == 0 and indices == sorted(set(indices))


def test_windows_that_leave_gaps_are_refused():
    with pytest.raises(ValueError, match="advance by 1 to 24"):
        periodic_windows(60, 25, 25)


def test_guidance_restarts_in_every_window(pipeline, monkeypatch):
    halves(monkeypatch, 0.0, 1.0)
    given = predictions(pipeline, monkeypatch)
    sample(pipeline, steering(7), window=5, stride=2)
    a, b, c, d, e = torch.linspace(1, 3, 5).tolist()
    # Windows 0 1 2 3 4 and 0 3 4 5 6; frames 3 and 4 lie in both.
    expected = [a, b, c, (d + b) / 2, (e + c) / 2, d, e]
    assert given[0][0, :, 0, 0, 0].tolist() == pytest.approx(expected)


def test_frame_0_belongs_to_the_first_window(pipeline, monkeypatch):
    answers = iter([10.0, 20.0])
    monkeypatch.setattr(module, "predict", lambda _, x, *__: torch.full_like(x[:, :, :4], next(answers)))
    given = predictions(pipeline, monkeypatch)
    sample(pipeline, steering(7), window=5, stride=2, max_guidance_scale=1.0)
    assert given[0][0, :, 0, 0, 0].tolist() == [10, 10, 10, 15, 15, 20, 20]


def test_averaged_predictions_are_averaged_latents(pipeline, spec, monkeypatch):
    """Published: every window is stepped alone, and the results are averaged."""

    def predict(_: Any, given: Tensor, *__: Any) -> Tensor:
        place = torch.arange(given.shape[1])[:, None, None, None]
        return torch.sin(given[:, :, :4]) + place

    monkeypatch.setattr(module, "predict", predict)
    latents = noise(1, 7, 4, 8, 8)
    ours = sample(
        pipeline, steering(7), latents=latents, window=5, stride=2, max_guidance_scale=1.0, num_inference_steps=2
    )

    scheduler = new_scheduler(spec)
    scheduler.set_timesteps(2)
    x = latents * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        total, count = torch.zeros_like(x), torch.zeros(7)
        scaled = scheduler.scale_model_input(x, timestep)
        for number, indices in enumerate(periodic_windows(7, 5, 2)):
            if number:
                scheduler._step_index -= 1
            stepped = scheduler.step(predict(None, scaled[:, indices]), timestep, x[:, indices]).prev_sample
            own = range(5) if number == 0 else range(1, 5)
            for place in own:
                total[:, indices[place]] += stepped[:, place]
                count[indices[place]] += 1
        x = total / count[:, None, None, None]
    assert torch.allclose(ours, x, rtol=1e-4, atol=1e-4 * float(x.abs().max()))


def test_every_window_has_its_own_motion(pipeline):
    calls = Calls(pipeline.controlnet)
    steer = steering(7)
    sample(pipeline, steer, window=5, stride=2)
    assert torch.equal(calls.args[0][5].flow, steer.motion.flow[:, :4])
    assert torch.equal(calls.args[1][5].flow, steer.motion.flow[:, 2:])


def test_a_mask_chooses_between_the_adapters(pipeline):
    alone = sample(pipeline, steering())
    assert torch.allclose(sample(pipeline, hybrid(mask=0)), alone, atol=1e-4)
    ruled = sample(pipeline, hybrid(mask=1))
    assert not torch.allclose(ruled, alone, atol=1e-3)
    # Where landmarks rule, the strength of the other adapter is without effect.
    assert torch.allclose(sample(pipeline, hybrid(mask=1), conditioning_scale=0.0), ruled, atol=1e-4)
    assert not torch.allclose(sample(pipeline, hybrid(mask=1), landmark_scale=0.0), ruled, atol=1e-3)


def test_the_face_can_have_its_own_motion(pipeline):
    still = PixelMotion(torch.zeros(1, 2, 2, 64, 64))
    calls = Calls(pipeline.landmark_controlnet)
    steer = hybrid()
    sample(pipeline, Steering(steer.motion, steer.landmarks, still, steer.face_mask))
    assert not calls.args[0][5].flow.any()


def test_parity_reaches_both_adapters(pipeline):
    calls = [Calls(pipeline.controlnet), Calls(pipeline.landmark_controlnet)]
    sample(pipeline, hybrid())
    sample(pipeline, hybrid(), parity=False)
    assert [[args[7] for args in call.args] for call in calls] == [[True, False]] * 2


def test_seeds(pipeline):
    assert torch.equal(sample(pipeline, steering(), 1), sample(pipeline, steering(), 1))
    assert not torch.allclose(sample(pipeline, steering(), 1), sample(pipeline, steering(), 2))


def test_steps_are_told(pipeline):
    told: list[tuple[int, int, Tensor]] = []
    latents = sample(pipeline, steering(), num_inference_steps=2, on_step=lambda *args: told.append(args))
    assert [entry[:2] for entry in told] == [(1, 2), (2, 2)]
    assert torch.allclose(told[-1][2], latents, atol=1e-2 * float(latents.abs().max()) + 1e-3)


def test_stopping_within_one_evaluation_of_a_network(pipeline):
    """Between two checks at most one network runs, in every window."""
    runs = {"since": 0, "most": 0, "checks": 0}

    def ran(*_: Any) -> None:
        runs["since"] += 1
        runs["most"] = max(runs["most"], runs["since"])

    for net in (pipeline.unet, pipeline.controlnet, pipeline.landmark_controlnet, pipeline.image_encoder):
        assert net is not None
        net.register_forward_pre_hook(ran)

    def check() -> None:
        runs["since"] = 0
        runs["checks"] += 1

    sample(pipeline, hybrid(7), window=5, stride=2, check=check)
    # Picture twice, then three networks in each of two windows.
    assert runs["most"] == 1 and runs["checks"] == 2 + 3 * 2

    class Stop(Exception):
        pass

    for last in (1, 4, 8):
        countdown = iter(range(last))

        def stop(countdown=countdown) -> None:
            if next(countdown, None) is None:
                raise Stop

        with pytest.raises(Stop):
            sample(pipeline, hybrid(7), window=5, stride=2, num_inference_steps=2, check=stop)
        assert next(countdown, None) is None


@pytest.mark.parametrize("kind", ["leaf_level", "block_level"])
def test_offloaded_networks_give_the_same(spec, parts, pipeline, kind):
    """Residuals are added by hooks, and so are weights fetched: neither gets in the other's way."""
    offloaded = MOFAPipeline(**deepcopy(parts), scheduler=new_scheduler(spec))
    cpu, blocks = torch.device("cpu"), 1 if kind == "block_level" else None
    for net in (offloaded.unet, offloaded.controlnet, offloaded.landmark_controlnet):
        assert net is not None
        apply_group_offloading(net, cpu, cpu, kind, num_blocks_per_group=blocks)
    assert torch.allclose(sample(offloaded, hybrid()), sample(pipeline, hybrid()), atol=1e-4)


def test_decoding_in_chunks(pipeline):
    latents = noise(2, 5, 4, 8, 8)
    told: list[tuple[int, int]] = []
    frames = pipeline.decode(latents, 2, lambda *args: told.append(args))
    assert frames.shape == (2, 3, 5, 64, 64) and told == [(i, 6) for i in range(7)]
    first = pipeline.vae.decode(latents[1, :2] / 0.18215, num_frames=2).sample
    assert torch.allclose(frames[1, :, :2], first.transpose(0, 1), atol=1e-5)


def test_what_does_not_fit_is_refused(spec, pipeline):
    with pytest.raises(ValueError, match="face_mask: needed"):
        steering(landmarks=torch.zeros(1, 3, 3, 64, 64))
    with pytest.raises(ValueError, match="landmarks: 2 frames, but motion for 3"):
        steering(landmarks=torch.zeros(1, 2, 3, 64, 64), face_mask=torch.ones(1, 1, 64, 64))
    with pytest.raises(ValueError, match="face_mask: 2 frames"):
        steering(landmarks=torch.zeros(1, 3, 3, 64, 64), face_mask=torch.ones(1, 2, 64, 64))
    with pytest.raises(ValueError, match=r"latents: \(1, 2, 4, 8, 8\)"):
        sample(pipeline, steering(), latents=noise(1, 2, 4, 8, 8))
    pipeline.landmark_controlnet = None
    with pytest.raises(ValueError, match="no landmark adapter"):
        sample(pipeline, hybrid())
