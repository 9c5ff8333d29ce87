"""A small network beside the ISA-DiT that corrects the carried film where people wear more than their bodies.

Geometry grows the captured body to what a reference shows (``raster.garb``); folds, fringes, the far side and light
that no clay tells are left. The head sees each frame of the carried film with what is known of it, and says by how much
its light is wrong, how far people reach beyond their outline or fall short of it, and what little is to be added. All
count only on characters that wear something and on a ring around them: by construction every other pixel, and every
film of bare bodies, stays as it is to the last bit. What stands out from the background goes on standing out, but for
what the head takes away.

Shape letters: B batch, T frames, H W film, h w working size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import fields

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from ...raster.carry import CarriedFilm
from ...raster.plate import read_clay, read_plate
from ...raster.spread import spread
from ...shot import Shot

CHANNELS = 21
"""Of ``head_inputs``."""
INSIDE = 11
"""That of them which says where people show."""
WORN = 15
"""And how far what shows stands off the skin, in units of 10 cm."""
MIRRORED = (12, 16)
"""Those among them that a mirror turns round: the x of normals and of spots."""
SIDE = 128
"""Pixels of the shorter side that the head works at; of smaller films their own."""
_RING = 5
"""Pixels around a dressed character that the head may change, at the working size."""
SPREAD = 8
"""Pixels that people's colours are carried outwards, at the working size."""
_MULTIPLE = 8
_STEEP = 8.0
"""How fast people grow: an outline that the head doubts must not become a rim of mist."""
_MOST = 0.1
"""Of white, that is added at most: light is a factor, which leaves textures as they are."""
_AT_REST = 1 / (1 + math.exp(_STEEP / 2))
_LEAST = 0.01
"""Metres off the skin from which a character counts as dressed."""
_OFF = 0.02
"""Metres off the skin from which on what is worn may be taken away."""
_FIGURE, _CLEAR = 28 / 255, 30 / 255
"""By how much the worst channel of a pixel that stands out differs from the background, and goes on to differ."""
_AT_ONCE = 32
"""Frames seen together, which bounds memory."""


def _block(inner: int, outer: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inner, outer, 3, padding=1), nn.GroupNorm(4, outer), nn.SiLU())


