"""Bodies of the scene: whether an object is one, and the rig that ties its bones to its joints.

Shape letters: J joints, S shape components.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import bpy
import numpy as np

from ...backend.catalogue.reader import CatalogueError, find_preset
from ...backend.catalogue.rig import BodyFile, ShapeComponent

JOINT = "maquette_joint"
"""Custom property of a joint's bone: the joint's index."""
DIRECTIONS = "maquette_joint_directions"
"""Custom property of a body's armature: ``Rig.directions``, flat."""
FILE = "maquette_body_file"
"""Custom property of a body's armature: path of the animator's own body file, or ""."""
FRAME = "maquette_body_frame"
"""Custom property of a body's armature: ``Rig.frame``, row by row. Armatures without it lie in the canonical frame."""


class RigError(ValueError):
    """A rig that cannot be built, read or keyed.

    Attributes:
        field: the part at fault.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


@dataclass(frozen=True, eq=False)
class Rig:
    """One body of the scene and the numbers that tie its bones to its joints.

    Attributes:
        mesh: the skinned mesh object.
        armature: the armature object.
        bones: name of each joint's bone, in the body's joint order.
        parents: (J,) int; -1 is the root.
        frame: (4,4) float64, the canonical frame (Y up, pelvis at the origin) in the armature object's space.
        heads: (J,3) float64, joints of the mean shape in the canonical frame.
        rests: (J,3,3) float64, each bone's rest axes in the canonical frame, as columns.
        directions: (J,3,S) float64, displacement of each joint per unit of each shape component.
    """

    mesh: bpy.types.Object
    armature: bpy.types.Object
    bones: tuple[str, ...]
    parents: np.ndarray
    frame: np.ndarray
    heads: np.ndarray
    rests: np.ndarray
    directions: np.ndarray

    @property
    def root(self) -> str:
        """Name of the root joint's bone, the one that is free to move."""
        return self.bones[int(np.flatnonzero(self.parents < 0)[0])]

    @property
    def shape_keys(self) -> list[bpy.types.ShapeKey]:
        """The shape keys of the shape components, in order."""
        return shape_keys(self.mesh)

    def betas(self) -> np.ndarray:
        """(S,) float64 values of the shape keys as they stand."""
        return np.array([key.value for key in self.shape_keys], dtype=np.float64)

    def joints_rest(self, betas: np.ndarray) -> np.ndarray:
        """(J,3) float64 shaped joints in the canonical frame."""
        return self.heads + self.directions @ np.asarray(betas, dtype=np.float64)


def shape_key_name(component: int) -> str:
    """Name of a shape component's key."""
    return f"Shape{component:03d}"


def shape_keys(mesh: bpy.types.Object) -> list[bpy.types.ShapeKey]:
    """The shape keys ``Shape000``, ``Shape001`` ... of a mesh object, in order; empty when it has none."""
    keys = getattr(mesh.data, "shape_keys", None)
    if keys is None:
        return []
    found = []
    while (key := keys.key_blocks.get(shape_key_name(len(found)))) is not None:
        found.append(key)
    return found


@cache
def _components(body: str) -> tuple[ShapeComponent, ...]:
    try:
        return find_preset(BodyFile, body).shape
    except CatalogueError:
        return ()


def shape_component(body: str, component: int) -> ShapeComponent:
    """What the animator reads of a shape component of a body, by its id; a number where it has no name."""
    known = _components(body)
    if component < len(known):
        return known[component]
    return ShapeComponent(
        f"Shape {component + 1}", "A shape component of the body's own file, whose components have no names"
    )


def is_body(mesh: bpy.types.Object | None) -> bool:
    """Whether an object is the mesh of a parametric body that still hangs on its armature."""
    return mesh is not None and mesh.type == "MESH" and bool(mesh.maquette.body) and _armature_of(mesh) is not None


def find_body(obj: bpy.types.Object | None) -> bpy.types.Object | None:
    """The body mesh that an object belongs to: itself, or the one on that armature. None for anything else."""
    if obj is None:
        return None
    if obj.type == "MESH":
        return obj if is_body(obj) else None
    if obj.type == "ARMATURE" and DIRECTIONS in obj.data:
        for child in obj.children:
            if is_body(child) and _armature_of(child) == obj:
                return child
    return None


def _armature_of(mesh: bpy.types.Object) -> bpy.types.Object | None:
    for modifier in mesh.modifiers:
        if modifier.type == "ARMATURE" and modifier.object is not None and DIRECTIONS in modifier.object.data:
            return modifier.object
    return None


def load_rig(mesh: bpy.types.Object) -> Rig:
    """The rig of a body's mesh. Raises RigError when its armature or a joint is gone."""
    armature = _armature_of(mesh)
    if armature is None:
        raise RigError(mesh.name, "has no armature of a Maquette body; add a body with Add Body")
    found = sorted((bone[JOINT], bone) for bone in armature.data.bones if JOINT in bone)
    flat = np.array(armature.data[DIRECTIONS], dtype=np.float64)
    joints = len(found)
    if not joints or [index for index, _ in found] != list(range(joints)) or flat.size % (joints * 3):
        raise RigError(armature.name, "has lost joints of its body; undo their deletion or add the body again")
    numbers = {bone.name: index for index, bone in found}
    bones = [bone for _, bone in found]
    frame = np.reshape(armature.data.get(FRAME, np.eye(4).ravel()), (4, 4)).astype(np.float64)
    rest = np.linalg.inv(frame) @ np.array([bone.matrix_local for bone in bones], dtype=np.float64)
    return Rig(
        mesh=mesh,
        armature=armature,
        bones=tuple(bone.name for bone in bones),
        parents=np.array([numbers.get(bone.parent.name, -1) if bone.parent else -1 for bone in bones]),
        frame=frame,
        heads=rest[:, :3, 3],
        rests=_orthonormal(rest[:, :3, :3]),
        directions=flat.reshape(joints, 3, -1),
    )


def body_source(mesh: bpy.types.Object) -> str:
    """What ``load_body`` takes for a body of the scene: the path of the animator's own file, or an id."""
    armature = _armature_of(mesh)
    path = armature.data.get(FILE, "") if armature is not None else ""
    return bpy.path.abspath(path) if path else mesh.maquette.body


def _orthonormal(rotations: np.ndarray) -> np.ndarray:
    """The closest rotations (...,3,3): bones keep theirs in single precision only."""
    u, _, vt = np.linalg.svd(rotations)
    return u @ vt
