"""Drivers that make the joints follow the shape and the pose correctives follow the joints.

All expressions are plain arithmetic on variables. Blender evaluates such expressions itself, so they work where
Python scripts of a file are not trusted, and in a render farm.

Shape letters: J joints, V vertices, S shape components.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import bpy
import numpy as np

from .bodies import Rig, shape_key_name

_LONGEST = 255
"""Characters that a driver's expression holds."""
_NEGLIGIBLE = 5e-8
_VARIABLES = "abcdefghijklmnopqrstuvwxyz"


def add_shape_key(mesh: bpy.types.Object, name: str, positions: np.ndarray, limit: float) -> bpy.types.ShapeKey:
    """Add a shape key with vertex ``positions`` (V,3) and a slider from -limit to limit, at rest."""
    key = mesh.shape_key_add(name=name, from_mix=False)
    key.slider_min, key.slider_max = -limit, limit
    key.points.foreach_set("co", np.ascontiguousarray(positions, dtype=np.float32).ravel())
    key.value = 0.0
    return key


def polynomial(terms: Iterable[tuple[float, str]]) -> str:
    """``0.25*a-0.5*b`` of ``[(0.25, "a"), (-0.5, "b")]``; digits are dropped until Blender can hold it."""
    kept = [(factor, monomial) for factor, monomial in terms if abs(factor) > _NEGLIGIBLE]
    for digits in (9, 8, 7, 6):
        text = "".join(f"{factor:+.{digits}f}*{monomial}" for factor, monomial in kept).removeprefix("+")
        if len(text) <= _LONGEST:
            return text or "0"
    raise ValueError(f"too many terms for one driver: {len(kept)}")


def drive_joints(rig: Rig, root: str, deform: Mapping[str, str]) -> None:
    """Let the bones' locations follow the shape keys, so that the skeleton stays inside the body.

    Args:
        rig: a body whose shape keys exist.
        root: bone above the root joint that carries its displacement.
        deform: joint bone -> the bone that the vertices hang on.
    """
    parents = np.maximum(rig.parents, 0)
    relative = rig.directions - rig.directions[parents]
    for joint, bone in enumerate(rig.bones):
        to_bone = rig.rests[joint].T
        if rig.parents[joint] < 0:
            _drive_location(rig, root, to_bone @ rig.directions[joint])
        else:
            _drive_location(rig, bone, to_bone @ relative[joint])
        _drive_location(rig, deform[bone], -to_bone @ rig.directions[joint])


def _drive_location(rig: Rig, bone: str, directions: np.ndarray) -> None:
    """Drive a bone's location (3) by ``directions`` (3,S) @ shape values."""
    keys = rig.mesh.data.shape_keys
    path = rig.armature.pose.bones[bone].path_from_id("location")
    for axis in range(3):
        factors = directions[axis]
        used = [s for s in range(len(factors)) if abs(factors[s]) > _NEGLIGIBLE]
        if not used:
            continue
        driver = _new_driver(rig.armature.driver_add(path, axis))
        for component in used:
            variable = driver.variables.new()
            variable.name = _VARIABLES[component]
            target = variable.targets[0]
            target.id_type = "KEY"
            target.id = keys
            target.data_path = f'key_blocks["{shape_key_name(component)}"].value'
        driver.expression = polynomial((float(factors[s]), _VARIABLES[s]) for s in used)


def _new_driver(curve: bpy.types.FCurve) -> bpy.types.Driver:
    """The driver of a new curve, made to hand on its expression's value as it is.

    Blender puts a straight line under it, as keys or as a modifier. Values within 1e-4 of a key snap to that key.
    """
    for modifier in list(curve.modifiers):
        curve.modifiers.remove(modifier)
    curve.keyframe_points.clear()
    curve.driver.type = "SCRIPTED"
    return curve.driver


def add_pose_correctives(rig: Rig, posedirs: np.ndarray) -> None:
    """Add one shape key per element of ``R_j - I`` of every joint but the root, driven by the joint's rotation.

    Args:
        rig: the body.
        posedirs: (V,3,9*(J-1)), SMPL's pose blend shapes (Loper et al. 2015, Eq. 9), elements row by row.
    """
    keys = rig.mesh.data.shape_keys
    template = np.empty(len(rig.mesh.data.vertices) * 3, dtype=np.float32)
    keys.reference_key.points.foreach_get("co", template)
    template = template.reshape(-1, 3)
    turn = rig.frame[:3, :3].T
    for index in range(posedirs.shape[2]):
        joint, element = index // 9 + 1, index % 9
        name = f"Pose{index:03d}"
        key = add_shape_key(rig.mesh, name, template + posedirs[:, :, index] @ turn, 2.0)
        driver = _new_driver(key.driver_add("value"))
        for variable_name, channel in zip("wxyz", "WXYZ", strict=True):
            variable = driver.variables.new()
            variable.name = variable_name
            variable.type = "TRANSFORMS"
            target = variable.targets[0]
            target.id = rig.armature
            target.bone_target = rig.bones[joint]
            target.transform_type = f"ROT_{channel}"
            target.transform_space = "LOCAL_SPACE"
            target.rotation_mode = "QUATERNION"
        driver.expression = rotation_element(rig.rests[joint], element // 3, element % 3)


def rotation_element(rest: np.ndarray, row: int, column: int) -> str:
    """Expression for ``(R - I)[row, column]``, R the joint's rotation in the canonical frame.

    The variables w, x, y, z are the unit quaternion of the bone in its own rest axes (columns of ``rest`` (3,3)).
    With v the vector part turned into the canonical frame, R - I = 2 (v v^T - |v|^2 I) + 2 w [v]x.
    """
    monomials: dict[str, float] = {}

    def add(factor: float, monomial: str) -> None:
        monomials[monomial] = monomials.get(monomial, 0.0) + factor

    for i in range(3):
        for j in range(3):
            factor = 2.0 * rest[row, i] * rest[column, j]
            if row == column and i == j:
                factor -= 2.0
            add(factor, "*".join(sorted("xyz"[i] + "xyz"[j])))
    if row != column:
        third = 3 - row - column
        sign = -1.0 if (column - row) % 3 == 1 else 1.0
        for i in range(3):
            add(2.0 * sign * rest[third, i], f"w*{'xyz'[i]}")
    return polynomial((factor, monomial) for monomial, factor in monomials.items())
