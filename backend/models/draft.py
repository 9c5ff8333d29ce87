"""The quality level without a network: the carried film is the result, whichever model the shot names."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..catalogue.models import ModelSpec
from ..shot import Shot
from .family import Family, Plan
from .settings import check_settings, fit_size


def make_plan(spec: ModelSpec, shot: Shot) -> Plan:
    """What a draft of a shot will be, at the size that its model would make. Raises EngineError."""
    notes = check_settings(spec, shot)
    (width, height), _, about = fit_size(spec, shot)
    notes += about if (shot.settings.width or shot.settings.height) else []
    return Plan(width, height, shot.clip.frames, ((0, shot.clip.frames),), tuple(notes), (width, height))


class DraftFamily(Family):
    """Makes the carried film, without weights."""

    def plan(self, spec: ModelSpec, shot: Shot) -> Plan:
        """See ``Family.plan``."""
        return make_plan(spec, shot)

    def sample(self, run: Any, conditions: Any) -> np.ndarray:
        """The carried film (T,H,W,3) uint8."""
        from ..raster.carry import carry_shot

        run.report("encoding", 0, run.plan.frames)
        film = carry_shot(
            run.shot,
            run.plan.width,
            run.plan.height,
            run.device,
            lambda done, count: run.report("encoding", done, count),
        )
        run.notes.extend(film.notes)
        return film.frames

    def decode(self, run: Any, conditions: Any, sampled: np.ndarray) -> np.ndarray:
        """See ``Family.decode``."""
        return sampled


FAMILY = DraftFamily()
