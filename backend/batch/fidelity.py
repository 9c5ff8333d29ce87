"""How near a film is to what its shot knows, without a true film to compare it with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..evaluation.silhouette import psnr, silhouette_iou
from ..media import background_frames
from ..raster.carry import carry_shot
from ..shot import Shot

_KNOWN = 0.5
_TOLD_APART = 0.3
"""IoU of the carried film below which figures do not stand out from the background."""


@dataclass(frozen=True)
class Fidelity:
    """Agreement of a film with its shot; None where nothing is there to agree with.

    Attributes:
        figure_iou: intersection over union of the film's figures and the shot's bodies, as a share of the carried
            film's own: 1 where the figures are where the bodies are. Clothes and hair count as error. Also None where
            bodies look like what is behind them, so that no film could tell.
        kept_db: PSNR of the film against the carried film where that is carried from a picture; 99 at best.
    """

    figure_iou: float | None
    kept_db: float | None


def measure_fidelity(shot: Shot, film: np.ndarray, device: str = "cpu") -> Fidelity:
    """Measure a film (T,H,W,3) uint8 of a shot. Raises MediaError when a picture of the shot is damaged."""
    if not shot.characters or len(film) != shot.clip.frames:
        return Fidelity(None, None)
    height, width = film.shape[1:3]
    carried = carry_shot(shot, width, height, device)
    bodies, known = carried.character >= 0, carried.known >= _KNOWN
    plate = background_frames(shot, width, height)
    found, best = (silhouette_iou(one, bodies, plate) if bodies.any() else 0.0 for one in (film, carried.frames))
    share = min(found / best, 1.0) if best >= _TOLD_APART else None
    return Fidelity(share, psnr(film, carried.frames, known) if known.any() else None)
