"""The quality level without a network: the carried film is the result, whichever model the shot names."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..catalogue.models import ModelSpec
from ..media import MediaError
from ..raster.carry import carry_shot
from ..shot import Shot
from .device import choose_device
from .family import EngineError, Plan, Progress, Result
from .settings import check_settings, fit_size
from .steps import Reporter


def draft_plan(spec: ModelSpec, shot: Shot) -> Plan:
    """What a draft of a shot will be, at the size that its model would make. Raises EngineError."""
    notes = check_settings(spec, shot)
    (width, height), _, about = fit_size(spec, shot)
    notes += about if (shot.settings.width or shot.settings.height) else []
    return Plan(width, height, shot.clip.frames, ((0, shot.clip.frames),), tuple(notes), (width, height))


class DraftEngine:
    """Makes the carried film; an ``Engine`` without weights.

    Args:
        spec: of the model that the shot names, which sets the size.
        device: as torch names it; None for a GPU where there is one.
    """

    def __init__(self, spec: ModelSpec, device: str | None = None) -> None:
        self.spec = spec
        self.device = choose_device(device)

    def plan(self, shot: Shot) -> Plan:
        """See ``Engine.plan``."""
        return draft_plan(self.spec, shot)

    def generate(self, shot: Shot, on_progress: Callable[[Progress], None], cancelled: Callable[[], bool]) -> Result:
        """See ``Engine.generate``."""
        plan = self.plan(shot)
        reporter = Reporter(on_progress, cancelled)
        started = time.monotonic()
        reporter.report("encoding", 0, plan.frames)
        try:
            film = carry_shot(
                shot, plan.width, plan.height, self.device, lambda done, count: reporter.report("encoding", done, count)
            )
        except MediaError as error:
            field, _, said = str(error).partition(": ")
            raise EngineError(field, said) from error
        metadata = {
            "model": self.spec.id,
            "quality": shot.settings.quality,
            "width": plan.width,
            "height": plan.height,
            "device": str(self.device),
            "seconds": round(time.monotonic() - started, 2),
        }
        return Result(film.frames, shot.clip.fps, plan.notes + film.notes, metadata)
