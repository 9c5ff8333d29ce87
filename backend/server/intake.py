"""What must be right about a shot before it is queued."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..wire import Code, VideoPlan
from .engines import Engines
from .errors import ApiError


@dataclass(frozen=True)
class Intake:
    """A shot that can be run.

    Attributes:
        name, model: of the shot.
        steps: denoising steps expected.
        plan: of the result.
        notes: what was changed to fit the model, in sentences.
        result_bytes: room that the result may take on disk.
        draft: whether it is of a second.
    """

    name: str
    model: str
    steps: int
    plan: VideoPlan
    notes: list[str]
    result_bytes: int
    draft: bool


def check_shot(path: Path, engines: Engines) -> Intake:
    """Read the shot, find its model and plan it.

    Raises:
        ApiError: 422 with the field at fault.
        OSError: the file cannot be read.
    """
    from ..models.family import EngineError
    from ..models.quality import is_draft, settled
    from ..shot import ShotError, load_shot

    try:
        shot = load_shot(path)
    except ShotError as error:
        # The name that the upload has here means nothing to its sender.
        message = _without_field(error).replace(f"'{path.name}'", "the upload")
        raise _invalid(message, error.field) from error
    _check_pictures(shot)
    statuses = engines.models()
    status = next((s for s in statuses if s.spec.id == shot.settings.model), None)
    available = ", ".join(s.spec.id for s in statuses if s.available) or "none"
    if status is None:
        message = f"This backend knows no model '{shot.settings.model[:80]}'. Choose one of: {available}."
        raise _invalid(message, "settings.model")
    try:
        draft = is_draft(shot)
        settings = settled(shot, status.spec).settings
    except EngineError as error:
        raise _invalid(_without_field(error), error.field) from error
    if not status.available and not draft:
        raise _invalid(f"{status.reason.rstrip('.')}. Models that are ready: {available}.", "settings.model")
    try:
        plan = engines.plan(shot)
    except EngineError as error:
        raise _invalid(_without_field(error), error.field) from error
    width, height = plan.width * plan.upscale, plan.height * plan.upscale
    return Intake(
        name=shot.name,
        model=shot.settings.model,
        steps=int(settings.steps or status.spec.defaults.steps),
        plan=VideoPlan(width, height, plan.frames, float(shot.clip.fps)),
        notes=list(plan.notes),
        # The frames and a zip of them; the film is small beside them.
        result_bytes=2 * 3 * width * height * plan.frames,
        draft=draft,
    )


def _check_pictures(shot: Any) -> None:
    """Pictures that cannot be decoded are better heard of now than after an hour in the queue."""
    from ..media import MediaError, decode_image

    found = []
    for i, character in enumerate(shot.characters):
        for k, reference in enumerate(character.references):
            field = f"characters[{i}]." + ("reference" if k == 0 else f"further_references[{k - 1}]")
            found.append((f"{field}.image", reference.image, f"the reference of {character.name}"))
            if reference.clay is not None:
                found.append((f"{field}.clay", reference.clay, f"the clay of {character.name}'s reference"))
    if shot.clay is not None:
        found += [(f"clay.media[{i}]", media, "the clay") for i, media in enumerate(shot.clay.media)]
    if shot.background.kind == "still":
        found += [("background.media[0]", media, "the background") for media in shot.background.media[:1]]
    for field, media, name in found:
        try:
            decode_image(media, name)
        except MediaError as error:
            raise _invalid(str(error), field) from error


def _without_field(error: Any) -> str:
    text = str(error)
    return text.removeprefix(f"{error.field}: ") if error.field else text


def _invalid(message: str, field: str | None) -> ApiError:
    return ApiError(Code.INVALID_SHOT, f"{field}: {message}" if field else message, field)
