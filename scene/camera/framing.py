"""How the shot lies in the camera that a joint-driven model knows: measured on demand, shown until the scene changes.

Shape letters: T frames, J joints (24).
"""

from __future__ import annotations

from dataclasses import dataclass

import bpy
import numpy as np

from ...backend.shot import ShotError
from ...backend.shot.framing import framing
from ..checks import Check
from ..rig.characters import armatures_of, find_characters
from ..rig.joints import JointReader, joint_reader
from ..stage import open_stage, scene_kept, shown_layer
from .matrices import CameraView, read_camera, render_size
from .timeline import shot_frames

_SAME = 1e-4


@dataclass(frozen=True, eq=False)
class ObservedShot:
    """The shot as its camera sees it.

    Attributes:
        frames: (T,) of the scene.
        views: T cameras.
        joints: (T,24,3) float64 world for each character that has a humanoid skeleton, by its name.
        middles: (T,3) float64 world for every character: the pelvis, or the middle of its box.
    """

    frames: np.ndarray
    views: list[CameraView]
    joints: dict[str, np.ndarray]
    middles: dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class _Measured:
    """What was found out, and of which state of the scene."""

    scene: str
    settings: tuple[object, ...]
    seen: ObservedShot


_measured: _Measured | None = None


def observe(scene: bpy.types.Scene) -> ObservedShot:
    """See the whole shot; the scene is as before.

    Raises:
        ShotError: there is no camera or no character, or the frame range is empty.
    """
    layer = shown_layer(scene)
    frames = shot_frames(scene)
    characters = find_characters(scene, layer)
    readers = {obj.name: reader for obj in characters if (reader := _reader(obj)) is not None}
    views: list[CameraView] = []
    joints: dict[str, list[np.ndarray]] = {name: [] for name in readers}
    middles: dict[str, list[np.ndarray]] = {obj.name: [] for obj in characters}
    armatures = [reader.armature for reader in readers.values()]
    cameras = [obj for obj in scene.objects if obj.type == "CAMERA"]
    # Where joints are read, no mesh need be deformed.
    meshes = [obj for obj in characters if obj.name not in readers]
    with scene_kept(scene, layer) as keeper:
        stage = open_stage(scene, layer, keeper.changes, [*meshes, *armatures, *cameras])
        for frame in frames:
            depsgraph = stage.at(frame)
            views.append(read_camera(stage.scene, depsgraph))
            for obj in characters:
                if obj.name in readers:
                    joints[obj.name].append(readers[obj.name].read(depsgraph))
                    middles[obj.name].append(joints[obj.name][-1][0])
                else:
                    middles[obj.name].append(_middle(obj, depsgraph))
    return ObservedShot(
        np.array(frames, dtype=np.float64),
        views,
        {name: np.stack(values) for name, values in joints.items()},
        {name: np.stack(values) for name, values in middles.items()},
    )


def measure(scene: bpy.types.Scene) -> list[Check]:
    """Look at the shot and say how well it is framed; shown by the panel until the scene changes.

    Raises:
        ShotError: see ``observe``; or no character has a skeleton to go by.
    """
    global _measured
    seen = observe(scene)
    if not seen.joints:
        raise ShotError("characters", "none has a humanoid skeleton whose joints could be framed; add a body")
    _measured = _Measured(scene.name, _settings(scene), seen)
    lines = _lines(scene, seen)
    view = bpy.context.window_manager.maquette
    view.framing.clear()
    for line in lines:
        item = view.framing.add()
        item.kind, item.level, item.message, item.target = line.kind, line.level, line.message, line.target
    view.framed_scene, view.framing_old = scene.name, False
    return lines


def publish(scene: bpy.types.Scene) -> bool:
    """Note whether the scene is still as it was measured; returns whether that has changed."""
    view = bpy.context.window_manager.maquette
    if _measured is None or view.framed_scene != scene.name or view.framing_old or not _changed(scene, _measured):
        return False
    view.framing_old = True
    return True


def _lines(scene: bpy.types.Scene, seen: ObservedShot) -> list[Check]:
    width, height = render_size(scene.render)
    viewmats = np.stack([view.viewmat for view in seen.views])
    Ks = np.stack([view.K for view in seen.views])
    lines: list[Check] = []
    for name, joints in seen.joints.items():
        found = framing(joints, viewmats, Ks, width, height)
        said = found.warnings(name)
        lines += [Check("FRAMING", "WARNING", sentence, name) for sentence in said]
        if not said:
            words = f"{name} is framed as the model knows it: {found.angle:.0f}°, {found.distance:.1f} m away"
            lines.append(Check("FRAMING", "OK", words, name))
    # What is wrong with the camera is said once, not for every body.
    unique = {line.message: line for line in lines}
    return list(unique.values())


def _changed(scene: bpy.types.Scene, known: _Measured) -> bool:
    """Whether anything that was measured is different now, as far as the frame that shows can tell."""
    if known.scene != scene.name or known.settings != _settings(scene):
        return True
    seen = known.seen
    at = np.flatnonzero(seen.frames == scene.frame_current)
    if not at.size or scene.frame_subframe:
        return False
    depsgraph = bpy.context.evaluated_depsgraph_get()
    if depsgraph.scene != scene and depsgraph.scene.original != scene:
        return False
    try:
        view = read_camera(scene, depsgraph)
        before = seen.views[at[0]]
        if not (np.allclose(view.viewmat, before.viewmat, atol=_SAME) and np.allclose(view.K, before.K, atol=0.1)):
            return True
        for name, joints in seen.joints.items():
            obj = scene.objects.get(name)
            reader = _reader(obj) if obj is not None and obj.maquette.is_character else None
            if reader is None or not np.allclose(reader.read(depsgraph), joints[at[0]], atol=_SAME):
                return True
    except ShotError:
        return True
    return False


def _settings(scene: bpy.types.Scene) -> tuple[object, ...]:
    return scene.frame_start, scene.frame_end, scene.frame_step, *render_size(scene.render)


def _reader(obj: bpy.types.Object) -> JointReader | None:
    return next((reader for reader in map(joint_reader, armatures_of(obj)) if reader is not None), None)


def _middle(obj: bpy.types.Object, depsgraph: bpy.types.Depsgraph) -> np.ndarray:
    """(3,) world middle of an object's box."""
    evaluated = obj.evaluated_get(depsgraph)
    box = np.array(evaluated.bound_box, dtype=np.float64).mean(axis=0)
    return (np.array(evaluated.matrix_world, dtype=np.float64) @ np.append(box, 1.0))[:3]