class CarriedHead(ModelMixin, ConfigMixin):
    """A U-Net over single frames; what is common to a film reaches all of it by a mean over pixels and frames.

    Args:
        width: channels at half the size, at which most is done.
    """

    @register_to_config
    def __init__(self, width: int = 24) -> None:
        super().__init__()
        w = width
        self.down = nn.ModuleList([_block(4 * CHANNELS, w), _block(w, 2 * w), _block(2 * w, 3 * w)])
        self.film = nn.Linear(3 * w, 3 * w)
        self.middle = _block(3 * w, 3 * w)
        self.up = nn.ModuleList([_block(5 * w, 2 * w), _block(3 * w, w)])
        self.to_gain = nn.Conv2d(2 * w, 3, 1)
        self.to_change = nn.Conv2d(w, 4 * 5, 1)
        for layer in (self.to_gain, self.to_change):
            nn.init.zeros_(layer.weight)
            nn.init.constant_(layer.bias, 0.0)  # type: ignore[arg-type]

    def forward(self, x: Tensor, gate: Tensor, mean: Tensor | None = None) -> tuple[Tensor, ...]:
        """What is wrong with a film, nothing where ``gate`` is 0: see ``corrected``.

        Args:
            x: (B,T,CHANNELS,h,w), gate: (B,T,1,h,w) of ``head_inputs``; h and w multiples of 8.
            mean: (B,D) of the whole film, see ``film_mean``; that of these frames by default.

        Returns:
            The logarithm of what light lacks (B,T,3,h,w), how far people reach beyond their outline (B,T,1,h,w), what
            is to be added (B,T,3,h,w) in units of white, and where nobody is (B,T,1,h,w).
        """
        batch, frames = x.shape[:2]
        skips = self._down(x)
        mean = self._mean(skips[-1], gate)[0] if mean is None else mean
        z = self.middle(skips[-1] + self.film(mean).repeat_interleave(frames, dim=0)[..., None, None])
        gain = z
        for k, (block, skip) in enumerate(zip(self.up, skips[-2::-1], strict=True)):
            z = block(torch.cat([F.interpolate(z, scale_factor=2.0), skip], dim=1))
            if k == 0:
                # Light changes slowly over a picture.
                gain = F.interpolate(self.to_gain(z), scale_factor=4.0, mode="bilinear")
        change = F.pixel_shuffle(self.to_change(z), 2)
        gain, change = (part.unflatten(0, (batch, frames)) for part in (gain, change))
        outline = F.avg_pool2d(change[:, :, ::4].flatten(0, 1), 3, 1, 1).unflatten(0, (batch, frames))
        inside = x[:, :, INSIDE : INSIDE + 1]
        grown = _steep(outline[:, :, :1]) * (1 - inside) * gate
        # Beside people nothing but their growing may show, or they would get a pale rim.
        share = (inside + grown) * gate
        # Nothing but what is worn may be taken away.
        shrunk = _steep(outline[:, :, 1:]) * (x[:, :, WORN : WORN + 1] / (10 * _OFF)).clamp(0, 1) * gate
        return gain * share, grown, _MOST * torch.tanh(change[:, :, 1:4] / _MOST) * share, shrunk

    def _down(self, x: Tensor) -> list[Tensor]:
        z, found = F.pixel_unshuffle(x.flatten(0, 1), 2), []
        for k, block in enumerate(self.down):
            z = block(F.avg_pool2d(z, 2) if k else z)
            found.append(z)
        return found

    @staticmethod
    def _mean(z: Tensor, gate: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (B,D) of the coarsest features (B*T,D,h/8,w/8) by ``gate``, over pixels and frames; its weight (B,1)."""
        where = F.avg_pool2d(gate.flatten(0, 1), _MULTIPLE) + 1e-4
        weight = where.view(len(gate), -1).sum(dim=1, keepdim=True)
        return (z * where).view(*gate.shape[:2], *z.shape[1:]).sum(dim=(1, 3, 4)) / weight, weight

    def film_mean(self, x: Tensor, gate: Tensor) -> tuple[Tensor, Tensor]:
        """What these frames give to the mean of their film (B,D), and how much they count in it (B,1)."""
        return self._mean(self._down(x)[-1], gate)


def _steep(x: Tensor) -> Tensor:
    """0 at 0, about 1 from 0.25 on."""
    return (torch.sigmoid(_STEEP * (4 * x - 0.5)) - _AT_REST) / (1 - 2 * _AT_REST)


def corrected(frames: Tensor, beyond: Tensor, behind: Tensor, wrong: Sequence[Tensor]) -> Tensor:
    """Frames (...,3,H,W) in [0,1] with the head's correction, as they are where that is zero.

    Args:
        beyond: of ``spread_out``: what is grown has the colours that people have next to it.
        behind: the background. wrong: what the head gives.
    """
    gain, grown, change, shrunk = wrong
    made = ((frames + grown * (beyond - frames)) * gain.exp() + change).clamp(0, 1)
    return torch.lerp(standing_out(made, frames, behind), behind, shrunk)


def spread_out(frames: Tensor, character: Tensor, reach: int) -> Tensor:
    """Frames (T,3,H,W) with the colours of people, ``character`` (T,H,W) >= 0, carried ``reach`` pixels outwards."""
    # Pixels along the outline show something of the background.
    inside = F.max_pool2d((character < 0).float()[:, None], 3, 1, 1) == 0
    values, known = spread(frames, inside, reach)
    return torch.where(known, values, frames)


def standing_out(made: Tensor, carried: Tensor, background: Tensor) -> Tensor:
    """Frames (...,3,H,W) in [0,1] taken back towards the carried ones as far as those stand out from the background."""
    off = carried - background
    most, worst = off.abs().max(dim=-3, keepdim=True)
    least = most.clamp(max=_CLEAR)
    left = (made - background).gather(-3, worst) * off.gather(-3, worst).sign()
    lost = (most > _FIGURE) & ((made - background).abs().amax(dim=-3, keepdim=True) < least)
    back = ((least - left) / (most - left).clamp(min=1e-6)).clamp(0, 1)
    return torch.where(lost, made + back * (carried - made), made)


def working_size(height: int, width: int) -> tuple[int, int]:
    """(h, w) that the head works at for a film."""
    scale = min(1.0, SIDE / min(height, width))
    return tuple(max(_MULTIPLE, _MULTIPLE * round(side * scale / _MULTIPLE)) for side in (height, width))  # type: ignore[return-value]


def head_inputs(
    film: CarriedFilm, plate: Tensor, clay: Tensor | None, guessed: Sequence[bool]
) -> tuple[Tensor, Tensor]:
    """What the head sees of a film (T,CHANNELS,h,w), and where it may change that (T,1,h,w) in [0,1].

    Args:
        plate, clay: (T,h,w,3) 0..255 at the working size, the background, and the bodies in grey over it.
        guessed: of each character whether the light of its first reference had to be guessed.
    """

    def image(pixels: np.ndarray | Tensor) -> Tensor:
        return torch.as_tensor(pixels).float().permute(0, 3, 1, 2) / 127.5 - 1

    planes = [
        film.known,
        film.lit,
        film.character >= 0,
        *np.moveaxis(film.normal, -1, 0),
        film.worn * 10,
        *np.moveaxis(film.canonical, -1, 0),
        np.isin(film.character, np.flatnonzero(guessed)),
        dressed(film),
    ]
    own = torch.cat([image(film.frames), torch.from_numpy(np.stack(planes, axis=1).astype(np.float32))], dim=1)
    if own.shape[2:] != plate.shape[1:3]:
        own = F.interpolate(own, plate.shape[1:3], mode="bilinear", antialias=True, align_corners=False)
    near = F.max_pool2d((own[:, -1:] >= 0.5).float(), 2 * _RING + 1, 1, _RING)
    gate = F.avg_pool2d(near, 5, 1, 2)
    behind = image(plate)
    grey = torch.zeros_like(behind) if clay is None else image(clay)
    return torch.cat([own[:, :3], behind, grey, own[:, 3:-1], gate], dim=1), gate


def dressed(film: CarriedFilm) -> np.ndarray:
    """Pixels (T,H,W) bool of the characters that wear something."""
    found = np.unique(film.character[film.worn >= _LEAST])
    return np.isin(film.character, found[found >= 0])


@torch.no_grad()
def correct(
    head: CarriedHead,
    frames: np.ndarray,
    film: CarriedFilm,
    shot: Shot,
    device: torch.device,
    check: Callable[[], None],
) -> np.ndarray:
    """Frames (T,H,W,3) uint8 with the head's correction; themselves where nobody wears anything.

    Args:
        frames: what has been made of the carried film so far, at any size; no fewer than the film's.
        film: the carried film of the shot.
        check: called between parts of the film; may raise to stop.

    Raises:
        MediaError: a picture or film of the shot is damaged.
    """
    if not dressed(film).any():
        return frames
    height, width = working_size(*film.frames.shape[1:3])
    plate = read_plate(shot, width, height, torch.device("cpu"))
    clay = read_clay(shot, width, height, torch.device("cpu"))
    guessed = [one.reference is not None and one.reference.clay is None for one in shot.characters]
    parts = [slice(start, start + _AT_ONCE) for start in range(0, len(film.frames), _AT_ONCE)]

    def seen(now: slice) -> tuple[Tensor, Tensor]:
        check()
        arrays = {field.name: getattr(film, field.name)[now] for field in fields(film) if field.name != "notes"}
        light = None if clay is None else clay[now, ..., :3]
        x, gate = head_inputs(CarriedFilm(**arrays), plate[now], light, guessed)
        return x[None].to(device), gate[None].to(device)

    means, weights = zip(*(head.film_mean(*seen(now)) for now in parts), strict=True)
    total = torch.stack(weights)
    mean = (torch.stack(means) * total).sum(dim=0) / total.sum(dim=0)
    behind = read_plate(shot, frames.shape[2], frames.shape[1], torch.device("cpu"))
    reach = round(SPREAD * min(frames.shape[1:3]) / min(height, width))
    made = frames.copy()
    for now in parts:
        own = torch.from_numpy(made[now]).permute(0, 3, 1, 2).float() / 255
        wrong = [F.interpolate(z[0].cpu(), own.shape[2:], mode="bilinear") for z in head(*seen(now), mean)]
        shown = F.interpolate(torch.from_numpy(film.character[now, None]).float(), own.shape[2:])[:, 0]
        pixels = corrected(own, spread_out(own, shown, reach), behind[now].permute(0, 3, 1, 2) / 255, wrong)
        pixels = (pixels * 255).round().to(torch.uint8)
        made[now] = pixels.permute(0, 2, 3, 1).numpy()
    return made
