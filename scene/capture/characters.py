"""Characters while they are captured: their rest pose, and the spots on their skin.

Shape letters: T frames, N points, V vertices, F triangles.

The canonical frame is SMPL's: Y up, facing +Z, left side at +X, pelvis at the origin, in metres.
"""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass, field

import bpy
import numpy as np

from ...backend.bodies.sampling import SurfaceSamples, sample_surface
from ...backend.shot import SMPL_JOINT_NAMES, BodyPose, ShotError
from ...backend.shot.validate import MAX_CHARACTERS
from ..rig.bodies import is_body
from ..rig.channels import BodyReader
from ..rig.characters import armatures_of, worn_by
from ..rig.joints import JointReader, joint_reader
from ..stage import Stage
from .keypoints import KeypointReader, keypoint_reader
from .mesh import MeshReader, MeshReading

_MAX_BODY_ERROR = 1e-3
"""Metres between a rig's joints and those of its parameters above which the parameters are not sent."""


@dataclass(eq=False)
class Performer:
    """One character while it is captured.

    Attributes:
        object: the mesh object.
        worn: what it wears.
        mesh: reads its evaluated mesh.
        samples: the N spots on its skin.
        rest_points: (N,3) float64 canonical.
        height: metres, the longest side of the rest pose.
        joints: reads its joints, or None.
        body: reads its body parameters, or None.
        keypoints: reads its keypoints, or None.
    """

    object: bpy.types.Object
    worn: set[bpy.types.Object]
    mesh: MeshReader
    samples: SurfaceSamples
    rest_points: np.ndarray
    height: float
    joints: JointReader | None
    body: BodyReader | None
    keypoints: KeypointReader | None = None
    points_T: list[np.ndarray] = field(default_factory=list)
    visibility_T: list[np.ndarray] = field(default_factory=list)
    joints_T: list[np.ndarray] = field(default_factory=list)
    body_T: list = field(default_factory=list)
    keypoints_T: list[np.ndarray] = field(default_factory=list)
    states_T: list[np.ndarray] = field(default_factory=list)

    def read(self, depsgraph: bpy.types.Depsgraph) -> tuple[np.ndarray, MeshReading]:
        """The spots in the world (N,3) float64, and the mesh they are on."""
        reading = self.mesh.read(depsgraph)
        local = self.samples.apply(reading.vertices, reading.topology.triangles)
        return local.astype(np.float64) @ reading.matrix[:3, :3].T + reading.matrix[:3, 3], reading

    def body_pose(self, notices: list[str]) -> BodyPose | None:
        """The body parameters of all frames read, when the body could be rebuilt from them."""
        if not self.body_T:
            return None
        name = self.object.name
        worst = max(reading.error for reading in self.body_T)
        if worst > _MAX_BODY_ERROR:
            notices.append(
                f"'{name}': its bones are stretched, scaled or moved by up to {worst * 1000:.0f} mm, as its body model "
                "cannot be; its surface is sent, its body parameters are not"
            )
            return None
        betas = np.stack([reading.betas for reading in self.body_T])
        if np.ptp(betas, axis=0).max() > 1e-4:
            notices.append(
                f"'{name}': its shape changes during the shot; its surface is sent, its body parameters are not"
            )
            return None
        return BodyPose(
            body=self.body_T[0].body,
            betas=betas[0].astype(np.float32),
            poses=np.stack([reading.poses for reading in self.body_T]).astype(np.float32),
            trans=np.stack([reading.trans for reading in self.body_T]).astype(np.float32),
        )


def prepare(
    stage: Stage,
    characters: list[bpy.types.Object],
    count: int,
    frame: int,
    keypoints: bool = False,
    notices: list[str] | None = None,
) -> list[Performer]:
    """Put all characters in their rest pose, choose N spots on each, and measure them there.

    Args:
        stage: holds the characters.
        count: N.
        frame: where to evaluate what no armature can put at rest.
        keypoints: whether to find those too, on characters with the joints of a human.
        notices: sentences for the animator are appended.

    Raises:
        ShotError: a character in Edit Mode, without a surface, or with NaN.
    """
    armatures = {obj: armatures_of(obj) for obj in characters}
    for obj in characters:
        for part in (obj, *armatures[obj]):
            if part.mode == "EDIT":
                raise ShotError(
                    f"characters.{obj.name}", f"'{part.name}' is in Edit Mode; leave it (Tab) and try again"
                )
    rest = type(stage.changes)()
    try:
        for armature in {a for found in armatures.values() for a in found}:
            rest.set(armature.data, "pose_position", "REST")
        depsgraph = stage.at(frame)
        stage.update()
        notes = notices if notices is not None else []
        return [_prepare(stage, obj, armatures[obj], count, depsgraph, keypoints, notes) for obj in characters]
    finally:
        rest.undo()
        stage.update()


