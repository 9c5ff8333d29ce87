"""MimicMotion against the stored examples: pose maps, pose network, UNet with pose, fused sampling."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from maquette.backend.control.pose_drawing import MIMICMOTION, draw_pose
from maquette.backend.models.mimicmotion.fusion import fused_sampling, repeat_noise
from maquette.backend.models.mimicmotion.pose_net import PoseNet, PoseUNet
from maquette.backend.models.mimicmotion.tiles import sequence_tiles
from maquette.backend.models.windows import fusion_weights
from PIL import Image

from .fixtures import Check, Fixture, Measured, same_keys
from .recipe import fill


def _shapes(module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in module.state_dict().items()}


@torch.no_grad()
def pose_net(fixture: Fixture) -> Iterator[Measured]:
    net = PoseNet(**fixture.sidecar["config"])
    yield same_keys(fixture, _shapes(net))
    fill(net, fixture.seed(), fixture.factors())
    pixels = fixture.inputs["pose_pixels"]
    yield fixture.close("pose_latents", net(pixels))
    yield fixture.close("pose_latents", net(pixels[None]))


def pose_drawing(fixture: Fixture) -> Iterator[Measured]:
    """The same OpenCV calls are used, so that every byte must agree."""
    for name, stored in fixture.outputs.items():
        scene, kind = name.rsplit(".", 1)
        part = {key: fixture.inputs[f"{scene}.{key}"].numpy() for key in ("body", "hands", "face")}
        scores = {key: fixture.inputs[f"{scene}.{key}_score"].numpy() for key in ("body", "hand", "face")}
        points = np.concatenate([part["body"], *part["hands"], part["face"]])
        confidence = np.concatenate([scores["body"], *scores["hand"], scores["face"]])
        picture = stored.numpy()
        if kind.startswith("png"):
            picture = np.asarray(Image.open(io.BytesIO(picture.tobytes())).convert("RGB"))
        height, width = picture.shape[:2]
        drawn = draw_pose(points, confidence, width, height, MIMICMOTION).astype(int)
        yield Measured(name, "every byte equal", float(np.abs(drawn - picture).max()), 0.0)


@torch.no_grad()
def unet(fixture: Fixture) -> Iterator[Measured]:
    net = PoseUNet(**fixture.sidecar["config"])
    yield same_keys(fixture, _shapes(net))
    fill(net, fixture.seed(), fixture.factors())
    names = ("sample", "timestep", "encoder_hidden_states", "added_time_ids")
    arguments = {name: fixture.inputs[name] for name in names}
    posed = net(**arguments, pose_latents=fixture.inputs["pose_latents"], return_dict=False)[0]
    yield fixture.close("pred_cond", posed)
    yield fixture.close("pred_uncond", net(**arguments, return_dict=False)[0])


def synthetic_model(reference: torch.Tensor, embedding: torch.Tensor):
    """The stand-in that the sidecar writes out, as a model on one tile."""

    def predict(x: torch.Tensor, timestep: torch.Tensor, frames: Sequence[int], conditional: bool) -> torch.Tensor:
        k = torch.arange(1, len(frames) + 1, dtype=torch.float32)[:, None, None, None]
        image = reference.expand_as(x) if conditional else torch.zeros_like(x)
        result = torch.sin(x * k) + 0.5 * torch.cos(image)
        if conditional:
            place = torch.tensor(frames, dtype=torch.float32)[:, None, None, None] / 100
            result = result + embedding.mean() + place
        return result

    return predict


def fusion(fixture: Fixture) -> Iterator[Measured]:
    config = fixture.sidecar["config"]
    steps = config["num_inference_steps"]
    for case, (frames, window, overlap) in config["cases"].items():
        tiles = sequence_tiles(frames, window, overlap)
        stored = fixture.outputs[f"{case}.tiles"]
        wrong = 0.0 if tiles == stored.tolist() else 1.0
        yield Measured(f"{case}.tiles", "exact", wrong, 0.0)
        weights = torch.tensor(fusion_weights(window))
        yield fixture.close(f"{case}.weights", weights, "weights")
        total = torch.zeros(frames)
        for tile in tiles:
            total[tile] += weights
        yield fixture.close(f"{case}.weight_sum", total, "weights")

        scheduler = _Recording(EulerDiscreteScheduler(**config["scheduler_config"]))
        model = synthetic_model(fixture.inputs["image_latents"], fixture.inputs["image_embedding"])
        noise = repeat_noise(fixture.inputs[f"{case}.tile_noise"][0], frames)
        fused_sampling(model, scheduler, noise, tiles, steps, config["guidance"][0])
        for step in (0, 1, 2):
            yield fixture.close(f"{case}.latents_step{step}", scheduler.samples[step][None], "latents")
        for step in config["steps_recorded"]:
            yield fixture.close(f"{case}.fused_step{step}", scheduler.outputs[step][None], "fused")
    yield fixture.close("sigmas", scheduler.sigmas, "sigmas")
    yield fixture.close("timesteps", scheduler.timesteps, "timesteps")


class _Recording:
    """A scheduler that keeps what it is given."""

    def __init__(self, scheduler: EulerDiscreteScheduler) -> None:
        self._scheduler = scheduler
        self.outputs: list[torch.Tensor] = []
        self.samples: list[torch.Tensor] = []

    def __getattr__(self, name: str):
        return getattr(self._scheduler, name)

    def step(self, output: torch.Tensor, timestep: torch.Tensor, sample: torch.Tensor, **options):
        self.outputs.append(output)
        self.samples.append(sample)
        return self._scheduler.step(output, timestep, sample, **options)


CHECKS: dict[str, Check] = {
    "mimic_posenet": pose_net,
    "mimic_pose_drawing": pose_drawing,
    "mimic_unet_tiny": unet,
    "mimic_fusion": fusion,
}
