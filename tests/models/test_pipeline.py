"""Sampling: the scheduler's sign, guidance, windows, seeds."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from hypothesis import given
from hypothesis import strategies as st
from maquette.backend.models.isa.pipeline import ISAPipeline
from maquette.backend.models.isa.transformer import ISATransformer3DModel
from maquette.backend.models.windows import fusion_weights, fusion_windows

from .conftest import TINY_TRANSFORMER, random_inputs, randomize


@pytest.fixture
def pipeline(vae, transformer) -> ISAPipeline:
    return ISAPipeline(vae=vae, transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler())


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_perfect_flow_arrives_at_the_video(pipeline, monkeypatch):
    """The sign: with e - x_0 predicted exactly, Euler's method ends at x_0 in any number of steps."""
    inputs = random_inputs()
    clean = torch.randn(1, 16, 3, 4, 4, generator=seeded(1))
    noise = torch.randn(1, 16, 3, 4, 4, generator=seeded(2))
    forward = pipeline.transformer.forward

    def flow(x, timestep, conditions, **named):
        return forward(x, timestep, conditions) if x is None else ((noise - clean).expand_as(x),)

    monkeypatch.setattr(pipeline.transformer, "forward", flow)
    guesses = []
    result = pipeline(
        inputs,
        num_inference_steps=4,
        latents=noise,
        output_type="latent",
        on_step=lambda step, steps, guess: guesses.append(guess),
    )
    assert torch.allclose(result.latents, clean, atol=1e-5)
    assert all(torch.allclose(guess, clean, atol=1e-5) for guess in guesses)


def test_frames_come_out(pipeline):
    made = pipeline(random_inputs(), num_inference_steps=2, generator=seeded())
    assert made.frames.shape == (1, 3, 9, 32, 32)
    decoded = pipeline.vae.decode(pipeline.vae.denormalize(made.latents)).sample
    assert torch.allclose(made.frames, decoded, atol=1e-5) and made.frames.std() > 0


def test_seeds(pipeline):
    def sample(seed):
        return pipeline(random_inputs(), num_inference_steps=2, generator=seeded(seed), output_type="latent").latents

    assert torch.equal(sample(1), sample(1))
    assert not torch.allclose(sample(1), sample(2))


def test_guidance_in_one_batch_equals_two_passes(pipeline, transformer):
    inputs = random_inputs()
    noise = torch.randn(1, 16, 3, 4, 4, generator=seeded())
    found = pipeline(inputs, num_inference_steps=1, guidance_scale=3.0, latents=noise, output_type="latent").latents
    with torch.no_grad():
        t = torch.tensor([1000.0])
        conditional = transformer(noise, t, inputs).sample
        unconditional = transformer(noise, t, inputs.drop(points=True, reference=True)).sample
    expected = noise - (unconditional + 3 * (conditional - unconditional))
    assert torch.allclose(found, expected, atol=1e-4)
    plain = pipeline(inputs, num_inference_steps=1, guidance_scale=1.0, latents=noise, output_type="latent").latents
    assert torch.allclose(plain, noise - conditional, atol=1e-4)


@given(latents=st.integers(1, 60), window=st.integers(2, 12), overlap=st.integers(0, 14))
def test_windows(latents, window, overlap):
    windows = fusion_windows(latents, window, overlap)
    assert {index for indices in windows for index in indices} == set(range(latents))
    for indices in windows:
        assert indices[0] == 0 and len(indices) == min(window, latents)
        assert indices[1:] == list(range(indices[1], indices[1] + len(indices) - 1)) if len(indices) > 1 else True
    least = min(overlap, window - 2)
    shared = [len(set(a[1:]) & set(b[1:])) for a, b in pairwise(windows)]
    assert all(count >= least for count in shared)
    if shared:
        # The last pair is no closer than the others, but for rounding.
        assert max(shared) - min(shared) <= 1
        # One window fewer would not do.
        assert 1 + (window - 1) + (len(windows) - 2) * (window - 1 - least) < latents


def test_weights_are_mimicmotions():
    assert fusion_weights(8) == [0.125, 0.375, 0.625, 0.875, 0.875, 0.625, 0.375, 0.125]


