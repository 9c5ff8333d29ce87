"""From a shot to what VACE is led by: its control film, what is kept, what is to be made, and pictures of the looks.

Shape letters: T frames, H W picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from ...control.films import ControlFilms, ControlOptions
from ...control.fitting import shot_at, squeezed
from ...media import background_frames, decode_rgba
from ...shot import Shot, ShotError
from ..family import EngineError, Plan
from .plan import model_rate

if TYPE_CHECKING:
    from ..generation import Generation

_GREY = 0.5
"""What VACE takes where its film says nothing."""

KEPT_FROM = {"nothing": (), "background": ("silhouettes",), "known": ("carried", "known")}
"""Control films that tell what is kept."""

_LUMA = (0.299, 0.587, 0.114)

Report = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Kept:
    """What of a film is known.

    Attributes:
        frames: (T,H,W,3) uint8; without meaning where it is to be made.
        make: (T,H,W) bool, what the model is to make.
    """

    frames: np.ndarray
    make: np.ndarray


@dataclass(frozen=True, eq=False)
class Leads:
    """What the model is given, at its size and rate.

    Attributes:
        video: (1,T,3,H,W) float32 in [0, 1]: what is kept, else the control film, else grey.
        mask: (1,T,3,H,W) float32, 1 where the film is to be made.
        references: at the model's size, on white.
        notes: sentences for the animator.
    """

    video: Tensor
    mask: Tensor
    references: list[Image.Image]
    notes: tuple[str, ...] = ()


@contextmanager
def shot_errors() -> Iterator[None]:
    """Turn what control films say of a shot into an EngineError."""
    try:
        yield
    except ShotError as error:
        raise EngineError(error.field, str(error).partition(": ")[2]) from error


def model_shot(shot: Shot, plan: Plan, rate: float) -> Shot:
    """The shot at the model's size and rate, standing still after its end."""
    at = np.arange(plan.model_frames) * (shot.clip.fps / rate)
    return shot_at(squeezed(shot, *plan.model_size), at, rate)


def model_films(run: Generation, kinds: Iterable[str], options: ControlOptions | None = None) -> ControlFilms:
    """The shot's films at the model's size and rate, not yet drawn.

    Args:
        kinds: those that will be; ``none`` is none.

    Raises:
        EngineError: the shot lacks what one of them is drawn from.
    """
    shot = model_shot(run.shot, run.plan, model_rate(run.spec, run.shot))
    with shot_errors():
        films = ControlFilms(shot, options, run.device, lambda done, count: run.check())
        for kind in kinds:
            if kind != "none":
                films.check(kind)
    return films


def make_leads(films: ControlFilms, kind: str, keep: str, margin: float, most: int, tell: Report) -> Leads:
    """What leads a film of a shot.

    Args:
        films: of the shot at the model's size and rate.
        kind: of control film (``catalogue.control.KINDS``), or ``none``.
        keep, margin: see ``kept_film``.
        most: references.
        tell: called with frames done and their number; may raise to stop.

    Raises:
        EngineError: as ``model_films``.
    """
    shot, clip = films.shot, films.shot.clip
    with shot_errors(), torch.no_grad():
        led = np.full((clip.frames, clip.height, clip.width, 3), _GREY, np.float32)
        for frame in range(clip.frames):
            tell(frame, clip.frames)
            if kind != "none":
                led[frame] = films.picture(kind, frame).astype(np.float32) / 255
        if kind == "clay":
            led[:] = (led @ np.array(_LUMA, np.float32))[..., None]
        kept = kept_film(films, keep, margin, lambda done, count: tell(count, count))
    make = np.ones(led.shape[:3], bool) if kept is None else kept.make
    if kept is not None:
        led = np.where(make[..., None], led, kept.frames.astype(np.float32) / 255)
    video = torch.from_numpy(led).permute(0, 3, 1, 2)[None]
    mask = torch.from_numpy(make).float()[None, :, None].expand_as(video)
    return Leads(video, mask, references(shot, most), tuple(dict.fromkeys(films.notes)))


def kept_film(films: ControlFilms, keep: str, margin: float, tell: Report = lambda done, count: None) -> Kept | None:
    """What is kept of a film.

    Args:
        keep: ``nothing``; ``background``: all but the characters; ``known``: also of these what their looks show.
        margin: pixels around what is to be made that are made anew too.

    Returns:
        None where nothing is kept.

    Raises:
        ShotError: the shot lacks what it is drawn from.
    """
    if keep == "nothing":
        return None
    clip, frames, make = films.shot.clip, [], []
    behind = background_frames(films.shot, clip.width, clip.height) if keep == "background" else None
    for frame in range(clip.frames):
        tell(frame, clip.frames)
        if behind is not None:
            frames.append(behind[frame])
            make.append(films.picture("silhouettes", frame)[..., 0] > 0)
        else:
            frames.append(films.picture("carried", frame))
            make.append(films.picture("known", frame)[..., 0] < 128)
    return Kept(np.stack(frames), grown(np.stack(make), round(margin)))


def grown(mask: np.ndarray, pixels: int) -> np.ndarray:
    """A mask (T,H,W) bool with ``pixels`` more all around."""
    if pixels < 1:
        return mask
    # Rows, then columns: the same square for far less work.
    wide = F.max_pool2d(torch.from_numpy(mask).float()[:, None], (1, 2 * pixels + 1), 1, (0, pixels))
    return (F.max_pool2d(wide, (2 * pixels + 1, 1), 1, (pixels, 0)) > 0)[:, 0].numpy()


def laid_over(made: np.ndarray, kept: Kept, margin: float) -> np.ndarray:
    """A film (T,H,W,3) uint8 with what is kept as it was; the seam is soft inside of what was made."""
    soft = max(1, round(margin / 2))
    out = np.empty_like(made)
    for frame in range(len(made)):
        inside = torch.from_numpy(kept.make[frame]).float()[None, None]
        share = F.avg_pool2d(inside, 2 * soft + 1, 1, soft, count_include_pad=False)[0, 0].numpy()
        share = np.clip(2 * share - 1, 0, 1)[..., None]
        out[frame] = np.rint(made[frame] * share + kept.frames[frame] * (1 - share))
    return out


def references(shot: Shot, most: int) -> list[Image.Image]:
    """Pictures of the looks, whole in the middle of white ones of the clip's size; the first of each character before
    any second one.

    Raises:
        MediaError: a damaged picture.
    """
    each = [
        [(f"characters[{i}].references[{j}].image", found) for j, found in enumerate(character.references)]
        for i, character in enumerate(shot.characters)
    ]
    named = [one for turn in zip_longest(*each) for one in turn if one is not None]
    pictures = []
    for name, reference in named[:most]:
        rgba = Image.fromarray(decode_rgba(reference.image, name), "RGBA")
        rgb = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
        pictures.append(ImageOps.pad(rgb, (shot.clip.width, shot.clip.height), Image.Resampling.LANCZOS, "white"))
    return pictures
