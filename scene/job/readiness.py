"""What the shot has and what it still needs, found out between draws so that the panels only have to show it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import bpy

from ...backend.catalogue.quality import list_quality
from ..camera import framing
from ..capture.looks import asked_of
from ..checks import Check
from ..stage import curves_of
from . import backends, estimate, model_checks, models, options, presence

_SECONDS = 0.5


_dirty = True
_checked_at = 0.0
_checked_scene = ""
_shares: dict[str, int | None] = {}
"""Percent of the picture that each character took when last looked at; not while the scene plays."""


def touch() -> None:
    """The scene has changed: look again, soon."""
    global _dirty
    _dirty = True


def publish(now: bool = False) -> bool:
    """Look at the window's scene, at most twice a second; returns whether anything to be shown has changed."""
    global _dirty, _checked_at, _checked_scene
    scene = bpy.context.scene
    if scene is None:
        return False
    shown = (scene.maquette.model, *scene.maquette.compare.keys())
    fresh = scene.library is None and any([options.ensure(scene, model) for model in shown])
    other = scene.name != _checked_scene
    if not now and not other and (not _dirty or time.monotonic() - _checked_at < _SECONDS):
        return fresh
    _dirty, _checked_at, _checked_scene = False, time.monotonic(), scene.name
    fresh |= framing.publish(scene)
    if any(obj.maquette.is_character for obj in scene.objects):
        # Nobody is asked for whom Maquette only lies there.
        backends.ask_once()
    found = check(scene)
    view = bpy.context.window_manager.maquette
    if (words := estimate.expected(scene)) != view.expected:
        view.expected, fresh = words, True
    shown = [Check(item.kind, item.level, item.message, item.target, item.cure) for item in view.checks]
    if found == shown and view.checked_scene == scene.name:
        return fresh
    view.checks.clear()
    for line in found:
        item = view.checks.add()
        item.kind, item.level, item.message = line.kind, line.level, line.message
        item.target, item.cure = line.target, line.cure
    view.checked_scene = scene.name
    return True


def check(scene: bpy.types.Scene) -> list[Check]:
    """Everything that can be told about the shot without evaluating a frame."""
    characters = [obj for obj in scene.objects if obj.type == "MESH" and obj.maquette.is_character]
    lines = [_character(obj, scene) for obj in characters]
    if not characters:
        lines.append(Check("CHARACTER", "ERROR", "No character yet: add a body, or mark a mesh as a character"))
    lines.append(_camera(scene))
    lines += _motion(scene, characters)
    lines += _background(scene)
    lines += model_checks.check(scene, characters)
    lines += _upscale(scene)
    if why := backends.problem():
        lines.append(Check("BACKEND", "ERROR", why))
    elif why := backends.unanswered():
        lines.append(Check("BACKEND", "WARNING", why))
    return lines


def _character(obj: bpy.types.Object, scene: bpy.types.Scene) -> Check:
    marks = obj.maquette
    if obj.hide_viewport and obj.hide_render:
        return Check("CHARACTER", "ERROR", "Switched off in viewport and renders", obj.name, "SHOW")
    looks = model_checks.used(scene, "reference")
    for one in asked_of(obj) if looks else ():
        if not one.rendered and one.image is None:
            which = f"picture in '{one.name}'" if one.name else "picture"
            return Check(
                "CHARACTER", "ERROR", f"No reference {which}: choose one, or take Render", obj.name, "RENDER_LOOKS"
            )
        if one.match is not None and one.match.trouble:
            message = f"The match of its {one.words} is {one.match.trouble}"
            return Check("CHARACTER", "WARNING", message, obj.name)
    if not any(_is_keyed(owner) for owner in movers(obj)):
        return Check("CHARACTER", "WARNING", "Does not move", obj.name)
    if looks and marks.reference_source == "NONE":
        model = models.find(scene.maquette.model)
        grey = model.inputs and model.uses("clay")
        what = "it is drawn in clay grey" if grey else "the model invents the looks"
        return Check("CHARACTER", "OK", f"No reference: {what}", obj.name)
    return Check("CHARACTER", *_presence(obj, scene), obj.name)


def _presence(obj: bpy.types.Object, scene: bpy.types.Scene) -> tuple[str, str]:
    """Level and words on how a character that lacks nothing shows."""
    gone, frames = presence.hidden(scene, obj)
    if gone:
        return "WARNING", f"Hidden in {gone} of {frames} frames when last captured"
    if not presence.playing():
        share = presence.share(scene, obj)
        _shares[obj.name] = None if share is None else round(100 * share)
    percent = _shares.get(obj.name)
    if percent is None:
        return "OK", "Ready"
    if percent == 0:
        return "WARNING", f"Not in the picture at frame {scene.frame_current}"
    return "OK", f"{percent} % of the frame"


