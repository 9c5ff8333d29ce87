"""What a preview is made of, taken from the scene step by step, with what determined it when the taking began."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

import bpy

from ...backend.shot import Shot
from ..capture.looks import asked_of
from ..capture.pace import Pace
from ..fingerprint import FramePrints
from ..rig.characters import find_characters, worn_by
from ..screen.carry import Dress, take_looks
from ..stage import shown_layer
from . import models
from . import shots as job_shots
from .backends import BackendProblem
from .capturing import captured
from .preview_edits import Edits
from .preview_windows import Window

_NO_LOOKS = "No character has a reference, so that a draft has nothing to carry; set Looks to Render or Picture"


def dressed(
    scene: bpy.types.Scene, edits: Edits, pace: Pace
) -> Generator[tuple[int, int], None, tuple[list[FramePrints], tuple[Dress, ...], str]]:
    """The looks of all characters for a draft, and a sentence for the animator.

    Raises:
        ShotError: see ``take_looks``. BackendProblem: nobody has looks.
    """
    found = yield from edits.read(scene, pace)
    performers = find_characters(scene, shown_layer(scene))
    at = {one.frame for obj in performers for one in asked_of(obj)}
    only = None
    if scene.maquette.render_engine != "SCENE":
        # Pictures of the characters alone depend on nothing else.
        cameras = [obj for obj in scene.objects if obj.type == "CAMERA"]
        only = found.reach([*cameras, *(each for obj in performers for each in (obj, *worn_by(obj, scene)))])
    prints = [found.at(range(frame, frame + 1), only) for frame in sorted(at)]
    notices: list[str] = []
    made = yield from take_looks(scene, notices, pace)
    if not made:
        raise BackendProblem(". ".join(notices) or _NO_LOOKS)
    return prints, made, ". ".join(notices)


def shot(
    scene: bpy.types.Scene, window: Window, edits: Edits, pace: Pace
) -> Generator[tuple[int, int], None, tuple[list[FramePrints], Shot]]:
    """A window's shot for the scene's model.

    Raises:
        ShotError: see ``capture_steps``.
    """
    found = yield from edits.read(scene, pace)
    prints = [found.at(window.frames)]
    model = models.find(scene.maquette.model)
    wants = replace(job_shots.wants(scene, [model]), rough=window.rough)
    made = yield from captured(scene, wants, [], pace, window.frames)
    made = replace(made, settings=replace(made.settings, quality=window.quality, upscale=1))
    return prints, job_shots.for_model(made, scene, model, made.settings.seed)
