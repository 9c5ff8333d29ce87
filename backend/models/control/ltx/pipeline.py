"""diffusers' LTX-2 pipeline with a control film in context, a segment at a time and without sound.

Shape letters: B batch, C latent channels, L latent frames, h w latent, N tokens of the film, S tokens of all, X text
tokens, E width.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Self

import torch
from diffusers.pipelines.ltx2.pipeline_ltx2_ic_lora import LTX2InContextPipeline
from torch import Tensor

from ...carried_start import CarriedStart
from ..pipeline import Checked, Placed, holder
from .schedule import FlowScheduler


class Listening(Checked):
    """A transformer with what diffusers' pipeline asks of it beside its answers."""

    def __init__(self, transformer: Any, dtype: torch.dtype, check: Callable[[], None]) -> None:
        super().__init__(transformer, dtype, check)
        self.rope, self.audio_rope = transformer.rope, transformer.audio_rope


class ReadTexts:
    """In place of the connectors: what they have made of texts already, video's and audio's (B,X,E) side by side.

    Args:
        width: E of video's.
    """

    def __init__(self, width: int) -> None:
        self._width = width

    def __call__(self, both: Tensor, mask: Tensor, padding_side: str = "left") -> tuple[Tensor, Tensor, Tensor]:
        """The two again, and the mask (B,X)."""
        return both[..., : self._width], both[..., self._width :], mask


class Heeded:
    """In place of a mask (B,S,S) of how far video tokens heed each other, 0 to 1: the logarithms as they are published.

    diffusers 0.42 takes all below 1 for next to nothing, as it multiplies (1 - mask) by -10000, and repeats the mask
    for every head; this one answers that sum with log(mask), held once.

    Args:
        mask: (S,S) bias as it is added.
        copies: how many of a batch and its heads are to have it.
    """

    def __init__(self, mask: Tensor, heads: int, copies: int = 1) -> None:
        self._mask, self._heads, self._copies = mask, heads, copies

    def expand(self, batch: int, *_: int) -> Heeded:
        """For so many of a batch."""
        return Heeded(self._mask, self._heads, batch)

    def to(self, *what: Any, **how: Any) -> Heeded:
        """In another precision, or elsewhere."""
        return Heeded(self._mask.to(*what, **how), self._heads, self._copies)

    def __rsub__(self, one: int) -> Heeded:
        return self

    def __mul__(self, factor: float) -> Tensor:
        """(B * heads,S,S) added to what the tokens' likeness is."""
        return self._mask.expand(self._copies * self._heads, -1, -1)


class LTXPipeline(Placed, LTX2InContextPipeline):
    """diffusers' own; a call makes a segment.

    Attributes:
        noise_levels: before each step, as the scheduler is given them.
        start: what it starts from; None starts from noise.
    """

    noise_levels: list[float]
    start: CarriedStart | None = None

    @classmethod
    def silent(cls, vae: Any, transformer: Listening, scheduler: FlowScheduler, device: torch.device) -> Self:
        """A pipeline without the networks of texts and of sound."""
        texts = ReadTexts(int(transformer.config["cross_attention_dim"]))
        made = cls.of(vae, transformer, scheduler, device, "audio_vae", "vocoder", connectors=texts)
        # Sound is made beside the film, as the model was trained, and dropped.
        made.audio_vae = SimpleNamespace(latents_mean=torch.zeros(1), latents_std=torch.ones(1))
        return made

    def prepare_latents(self, **named: Any) -> Any:
        """As its parent; what is held of the carried film is in its place."""
        latents, mask, clean, coords, *rest = super().prepare_latents(**named)
        self._shape = (
            (int(named["num_frames"]) - 1) // self.vae_temporal_compression_ratio + 1,
            int(named["height"]) // self.vae_spatial_compression_ratio,
            int(named["width"]) // self.vae_spatial_compression_ratio,
        )
        self._held, count = None, latents.shape[1]
        if self.start is not None:
            levels, begin = self.scheduler.levels_of(self.noise_levels, count), self.scheduler.begin
            base, steps = count - (0 if coords is None else coords.shape[2]), len(self.noise_levels)
            self._held = holder(self.start, self.scheduler, self.film(latents), 0, steps)
            # Pinned pictures stay; those that are less than pinned have the noise of the first step.
            self._free = mask[:, :base] == 0
            latents = self.held(torch.lerp(clean, latents, float(levels[begin])), begin)
        return latents, mask, clean, coords, *rest

    def prepare_audio_latents(self, *arguments: Any, **named: Any) -> Tensor:
        """As its parent, at the noise of the first step."""
        level = 1.0 if self.start is None else float(self.scheduler.levels[self.scheduler.begin])
        return level * super().prepare_audio_latents(*arguments, **named)

    def film(self, latents: Tensor) -> Tensor:
        """Of packed latents (B,S,C) the film's own (B,C,L,h,w)."""
        frames, height, width = self._shape
        return self._unpack_latents(latents[:, : frames * height * width], frames, height, width)

    def held(self, latents: Tensor, done: int) -> Tensor:
        """Latents (B,S,C) after so many steps, with what is held of the carried film put back."""
        if self._held is None:
            return latents
        film = self._pack_latents(self._held(self.film(latents), done)).to(latents)
        count = film.shape[1]
        return torch.cat([torch.where(self._free, film, latents[:, :count]), latents[:, count:]], dim=1)

    def _build_video_self_attention_mask(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, num_noisy_tokens: int, num_prefix_tokens: int, extras_cross_masks: list[Tensor], device: Any
    ) -> Heeded:
        mask = LTX2InContextPipeline._build_video_self_attention_mask(
            num_noisy_tokens, num_prefix_tokens, extras_cross_masks, device
        )[0]
        # Rows begin at multiples of 16, or torch's attention copies the mask for every head to make them.
        rows = len(mask)
        bias = mask.new_zeros((rows, -(-rows // 16) * 16), dtype=self.transformer.dtype)[:, :rows]
        # Not to be seen at all, but finite: a row without anything would be NaN.
        bias.copy_(mask.log().clamp(min=-1e4))
        return Heeded(bias, int(self.transformer.config["num_attention_heads"]))
