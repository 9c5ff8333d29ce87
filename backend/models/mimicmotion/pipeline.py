"""Sampling MimicMotion: one picture and pose maps to frames.

Shape letters: N frames of the sequence, the reference first; T frames of a tile; H W image, h w latent (an eighth).

Settings that the published weights expect: continuous Euler with SVD's noise levels, 25 steps, guidance 2; ids of frame
rate - 1, motion bucket and noise augmentation; CLIP's embedding of the *normalised* picture; the picture's latents as
the VAE's mode, not scaled; and in the unconditional branch a zero embedding, zero picture latents and no pose at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from .. import clip
from ..carried_start import CarriedStart
from ..frames import frames_to_tensor, tensor_to_frames
from ..group import ALONE, Group
from ..previews import LatentColours
from ..svd import encode_picture
from .fusion import StepCallback, fused_sampling, repeat_noise
from .pose_net import PoseNet, PoseUNet

_POSE_CHUNK = 8
"""Pose maps that the pose network takes at once: its first layers work at full size."""


@dataclass(frozen=True, eq=False)
class PictureCondition:
    """What the model knows of the reference picture.

    Attributes:
        embedding: (1,1,D), CLIP's.
        latents: (4,h,w) float32, not scaled.
        colours: what latents look like, roughly.
    """

    embedding: Tensor
    latents: Tensor
    colours: LatentColours


class MimicMotionPipeline:
    """The networks and the way through them.

    Args:
        image_encoder: ``transformers.CLIPVisionModelWithProjection``.
        device, dtype: of the networks' inputs; between calls the networks may lie elsewhere.
    """

    def __init__(
        self,
        vae: AutoencoderKLTemporalDecoder,
        image_encoder: Any,
        unet: PoseUNet,
        pose_net: PoseNet,
        scheduler: EulerDiscreteScheduler,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.vae: Any = vae
        self.image_encoder = image_encoder
        self.unet = unet
        self.pose_net = pose_net
        self.scheduler = scheduler
        self.device = device
        self.dtype = dtype

    def encode_picture(
        self, picture: np.ndarray, noise_augmentation: float = 0.0, generator: torch.Generator | None = None
    ) -> PictureCondition:
        """The reference picture (H,W,3) uint8 at the model's size.

        Args:
            noise_augmentation: strength of noise added before the VAE; more frees the video from the picture.
            generator: on the CPU.
        """
        pixels = frames_to_tensor(picture[None]).transpose(0, 1)
        side = self.image_encoder.config.image_size
        small = clip.normalized(resize_blurred(pixels, side))
        embedding = self.image_encoder(small.to(self.device, self.dtype)).image_embeds[:, None]
        noisy = pixels + noise_augmentation * randn_tensor(pixels.shape, generator=generator)
        latents = encode_picture(self.vae, noisy, self.device)[0]
        return PictureCondition(embedding, latents, LatentColours(latents, pixels[0]))

    def sample(
        self,
        picture: PictureCondition,
        maps: np.ndarray,
        tiles: Sequence[Sequence[int]],
        steps: int = 25,
        guidance: float = 2.0,
        time_ids: Sequence[float] = (6, 127, 0),
        generator: torch.Generator | None = None,
        on_step: StepCallback | None = None,
        check: Callable[[], None] | None = None,
        start: CarriedStart | None = None,
        group: Group = ALONE,
    ) -> Tensor:
        """Denoise.

        Args:
            maps: (N,H,W,3) uint8 pose maps, the reference's own first.
            tiles: frames of each tile, see ``tiles.sequence_tiles``.
            time_ids: frame rate - 1, motion bucket, noise augmentation.
            generator: on the CPU, so that a seed gives the same noise on every device.
            on_step, check, start, group: see ``fusion.fused_sampling``.

        Returns:
            Scaled latents (N,4,h,w), float32.
        """
        ids = torch.tensor([list(time_ids)], dtype=self.dtype, device=self.device)

        def predict(x_TChw: Tensor, timestep: Tensor, frames: Sequence[int], conditional: bool) -> Tensor:
            known = picture.latents.expand_as(x_TChw) if conditional else torch.zeros_like(x_TChw)
            return self.unet(
                torch.cat([x_TChw, known], dim=1)[None].to(self.dtype),
                timestep,
                picture.embedding if conditional else torch.zeros_like(picture.embedding),
                ids,
                pose_latents=self._pose(maps, frames) if conditional else None,
                return_dict=False,
            )[0][0]

        shape = (max(map(len, tiles)), *picture.latents.shape)
        noise = repeat_noise(randn_tensor(shape, generator=generator), len(maps)).to(self.device)
        return fused_sampling(predict, self.scheduler, noise, tiles, steps, guidance, on_step, check, start, group)

    def decode(self, latents: Tensor, chunk: int = 8) -> Iterator[np.ndarray]:
        """Scaled latents (N,4,h,w) -> frames (n,H,W,3) uint8, ``chunk`` at a time, the reference's frame included."""
        for part in latents.split(chunk):
            z = (part / self.vae.config.scaling_factor).to(self.device, self.dtype)
            yield tensor_to_frames(self.vae.decode(z, num_frames=len(z)).sample.transpose(0, 1))

    def _pose(self, maps: np.ndarray, frames: Sequence[int]) -> Tensor:
        """Pose latents (T,C,h,w) of some frames. Made anew at every step: kept, they would take 6 MB a frame."""
        chunks = (list(frames[i : i + _POSE_CHUNK]) for i in range(0, len(frames), _POSE_CHUNK))
        pixels = (frames_to_tensor(maps[chunk]).transpose(0, 1) for chunk in chunks)
        return torch.cat([self.pose_net(part.to(self.device, self.dtype)) for part in pixels])


def resize_blurred(pixels: Tensor, side: int) -> Tensor:
    """Reduce pictures (n,3,H,W) to ``side`` x ``side`` as Stable Video Diffusion does before CLIP: a Gaussian blur that
    grows with the reduction, then bicubic sampling with aligned corners."""
    for axis in (-1, -2):
        sigma = max((pixels.shape[axis] / side - 1) / 2, 0.001)
        size = int(max(4 * sigma, 3)) // 2 * 2 + 1
        places = torch.arange(size) - size // 2
        kernel = torch.exp(-(places.to(pixels) ** 2) / (2 * sigma**2))
        kernel = (kernel / kernel.sum()).view(1, 1, -1).transpose(-1, axis)
        half = size // 2
        padded = F.pad(pixels, (half, half, 0, 0) if axis == -1 else (0, 0, half, half), mode="reflect")
        pixels = F.conv2d(padded.flatten(0, 1)[:, None], kernel.unsqueeze(0)).unflatten(0, pixels.shape[:2])[:, :, 0]
    return F.interpolate(pixels, (side, side), mode="bicubic", align_corners=True)
