"""Start a video model from the carried film instead of from noise alone; nothing is trained for it.

As SDEdit (Meng et al. 2022) begins at a noised picture, and as Time-to-Move (Singer et al. 2025, arXiv 2511.08633) lets
go of the regions of a picture at different steps: every spot of the latents is held to the carried film, at the noise
of the step, for a part of the steps, and denoised freely from there on. What the film only guesses is let go earlier.

Shape letters: T frames, H W picture, L latent frames, h w latent; ... the dimensions of a model's own latents.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..raster.carry import NOBODY, Carrier
from ..raster.plate import read_plate

OPTION = "carried_start"
"""Of the models that can start so, see ``presets/models``: 0 starts from noise alone, 1 gives the carried film back."""

_GUESSED = 3.0
"""The strength is raised to this power where nothing is known: one half holds the film there for an eighth of the
steps, and one holds it everywhere to the end."""
_ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class CarriedStart:
    """What sampling starts from.

    Attributes:
        latents: (...) float32, the carried film's, as the model denoises them.
        part: (...) in [0,1], of all steps, for which each spot is held; of a shape that spreads over the latents.
    """

    latents: Tensor
    part: Tensor

    def begin(self, steps: int) -> int:
        """How many of the ``steps`` need not be made, because everything is held after them."""
        return int(float(self.part.min()) * steps + _ROUNDING)

    def hold(self, x: Tensor, done: int, steps: int, noised: Callable[[Tensor], Tensor]) -> Tensor:
        """The latents ``x`` (...) after ``done`` of the ``steps``, with the spots that are held put back.

        Args:
            noised: adds to clean latents the noise that ``x`` has after these steps; always the same noise.
        """
        held = done <= self.part * steps + _ROUNDING
        return torch.where(held, noised(self.latents), x) if bool(held.any()) else x


@dataclass(frozen=True, eq=False)
class CarriedPicture:
    """The carried film as a model frames it.

    Attributes:
        frames: (T,H,W,3) uint8.
        sure: (T,H,W) float32 in [0,1]: ``CarriedFilm.known`` on the bodies; elsewhere 1 where the shot has a background
            and 0 where it has none, or where the picture shows more than the clip's.
        looks: (T,) float32 in [0,1], how much of the figures each frame knows; 1 where it shows none.
        strength: 0 to 1.
    """

    frames: np.ndarray
    sure: np.ndarray
    looks: np.ndarray
    strength: float

    def start(self, latents: Tensor, channels: int, frames: slice = slice(None), group: int = 1) -> CarriedStart:
        """Where to start, once the frames are encoded.

        Args:
            latents: (...,h,w) with all latent frames along one dimension and none but channels and clips besides.
            channels: which dimension of the latents is that of the channels.
            frames: those that the latents are of.
            group: frames of a latent frame; latent 0 holds one where a group holds more.
        """
        doubt = 1 - torch.from_numpy(self.sure[frames])
        doubt = torch.cat([doubt[:1].expand(group - 1, -1, -1), doubt]).unflatten(0, (-1, group)).amax(dim=1)
        # A spot of the latents is as sure as its least sure pixel.
        doubt = F.adaptive_max_pool2d(doubt, tuple(latents.shape[-2:]))
        part = self.strength ** (1 + (_GUESSED - 1) * doubt)
        while part.ndim < latents.ndim - 1:
            part = part[None]
        return CarriedStart(latents.float(), part.unsqueeze(channels).to(latents.device))


def carried_picture(
    run: Any, canvas: tuple[int, int], frames: int, drawn: tuple[int, int] | None = None, always: bool = False
) -> CarriedPicture | None:
    """Draw a shot's carried film into a model's picture; None where the option is 0 and it is not wanted ``always``.

    Args:
        run: an ``engine.Generation``.
        canvas: (width, height) of the model's picture.
        frames: T that the model makes; the last one is held, or what is beyond is cut off.
        drawn: (width, height) of the clip's whole picture, which lies in the middle of the canvas: what is larger is
            cut off, and what is smaller goes on with its outermost pixels. By default the largest that fits in.

    Raises:
        MediaError: a picture or film of the shot is damaged.
    """
    strength = float(run.options.get(OPTION, 0.0))
    if not (strength or always):
        return None
    clip = run.shot.clip
    if drawn is None:
        aspect = clip.width / clip.height
        drawn = round(min(canvas[0], canvas[1] * aspect)), round(min(canvas[1], canvas[0] / aspect))
    pictures: np.ndarray
    sure: np.ndarray
    elsewhere = np.float32(run.shot.background.kind != "none")
    if run.shot.characters:
        carrier = Carrier(run.shot, *drawn, run.device)
        run.notes.extend(carrier.notes)
        pictures, known, who = carrier.maps("frames", "known", "character", on_frames=lambda *_: run.check())
        figures = who != NOBODY
        sure = np.where(figures, known, elsewhere)
        shown = figures.sum(axis=(1, 2))
        looks = np.where(shown, (known * figures).sum(axis=(1, 2)) / np.maximum(shown, 1), 1).astype(np.float32)
    else:
        pictures = read_plate(run.shot, *drawn, torch.device("cpu")).round().to(torch.uint8).numpy()
        sure = np.full(pictures.shape[:3], elsewhere)
        looks = np.ones(len(pictures), np.float32)
    index = np.minimum(np.arange(frames), len(sure) - 1)
    rows, columns = (
        np.arange(side) + (had - side) // 2 for side, had in zip(canvas[::-1], sure.shape[1:], strict=True)
    )
    beyond = ((rows < 0) | (rows >= sure.shape[1]))[:, None] | ((columns < 0) | (columns >= sure.shape[2]))
    chosen = np.ix_(index, rows.clip(0, sure.shape[1] - 1), columns.clip(0, sure.shape[2] - 1))
    return CarriedPicture(pictures[chosen], np.where(beyond, np.float32(0), sure[chosen]), looks[index], strength)
