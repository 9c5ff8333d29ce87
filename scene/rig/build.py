"""How a body becomes a Blender rig.

A body is an armature and a skinned mesh, both in the armature object's space: Z up, facing -Y, in metres, the floor
between the feet at the origin, so that an object at rest is a body that stands. ``Rig.frame`` leads there from the
body's canonical frame (Y up, facing +Z). For each SMPL joint there are two bones:

- the joint itself (``left_knee``), which the animator turns and which keys are written to;
- ``DEF-left_knee``, hidden, its child, which the vertices hang on.

The shape lives in shape keys (``Shape000`` ...), one per component, so that it can be keyed like any shape key. A
bone's rest position cannot be animated, so the joints follow the shape through drivers on the bones' locations
(plain arithmetic, which Blender evaluates without Python and without asking for trust). With J the joints of the
mean shape, d their displacement by the shape, p the parent of j and G the posed joints:

    location of joint j       =  d_j - d_p   ->  its head stands at the shaped joint, G_j
    location of DEF-j         = -d_j         ->  it moves vertices by G_j T(-d_j) T(-J_j) = G_j T(-(J_j + d_j))

The second line is linear blend skinning about the *shaped* joints, exactly as SMPL defines it (Loper et al. 2015,
Eq. 2-4). Nothing runs in a handler: it undoes, saves, links and renders like any driver. The pelvis keeps its
location for the root motion; a hidden parent, ``MCH-root``, carries its displacement.

Shape letters: J joints, V vertices, S shape components.
"""

from __future__ import annotations

import bpy
import numpy as np
from mathutils import Matrix, Vector

from ...backend.bodies import BodyModel
from . import drivers, paint
from .bodies import DIRECTIONS, FILE, FRAME, JOINT, Rig, load_rig, shape_key_name

SHAPE_COMPONENTS = 10
"""Shape components that become shape keys."""
SHAPE_LIMIT = 5.0
"""Shape keys run from minus this to plus this; three is already a rare body."""

UPRIGHT = Matrix(((1, 0, 0, 0), (0, 0, -1, 0), (0, 1, 0, 0), (0, 0, 0, 1)))
"""Canonical frame (Y up, facing +Z) to Blender's world (Z up, facing -Y)."""

_ROOT = "MCH-root"
_MAIN_CHILD = {"pelvis": "spine1", "spine3": "neck", "left_wrist": "left_middle1", "right_wrist": "right_middle1"}
_MIN_BONE = 0.02


def build_body(
    context: bpy.types.Context,
    body: BodyModel,
    *,
    name: str = "Body",
    betas: np.ndarray | None = None,
    location: Vector | tuple[float, float, float] = (0.0, 0.0, 0.0),
    source: str = "",
) -> Rig:
    """Add a body to the scene, standing on ``location`` and facing -Y. Nothing stays behind when it fails.

    Args:
        context: in Object Mode.
        body: the body model.
        name: of the mesh object; the armature gets ``NAME Rig``.
        betas: (S,) shape; missing components are zero, more than ten are dropped.
        location: world position of the floor between the feet, in metres.
        source: path of the body's file when it is the animator's own.
    """
    made: list[bpy.types.ID] = []
    active = context.view_layer.objects.active
    try:
        rig = _build(context, body, name, betas, Vector(location), made)
        rig.armature.data[FILE] = source
        return rig
    except Exception:
        for datablock in reversed(made):
            bpy.data.batch_remove([datablock])
        context.view_layer.objects.active = active
        raise


def remove_body(rig: Rig) -> None:
    """Take a body out of the file again, with everything that was made for it."""
    data = rig.mesh.data
    bpy.data.batch_remove([rig.mesh, rig.armature, data, rig.armature.data, *filter(None, data.materials)])


def _build(
    context: bpy.types.Context,
    body: BodyModel,
    name: str,
    betas: np.ndarray | None,
    location: Vector,
    made: list[bpy.types.ID],
) -> Rig:
    count = min(SHAPE_COMPONENTS, body.shapedirs.shape[2])
    shape = np.zeros(count)
    given = np.zeros(0) if betas is None else np.asarray(betas, dtype=np.float64)[:count]
    shape[: len(given)] = given
    heads = np.asarray(body.J_regressor, dtype=np.float64) @ body.v_template
    directions = np.einsum("jv,vcs->jcs", np.asarray(body.J_regressor, np.float64), body.shapedirs[:, :, :count])

    floor = float(body.shaped(shape.astype(np.float32))[:, 1].min())
    frame = Matrix.Translation((0.0, 0.0, -floor)) @ UPRIGHT

    armature = _build_armature(context, body, f"{name} Rig", heads, directions, frame, made)
    armature.matrix_world = Matrix.Translation(location)
    mesh = _build_mesh(body, name, count, np.array(frame), made)
    _link(context, mesh)
    mesh.parent = armature
    modifier = mesh.modifiers.new("Armature", "ARMATURE")
    modifier.object = armature
    for attribute in ("lock_location", "lock_rotation", "lock_scale"):
        setattr(mesh, attribute, (True, True, True))
    mesh.maquette.is_character = True
    mesh.maquette.body = body.id

    rig = load_rig(mesh)
    drivers.drive_joints(rig, _ROOT, {bone: _deform_name(bone) for bone in rig.bones})
    if body.posedirs is not None:
        drivers.add_pose_correctives(rig, body.posedirs)
    for key, value in zip(rig.shape_keys, shape, strict=True):
        key.value = value
    paint.paint_body(mesh, body, paint.next_palette(context.scene), made)
    return rig


def _deform_name(bone: str) -> str:
    return f"DEF-{bone}"


