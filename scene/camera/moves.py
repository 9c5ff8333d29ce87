"""Camera moves in a scene: look at the characters over time, find a camera, key it.

Shape letters: T frames, N points, K sampled frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import bpy
import numpy as np
from mathutils import Matrix

from ...backend.catalogue.cameras import Move
from ...backend.shot.cameras import intrinsics
from .. import keys
from ..rig.bodies import Rig, is_body, load_rig
from ..rig.channels import continuous
from ..stage import open_stage, scene_kept
from .matrices import render_size
from .paths import CameraPath, MoveError, make_path

_SAMPLES = 24
_DIRECTIONS = 64
_BLENDER_CAMERA = np.diag([1.0, -1.0, -1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Extents:
    """Characters over time.

    Attributes:
        frames: (K,) sampled frame numbers.
        points: K arrays (N,3) float64 world: the outermost points of all characters.
        front: radians about Z in which the characters face on average; -pi/2 is -Y.
    """

    frames: np.ndarray
    points: list[np.ndarray]
    front: float


@dataclass(frozen=True, eq=False)
class Keyed:
    """What a camera move did.

    Attributes:
        camera: the camera object.
        notes: sentences for the animator.
        distance: metres from the characters' middle at distance 1.
    """

    camera: bpy.types.Object
    notes: tuple[str, ...]
    distance: float


def characters(scene: bpy.types.Scene) -> list[bpy.types.Object]:
    """The meshes of a scene that are marked as characters and will render, in the scene's order."""
    return [obj for obj in scene.objects if obj.type == "MESH" and obj.maquette.is_character and not obj.hide_render]


def extents_over_time(context: bpy.types.Context, targets: list[bpy.types.Object], first: int, last: int) -> Extents:
    """Where the characters are from frame ``first`` to ``last``. The scene is as before.

    Raises MoveError when a character has no vertices.
    """
    count = min(last - first + 1, _SAMPLES)
    frames = np.unique(np.rint(np.linspace(first, last, count))).astype(int)
    directions = _sphere(_DIRECTIONS)
    points: list[np.ndarray] = []
    fronts = []
    scene, layer = context.scene, context.view_layer
    rigs = {obj: load_rig(obj) for obj in targets if is_body(obj)}
    with scene_kept(scene, layer) as keeper:
        stage = open_stage(scene, layer, keeper.changes, targets)
        for frame in frames:
            depsgraph = stage.at(int(frame))
            points.append(np.concatenate([_outermost(obj, depsgraph, directions) for obj in targets]))
            fronts += [_front(obj, rigs.get(obj), depsgraph) for obj in targets]
    facing = np.sum(fronts, axis=0)
    front = float(np.arctan2(facing[1], facing[0])) if np.linalg.norm(facing) > 1e-3 else -np.pi / 2
    return Extents(frames.astype(np.float64), points, front)


def _sphere(count: int) -> np.ndarray:
    """(count,3) directions spread evenly over the sphere (Fibonacci lattice)."""
    index = np.arange(count) + 0.5
    height = 1 - 2 * index / count
    turn = np.pi * (1 + 5**0.5) * index
    flat = np.sqrt(1 - height**2)
    return np.stack([flat * np.cos(turn), flat * np.sin(turn), height], axis=1)


def _outermost(obj: bpy.types.Object, depsgraph: bpy.types.Depsgraph, directions: np.ndarray) -> np.ndarray:
    """(N,3) world points of an evaluated mesh that lie furthest out in each direction."""
    evaluated = obj.evaluated_get(depsgraph)
    mesh = evaluated.to_mesh()
    try:
        flat = np.empty(len(mesh.vertices) * 3, dtype=np.float32)
        if flat.size:
            # Much faster than vertices.foreach_get, which converts value by value.
            mesh.attributes["position"].data.foreach_get("vector", flat)
    finally:
        evaluated.to_mesh_clear()
    if not flat.size:
        raise MoveError(obj.name, "has no vertices to frame; give the mesh a shape or unmark it as a character")
    local = flat.reshape(-1, 3)
    matrix = np.array(evaluated.matrix_world, dtype=np.float64)
    # A row for each direction: looking along long rows is many times faster than across short ones.
    chosen = np.unique(((directions @ matrix[:3, :3]).astype(np.float32) @ local.T).argmax(axis=1))
    return local[chosen].astype(np.float64) @ matrix[:3, :3].T + matrix[:3, 3]


def _front(obj: bpy.types.Object, rig: Rig | None, depsgraph: bpy.types.Depsgraph) -> np.ndarray:
    """(2,) unit direction on the ground in which a character faces: a body's pelvis, else the object's -Y."""
    if rig is not None:
        armature = rig.armature.evaluated_get(depsgraph)
        matrix = np.array(armature.matrix_world @ armature.pose.bones[rig.bones[0]].matrix)
        facing = matrix[:3, :3] @ rig.rests[0].T @ np.array([0.0, 0.0, 1.0])
    else:
        facing = -np.array(obj.evaluated_get(depsgraph).matrix_world)[:3, 1]
    length = np.linalg.norm(facing[:2])
    return facing[:2] / length if length > 1e-6 else np.zeros(2)


