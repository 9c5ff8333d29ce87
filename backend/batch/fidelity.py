"""How near a film is to what its shot knows, without a true film to compare it with."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import islice

import numpy as np

from ..evaluation.silhouette import psnr_of, silhouette
from ..media import StreamedFilm, background_parts
from ..raster.carry import Carrier
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


def measure_fidelity(shot: Shot, film: np.ndarray | StreamedFilm, device: str = "cpu") -> Fidelity:
    """Measure a film (T,H,W,3) uint8 of a shot, a few frames at a time. Raises MediaError when a picture of the shot is
    damaged."""
    count, height, width = film.shape[:3]
    if not shot.characters or count != shot.clip.frames:
        return Fidelity(None, None)
    # Pixels that are figure in film and shot, and in either, of the film and of the carried one; error; pixels known.
    tally: Counter[str] = Counter()
    carrier = Carrier(shot, width, height, device)
    plates, frames = background_parts(shot, width, height, carrier.ranges), iter(film)
    for carried, plate in zip(carrier.parts(), plates, strict=True):
        made = np.stack(list(islice(frames, len(carried.frames))))
        bodies, known = carried.character >= 0, carried.known >= _KNOWN
        for one, both, either in ((made, "both", "either"), (carried.frames, "own", "whole")):
            found = silhouette(one, plate)
            tally[both] += int(np.count_nonzero(found & bodies))
            tally[either] += int(np.count_nonzero(found | bodies))
        tally["error"] += int(np.square(made[known].astype(np.int64) - carried.frames[known]).sum())
        tally["known"] += int(np.count_nonzero(known))
    best = tally["own"] / max(tally["whole"], 1)
    share = min(tally["both"] / max(tally["either"], 1) / best, 1.0) if best >= _TOLD_APART else None
    return Fidelity(share, psnr_of(tally["error"] / (3 * tally["known"])) if tally["known"] else None)