def _link(context: bpy.types.Context, obj: bpy.types.Object) -> None:
    """Put an object into the active collection, or the scene's own when that one does not show."""
    layer = context.view_layer.active_layer_collection
    shows = layer.is_visible and not layer.exclude and layer.collection.library is None
    (layer.collection if shows else context.scene.collection).objects.link(obj)


def _build_armature(
    context: bpy.types.Context,
    body: BodyModel,
    name: str,
    heads: np.ndarray,
    directions: np.ndarray,
    frame: Matrix,
    made: list[bpy.types.ID],
) -> bpy.types.Object:
    data = bpy.data.armatures.new(name)
    made.append(data)
    armature = bpy.data.objects.new(name, data)
    made.append(armature)
    _link(context, armature)
    context.view_layer.objects.active = armature
    bpy.ops.object.mode_set(mode="EDIT")
    try:
        _build_bones(data, body, heads, frame)
    finally:
        bpy.ops.object.mode_set(mode="OBJECT")

    data.display_type = "STICK"
    armature.show_in_front = True
    data[DIRECTIONS] = directions.ravel().tolist()
    data[FRAME] = np.array(frame).ravel().tolist()
    joints = data.collections.new("Joints")
    mechanism = data.collections.new("Mechanism")
    mechanism.is_visible = False
    numbers = {joint: index for index, joint in enumerate(body.joint_names)}
    for bone in data.bones:
        is_joint = bone.name in numbers
        (joints if is_joint else mechanism).assign(bone)
        bone.use_deform = bone.name.startswith("DEF-")
        if is_joint:
            bone[JOINT] = numbers[bone.name]
            side = bone.name.split("_")[0]
            bone.color.palette = {"left": "THEME01", "right": "THEME04"}.get(side, "THEME09")
    for pose_bone in armature.pose.bones:
        pose_bone.rotation_mode = "QUATERNION"
        index = numbers.get(pose_bone.name, -1)
        free = index == 0
        pose_bone.lock_location = (not free,) * 3
        pose_bone.lock_scale = (True,) * 3
        if index < 0:
            pose_bone.lock_rotation = (True,) * 3
            pose_bone.lock_rotation_w = True
    return armature


def _build_bones(data: bpy.types.Armature, body: BodyModel, heads: np.ndarray, frame: Matrix) -> None:
    tails = _bone_tails(body.joint_names, body.parents, heads)
    joints: list[bpy.types.EditBone] = []

    def add(name: str, index: int, parent: bpy.types.EditBone | None) -> bpy.types.EditBone:
        bone = data.edit_bones.new(name)
        bone.head, bone.tail = heads[index], tails[index]
        along = Vector(tails[index] - heads[index]).normalized()
        bone.align_roll((0, 1, 0) if abs(along.z) > 0.7 else (0, 0, 1))
        bone.parent = parent
        bone.use_connect = False
        return bone

    root = add(_ROOT, 0, None)
    for index, name in enumerate(body.joint_names):
        parent = int(body.parents[index])
        joints.append(add(name, index, root if parent < 0 else joints[parent]))
    for index, name in enumerate(body.joint_names):
        add(_deform_name(name), index, joints[index])
    for bone in data.edit_bones:
        bone.transform(frame)


def _bone_tails(names: tuple[str, ...], parents: np.ndarray, heads: np.ndarray) -> np.ndarray:
    """(J,3) where to draw each bone to: its child, the middle of its children, or onwards at the end of a limb."""
    tails = np.empty_like(heads)
    for index, name in enumerate(names):
        children = [child for child in range(len(names)) if parents[child] == index]
        main = [child for child in children if names[child] == _MAIN_CHILD.get(name)]
        if children:
            tails[index] = heads[main or children].mean(axis=0)
        elif parents[index] >= 0:
            tails[index] = heads[index] + 0.8 * (heads[index] - heads[parents[index]])
        along = tails[index] - heads[index]
        length = float(np.linalg.norm(along))
        if not children and parents[index] < 0:
            along, length = np.zeros(3), 0.0
        if length < _MIN_BONE:
            along = along / length if length > 1e-6 else np.array([0.0, 1.0, 0.0])
            tails[index] = heads[index] + _MIN_BONE * along
    return tails


def _build_mesh(
    body: BodyModel, name: str, shapes: int, frame: np.ndarray, made: list[bpy.types.ID]
) -> bpy.types.Object:
    data = bpy.data.meshes.new(name)
    made.append(data)
    mesh = bpy.data.objects.new(name, data)
    made.append(mesh)
    template = body.v_template @ frame[:3, :3].T + frame[:3, 3]
    # As ``from_pydata`` does, without its lists.
    data.vertices.add(len(template))
    data.vertices.foreach_set("co", template.astype(np.float32).ravel())
    data.loops.add(body.faces.size)
    data.loops.foreach_set("vertex_index", body.faces.astype(np.int32).ravel())
    data.polygons.add(len(body.faces))
    data.polygons.foreach_set("loop_start", np.arange(0, body.faces.size, 3, dtype=np.int32))
    data.update(calc_edges=True)

    weights = np.asarray(body.weights)
    for joint, joint_name in enumerate(body.joint_names):
        group = mesh.vertex_groups.new(name=_deform_name(joint_name))
        vertices = np.flatnonzero(weights[:, joint] > 0)
        for vertex, weight in zip(vertices.tolist(), weights[vertices, joint].tolist(), strict=True):
            group.add((vertex,), weight, "REPLACE")

    mesh.shape_key_add(name="Basis", from_mix=False)
    data.shape_keys.name = f"{name} Shape"
    for component in range(shapes):
        drivers.add_shape_key(
            mesh,
            shape_key_name(component),
            template + body.shapedirs[:, :, component] @ frame[:3, :3].T,
            SHAPE_LIMIT,
        )
    return mesh