def add_camera_move(
    context: bpy.types.Context,
    move: Move,
    targets: list[bpy.types.Object],
    first: int,
    last: int,
    *,
    amount: float = 1.0,
    distance: float = 1.0,
    angle: float = 0.0,
    seed: int = 0,
) -> Keyed:
    """Key a camera move from frame ``first`` to ``last`` around ``targets``.

    The scene's camera is used when it can be keyed freely, else a new one is made and becomes the scene's.

    Args:
        context: any mode.
        move: the preset.
        targets: meshes to frame.
        first, last: frames; ``last`` is not before ``first``.
        amount: scales the move. distance: factor on the distance that just fits.
        angle: radians added to the azimuth.
        seed: of handheld motion.

    Raises MoveError when the characters cannot be framed; the scene is untouched then.
    """
    scene = context.scene
    extents = extents_over_time(context, targets, first, last)
    reason = _why_not(scene.camera)
    data = scene.camera.data if not reason else None
    frames = np.arange(first, last + 1, dtype=np.float64)
    path = make_path(
        move,
        frames,
        keys.scene_fps(scene),
        extents.frames,
        extents.points,
        extents.front + angle,
        lambda lens: _intrinsics(scene, data, lens),
        render_size(scene.render),
        amount=amount,
        distance=distance,
        seed=seed,
    )
    if reason:
        camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
        scene.collection.objects.link(camera)
        scene.camera = camera
        note = f"New camera {camera.name}: {reason}"
    else:
        camera = scene.camera
        note = f"Camera {camera.name} keyed"
        if keys.has_keys(camera):
            note += "; its former action is kept in the file"
    _key(camera, path, frames, f"{move.label} {camera.name}")
    notes = [f"{note}, {move.label} over frames {first} to {last}"]
    bound = [m for m in scene.timeline_markers if m.camera is not None and m.camera != camera and m.frame <= last]
    if bound:
        notes.append(f"Marker {bound[0].name} switches to camera {bound[0].camera.name}; unbind it to see this move")
    notes += _widen_clipping(camera, extents, path)
    return Keyed(camera, tuple(notes), path.distance)


def _why_not(camera: bpy.types.Object | None) -> str:
    """Why a camera cannot be keyed freely; empty when it can."""
    if camera is None:
        return "the scene had none"
    if camera.type != "CAMERA":
        return f"{camera.name} is no camera"
    if camera.library or camera.data.library or camera.override_library:
        return f"{camera.name} is linked from another file"
    if camera.parent is not None or len(camera.constraints):
        return f"{camera.name} follows a parent or constraint"
    if camera.data.users > 1:
        return f"{camera.name} shares its lens with another camera"
    if camera.data.type != "PERSP":
        return f"{camera.name} is not a perspective camera"
    return ""


def _intrinsics(scene: bpy.types.Scene, data: bpy.types.Camera | None, lens: float) -> np.ndarray:
    """K (3,3) of the scene's picture for a camera, or for a new one, with another lens."""
    width, height = render_size(scene.render)
    sensor = (36.0, 24.0, "AUTO", 0.0, 0.0)
    if data is not None:
        sensor = (data.sensor_width, data.sensor_height, data.sensor_fit, data.shift_x, data.shift_y)
    return intrinsics(lens, *sensor, width, height, scene.render.pixel_aspect_x, scene.render.pixel_aspect_y)


def _key(camera: bpy.types.Object, path: CameraPath, frames: np.ndarray, action_name: str) -> None:
    matrices = np.linalg.inv(path.viewmats) @ _BLENDER_CAMERA
    turns = [Matrix(matrix.tolist()) for matrix in matrices[:, :3, :3]]
    camera.delta_location = camera.delta_rotation_euler = (0.0, 0.0, 0.0)
    camera.delta_rotation_quaternion = (1.0, 0.0, 0.0, 0.0)
    camera.scale = camera.delta_scale = (1.0, 1.0, 1.0)
    if camera.rotation_mode in ("QUATERNION", "AXIS_ANGLE"):
        camera.rotation_mode = "QUATERNION"
        rotations = continuous(np.array([turn.to_quaternion() for turn in turns], dtype=np.float64))
        rotation_path = "rotation_quaternion"
    else:
        eulers = [turns[0].to_euler(camera.rotation_mode)]
        for turn in turns[1:]:
            eulers.append(turn.to_euler(camera.rotation_mode, eulers[-1]))
        rotations = np.array(eulers, dtype=np.float64)
        rotation_path = "rotation_euler"
    keys.write_keys(
        camera,
        frames,
        [
            *keys.channels_of("location", matrices[:, :3, 3], "Location"),
            *keys.channels_of(rotation_path, rotations, "Rotation"),
        ],
        action_name=action_name,
    )
    keys.write_keys(
        camera.data, frames, [keys.Channel("lens", 0, path.lenses, "Lens")], action_name=f"{action_name} Lens"
    )


def _widen_clipping(camera: bpy.types.Object, extents: Extents, path: CameraPath) -> list[str]:
    """Let the camera see as far as the characters stand."""
    centers = np.linalg.inv(path.viewmats)[:, :3, 3]
    everything = np.concatenate([p[:: max(len(p) // 8, 1)] for p in extents.points])
    reach = float(np.linalg.norm(centers[:, None] - everything[None], axis=-1).max())
    if reach <= camera.data.clip_end:
        return []
    camera.data.clip_end = 2 * reach
    return [f"Clip End of {camera.name} set to {2 * reach:.0f} m to reach the characters"]
