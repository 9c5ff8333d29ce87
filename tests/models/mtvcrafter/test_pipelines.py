"""Sampling: what the denoisers are given at every step."""

from __future__ import annotations

import pytest
import torch
from maquette.backend.models.mtvcrafter.build import load_network, load_scheduler
from maquette.backend.models.mtvcrafter.pipeline_7b import MTVCrafter7BPipeline
from maquette.backend.models.mtvcrafter.pipeline_17b import MTVCrafter17BPipeline, Sampling17B, Text, known_latents
from maquette.backend.models.wan import denormalized, encode_text, load_text_tokenizer
from maquette.backend.shot.framing import read_statistics

MEAN = torch.from_numpy(read_statistics().mean)
SIZE = 16


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=seeded(seed))


@pytest.fixture(scope="module")
def pipeline_7b(tiny_7b) -> MTVCrafter7BPipeline:
    vae, transformer = (load_network(tiny_7b, part, torch.float32) for part in ("vae", "transformer"))
    return MTVCrafter7BPipeline(vae=vae, transformer=transformer, scheduler=load_scheduler(tiny_7b))


@pytest.fixture(scope="module")
def pipeline_17b(tiny_17b) -> MTVCrafter17BPipeline:
    parts = ("image_encoder", "transformer", "vae")
    return MTVCrafter17BPipeline(
        scheduler=load_scheduler(tiny_17b),
        **{part: load_network(tiny_17b, part, torch.float32) for part in parts},
    )


class Calls:
    """What a transformer was called with."""

    def __init__(self, transformer: torch.nn.Module) -> None:
        self.inputs: list[tuple] = []
        self.handle = transformer.register_forward_pre_hook(
            lambda _, args, kwargs: self.inputs.append((*args, kwargs)), with_kwargs=True
        )

    def __enter__(self) -> list[tuple]:
        return self.inputs

    def __exit__(self, *_: object) -> None:
        self.handle.remove()


@pytest.fixture
def picture() -> torch.Tensor:
    return noise(3, SIZE, SIZE, seed=3).clamp(-1, 1)


def sample_7b(pipeline, picture, tokens=None, seed=0, frames=49, **options):
    reference = pipeline.reference_latents(picture, frames, seeded(9))
    tokens = noise(1, 312, 32, seed=4) if tokens is None else tokens
    return pipeline(reference, tokens, MEAN, num_inference_steps=2, generator=seeded(seed), **options)


def test_7b_reference_is_a_still_clip_that_is_not_scaled(pipeline_7b, picture):
    """The quirk: decoding divides by the scaling factor, and yet the reference is not multiplied by it."""
    clip = picture[None, :, None].expand(-1, -1, 49, -1, -1)
    posterior = pipeline_7b.vae.encode(clip).latent_dist
    expected = posterior.sample(seeded(9))
    assert pipeline_7b.vae.config["scaling_factor"] == 0.7
    with Calls(pipeline_7b.transformer) as calls:
        sample_7b(pipeline_7b, picture)
    given = calls[0][0][:, :, 4:]
    torch.testing.assert_close(given, expected.transpose(1, 2), rtol=0, atol=0)
    assert (given - 0.7 * expected.transpose(1, 2)).abs().max() > 0.05
    assert not torch.equal(expected, posterior.mode())
    for call in calls:
        torch.testing.assert_close(call[0][:, :, 4:], given, rtol=0, atol=0)


def test_7b_guides_against_its_learned_tokens(pipeline_7b, picture):
    tokens = noise(1, 312, 32, seed=4)
    with Calls(pipeline_7b.transformer) as calls:
        sample_7b(pipeline_7b, picture, tokens, guidance_scale=3.0)
    assert [call[1] is None for call in calls] == [False, True, False, True]
    assert torch.equal(calls[0][0], calls[1][0])
    learned = pipeline_7b.transformer.unconditional_motion_token.detach()[None]
    once = sample_7b(pipeline_7b, picture, learned, guidance_scale=1.0)
    torch.testing.assert_close(sample_7b(pipeline_7b, picture, learned, guidance_scale=5.0), once)
    assert (sample_7b(pipeline_7b, picture, tokens, guidance_scale=5.0) - once).abs().max() > 0.01


