"""The VAE's linear shortcut: principal components in, chunks as one go; and what the VAE is trained on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from maquette.backend.catalogue.models import model_spec
from maquette.backend.models.isa.build import new_vae
from maquette.backend.models.isa.vae_layers import from_blocks, to_blocks
from maquette.backend.training.vae import gradient_loss, to_model, to_pixels


def film(frames: int = 13) -> torch.Tensor:
    return torch.rand(1, 3, frames, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("first", [True, False])
def test_blocks_there_and_back(first: bool) -> None:
    x = film(9 if first else 8)
    blocks = to_blocks(x, 4, 8, first)
    assert blocks.shape == (1, 3 if first else 2, 4, 4, 3 * 4 * 64)
    torch.testing.assert_close(from_blocks(blocks, 4, 8, first), x)


def test_shortcut_is_the_projection_and_chunks_change_nothing() -> None:
    torch.manual_seed(0)
    vae = new_vae(model_spec("isa-nano")).eval()
    components = torch.linalg.qr(torch.randn(768, 16))[0].T
    mean = torch.randn(768) * 0.1
    scale = torch.rand(16) + 0.5
    vae.set_linear_shortcut(mean, components, scale)
    x = film()
    with torch.no_grad():
        z = vae.encode(x).latent_dist.mode()
        blocks = to_blocks(x, 4, 8, True)
        expected = ((blocks - mean) @ components.T * scale).permute(0, 4, 1, 2, 3)
        torch.testing.assert_close(z, expected, atol=1e-4, rtol=1e-4)
        projected = (blocks - mean) @ components.T @ components + mean
        torch.testing.assert_close(vae.decode(z).sample, from_blocks(projected, 4, 8, True), atol=1e-4, rtol=1e-4)
        # With layers that add something, too.
        for layer in (vae.encoder.conv_out, vae.decoder.conv_out):
            torch.nn.init.normal_(layer.weight, std=0.05)
        whole = vae.encode(x).latent_dist.mode()
        assert not torch.allclose(whole, z)
        for chunk in (1, 2, 3):
            torch.testing.assert_close(vae.encode(x, chunk=chunk).latent_dist.mode(), whole, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(
                vae.decode(whole, chunk=chunk).sample, vae.decode(whole).sample, atol=1e-4, rtol=1e-4
            )


def test_no_shortcut_to_set() -> None:
    vae = new_vae(model_spec("isa-nano"), linear_shortcut=False)
    with pytest.raises(ValueError, match="linear_shortcut"):
        vae.set_linear_shortcut(torch.zeros(768), torch.zeros(16, 768), torch.ones(16))


def test_pixels_there_and_back() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8, 3), dtype=np.uint8)
    np.testing.assert_array_equal(to_pixels(to_model(frames)), frames)


def test_gradient_loss_sees_edges_not_levels() -> None:
    flat = torch.full((1, 3, 2, 16, 16), 0.3)
    assert float(gradient_loss(flat)) == 0
    edge = flat.clone()
    edge[..., 8:] = 0
    assert float(gradient_loss(edge)) > 0.01


def test_frozen_shortcut_is_left_out_of_training() -> None:
    vae = new_vae(model_spec("isa-nano"))
    vae.freeze_linear_shortcut()
    frozen = {name for name, parameter in vae.named_parameters() if not parameter.requires_grad}
    assert frozen == {f"{side}coder_shortcut.{part}" for side in ("en", "de") for part in ("weight", "bias")}
    new_vae(model_spec("isa-nano"), linear_shortcut=False).freeze_linear_shortcut()
