"""A character's own picture: the pose and the camera in which it shows the character, kept and taken.

The picture has a pose and a camera of its own, which the shot's keys know nothing of. They are kept with the reference;
while it is taken, the body stands in that pose before that camera, on a stage.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict

import bpy
import numpy as np
from mathutils import Matrix, Quaternion

from ...backend.bodies.matching import Match
from ...backend.bodies.rotations import axis_angle_to_matrix, axis_angle_to_quat
from ...backend.shot import ShotError
from ..rig.bodies import Rig, RigError, find_body, load_rig
from ..rig.channels import BodyReader
from ..stage import Changes, Stage, curves_of

_SENSOR = 36.0
_FLIP = np.diag([1.0, -1.0, -1.0])
"""Between Blender's camera (y up, looking along -z) and OpenCV's."""


def entry_of(marks: bpy.types.PropertyGroup, index: int) -> tuple[bpy.types.Image | None, bpy.types.PropertyGroup]:
    """Picture and match of one of a character's references; of the first one where ``index`` is negative."""
    if index < 0:
        return marks.reference_image, marks.reference_match
    entry = marks.references[index]
    return entry.image, entry.match


def keep(
    kept: bpy.types.PropertyGroup, image: bpy.types.Image, pins: Mapping[str, tuple[float, float]], found: Match
) -> None:
    """Keep a match with its reference, and let Blender hear of it.

    Args:
        pins: pixels of the picture, from its upper left corner.
    """
    width, height = image.size
    kept.pins.clear()
    for name, (x, y) in pins.items():
        pin = kept.pins.add()
        pin.name, pin.place = name, (x / width, y / height)
    kept.image = image
    kept.solution = json.dumps(
        {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in asdict(found).items()}
    )
    kept.id_data.update_tag()


def forget(kept: bpy.types.PropertyGroup) -> None:
    """Keep no match any more."""
    kept.pins.clear()
    kept.image, kept.solution = None, ""
    kept.id_data.update_tag()


def pins_of(kept: bpy.types.PropertyGroup, image: bpy.types.Image) -> dict[str, tuple[float, float]]:
    """The pins of a match, in pixels of its picture."""
    width, height = image.size
    return {pin.name: (pin.place[0] * width, pin.place[1] * height) for pin in kept.pins}


def match_of(kept: bpy.types.PropertyGroup, image: bpy.types.Image | None) -> Match | None:
    """The match of a picture; None where it has none, or where another picture was matched."""
    if not kept.solution or image is None or kept.image != image:
        return None
    try:
        found = json.loads(kept.solution)
        arrays = {key: np.array(found.pop(key), dtype=np.float64) for key in ("poses", "trans", "betas")}
        return Match(**arrays, **found)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None  # Of a later version, or written by hand.


def body_of(obj: bpy.types.Object, match: Match, field: str) -> Rig:
    """The rig that a match is of.

    Raises:
        ShotError: on ``field``: the mesh is no body, or another one than was matched.
    """
    try:
        rig = load_rig(obj) if find_body(obj) is not None else None
    except RigError as error:
        raise ShotError(field, str(error)) from error
    if rig is None or len(rig.bones) != len(match.poses):
        raise ShotError(field, f"'{obj.name}' is not the body that its picture was matched with; match it again")
    return rig


@contextmanager
def standing(
    stage: Stage, obj: bpy.types.Object, frame: int, match: Match, size: tuple[int, int], field: str
) -> Iterator[None]:
    """While the block runs, a body stands in the pose of its picture, and the stage's camera is the picture's.

    It stays where its armature is at a frame; the camera comes to it. Do not let a window draw meanwhile.

    Args:
        size: pixels of the picture, which the stage renders at from now on.

    Raises:
        ShotError: see ``body_of``.
    """
    rig = body_of(obj, match, field)
    for_a_while = Changes()
    try:
        _pose(rig, match, for_a_while)
        _set_up(stage, match, size)
        stage.at(frame)
        stage.update()
        _aim(stage, rig, match)
        stage.update()
        yield
    finally:
        for_a_while.undo()