@pytest.mark.parametrize("frames", [33, 41, 45])
def test_a_constant_output_fuses_to_itself(pipeline, monkeypatch, frames):
    inputs = random_inputs(frames=frames, size=2)
    latents = 1 + (frames - 1) // 4
    noise = torch.randn(1, 16, latents, 2, 2, generator=seeded())
    seen = []

    forward = pipeline.transformer.forward

    def constant(x, timestep, conditions, **__):
        if x is None:
            return forward(x, timestep, conditions)
        seen.append(x.shape[2])
        return (torch.full_like(x, 0.25),)

    monkeypatch.setattr(pipeline.transformer, "forward", constant)
    result = pipeline(inputs, num_inference_steps=2, latents=noise, window=5, overlap=2, output_type="latent").latents
    assert torch.allclose(result, noise - 0.25, atol=1e-5)
    assert set(seen) == {5} and len(seen) > 2


def test_windows_are_fused_at_every_step_with_their_own_conditions(pipeline, transformer):
    """One step by hand: each window sees its own latent frames and conditions; the weighted mean is stepped."""
    inputs = random_inputs(frames=29, size=2)
    noise = torch.randn(1, 16, 8, 2, 2, generator=seeded())
    found = pipeline(
        inputs, num_inference_steps=1, guidance_scale=1.0, latents=noise, window=5, overlap=1, output_type="latent"
    ).latents
    total, weight = torch.zeros_like(noise), torch.zeros(8)
    with torch.no_grad():
        conditions = transformer.prepare_conditions(inputs)
        for indices in ([0, 1, 2, 3, 4], [0, 4, 5, 6, 7]):
            index = torch.tensor(indices)
            flow = transformer(noise[:, :, index], torch.tensor([1000.0]), conditions.frames(index)).sample
            for place, frame in enumerate(indices):
                w = fusion_weights(5)[place]
                total[:, :, frame] += w * flow[:, :, place]
                weight[frame] += w
    assert torch.allclose(found, noise - total / weight.view(-1, 1, 1), atol=1e-4)


def test_a_window_longer_than_the_shot_is_the_shot(pipeline):
    inputs, noise = random_inputs(), torch.randn(1, 16, 3, 4, 4, generator=seeded())
    arguments = {"num_inference_steps": 1, "latents": noise, "output_type": "latent"}
    long = pipeline(inputs, window=20, **arguments).latents
    assert torch.allclose(long, pipeline(inputs, **arguments).latents, atol=1e-6)


def test_saved_and_loaded_through_diffusers(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    loaded = ISAPipeline.from_pretrained(tmp_path, local_files_only=True)
    a, b = (
        p(random_inputs(), num_inference_steps=1, generator=seeded(), output_type="latent").latents
        for p in (pipeline, loaded)
    )
    assert torch.equal(a, b)


def of(vae, **config) -> ISAPipeline:
    """A pipeline around a new transformer, which gives nothing yet."""
    torch.manual_seed(0)
    model = ISATransformer3DModel(**TINY_TRANSFORMER, prediction="residual", **config).eval()
    return ISAPipeline(vae=vae, transformer=model, scheduler=FlowMatchEulerDiscreteScheduler(shift=1.5))


@pytest.mark.parametrize("start", ["noise", "carried"])
@pytest.mark.parametrize(("steps", "guidance", "frames"), [(1, 1.0, 9), (3, 2.5, 9), (2, 1.0, 29), (1, 3.0, 41)])
def test_nothing_to_correct_gives_the_carried_film_to_the_last_bit(vae, start, steps, guidance, frames):
    inputs = random_inputs(frames=frames, size=2)
    result = of(vae, start=start)(inputs, steps, guidance, seeded(), window=5, overlap=1, output_type="latent").latents
    assert torch.equal(result, inputs.carried_latents)


def test_from_the_carried_film_no_seed_matters_and_one_step_is_the_prediction(vae):
    pipe = of(vae, start="carried")
    randomize(pipe.transformer)
    inputs = random_inputs()
    first, second = (pipe(inputs, 1, 1.0, seeded(seed), output_type="latent").latents for seed in (1, 2))
    assert torch.equal(first, second) and not torch.allclose(first, inputs.carried_latents, atol=1e-3)
    with torch.no_grad():
        given = pipe.transformer(inputs.carried_latents, torch.tensor([1000.0]), inputs, residual=True).sample
    torch.testing.assert_close(first, inputs.carried_latents + given)


def test_without_a_carried_film_the_background_takes_its_place(vae):
    inputs = random_inputs().drop(carried=True)
    result = of(vae, start="carried")(inputs, 1, 1.0, output_type="latent").latents
    assert torch.equal(result, inputs.background_latents)
