"""The pose network and where the UNet takes its output; pictures before CLIP; colours of previews."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel
from maquette.backend.models.mimicmotion.build import new_network
from maquette.backend.models.mimicmotion.pipeline import MimicMotionPipeline, PictureCondition, resize_blurred
from maquette.backend.models.mimicmotion.pose_net import PoseNet, PoseUNet

from ...parity.recipe import fill


@pytest.fixture(scope="module")
def unet(spec) -> PoseUNet:
    return fill(new_network(spec, "unet"), 6)


def arguments(frames: int = 3) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "sample": torch.randn(1, frames, 8, 8, 8, generator=generator),
        "timestep": torch.tensor(0.5),
        "encoder_hidden_states": torch.randn(1, 1, 32, generator=generator),
        "added_time_ids": torch.tensor([[6.0, 127.0, 0.0]]),
    }


@torch.no_grad()
def test_without_a_pose_it_is_the_stock_unet(unet):
    stock = UNetSpatioTemporalConditionModel.from_config(unet.config)
    stock.load_state_dict(unet.state_dict())
    assert torch.equal(unet(**arguments()).sample, stock.eval()(**arguments()).sample)


@torch.no_grad()
def test_no_pose_differs_from_an_empty_map(unet, spec):
    """The unconditional pass gets no pose, not the pose network's answer to a black map: that has biases."""
    net = fill(new_network(spec, "pose_net"), 5)
    empty = net(torch.full((3, 3, 64, 64), -1.0))
    without = unet(**arguments()).sample
    assert (unet(**arguments(), pose_latents=empty).sample - without).abs().max() > 1e-3
    zeros = unet(**arguments(), pose_latents=torch.zeros_like(empty)).sample
    assert torch.equal(zeros, without)


@torch.no_grad()
def test_the_pose_does_not_stay_after_a_failure(unet):
    with pytest.raises(RuntimeError):
        unet(**arguments(), pose_latents=torch.zeros(7, 5, 1, 2))
    assert not unet.conv_in._forward_hooks


def test_a_new_pose_network_changes_nothing():
    assert not PoseNet(32)(torch.rand(2, 3, 64, 64)).any()
    assert PoseNet(32).scale.item() == 2


@pytest.mark.parametrize(("height", "width"), [(576, 1024), (128, 64), (30, 40)])
def test_pictures_are_reduced_as_stable_video_diffusion_does(height, width):
    from diffusers.pipelines.stable_video_diffusion.pipeline_stable_video_diffusion import _resize_with_antialiasing

    pixels = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1
    torch.testing.assert_close(resize_blurred(pixels, 32), _resize_with_antialiasing(pixels, (32, 32)))


class Recorder(torch.nn.Module):
    """A network that keeps what it was asked."""

    def __init__(self, answer) -> None:
        super().__init__()
        self.asked: list = []
        self.answer = answer

    def forward(self, *args, **kwargs):
        self.asked.append((args, kwargs))
        return self.answer(*args, **kwargs)


@torch.no_grad()
def test_the_unconditional_branch_knows_neither_picture_nor_pose(spec):
    from maquette.backend.models.svd import new_scheduler

    unet = Recorder(lambda sample, *args, **kwargs: (sample[:, :, :4],))
    poser = Recorder(lambda maps: maps.mean(dim=(1, 2, 3), keepdim=True))
    pipeline = MimicMotionPipeline(
        None,
        None,
        unet,
        poser,
        new_scheduler(spec),
        torch.device("cpu"),
        torch.float32,  # type: ignore[arg-type]
    )
    picture = PictureCondition(torch.full((1, 1, 4), 3.0), torch.full((4, 8, 8), 5.0), torch.zeros(5, 3))
    maps = np.zeros((3, 64, 64, 3), np.uint8)
    maps[1] = 255
    pipeline.sample(picture, maps, [[0, 1, 2]], 1, 2.0)
    (_, without), (_, posed) = unet.asked
    (sample, _, embedding, ids), (known, _, shown, _) = (args for args, _ in unet.asked)
    assert without["pose_latents"] is None and not embedding.any() and not sample[:, :, 4:].any()
    assert (shown == 3).all() and (known[:, :, 4:] == 5).all()
    assert posed["pose_latents"].flatten().tolist() == [-1, 1, -1]
    assert ids.tolist() == [[6, 127, 0]]


@torch.no_grad()
def test_the_reference_is_encoded_as_the_weights_expect(spec):
    """CLIP's normalisation, the VAE's mode and no scaling: published behaviour that looks like an oversight."""
    vae, clip = fill(new_network(spec, "vae"), 3), fill(new_network(spec, "image_encoder"), 4)
    watched = Recorder(clip.forward)
    watched.config = clip.config
    pipeline = MimicMotionPipeline(
        vae,
        watched,
        None,
        None,
        None,
        torch.device("cpu"),
        torch.float32,  # type: ignore[arg-type]
    )
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    condition = pipeline.encode_picture(picture)
    pixels = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1
    torch.testing.assert_close(condition.latents, vae.encode(pixels).latent_dist.mode()[0])
    (seen,) = watched.asked[0][0]
    mean, std = torch.tensor([0.4815, 0.4578, 0.4082]), torch.tensor([0.2686, 0.2613, 0.2758])
    expected = (resize_blurred(pixels, 32) / 2 + 0.5 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    torch.testing.assert_close(seen, expected, atol=1e-3, rtol=0)
    noisy = pipeline.encode_picture(picture, 0.5, torch.Generator().manual_seed(1))
    assert (noisy.latents - condition.latents).abs().max() > 1e-3
    assert torch.equal(noisy.embedding, condition.embedding)


@torch.no_grad()
def test_previews_have_the_pictures_colours(spec):
    vae = fill(new_network(spec, "vae"), 3)
    clip = fill(new_network(spec, "image_encoder"), 4)
    pipeline = MimicMotionPipeline(
        vae,
        clip,
        None,
        None,
        None,
        torch.device("cpu"),
        torch.float32,  # type: ignore[arg-type]
    )
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:, :32], picture[:, 32:] = (220, 40, 10), (10, 60, 200)
    condition = pipeline.encode_picture(picture)
    shown = condition.colours(condition.latents, 8, 8).astype(int)
    assert shown.shape == (8, 8, 3)
    assert shown[:, :3, 0].mean() > shown[:, 5:, 0].mean() + 20
