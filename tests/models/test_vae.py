"""The video VAE: causality, chunks, SD3 inflation, saving."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKL
from hypothesis import given, settings
from hypothesis import strategies as st
from maquette.backend.models.isa.vae import AutoencoderKLISA
from maquette.backend.models.isa.vae_layers import CausalConv3d, from_blocks, to_blocks

from .conftest import TINY_VAE, randomize

FOLDED = {
    "block_out_channels": (8, 8),
    "spatial_resample": (True,),
    "temporal_resample": (False,),
    "temporal_patch_size": 4,
}
"""Four frames folded into channels, as in the embedded model."""


def video(frames: int, size: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.rand(1, 3, frames, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize(("frames", "latents"), [(1, 1), (5, 2), (17, 5)])
@torch.no_grad()
def test_shapes(vae, frames, latents):
    z = vae.encode(video(frames)).latent_dist.mode()
    assert z.shape == (1, 16, latents, 2, 2)
    assert vae.decode(z).sample.shape == (1, 3, frames, 16, 16)


def test_frames_must_be_one_and_a_multiple_of_four(vae):
    with pytest.raises(ValueError, match="1 \\+ a multiple of 4"):
        vae.encode(video(4))


@pytest.mark.parametrize("changes", [{}, FOLDED])
@torch.no_grad()
def test_the_future_changes_nothing_before_it(changes):
    """Frames 9.. change latents 3.. only; latents 3.. change frames 9.. only. Both do change those."""
    vae = AutoencoderKLISA(**{**TINY_VAE, **changes}).eval()
    randomize(vae)
    x, y = video(17), video(17)
    y[:, :, 9:] = video(17, seed=1)[:, :, 9:]
    a, b = vae.encode(x).latent_dist.mode(), vae.encode(y).latent_dist.mode()
    assert torch.equal(a[:, :, :3], b[:, :, :3])
    assert (a[:, :, 3:] - b[:, :, 3:]).abs().max() > 1e-4
    c, d = vae.decode(a).sample, vae.decode(b).sample
    assert torch.equal(c[:, :, :9], d[:, :, :9])
    assert (c[:, :, 9:] - d[:, :, 9:]).abs().max() > 1e-4


@pytest.mark.parametrize("changes", [{"downsample": "pool"}, {"downsample": "conv"}, FOLDED])
@torch.no_grad()
def test_chunks_equal_the_whole(changes):
    vae = AutoencoderKLISA(**{**TINY_VAE, **changes}).eval()
    randomize(vae)

    @settings(max_examples=8)
    @given(latents=st.integers(1, 7), chunk=st.integers(1, 8))
    def check(latents: int, chunk: int) -> None:
        x = video(1 + 4 * (latents - 1))
        whole = vae.encode(x).latent_dist.mode()
        assert torch.allclose(vae.encode(x, chunk=chunk).latent_dist.mode(), whole, atol=1e-5)
        assert torch.allclose(vae.decode(whole, chunk=chunk).sample, vae.decode(whole).sample, atol=1e-5)

    check()


@torch.no_grad()
def test_uneven_chunks_equal_the_whole(vae):
    from maquette.backend.models.isa.vae import CausalCache

    z = torch.randn(1, 16, 6, 2, 2, generator=torch.Generator().manual_seed(0))
    cache, parts = CausalCache(), []
    for part in z.split([2, 1, 3], dim=2):
        parts.append(vae.decoder(part, cache))
        cache.advance()
    assert torch.allclose(torch.cat(parts, 2), vae.decode(z).sample, atol=1e-5)


def sd3_vae() -> AutoencoderKL:
    torch.manual_seed(0)
    model = AutoencoderKL(
        block_out_channels=(8, 8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=16,
        norm_num_groups=4,
        use_quant_conv=False,
        use_post_quant_conv=False,
        scaling_factor=1.5305,
        shift_factor=0.0609,
    ).eval()
    randomize(model)
    return model


@torch.no_grad()
def test_inflated_sd3_equals_the_image_vae_on_a_still():
    image_vae = sd3_vae()
    video_vae = AutoencoderKLISA.from_sd3(image_vae).eval()
    picture = video(1, size=32)
    expected = image_vae.encode(picture[:, :, 0]).latent_dist.parameters
    found = video_vae.encode(picture).latent_dist.parameters[:, :, 0]
    assert torch.allclose(found, expected, atol=1e-4)
    z = expected[:, :16]
    still = video_vae.decode(z[:, :, None]).sample[:, :, 0]
    assert torch.allclose(still, image_vae.decode(z).sample, atol=1e-4)
    normalised = (z - 0.0609) * 1.5305
    assert torch.allclose(video_vae.normalize(z[:, :, None])[:, :, 0], normalised, atol=1e-5)
    # And a film that stands still stays the still.
    film = video_vae.decode(z[:, :, None].expand(-1, -1, 3, -1, -1)).sample
    assert torch.allclose(film, still[:, :, None].expand_as(film), atol=1e-4)


def test_inflation_refuses_another_family():
    other = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=4)
    with pytest.raises(ValueError, match="quant convolutions"):
        AutoencoderKLISA.from_sd3(other)


@torch.no_grad()
def test_saved_and_loaded_is_the_same(vae, tmp_path):
    vae.save_pretrained(tmp_path)
    assert (tmp_path / "diffusion_pytorch_model.safetensors").is_file()
    loaded = AutoencoderKLISA.from_pretrained(tmp_path)
    x = video(5)
    assert torch.equal(loaded.encode(x).latent_dist.mode(), vae.encode(x).latent_dist.mode())
    assert torch.equal(loaded.normalize(x[:, :1]), vae.normalize(x[:, :1]))


def test_normalize_and_back(vae):
    z = torch.randn(1, 16, 2, 2, 2)
    assert torch.allclose(vae.denormalize(vae.normalize(z)), z, atol=1e-6)


def test_sub_latents_give_each_frame_its_four_channels(vae):
    z = torch.arange(16.0).view(1, 16, 1, 1, 1).expand(1, 16, 3, 1, 1)
    sub = vae.sub_latents(z)
    assert sub.shape == (1, 4, 9, 1, 1)
    assert sub[0, :, 1, 0, 0].tolist() == [0, 1, 2, 3]
    assert sub[0, :, 4, 0, 0].tolist() == [12, 13, 14, 15]
    frames = vae.auxiliary_image_decoder()(torch.randn(1, 4, 9, 2, 2))
    assert frames.shape == (1, 3, 9, 16, 16)


@given(size=st.sampled_from([1, 2, 4]), group=st.sampled_from([1, 2, 4]), frames=st.integers(1, 2), first=st.booleans())
def test_blocks_there_and_back(size, group, frames, first):
    x = torch.rand(1, 3, group * frames + first, 8, 8)
    blocks = to_blocks(x, group, size, first)
    assert blocks.shape[1] == frames + first
    torch.testing.assert_close(from_blocks(blocks, group, size, first), x)


@given(taps=st.integers(1, 3), kernel=st.sampled_from([1, 3]), stride=st.sampled_from([1, 2]))
@settings(max_examples=12)
@torch.no_grad()
def test_folded_convolution_is_the_3d_one(taps, kernel, stride):
    """On a CPU a causal convolution runs as a 2D one; the result is that of torch's own 3D convolution."""
    stride = stride if kernel == 3 else 1
    torch.manual_seed(0)
    layer = CausalConv3d(4, 6, kernel, taps, stride)
    x = torch.randn(2, 4, 5, 8, 8)
    padded = torch.nn.functional.pad(x, (0, 1, 0, 1)) if stride == 2 else x
    padded = torch.cat([padded[:, :, :1].expand(-1, -1, taps - 1, -1, -1), padded], dim=2)
    expected = torch.nn.Conv3d.forward(layer, padded)
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-5)


def test_training_reduces_the_loss():
    torch.manual_seed(0)
    vae = AutoencoderKLISA(**TINY_VAE)
    x = video(5)
    optimizer = torch.optim.Adam(vae.parameters(), 3e-3)
    losses = []
    for _ in range(25):
        frames, posterior = vae(x)
        loss = (frames - x).abs().mean() + 1e-6 * posterior.kl().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
