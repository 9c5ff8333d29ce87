"""The quality level without a network: the carried film is the result, whichever model the shot names."""

from __future__ import annotations

from typing import Any

from ..catalogue.models import ModelSpec
from ..media import StreamedFilm
from ..shot import Shot
from .family import Family, Plan
from .settings import check_settings, fit_size


def make_plan(spec: ModelSpec, shot: Shot) -> Plan:
    """What a draft of a shot will be, at the size that its model would make. Raises EngineError."""
    notes = check_settings(spec, shot)
    (width, height), _, about = fit_size(spec, shot, networks=False)
    notes += about
    return Plan(width, height, shot.clip.frames, ((0, shot.clip.frames),), tuple(notes), (width, height))


def drawn_film(run: Any, blind: bool = False) -> StreamedFilm:
    """The carried film of a generation, which is drawn while it is written; see ``Carrier``. Raises MediaError."""
    from ..raster.carry import Carrier

    run.report("encoding", 0, 1)
    carrier = Carrier(run.shot, run.plan.width, run.plan.height, run.device, blind)
    run.notes.extend(carrier.notes)
    run.report("encoding", 1, 1)
    return StreamedFilm(carrier.shape, lambda: carrier.frames(lambda *_: run.check()))


class DraftFamily(Family):
    """Makes the carried film, without weights."""

    def plan(self, spec: ModelSpec, shot: Shot) -> Plan:
        """See ``Family.plan``."""
        return make_plan(spec, shot)

    def sample(self, run: Any, conditions: Any) -> StreamedFilm:
        """The carried film."""
        return drawn_film(run)

    def decode(self, run: Any, conditions: Any, sampled: StreamedFilm) -> StreamedFilm:
        """See ``Family.decode``."""
        return sampled


FAMILY = DraftFamily()