def _prepare(
    stage: Stage,
    obj: bpy.types.Object,
    armatures: list[bpy.types.Object],
    count: int,
    depsgraph: bpy.types.Depsgraph,
    keypoints: bool,
    notices: list[str],
) -> Performer:
    reader = MeshReader(obj)
    reading = reader.read(depsgraph)
    vertices, matrix, triangles = reading.vertices, reading.matrix, reading.topology.triangles
    if not armatures and len(obj.data.vertices) == len(vertices):
        flat = np.empty(len(vertices) * 3, dtype=np.float32)
        obj.data.vertices.foreach_get("co", flat)
        vertices = flat.reshape(-1, 3)
    placed = vertices.astype(np.float64) @ matrix[:3, :3].T
    corners = placed[triangles]
    area = 0.5 * np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1).sum()
    if not area > 1e-9:
        raise ShotError(f"characters.{obj.name}", f"'{obj.name}' has a surface without area; check its scale")
    samples = _sampled(placed, triangles, count)

    joints = next((r for r in map(joint_reader, armatures) if r is not None), None)
    owner = joints.armature if joints is not None else (armatures[0] if armatures else obj)
    turn = np.array(owner.evaluated_get(depsgraph).matrix_world, dtype=np.float64)[:3, :3]
    joints_rest = None if joints is None else joints.read(depsgraph) - matrix[:3, 3]
    to_canonical = canonical_axes(turn, joints_rest)
    points = samples.apply(placed, triangles) @ to_canonical.T
    origin = (
        points.mean(axis=0) if joints_rest is None else to_canonical @ joints_rest[SMPL_JOINT_NAMES.index("pelvis")]
    )
    height = float(np.ptp(placed, axis=0).max())
    spots = None
    if keypoints and joints is not None:
        spots = keypoint_reader(obj, joints, depsgraph, reading, to_canonical, height, notices)
    elif keypoints:
        notices.append(
            f"'{obj.name}' has no skeleton whose joints are known: no pose can be drawn of it. Name its bones as one "
            "of presets/skeletons does"
        )
    return Performer(
        object=obj,
        worn=worn_by(obj, stage.scene),
        mesh=reader,
        samples=samples,
        rest_points=points - origin,
        height=height,
        joints=joints,
        body=BodyReader(obj) if is_body(obj) else None,
        keypoints=spots,
    )


def _sampled(placed: np.ndarray, triangles: np.ndarray, count: int) -> SurfaceSamples:
    """N spots on a surface, chosen once for each of the newest surfaces."""
    key = (hashlib.blake2b(placed.tobytes() + triangles.tobytes()).digest(), count)
    if key not in _samples:
        _samples[key] = sample_surface(placed, triangles, count, seed=0)
        if len(_samples) > MAX_CHARACTERS:
            del _samples[next(iter(_samples))]
    return _samples[key]


_samples: dict[tuple[bytes, int], SurfaceSamples] = {}


def canonical_axes(turn: np.ndarray, joints: np.ndarray | None) -> np.ndarray:
    """Rotation (3,3) from the world, in which a rest pose may stand turned, to the canonical frame.

    Args:
        turn: (3,3) linear part of the world matrix of the object that carries the rest pose.
        joints: (24,3) rest joints in the world. Without them a rest pose is taken to stand on the axis that points
            up in the world, facing -Y when that is the object's Z and +Z when it is its Y, as importers leave it.
    """
    u, _, vt = np.linalg.svd(turn)
    rotation = u @ vt
    if np.linalg.det(rotation) < 0:
        rotation = u @ np.diag([1, 1, -1]) @ vt
    if joints is None:
        z_up = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
        return (z_up if abs(rotation[2, 2]) >= abs(rotation[2, 1]) else np.eye(3)) @ rotation.T
    place = dict(zip(SMPL_JOINT_NAMES, joints @ rotation, strict=True))
    left = place["left_hip"] + place["left_shoulder"] - place["right_hip"] - place["right_shoulder"]
    up = place["neck"] - place["pelvis"]
    # The nearest of the 24 turns by right angles: a rest pose leans a little, its axes do not.
    best = max(
        _RIGHT_ANGLES,
        key=lambda axes: axes[0] @ left / np.linalg.norm(left) + axes[1] @ up / np.linalg.norm(up),
    )
    return best @ rotation.T


def _right_angles() -> list[np.ndarray]:
    found = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            axes = np.zeros((3, 3))
            axes[range(3), order] = signs
            if np.linalg.det(axes) > 0:
                found.append(axes)
    return found


_RIGHT_ANGLES = _right_angles()