def test_7b_without_guidance_asks_once_a_step(pipeline_7b, picture):
    with Calls(pipeline_7b.transformer) as calls:
        sample_7b(pipeline_7b, picture, guidance_scale=1.0)
    assert len(calls) == 2 and all(call[1] is not None for call in calls)


def test_7b_gives_latents_as_the_vae_does(pipeline_7b, picture):
    """Its last guess of the clean latents is what it ends with: the scheduler's last step has no noise."""
    guesses = []
    latents = sample_7b(pipeline_7b, picture, on_step=lambda step, steps, clean: guesses.append((step, steps, clean)))
    assert [(step, steps) for step, steps, _ in guesses] == [(1, 2), (2, 2)]
    assert latents.shape == (1, 4, 13, 2, 2) and guesses[-1][2].shape == (4, 13, 2, 2)
    torch.testing.assert_close(latents[0], guesses[-1][2], rtol=1e-4, atol=1e-4)
    video = pipeline_7b.decode(latents)
    assert video.shape == (1, 3, 49, SIZE, SIZE) and video.abs().max() <= 1


def test_7b_stops_between_the_halves_of_a_step(pipeline_7b, picture):
    asked = []

    def check() -> None:
        asked.append(1)
        if len(asked) == 2:
            raise InterruptedError

    with Calls(pipeline_7b.transformer) as calls, pytest.raises(InterruptedError):
        sample_7b(pipeline_7b, picture, check=check)
    assert len(calls) == 1


