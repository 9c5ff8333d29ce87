"""The ISA video VAE: joint image-video, causal in time, SD3's image VAE inflated to 3D (ISA paper, Sec. 4).

Shape letters: B batch, C channels, T = 1+4k frames, L = 1+k latent frames, H W image, h = H/8, w = W/8.
Frames are (B, 3, T, H, W) in [-1, 1]; latents are (B, 16, L, h, w). Latent 0 holds one frame, the others four.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn

from .vae_layers import CausalCache, CausalConv3d, VideoDecoder, VideoEncoder, from_blocks, to_blocks


class AutoencoderKLISA(ModelMixin, ConfigMixin):
    """Video VAE, spatial factor 8, temporal factor 4, 16 latent channels by default.

    Chunked coding equals coding in one go: ``encode(x, chunk=2)`` and ``decode(z, chunk=2)`` take two latent frames'
    worth at a time and carry each causal layer's last inputs over.

    Args:
        in_channels, out_channels: of the frames.
        latent_channels: of the latents; a multiple of 4 for the image-decoding regularisation.
        block_out_channels: width of each level, from the frames inwards.
        spatial_resample, temporal_resample: for each step from one level to the next, whether it halves space, time.
        layers_per_block: residual blocks per level of the encoder; the decoder has one more, as in SD3.
        norm_num_groups: groups of each norm (statistics are per frame).
        temporal_kernels: temporal extent of the first and second convolution of a residual block. The second also
            serves resampling, the first the input and output.
        mid_block_attention: self-attention within each frame in the middle.
        downsample: ``pool`` (average pooling, then a convolution) or ``conv`` (SD3's strided convolution).
        patch_size, temporal_patch_size: pixels along the side of a square, and frames, folded into channels before the
            encoder and back after the decoder; makes small models cheap. Frame 0 counts as a whole group of frames.
        linear_shortcut: add a linear map between each latent and its own block of pixels to encoder and decoder. Set
            to principal components (``set_linear_shortcut``) it is a usable VAE before any training.
        latents_mean, latents_std: per channel or one number for all, what ``normalize`` removes. SD3's
            ``shift_factor`` and ``1 / scaling_factor``.
    """

    _supports_gradient_checkpointing = False
    _skip_layerwise_casting_patterns = ["norm"]

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        latent_channels: int = 16,
        block_out_channels: tuple[int, ...] = (128, 256, 512, 512),
        spatial_resample: tuple[bool, ...] = (True, True, True),
        temporal_resample: tuple[bool, ...] = (False, True, True),
        layers_per_block: int = 2,
        norm_num_groups: int = 32,
        temporal_kernels: tuple[int, int] = (3, 3),
        mid_block_attention: bool = True,
        downsample: str = "pool",
        patch_size: int = 1,
        temporal_patch_size: int = 1,
        linear_shortcut: bool = False,
        latents_mean: tuple[float, ...] = (0.0609,),
        latents_std: tuple[float, ...] = (1 / 1.5305,),
    ) -> None:
        super().__init__()
        steps = len(block_out_channels) - 1
        if len(spatial_resample) != steps or len(temporal_resample) != steps:
            raise ValueError(f"{len(block_out_channels)} levels need {steps} entries in each of the resample lists")
        if downsample not in ("pool", "conv"):
            raise ValueError(f"downsample is {downsample!r}; choose 'pool' or 'conv'")
        for name, numbers in (("latents_mean", latents_mean), ("latents_std", latents_std)):
            if len(numbers) not in (1, latent_channels):
                raise ValueError(f"{name} has {len(numbers)} numbers; give 1 or {latent_channels}")
        self.spatial_factor = patch_size * 2 ** sum(spatial_resample)
        self.temporal_factor = temporal_patch_size * 2 ** sum(temporal_resample)
        shared: dict[str, Any] = {
            "channels": tuple(block_out_channels),
            "spatial": tuple(spatial_resample),
            "temporal": tuple(temporal_resample),
            "groups": norm_num_groups,
            "kernels": tuple(temporal_kernels),
            "attention": mid_block_attention,
            "patch_size": patch_size,
            "temporal_patch_size": temporal_patch_size,
        }
        self.encoder = VideoEncoder(
            in_channels, 2 * latent_channels, layers=layers_per_block, downsample=downsample, **shared
        )
        self.decoder = VideoDecoder(latent_channels, out_channels, layers=layers_per_block + 1, **shared)
        self.encoder_shortcut = self.decoder_shortcut = None
        if linear_shortcut:
            block = self.temporal_factor * self.spatial_factor**2
            self.encoder_shortcut = nn.Linear(in_channels * block, latent_channels)
            self.decoder_shortcut = nn.Linear(latent_channels, out_channels * block)

    def latent_frames(self, frames: int) -> int:
        """L of ``frames`` = 1 + 4k."""
        if frames < 1 or (frames - 1) % self.temporal_factor:
            raise ValueError(f"{frames} frames; this VAE takes 1 + a multiple of {self.temporal_factor}")
        return 1 + (frames - 1) // self.temporal_factor

    def _encode_chunk(self, x: Tensor, cache: CausalCache | None = None) -> Tensor:
        """Moments (B, 2*16, L, h, w) of one chunk of frames."""
        moments = self.encoder(x, cache)
        if self.encoder_shortcut is not None:
            first = cache is None or cache.first
            blocks = to_blocks(x, self.temporal_factor, self.spatial_factor, first)
            linear = self.encoder_shortcut(blocks).permute(0, 4, 1, 2, 3)
            mean, logvar = moments.chunk(2, dim=1)
            moments = torch.cat([mean + linear, logvar], dim=1)
        return moments

    def _decode_chunk(self, z: Tensor, cache: CausalCache | None = None) -> Tensor:
        """Frames (B, 3, T, H, W) of one chunk of latents."""
        # The cache's mark is read before the decoder runs, although only ``advance`` changes it.
        first = cache is None or cache.first
        frames = self.decoder(z, cache)
        if self.decoder_shortcut is not None:
            blocks = self.decoder_shortcut(z.permute(0, 2, 3, 4, 1))
            frames = frames + from_blocks(blocks, self.temporal_factor, self.spatial_factor, first)
        return frames

    @torch.no_grad()
    def set_linear_shortcut(self, mean: Tensor, components: Tensor, scale: Tensor) -> None:
        """Start from principal components: latent c is component c times ``scale[c]``, and the layers add nothing.

        Args:
            mean: (X,) of the blocks of ``vae_layers.to_blocks``. components: (16, X), orthonormal rows.
            scale: (16,).
        """
        if self.encoder_shortcut is None or self.decoder_shortcut is None:
            raise ValueError("this VAE has no linear shortcut; set linear_shortcut in its configuration")
        weight = components * scale[:, None]
        self.encoder_shortcut.weight.copy_(weight)
        self.encoder_shortcut.bias.copy_(-(weight @ mean))
        self.decoder_shortcut.weight.copy_((components / scale[:, None]).T)
        self.decoder_shortcut.bias.copy_(mean)
        for layer in (self.encoder.conv_out, self.decoder.conv_out):
            nn.init.zeros_(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
        # Little noise on the latents at first.
        half = self.encoder.conv_out.out_channels // 2
        assert self.encoder.conv_out.bias is not None
        self.encoder.conv_out.bias[half:] = -5.0

    def freeze_linear_shortcut(self) -> None:
        """Leave the linear shortcut, where there is one, out of training."""
        for layer in (self.encoder_shortcut, self.decoder_shortcut):
            if layer is not None:
                layer.requires_grad_(False)

    def _encode_moments(self, x: Tensor, chunk: int | None) -> Tensor:
        latents = self.latent_frames(x.shape[2])
        if chunk is None or chunk >= latents:
            return self._encode_chunk(x)
        cache, moments, start = CausalCache(), [], 0
        for first in range(0, latents, chunk):
            stop = 1 + (min(first + chunk, latents) - 1) * self.temporal_factor
            moments.append(self._encode_chunk(x[:, :, start:stop], cache))
            cache.advance()
            start = stop
        return torch.cat(moments, dim=2)

    @apply_forward_hook
    def encode(self, x: Tensor, chunk: int | None = None, return_dict: bool = True) -> AutoencoderKLOutput | tuple:
        """Frames to the distribution of latents.

        Args:
            x: (B, 3, T, H, W) in [-1, 1], T = 1+4k, H and W multiples of 8.
            chunk: latent frames at a time; None for all at once.

        Returns:
            ``latent_dist``; its samples are (B, 16, L, h, w), not normalised.
        """
        posterior = DiagonalGaussianDistribution(self._encode_moments(x, chunk))
        return AutoencoderKLOutput(latent_dist=posterior) if return_dict else (posterior,)

    @apply_forward_hook
    def decode_chunks(self, z: Tensor, chunk: int | None = None) -> Iterator[Tensor]:
        """As ``decode``, giving the frames of each chunk as soon as they are there."""
        cache = CausalCache()
        for part in z.split(chunk or z.shape[2], dim=2):
            yield self._decode_chunk(part, cache)
            cache.advance()

    def decode(self, z: Tensor, chunk: int | None = None, return_dict: bool = True) -> DecoderOutput | tuple:
        """Latents to frames.

        Args:
            z: (B, 16, L, h, w), not normalised.
            chunk: latent frames at a time; None for all at once.

        Returns:
            ``sample`` (B, 3, 1+4(L-1), H, W), about [-1, 1].
        """
        frames = torch.cat(list(self.decode_chunks(z, chunk)), dim=2)
        return DecoderOutput(sample=frames) if return_dict else (frames,)

    def forward(
        self, sample: Tensor, sample_posterior: bool = False, generator: torch.Generator | None = None
    ) -> tuple[Tensor, DiagonalGaussianDistribution]:
        """Reconstruct ``sample`` (B, 3, T, H, W); returns it with the posterior, whose ``kl()`` a loss may use."""
        posterior = DiagonalGaussianDistribution(self._encode_chunk(sample))
        z = posterior.sample(generator) if sample_posterior else posterior.mode()
        return self._decode_chunk(z), posterior

    def _statistics(self, z: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = (
            torch.tensor(numbers, device=z.device, dtype=z.dtype).view(1, -1, 1, 1, 1)
            for numbers in (self.config["latents_mean"], self.config["latents_std"])
        )
        return mean, std

    def normalize(self, z: Tensor) -> Tensor:
        """Latents (B, 16, L, h, w) as the transformer sees them: about zero mean and unit variance."""
        mean, std = self._statistics(z)
        return (z - mean) / std

    def denormalize(self, z: Tensor) -> Tensor:
        """The inverse of ``normalize``."""
        mean, std = self._statistics(z)
        return z * std + mean

    def sub_latents(self, z: Tensor) -> Tensor:
        """One sub-latent per frame, for the image-decoding regularisation (Sec. 4.2).

        The 16 channels of a latent frame split into four times four; sub-latent i must decode, alone, to frame i of
        its four. Latent 0 holds one frame, which each of its four sub-latents must decode to; they are averaged here.

        Args:
            z: (B, 16, L, h, w).

        Returns:
            (B, 4, T, h, w) with T = 1+4(L-1): channels of the sub-latent of every frame.
        """
        b, c, _, h, w = z.shape
        parts = z.unflatten(1, (self.temporal_factor, c // self.temporal_factor))
        first = parts[:, :, :, 0].mean(dim=1).unsqueeze(2)
        rest = parts[:, :, :, 1:].permute(0, 2, 3, 1, 4, 5).reshape(b, c // self.temporal_factor, -1, h, w)
        return torch.cat([first, rest], dim=2)

    def auxiliary_image_decoder(self, block_out_channels: tuple[int, ...] | None = None) -> VideoDecoder:
        """A new per-frame decoder of sub-latents (B, 4, T, h, w) -> (B, 3, T, H, W); for training only."""
        config = self.config
        channels = tuple(block_out_channels or config["block_out_channels"])
        return VideoDecoder(
            c_in=config["latent_channels"] // self.temporal_factor,
            c_out=config["out_channels"],
            channels=channels,
            spatial=tuple(config["spatial_resample"]),
            temporal=(False,) * (len(channels) - 1),
            layers=config["layers_per_block"],
            groups=config["norm_num_groups"],
            kernels=(1, 1),
            attention=False,
            patch_size=config["patch_size"],
            temporal_patch_size=1,
        )

    @classmethod
    def from_sd3(
        cls,
        image_vae: Any,
        temporal_resample: tuple[bool, ...] | None = None,
        temporal_kernels: tuple[int, int] = (3, 3),
        downsample: str = "conv",
    ) -> AutoencoderKLISA:
        """Inflate a diffusers ``AutoencoderKL`` with SD3's layout.

        Every image convolution becomes the last temporal tap of a causal one and the other taps are zero, so a
        one-frame video gets exactly the image VAE's latents and pixels. With ``downsample="pool"`` (average pooling
        before the convolution) the decoder is still exact; the encoder is not, because diffusers' SD3 downsamples by
        a strided convolution.

        Args:
            image_vae: ``AutoencoderKL`` without quant convolutions (SD3, SD3.5).
            temporal_resample: steps that halve time; the last two by default.

        Raises:
            ValueError: when the image VAE has another layout.
        """
        config = image_vae.config
        if image_vae.quant_conv is not None or image_vae.post_quant_conv is not None:
            raise ValueError("this image VAE has quant convolutions; SD3's has none, so it is of another family")
        channels = tuple(config.block_out_channels)
        steps = len(channels) - 1
        video_vae = cls(
            in_channels=config.in_channels,
            out_channels=config.out_channels,
            latent_channels=config.latent_channels,
            block_out_channels=channels,
            spatial_resample=(True,) * steps,
            temporal_resample=temporal_resample or tuple(i >= steps - 2 for i in range(steps)),
            layers_per_block=config.layers_per_block,
            norm_num_groups=config.norm_num_groups,
            temporal_kernels=temporal_kernels,
            mid_block_attention=config.mid_block_add_attention,
            downsample=downsample,
            latents_mean=(config.shift_factor or 0.0,),
            latents_std=(1 / config.scaling_factor,),
        )
        source = image_vae.state_dict()
        target = video_vae.state_dict()
        inflated = {}
        for name, tensor in target.items():
            old = _sd3_name(name, len(channels))
            if old not in source:
                raise ValueError(f"the image VAE has no {old}; it is not of SD3's layout")
            image_tensor = source.pop(old)
            if tensor.shape[0] == 2 * image_tensor.shape[0]:
                # The convolution that doubles time gives the same frame twice at first.
                image_tensor = torch.cat([image_tensor, image_tensor])
            if tensor.ndim == 5:
                kernel = torch.zeros_like(tensor)
                kernel[:, :, -1] = image_tensor
                image_tensor = kernel
            inflated[name] = image_tensor
        if source:
            raise ValueError(f"the image VAE has weights with no place here: {', '.join(sorted(source)[:4])}")
        video_vae.load_state_dict(inflated)
        return video_vae.to(image_vae.dtype)


def _sd3_name(name: str, levels: int) -> str:
    """The name in a diffusers ``AutoencoderKL`` of one of our weights."""
    side, rest = name.split(".", 1)
    kind = "down" if side == "encoder" else "up"
    if rest.startswith("levels."):
        rest = rest.replace("levels.", f"{kind}_blocks.", 1)
        rest = rest.replace(".resample.", f".{kind}samplers.0.", 1)
    else:
        for ours, theirs in (
            ("mid.resnet_in.", "mid_block.resnets.0."),
            ("mid.resnet_out.", "mid_block.resnets.1."),
            ("mid.attention.to_out.", "mid_block.attentions.0.to_out.0."),
            ("mid.attention.", "mid_block.attentions.0."),
            ("norm_out.", "conv_norm_out."),
        ):
            if rest.startswith(ours):
                rest = theirs + rest.removeprefix(ours)
                break
    return f"{side}.{rest}"


__all__ = ["AutoencoderKLISA", "CausalCache", "CausalConv3d"]
