"""What stands between a shot and a model, told before anything is captured, each with its cure."""

from __future__ import annotations

from collections.abc import Iterator

import bpy

from ..capture.looks import asked_of
from ..checks import Check
from ..rig.characters import armatures_of
from ..rig.joints import joint_reader
from . import models


def check(scene: bpy.types.Scene, characters: list[bpy.types.Object]) -> Iterator[Check]:
    """What the scene's model, and those it is compared with, cannot take."""
    shot = scene.maquette
    model = models.find(shot.model)
    for message in problems(scene, model, characters):
        yield Check("MODEL", "ERROR", message, model.id)
    for message in hints(scene, model, characters):
        yield Check("MODEL", "WARNING", message, model.id)
    for other in compared(scene):
        for message in problems(scene, other, characters):
            yield Check("COMPARE", "WARNING", f"{other.label} will be left out: {message}", other.id)


def compared(scene: bpy.types.Scene) -> list[models.Model]:
    """The further models that the scene's shot is sent to, in the order in which they were ticked."""
    shot = scene.maquette
    return [models.find(entry.name) for entry in shot.compare if entry.name != shot.model]


def makers(scene: bpy.types.Scene) -> list[models.Model]:
    """All models that the scene's shot is for, its own first."""
    return [models.find(scene.maquette.model), *compared(scene)]


def used(scene: bpy.types.Scene, name: str) -> bool:
    """Whether any of the models that the shot is for takes an input."""
    return any(model.uses(name) for model in makers(scene))


def late_references(scene: bpy.types.Scene) -> bool:
    """Whether a reference shows another frame than the shot's first, where a model needs that one."""
    return any(
        obj.maquette.reference_frame != scene.frame_start and not _matched(obj)
        for obj in scene.objects
        if obj.type == "MESH" and obj.maquette.is_character and obj.maquette.reference_source != "NONE"
    ) and any(model.uses("reference") and model.limit("first_frame_reference") for model in makers(scene))


def problems(
    scene: bpy.types.Scene, model: models.Model, characters: list[bpy.types.Object] | None = None
) -> list[str]:
    """Why a model cannot make the scene's shot; sentences that say what to change.

    Args:
        characters: of the shot; all that are marked when None.
    """
    if characters is None:
        characters = [obj for obj in scene.objects if obj.type == "MESH" and obj.maquette.is_character]
    usable = [obj for obj in characters if not (obj.hide_viewport and obj.hide_render)]
    found = [model.reason] if model.state == "MISSING" else []
    found += _number(model, usable)
    found += _reference(scene, model, usable)
    found += _frames(scene, model)
    found += _joints(model, usable)
    shot = scene.maquette
    if model.needs("prompt") and not shot.prompt.strip():
        found.append(f"{model.label} needs a prompt: describe the picture")
    if model.needs("background") and shot.background == "NONE":
        found.append(f"{model.label} needs a background: choose This Scene or a picture")
    if model.needs("tracks") and not shot.tracks:
        found.append(f"{model.label} needs tracks: select objects or vertices and press Add Selected under Tracks")
    return found


def hints(scene: bpy.types.Scene, model: models.Model, characters: list[bpy.types.Object]) -> Iterator[str]:
    """What the animator may not mean, though the model can make the shot."""
    if models.everyone() and not models.known(model.id):
        yield f"This backend has not named a model '{model.id}': choose another, or ask it again"
    if model.uses("tracks"):
        gone = [track.name for track in scene.maquette.tracks if not carries(scene, track)]
        if gone:
            yield f"{', '.join(gone)}: not in the scene any more; remove it under Tracks"


def carries(scene: bpy.types.Scene, track: bpy.types.PropertyGroup) -> bool:
    """Whether what a track follows is still in the scene."""
    obj = track.object
    if obj is None or obj.name not in scene.objects:
        return False
    return track.vertex < 0 or (obj.type == "MESH" and track.vertex < len(obj.data.vertices))


def _number(model: models.Model, characters: list[bpy.types.Object]) -> Iterator[str]:
    most = model.limit("max_characters")
    if not most or len(characters) <= most:
        return
    names = ", ".join(obj.name for obj in characters)
    limit = "one character" if most == 1 else f"at most {most} characters"
    yield f"{model.label} takes {limit}, and {len(characters)} are marked ({names}): unmark the others"


def _reference(scene: bpy.types.Scene, model: models.Model, characters: list[bpy.types.Object]) -> Iterator[str]:
    for obj in characters:
        marks = obj.maquette
        if marks.reference_source == "NONE":
            if model.needs("reference"):
                yield f"{model.label} needs a reference of {obj.name}: set Looks > Reference to Render or Picture"
        elif not (model.uses("reference") and model.limit("first_frame_reference")):
            continue
        elif _matched(obj):
            yield (
                f"{model.label} moves the shot's first picture, and the one of {obj.name} was matched to a pose of its "
                "own: set Looks > Reference to Render, or press Clear Match where it shows the first frame"
            )
        elif marks.reference_frame != scene.frame_start:
            yield (
                f"{model.label} moves the shot's first picture, so the reference of {obj.name} must show frame "
                f"{scene.frame_start}, not {marks.reference_frame}: set Looks > At Frame to {scene.frame_start}"
            )


def _matched(obj: bpy.types.Object) -> bool:
    """Whether a character's first reference is a picture with a pose and a camera of its own."""
    return any(one.match is not None for one in asked_of(obj)[:1])


def _frames(scene: bpy.types.Scene, model: models.Model) -> Iterator[str]:
    count = len(range(scene.frame_start, scene.frame_end + 1, scene.frame_step))
    least, most = model.limit("min_frames"), model.limit("max_frames")
    if most and count > most:
        last = scene.frame_start + (most - 1) * scene.frame_step
        step = -(-(scene.frame_end - scene.frame_start + 1) // most)
        yield (
            f"{model.label} makes at most {most} frames and the range has {count}: set its end to {last}, or Frame "
            f"Step to {step}"
        )
    elif 0 < count < least:
        last = scene.frame_start + (least - 1) * scene.frame_step
        yield f"{model.label} needs at least {least} frames and the range has {count}: set its end to {last}"


def _joints(model: models.Model, characters: list[bpy.types.Object]) -> Iterator[str]:
    if not model.needs("joints"):
        return
    for obj in characters:
        if not any(_humanoid(armature) for armature in armatures_of(obj)):
            yield (
                f"{model.label} reads joints and {obj.name} has no skeleton that it knows: add a body, or name the "
                "bones as Mixamo, Unreal or SMPL do"
            )


_skeletons: dict[str, bool] = {}
"""Whether an armature's bones are a known humanoid, by its bones' names: finding out takes a while."""


def _humanoid(armature: bpy.types.Object) -> bool:
    key = "\n".join(bone.name for bone in armature.data.bones)
    if key not in _skeletons:
        if len(_skeletons) > 64:
            _skeletons.clear()
        _skeletons[key] = joint_reader(armature) is not None
    return _skeletons[key]