def _pose(rig: Rig, match: Match, changes: Changes) -> None:
    """Let the rig stand in the pose and shape of a match, whatever keys, constraints and drivers say."""
    keys = rig.mesh.data.shape_keys
    for owner in (rig.armature, keys):
        animation = owner.animation_data if owner is not None else None
        for curve in curves_of(animation) if animation is not None else ():
            changes.set(curve, "mute", True)
    changes.set(rig.armature.data, "pose_position", "POSE")
    quaternions = axis_angle_to_quat(np.einsum("jba,jb->ja", rig.rests, match.poses))
    for index, name in enumerate(rig.bones):
        bone = rig.armature.pose.bones[name]
        for constraint in bone.constraints:
            changes.set(constraint, "mute", True)
        # The root stands upright; how it is turned says the camera.
        turn = Quaternion(quaternions[index].tolist()) if index else Quaternion()
        if bone.rotation_mode == "QUATERNION":
            changes.set(bone, "rotation_quaternion", tuple(turn))
        elif bone.rotation_mode == "AXIS_ANGLE":
            axis, angle = turn.to_axis_angle()
            changes.set(bone, "rotation_axis_angle", (angle, *axis))
        else:
            changes.set(bone, "rotation_euler", tuple(turn.to_euler(bone.rotation_mode)))
        changes.set(bone, "scale", (1.0, 1.0, 1.0))
    changes.set(rig.armature.pose.bones[rig.root], "location", (0.0, 0.0, 0.0))
    for key, value in zip(rig.shape_keys, match.betas, strict=False):
        changes.set(key, "value", float(np.clip(value, key.slider_min, key.slider_max)))


def _set_up(stage: Stage, match: Match, size: tuple[int, int]) -> None:
    """Give the stage a camera with the picture's lens, and the picture's size."""
    lens = bpy.data.cameras.new("Maquette Picture")
    stage.changes.made(lens)
    camera = bpy.data.objects.new("Maquette Picture", lens)
    stage.changes.made(camera)
    lens.sensor_fit, lens.sensor_width, lens.lens = "AUTO", _SENSOR, match.focal * _SENSOR
    lens.clip_start = 0.01
    scene = stage.scene
    scene.collection.objects.link(camera)
    scene.timeline_markers.clear()  # They would bind other cameras.
    scene.camera = camera
    render = scene.render
    render.resolution_x, render.resolution_y, render.resolution_percentage = *size, 100
    render.pixel_aspect_x = render.pixel_aspect_y = 1.0


def _aim(stage: Stage, rig: Rig, match: Match) -> None:
    """Place the stage's camera before the body."""
    depsgraph = stage.depsgraph
    reading = BodyReader(rig.mesh).read(depsgraph)
    world = np.array(rig.armature.evaluated_get(depsgraph).matrix_world, dtype=np.float64)
    scale = abs(np.linalg.det(world[:3, :3])) ** (1 / 3)
    root = int(np.flatnonzero(rig.parents < 0)[0])
    turned = axis_angle_to_matrix(np.asarray(match.poses[root], np.float64))
    rotation = turned @ axis_angle_to_matrix(reading.poses[root].astype(np.float64)).T
    # OpenCV's camera sees the root here; a rig of another size stands farther off.
    at = scale * (rig.joints_rest(_shape(rig, match))[root] + match.trans)
    matrix = np.eye(4)
    matrix[:3, :3] = rotation.T @ _FLIP
    matrix[:3, 3] = reading.joints[root] - rotation.T @ at
    stage.scene.camera.matrix_world = Matrix(matrix.tolist())


def _shape(rig: Rig, match: Match) -> np.ndarray:
    betas = np.zeros(rig.directions.shape[2])
    betas[: len(match.betas)] = match.betas[: len(betas)]
    return betas