def sample_17b(pipeline, picture, windows=1, seed=0, guidance=6.0, text=None, on_step=None, **options):
    settings = Sampling17B(**{"steps": 3, "guidance": guidance, "frames": 17, "overlap": 5, **options})
    tokens = [noise(1, 24 * (1 + (settings.frames - 1) // 4), 32, seed=10 + i) for i in range(windows)]
    text = text or Text(noise(1, 512, 16, seed=5), noise(1, 512, 16, seed=6))
    return list(pipeline(picture, tokens, MEAN, text, settings, generator=seeded(seed), on_step=on_step))


def test_17b_first_window_knows_the_reference_alone(pipeline_17b, picture):
    with Calls(pipeline_17b.transformer) as calls:
        (frames,) = sample_17b(pipeline_17b, picture)
    assert frames.shape == (3, 17, SIZE, SIZE)
    assert len(calls) == 6
    given = calls[0][0][:, 4:]
    mask, latents = given[:, :4], given[:, 4:]
    assert mask[:, :, 0].min() == 1 and mask[:, :, 1:].max() == 0
    video = torch.zeros(1, 3, 17, SIZE, SIZE)
    video[:, :, 0] = picture
    expected = pipeline_17b.vae.encode(video).latent_dist.mode()
    config = pipeline_17b.vae.config
    mean, std = (torch.tensor(config[name]).view(1, -1, 1, 1, 1) for name in ("latents_mean", "latents_std"))
    torch.testing.assert_close(latents, (expected - mean) / std)
    torch.testing.assert_close(denormalized(pipeline_17b.vae, latents), expected)


def test_17b_guides_text_with_the_same_motion_in_both_halves(pipeline_17b, picture):
    text = Text(noise(1, 512, 16, seed=5), noise(1, 512, 16, seed=6))
    with Calls(pipeline_17b.transformer) as calls:
        sample_17b(pipeline_17b, picture, text=text)
    for half, wanted in ((0, text.positive), (1, text.negative)):
        assert all(torch.equal(call[2], wanted) for call in calls[half::2])
    assert all(torch.equal(call[4], calls[0][4]) for call in calls)
    with Calls(pipeline_17b.transformer) as calls:
        sample_17b(pipeline_17b, picture, guidance=1.0)
    assert len(calls) == 3


def test_17b_levels_follow_the_shift(pipeline_17b, picture):
    with Calls(pipeline_17b.transformer) as calls:
        sample_17b(pipeline_17b, picture, guidance=1.0)
    times = [float(call[1]) for call in calls]
    assert times[0] == 1000 and times == sorted(times, reverse=True)
    plain = torch.linspace(1000, pipeline_17b.scheduler.sigma_min * 1000, 3)[1] / 1000
    assert times[1] == pytest.approx(float(1000 * 5 * plain / (1 + 4 * plain)), rel=1e-4)


def test_17b_windows_go_on_from_the_frames_before(pipeline_17b, picture):
    with Calls(pipeline_17b.transformer) as calls:
        first, second = sample_17b(pipeline_17b, picture, windows=2, guidance=1.0)
    assert first.shape[1] == 17 and second.shape[1] == 12
    led = calls[3:]
    mask, latents = led[0][0][:, 4:8], led[0][0][:, 8:]
    assert mask[:, :, :2].min() == 1 and mask[:, :, 2:].max() == 0
    expected = pipeline_17b.condition(first[:, -5:], 17)[:, 4:]
    torch.testing.assert_close(latents, expected)
    cpu = torch.device("cpu")
    seen = pipeline_17b.encode_picture(first[:, -1], cpu, torch.float32)
    torch.testing.assert_close(led[0][3], seen)
    assert not torch.equal(calls[0][3], seen)


def test_17b_puts_the_known_frames_back_at_each_level(pipeline_17b, picture):
    """After the first step the known latents are the given ones with fresh noise of the next level."""
    steps = []
    with Calls(pipeline_17b.transformer) as calls:
        sample_17b(
            pipeline_17b, picture, windows=2, guidance=1.0, steps=4,
            on_step=lambda step, count, clean: steps.append((step, count)),
        )  # fmt: skip
    assert steps == [(i, 8) for i in range(1, 9)]
    led = calls[4:]
    given = led[0][0][:, 8:, :2]
    noises = []
    for call in led[1:]:
        level = float(call[1]) / 1000
        noises.append((call[0][:, :4, :2] - (1 - level) * given) / level)
        assert abs(float(noises[-1].mean())) < 0.6 and 0.6 < float(noises[-1].std()) < 1.4
    assert (noises[0] - noises[1]).abs().max() > 0.5


def test_17b_ends_on_the_known_frames(pipeline_17b):
    """The last level is 0, so a window's first latents are those it was given, exactly."""
    known = noise(3, 5, SIZE, SIZE, seed=8).clamp(-1, 1)
    latents = pipeline_17b.sample_window(
        known, noise(1, 120, 32), MEAN, Text(noise(1, 512, 16), None), Sampling17B(steps=2, frames=17, overlap=5),
        seeded(), lambda step, clean: None, lambda: None,
    )  # fmt: skip
    torch.testing.assert_close(latents[:, :, :2], pipeline_17b.condition(known, 17)[:, 4:, :2])


def test_text_is_zero_after_its_end(tiny_17b):
    tokenizer = load_text_tokenizer(tiny_17b, "text_tokenizer")
    encoder = load_network(tiny_17b, "text_encoder", torch.float32)

    def encode(text: str) -> torch.Tensor:
        return encode_text(tokenizer, encoder, text, torch.device("cpu"))

    encoded = encode("a  person\n dances")
    assert encoded.shape == (1, 512, 16)
    assert encoded[0, :3].abs().min() > 0 and encoded[0, 3:].abs().max() == 0
    assert torch.equal(encoded, encode("a person dances"))
    assert not torch.equal(encoded, encode("a person waves"))


def test_17b_sees_the_picture_by_the_last_but_one_layer(pipeline_17b, picture):
    seen = pipeline_17b.encode_picture(picture, torch.device("cpu"), torch.float32)
    assert seen.shape == (1, 5, 16)
    layers = pipeline_17b.image_encoder.encoder.layers
    runs = []
    hook = layers[-2].register_forward_hook(lambda _, args, output: runs.append(output))
    pipeline_17b.encode_picture(picture, torch.device("cpu"), torch.float32)
    hook.remove()
    last = runs[0][0] if isinstance(runs[0], tuple) else runs[0]
    torch.testing.assert_close(seen, last.reshape(seen.shape))


@pytest.mark.parametrize(("frames", "latents"), [(1, 1), (5, 2), (9, 3), (49, 13)])
def test_known_latents(frames, latents):
    assert known_latents(frames) == latents