def _camera(scene: bpy.types.Scene) -> Check:
    bound = any(marker.camera for marker in scene.timeline_markers)
    if scene.camera is None and not bound:
        return Check("CAMERA", "ERROR", "No camera: add a camera move, or choose the scene's camera", "", "ORBIT")
    if scene.camera is not None and scene.camera.data.type != "PERSP":
        kind = {"ORTHO": "orthographic", "PANO": "panoramic"}.get(scene.camera.data.type, scene.camera.data.type)
        words = f"The camera is {kind}: set its lens to Perspective"
        return Check("CAMERA", "ERROR", words, scene.camera.name, "PERSPECTIVE")
    return Check("CAMERA", "OK", "Ready", scene.camera.name if scene.camera else "")


def _motion(scene: bpy.types.Scene, characters: list[bpy.types.Object]) -> Iterator[Check]:
    if scene.use_preview_range:
        yield Check(
            "MOTION",
            "WARNING",
            f"The preview range is left out: the shot is frames {scene.frame_start} to {scene.frame_end}",
            cure="PREVIEW_RANGE",
        )
    if scene.frame_end <= scene.frame_start:
        yield Check("MOTION", "WARNING", "The frame range has a single frame: set Start and End")
    if characters and scene.camera is not None:
        owners = [owner for obj in (*characters, scene.camera) for owner in movers(obj)]
        if not any(_is_keyed(owner) for owner in owners):
            yield Check(
                "MOTION",
                "WARNING",
                "Nothing is keyed: import a motion, key the body, or add a camera move",
                "",
                "ORBIT",
            )
    for obj in characters:
        last = _last_key(obj)
        if last is not None and scene.frame_start <= last < scene.frame_end - scene.render.fps:
            yield Check(
                "MOTION",
                "WARNING",
                f"The motion of {obj.name} ends at frame {last}, the shot at {scene.frame_end}: it stands still then",
                cure=f"END {last}",
            )


def _background(scene: bpy.types.Scene) -> Iterator[Check]:
    shot = scene.maquette
    if shot.background not in ("PICTURE", "VIDEO") or not model_checks.used(scene, "background"):
        return
    kind = "picture" if shot.background == "PICTURE" else "film"
    if not shot.background_path:
        yield Check("BACKGROUND", "ERROR", f"No background {kind}: choose a file, or another background", "", "SCENE")
    elif not Path(bpy.path.abspath(shot.background_path)).is_file():
        name = Path(shot.background_path).name
        yield Check("BACKGROUND", "ERROR", f"The background {kind} {name} is not there: choose it again", "", "SCENE")


def _upscale(scene: bpy.types.Scene) -> Iterator[Check]:
    shot, why = scene.maquette, backends.upscale_lack()
    level = list_quality().get(shot.quality)
    if why and shot.upscale != "OFF" and not (level is not None and level.carried):
        yield Check("UPSCALE", "ERROR", why[0].upper() + why[1:], cure="UPSCALE_OFF")


def movers(obj: bpy.types.Object) -> Iterator[bpy.types.ID]:
    """What can move an object: itself, its parents, its rigs, what its constraints follow, its shape keys."""
    seen: set[bpy.types.Object] = set()
    todo = [obj]
    while todo:
        current = todo.pop()
        if current in seen:
            continue
        seen.add(current)
        yield current
        if current.data is not None:
            yield current.data
            if getattr(current.data, "shape_keys", None) is not None:
                yield current.data.shape_keys
        todo += [current.parent] if current.parent is not None else []
        todo += [m.object for m in current.modifiers if getattr(m, "object", None) is not None]
        bones = current.pose.bones if current.pose is not None else ()
        for constraint in (*current.constraints, *(c for bone in bones for c in bone.constraints)):
            target = getattr(constraint, "target", None)
            if target is not None:
                todo.append(target)


def _last_key(obj: bpy.types.Object) -> int | None:
    """Frame of the last key of what moves an object; None where a curve goes on beyond its keys, or without keys."""
    last = None
    for owner in movers(obj):
        animation = getattr(owner, "animation_data", None)
        if animation is None:
            continue
        if animation.nla_tracks:
            return None
        for curve in curves_of(animation):
            if curve.modifiers or curve.extrapolation != "CONSTANT":
                return None
            if curve.keyframe_points:
                last = max(last or 0, round(curve.keyframe_points[-1].co.x))
    return last


def _is_keyed(owner: bpy.types.ID) -> bool:
    """Whether it has keys of its own; drivers only follow what is keyed elsewhere."""
    animation = getattr(owner, "animation_data", None)
    if animation is None:
        return False
    return animation.action is not None or any(track.strips for track in animation.nla_tracks)
