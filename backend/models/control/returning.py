"""A model's film brought back to the shot's terms: its rate, its size, and what is kept of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...control.films import ControlFilms
from ...control.fitting import squeezed
from ...media import squeeze_frames
from .inputs import kept_film, laid_over, shot_errors
from .plan import frames_in_time, model_rate
from .retime import at_scene_rate

if TYPE_CHECKING:
    from ..generation import Generation


def finished(run: Generation, film: np.ndarray, keep: str) -> np.ndarray:
    """A model's film (S,h,w,3) uint8 at the scene's rate (T,H,W,3), with what is kept (see ``kept_film``) as it was.

    Raises:
        Cancelled: the generation is to stop.
    """
    plan, shot = run.plan, run.shot
    rate = model_rate(run.spec, shot)
    film = film[: frames_in_time(shot.clip, rate)]
    film = at_scene_rate(film, squeezed(shot, *plan.model_size), rate, run.device, lambda done, count: run.check())
    if keep == "nothing":
        return film
    margin = float(run.options["margin"]) * plan.height / plan.model_size[1]
    with shot_errors():
        films = ControlFilms(squeezed(shot, plan.width, plan.height), device=run.device)
        kept = kept_film(films, keep, margin, lambda done, count: run.check())
    return film if kept is None else laid_over(squeeze_frames(film, plan.width, plan.height), kept, margin)
