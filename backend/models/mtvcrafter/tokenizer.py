"""The 4D motion tokenizer (4DMoT) of MTVCrafter (arXiv 2505.10238, Sec. 3.2): joints over time to code vectors.

Shape letters: B batch, F frames, f latent frames (about F/4), J joints (24), D code width, N = f*J tokens.

Joints are positions in millimetres in the frame of a 55-degree OpenCV camera (x right, y down, z forward), see
``shot.framing``; the network sees them normalised by the statistics of its training set.

Frames are encoded in chunks of 8 and latents decoded in chunks of 2, each on its own; the first chunk takes the
remainder. What a chunk's borders see is zeros, and group norms see one chunk: other chunks give other tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor

from ...shot.framing import MotionStatistics, read_statistics
from .tokenizer_layers import Codebook, MotionDecoder, MotionEncoder, Quantized

ENCODER_CHUNK = 8
"""Frames of a chunk; also the fewest that can be encoded."""

DECODER_CHUNK = 2
"""Latent frames of a chunk; also the fewest that can be decoded."""

HIGH_TOKEN_LOSS = 0.1
"""A token loss above this says that the motion is unlike the training set."""


@dataclass(frozen=True)
class MotionTokens:
    """A motion as the video models take it.

    Attributes:
        tokens: (B,N,D) code vectors, frame-major and joint-minor.
        indices: (B,f,J) int64 rows of the codebook.
        loss: () mean squared distance of the encoder's output and the chosen codes.
    """

    tokens: Tensor
    indices: Tensor
    loss: Tensor


def latent_frames(frames: int) -> int:
    """Latent frames of a motion: 13 for 49. Raises ValueError for fewer than 8 frames."""
    if frames < ENCODER_CHUNK:
        raise ValueError(f"frames: {frames} are too few for motion tokens; give at least {ENCODER_CHUNK}")
    first = ENCODER_CHUNK + frames % ENCODER_CHUNK
    for _ in range(2):
        first = first // 2 + first % 2
    return first + DECODER_CHUNK * (frames // ENCODER_CHUNK - 1)


def _in_chunks(x_BCFJ: Tensor, network: MotionEncoder | MotionDecoder, size: int) -> Tensor:
    """Run ``network`` on chunks of ``size`` frames, the first with the remainder, and join the results in time."""
    batch, channels, frames, joints = x_BCFJ.shape
    first = size + frames % size
    head = network(x_BCFJ[:, :, :first])
    count = (frames - first) // size
    if not count:
        return head
    # Chunks of one size ride in the batch axis: nothing in the networks mixes samples.
    chunks = x_BCFJ[:, :, first:].reshape(batch, channels, count, size, joints).transpose(1, 2)
    tail = network(chunks.reshape(batch * count, channels, size, joints))
    tail = tail.unflatten(0, (batch, count)).transpose(1, 2).flatten(2, 3)
    return torch.cat([head, tail], dim=2)


class MotionTokenizer(ModelMixin, ConfigMixin):
    """Encoder, codebook and decoder of 4DMoT. Parts are named as in the published file.

    Args:
        widths: channels at full and at half the frame rate; multiples of ``norm_num_groups``.
        code_dim: width D of a code, which the motion attention of a video model takes.
        codes: size of the codebook.
        downsample_time: how much each of the two stages shortens time.
        layers_per_block: residual blocks of one width in each stage.
        norm_num_groups: of every group norm.
        mean_mm, std_mm: (24,3) statistics of the training set in millimetres; those of the published weights when
            left out.
    """

    @register_to_config
    def __init__(
        self,
        widths: Sequence[int] = (128, 512),
        code_dim: int = 3072,
        codes: int = 8192,
        downsample_time: Sequence[int] = (2, 2),
        layers_per_block: int = 3,
        norm_num_groups: int = 32,
        mean_mm: Sequence[Sequence[float]] | None = None,
        std_mm: Sequence[Sequence[float]] | None = None,
    ) -> None:
        super().__init__()
        if len(widths) != 2 or any(width % norm_num_groups for width in widths):
            raise ValueError(f"widths: {tuple(widths)} must be two multiples of norm_num_groups ({norm_num_groups})")
        if (mean_mm is None) != (std_mm is None):
            raise ValueError("mean_mm and std_mm: give both or neither")
        self.encoder = MotionEncoder(widths, code_dim, downsample_time, norm_num_groups, layers_per_block)
        self.decoder = MotionDecoder(widths, code_dim, downsample_time, norm_num_groups, layers_per_block)
        self.vq = Codebook(codes, code_dim)
        self.statistics = (
            read_statistics()
            if mean_mm is None or std_mm is None
            else MotionStatistics(np.asarray(mean_mm, np.float32), np.asarray(std_mm, np.float32))
        )

    def normalized(self, joints_mm: Tensor | np.ndarray) -> Tensor:
        """Joints (F,J,3) or (B,F,J,3) in millimetres as the networks take them, (B,3,F,J)."""
        joints = torch.as_tensor(joints_mm, dtype=torch.float32)
        if joints.ndim == 3:
            joints = joints[None]
        if joints.ndim != 4 or tuple(joints.shape[2:]) != self.statistics.mean.shape:
            raise ValueError(f"joints: shape {tuple(joints.shape)} is not (frames, 24, 3) or (batch, frames, 24, 3)")
        mean, std = (torch.from_numpy(part).to(joints.device) for part in (self.statistics.mean, self.statistics.std))
        return ((joints - mean) / std).permute(0, 3, 1, 2).to(self.device, self.dtype)

    def millimetres(self, x_B3FJ: Tensor) -> Tensor:
        """What ``normalized`` undoes: (B,F,J,3) float32 millimetres."""
        mean, std = (torch.from_numpy(part).to(x_B3FJ.device) for part in (self.statistics.mean, self.statistics.std))
        return x_B3FJ.float().permute(0, 2, 3, 1) * std + mean

    def latents(self, x_B3FJ: Tensor) -> Tensor:
        """Latents (B,D,f,J) before the codebook. Raises ValueError for fewer than 8 frames."""
        latent_frames(x_B3FJ.shape[2])
        return _in_chunks(x_B3FJ, self.encoder, ENCODER_CHUNK)

    def encode(self, x_B3FJ: Tensor) -> MotionTokens:
        """Tokens of normalised joints (see ``normalized``). Raises ValueError for fewer than 8 frames.

        Lengths of 8k and 8k+1 frames decode to themselves; others to a length near them.
        """
        found: Quantized = self.vq(self.latents(x_B3FJ))
        tokens = found.codes.flatten(2).transpose(1, 2)
        return MotionTokens(tokens, found.indices, found.loss)

    def decode(self, tokens_BND: Tensor) -> Tensor:
        """Normalised joints (B,3,F,J) from code vectors. Raises ValueError for fewer than 2 latent frames."""
        joints = len(self.statistics.mean)
        frames, rest = divmod(tokens_BND.shape[1], joints)
        if rest or frames < DECODER_CHUNK:
            raise ValueError(
                f"tokens: {tokens_BND.shape[1]} are not {joints} per latent frame of at least {DECODER_CHUNK} frames"
            )
        return self.decode_codes(tokens_BND.transpose(1, 2).unflatten(2, (frames, joints)))

    def decode_codes(self, codes_BDFJ: Tensor) -> Tensor:
        """Normalised joints (B,3,F,J) from code vectors in the latents' layout, at least 2 latent frames."""
        return _in_chunks(codes_BDFJ, self.decoder, DECODER_CHUNK)

    @apply_forward_hook
    def motion_tokens(self, joints_mm: Tensor | np.ndarray) -> MotionTokens:
        """Tokens of joints (F,J,3) or (B,F,J,3) in millimetres of the 55-degree camera, without gradients.

        Raises:
            ValueError: fewer than 8 frames, or not 24 joints.
        """
        with torch.no_grad():
            return self.encode(self.normalized(joints_mm))

    def forward(self, x_B3FJ: Tensor) -> tuple[Tensor, Quantized]:
        """Joints put together again from their codes (B,3,F',J), and the codes.

        Gradients pass the codebook as if the codes were the latents.
        """
        z_BDFJ = self.latents(x_B3FJ)
        found: Quantized = self.vq(z_BDFJ)
        through = z_BDFJ + (found.codes - z_BDFJ).detach()
        return self.decode_codes(through), found


def token_loss(tokenizer: MotionTokenizer, joints_mm: Tensor | np.ndarray) -> float:
    """How unlike its training set a motion looks to the tokenizer.

    Args:
        joints_mm: (F,24,3) millimetres of the 55-degree camera, at least 8 frames.

    Returns:
        Mean squared distance of the encoder's output and the chosen codes. Above ``HIGH_TOKEN_LOSS`` the published
        project expects poor videos.
    """
    return float(tokenizer.motion_tokens(joints_mm).loss)
