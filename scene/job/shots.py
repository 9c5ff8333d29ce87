"""One capture for all the models that are to make the shot: what it must hold, and the file that each model gets."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from pathlib import Path

import bpy

from ...backend.client import events as ev
from ...backend.shot import Character, Reference, Shot, save_shot
from .. import folders
from ..capture.wants import Wants, wants_of
from . import model_checks, models, options
from .backends import BackendProblem


@dataclass(frozen=True)
class Recipients:
    """The models that a shot is for.

    Attributes:
        able: the models that it goes to, the scene's own first.
        refused: those that cannot make it, each with its problem.
    """

    able: tuple[models.Model, ...]
    refused: tuple[ev.Part, ...]

    @property
    def several(self) -> bool:
        """Whether this is a comparison."""
        return len(self.able) + len(self.refused) > 1


def recipients(scene: bpy.types.Scene) -> Recipients:
    """Which models make the scene's shot.

    Whether a model's weights are there only the backend knows for sure, so that is left to it to say.

    Raises:
        BackendProblem: none of them can; says what to change.
    """
    able, refused = [], []
    for model in model_checks.makers(scene):
        found = model_checks.problems(scene, replace(model, available=None))
        if found:
            refused.append(ev.Part(model.id, model.label, problem=". ".join(found)))
        else:
            able.append(model)
    if not able:
        raise BackendProblem("\n".join(part.problem for part in refused))
    return Recipients(tuple(able), tuple(refused))


def wants(scene: bpy.types.Scene, able: Sequence[models.Model]) -> Wants:
    """What the capture must hold for all of them."""
    each = [wants_of(_inputs(scene, model)) for model in able]
    shared = {f.name: any(getattr(one, f.name) for one in each) for f in fields(Wants) if f.name != "options"}
    return Wants(**shared, options=options.chosen(scene, able[0].id))


def _inputs(scene: bpy.types.Scene, model: models.Model) -> dict[str, str] | None:
    """The table of a model's inputs, with what the options that the animator has set need besides."""
    needed = {
        name: "optional"
        for entry, described in options.entries(scene, model.id)
        if options.value(entry) != described.default
        for name in described.needs
        if model.inputs.get(name, "ignored") == "ignored"
    }
    return {**model.inputs, **needed} if model.inputs else None


def seeds(scene: bpy.types.Scene) -> range:
    """The seeds with which the scene's shot is made."""
    shot = scene.maquette
    return range(shot.seed, shot.seed + shot.seeds)


def save(
    shot: Shot, scene: bpy.types.Scene, able: Sequence[models.Model], first: Path, tries: Sequence[int] = ()
) -> list[ev.Part]:
    """Write the shot once for each model and seed; the first to ``first``, each other to a folder of its own.

    Steps and guidance are the scene's model's: the others take their own, since the same number means something else
    to each.

    Args:
        tries: seeds; without any the shot's own.

    Raises:
        OSError: a file cannot be written; none is left then.
    """
    parts: list[ev.Part] = []
    path = first
    try:
        for number, (model, seed) in enumerate(product(able, tries or (shot.settings.seed,))):
            if number:
                path = folders.user_folder("jobs", uuid.uuid4().hex) / first.name
            save_shot(for_model(shot, scene, model, seed), path)
            label = f"{model.label}, Seed {seed}" if len(tries) > 1 else model.label
            parts.append(ev.Part(model.id, label, str(path)))
    except BaseException:
        for part in parts[1:]:
            Path(part.shot).unlink(missing_ok=True)
            Path(part.shot).parent.rmdir()
        raise
    return parts


def for_model(shot: Shot, scene: bpy.types.Scene, model: models.Model, seed: int) -> Shot:
    """A shot with what a model uses of it, and its settings."""
    settings = replace(shot.settings, model=model.id, seed=seed, options=options.chosen(scene, model.id))
    if model.id != scene.maquette.model:
        settings = replace(settings, steps=None, guidance=None)
    return replace(
        shot,
        settings=settings,
        characters=tuple(_for_model(character, model) for character in shot.characters),
        meshes=shot.meshes if model.uses("meshes") else (),
        tracks=shot.tracks if model.uses("tracks") else (),
        clay=shot.clay if model.uses("clay") else None,
    )


def _for_model(character: Character, model: models.Model) -> Character:
    """A character whose references hold what a model uses of them."""

    def fitted(reference: Reference) -> Reference:
        return replace(
            reference,
            vertices=reference.vertices if model.uses("meshes") else None,
            clay=reference.clay if model.uses("clay") else None,
        )

    first = None if character.reference is None else fitted(character.reference)
    return replace(character, reference=first, further_references=tuple(map(fitted, character.further_references)))
