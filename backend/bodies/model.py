"""Bodies of the SMPL family: shape, pose correctives, linear blend skinning.

Shape letters: T frames, V vertices, F triangles, J joints, S betas.

Conventions are SMPL's (Loper et al., "SMPL: A Skinned Multi-Person Linear Model", 2015, Sec. 3): the canonical frame is
Y up, facing +Z, left side at +X, in metres; the root turns about its own rest joint, and the translation is added after
posing. Poses are axis-angle in radians, each joint relative to its parent; those of the hands are whole rotations, as
AMASS and SMPL-X's own files store them (smplx's ``flat_hand_mean=True``). Faces are neutral.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ..shot.types import SMPL_JOINT_NAMES
from .check import ARRAYS, check_arrays
from .landmarks import Landmarks
from .rotations import axis_angle_to_matrix
from .types import BodyError

# SMPL-24's hands turn the fingers together; the root of the middle finger stands for them in the other families.
_STANDS_FOR = {"left_hand": "left_middle1", "right_hand": "right_middle1"}
# Bytes of work space that posing may use at a time.
_CHUNK = 64 << 20


@dataclass(frozen=True, eq=False)
class Posed:
    """A posed body.

    Attributes:
        vertices: (T,V,3) float32, or the subset of vertices that was asked for.
        joints: (T,J,3) float32.
    """

    vertices: np.ndarray
    joints: np.ndarray


@dataclass(frozen=True, eq=False)
class BodyModel:
    """One body model. Its arrays are checked when it is made, and read-only.

    Attributes:
        id: what a Shot names it by, such as ``maquette_neutral`` or ``smplx_female``.
        family: ``smpl``, ``smplh`` or ``smplx``.
        joint_names: J names.
        parents: (J,) int32, parents before children, -1 for the root.
        v_template: (V,3) float32, mean shape at rest.
        faces: (F,3) int32, counter-clockwise seen from outside.
        weights: (V,J) float32, rows add up to one.
        shapedirs: (V,3,S) float32, metres for a beta of one (a standard deviation).
        posedirs: (V,3,9*(J-1)) float32 pose correctives, or None.
        J_regressor: (J,V) float32, rows add up to one: joints from the shaped vertices.
        regions: (V,) uint8, index into region_names, or None.
        region_names: names of the painted regions.
        landmarks: keypoints of face and hands on the skin, or None.
        label: name to show.
        license: SPDX expression, or empty when unknown.
    """

    id: str
    family: str
    joint_names: tuple[str, ...]
    parents: np.ndarray
    v_template: np.ndarray
    faces: np.ndarray
    weights: np.ndarray
    shapedirs: np.ndarray
    posedirs: np.ndarray | None
    J_regressor: np.ndarray
    regions: np.ndarray | None = None
    region_names: tuple[str, ...] = ()
    landmarks: Landmarks | None = None
    label: str = ""
    license: str = ""

    def __post_init__(self) -> None:
        arrays = {name: getattr(self, name) for name in ARRAYS}
        check_arrays(self.family, self.joint_names, {k: v for k, v in arrays.items() if v is not None})
        if self.regions is not None and self.regions.max() >= len(self.region_names):
            raise BodyError("regions", f"name a region that does not exist; there are {len(self.region_names)}")
        for array in arrays.values():
            if array is not None:
                array.setflags(write=False)

    def joints_rest(self, betas: np.ndarray | None = None) -> np.ndarray:
        """Joints (J,3) float32 of the shaped body at rest, canonical frame. betas (S,) or fewer."""
        return self._joints_rest(betas).astype(np.float32)

    def shaped(self, betas: np.ndarray | None = None) -> np.ndarray:
        """Vertices (V,3) float32 of the shaped body at rest, canonical frame (SMPL's Eq. 8).

        Args:
            betas: (S,) or fewer, the rest being zero; None is the mean shape.

        Raises:
            BodyError: more coefficients than the body has, or not finite ones.
        """
        betas = _coefficients(betas, self.shapedirs.shape[2], "betas")
        vertices = self.v_template + self.shapedirs[:, :, : len(betas)] @ betas
        return vertices.astype(np.float32)

    def forward_kinematics(
        self,
        betas: np.ndarray | None,
        poses: np.ndarray,
        trans: np.ndarray | None = None,
    ) -> np.ndarray:
        """World transforms of the joints (SMPL's Eq. 4): rotation, and the place of the joint.

        Args:
            betas: (S,) or fewer, or None.
            poses: (T,J,3) axis-angle.
            trans: (T,3) metres, or None for none.

        Returns:
            (T,J,4,4) float32.

        Raises:
            BodyError: a shape that does not fit, or numbers that are not finite.
        """
        poses, trans = self._check_motion(poses, trans)
        world = self._world(self._joints_rest(betas), axis_angle_to_matrix(poses))
        world[:, :, :3, 3] += trans[:, None]
        return world.astype(np.float32)

    def pose(
        self,
        betas: np.ndarray | None,
        poses: np.ndarray,
        trans: np.ndarray | None = None,
        subset: np.ndarray | None = None,
    ) -> Posed:
        """Posed vertices and joints (SMPL's Eq. 2, 6 and 9).

        Args:
            betas: (S,) or fewer, or None for the mean shape.
            poses: (T,J,3) axis-angle; the root's turns the canonical frame into the world.
            trans: (T,3) metres, added after posing, or None for none.
            subset: (K,) indices of the vertices wanted, or None for all; work is proportional to them.

        Returns:
            ``Posed`` with vertices (T,V,3) or (T,K,3) and joints (T,J,3), float32.

        Raises:
            BodyError: a shape that does not fit, or numbers that are not finite.
        """
        poses, trans = self._check_motion(poses, trans)
        shaped = self.shaped(betas)
        rest = self._joints_rest(betas)
        weights, posedirs = self.weights, self.posedirs
        if subset is not None:
            subset = np.asarray(subset)
            shaped, weights = shaped[subset], weights[subset]
            posedirs = None if posedirs is None else posedirs[subset]
        rotations = axis_angle_to_matrix(poses)
        world = self._world(rest, rotations)
        joints = world[:, :, :3, 3] + trans[:, None]
        # Transforms relative to the rest pose: of the joints' motion only what moves a vertex that lies at rest.
        relative = world[:, :, :3, :].copy()
        relative[:, :, :, 3] -= np.einsum("tjab,jb->tja", world[:, :, :3, :3], rest)
        relative[:, :, :, 3] += trans[:, None]
        if posedirs is None:
            vertices = _skin_rigid(shaped, weights, relative)
        else:
            feature = (rotations[:, 1:] - np.eye(3)).reshape(len(poses), -1).astype(np.float32)
            vertices = _skin_corrected(shaped, weights, relative, posedirs, feature)
        return Posed(vertices, joints.astype(np.float32))

    def smpl_joints(self, joints: np.ndarray) -> np.ndarray:
        """The 24 joints of SMPL, in its order, out of this body's joints (...,J,3): (...,24,3)."""
        return np.asarray(joints)[..., self._smpl_indices, :]

    def with_id(self, id: str) -> BodyModel:
        """The same body under another id."""
        return replace(self, id=id)

    @cached_property
    def _smpl_indices(self) -> np.ndarray:
        names = self.joint_names
        return np.array([names.index(n if n in names else _STANDS_FOR[n]) for n in SMPL_JOINT_NAMES])

    @cached_property
    def _regressed(self) -> tuple[np.ndarray, np.ndarray]:
        """The regressor applied to the template and the shape directions once: joints are linear in betas."""
        regressor = self.J_regressor.astype(np.float64)
        return regressor @ self.v_template, np.tensordot(regressor, self.shapedirs, 1)

    def _joints_rest(self, betas: np.ndarray | None) -> np.ndarray:
        template, shape = self._regressed
        betas = _coefficients(betas, shape.shape[2], "betas")
        return template + shape[:, :, : len(betas)] @ betas

    def _check_motion(self, poses: np.ndarray, trans: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        poses = np.asarray(poses, np.float64)
        count = len(self.parents)
        if poses.ndim != 3 or poses.shape[1:] != (count, 3):
            raise BodyError(
                "poses", f"shape {poses.shape} does not fit the {self.family} body {self.id}; it takes (T, {count}, 3)"
            )
        trans = np.zeros((len(poses), 3)) if trans is None else np.asarray(trans, np.float64)
        if trans.shape != (len(poses), 3):
            raise BodyError("trans", f"shape {trans.shape} does not fit the poses; {(len(poses), 3)} is needed")
        for name, values in (("poses", poses), ("trans", trans)):
            if not np.isfinite(values).all():
                frame = int(np.argwhere(~np.isfinite(values))[0][0])
                raise BodyError(name, f"frame {frame} holds a number that is not finite; repair the motion")
        return poses, trans

    def _world(self, rest: np.ndarray, rotations: np.ndarray) -> np.ndarray:
        """Transforms (T,J,4,4) float64 of the joints down the chain, from rest joints (J,3) and rotations (T,J,3,3)."""
        world = np.zeros((*rotations.shape[:2], 4, 4))
        world[..., 3, 3] = 1
        for j, parent in enumerate(self.parents):
            if parent < 0:
                world[:, j, :3, :3], world[:, j, :3, 3] = rotations[:, j], rest[j]
            else:
                above = world[:, parent]
                world[:, j, :3, :3] = above[:, :3, :3] @ rotations[:, j]
                world[:, j, :3, 3] = above[:, :3, :3] @ (rest[j] - rest[parent]) + above[:, :3, 3]
        return world


def _coefficients(values: np.ndarray | None, count: int, name: str) -> np.ndarray:
    if values is None:
        return np.zeros(0, np.float32)
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or len(values) > count:
        raise BodyError(name, f"shape {values.shape} does not fit; the body takes at most {count} coefficients")
    if not np.isfinite(values).all():
        raise BodyError(name, "holds a number that is not finite")
    return values


def _skin_rigid(shaped: np.ndarray, weights: np.ndarray, relative: np.ndarray) -> np.ndarray:
    """Skin vertices (V,3) that are the same in all frames by transforms (T,J,3,4): (T,V,3).

    A posed vertex is linear in the transforms, so one matrix (V,4J) of weighted homogeneous vertices serves all frames.
    """
    count, joints = weights.shape
    spread = np.empty((count, joints, 4), np.float32)
    spread[:, :, :3] = weights[:, :, None] * shaped[:, None]
    spread[:, :, 3] = weights
    spread = spread.reshape(count, -1)
    posed = np.empty((len(relative), count, 3), np.float32)
    step = max(1, _CHUNK // (count * 12))
    for start in range(0, len(relative), step):
        part = relative[start : start + step]
        moved = spread @ part.transpose(1, 3, 0, 2).reshape(4 * joints, -1).astype(np.float32)
        posed[start : start + step] = moved.reshape(count, -1, 3).transpose(1, 0, 2)
    return posed


def _skin_corrected(
    shaped: np.ndarray, weights: np.ndarray, relative: np.ndarray, posedirs: np.ndarray, feature: np.ndarray
) -> np.ndarray:
    """Skin vertices (V,3) with pose correctives (V,3,P) of features (T,P) by transforms (T,J,3,4): (T,V,3)."""
    count = len(shaped)
    basis = posedirs.reshape(count * 3, -1)
    posed = np.empty((len(relative), count, 3), np.float32)
    step = max(1, _CHUNK // (count * 4 * 16))
    for start in range(0, len(relative), step):
        part = slice(start, start + step)
        corrected = shaped + (feature[part] @ basis.T).reshape(-1, count, 3)
        blend = (weights @ relative[part].reshape(-1, weights.shape[1], 12).astype(np.float32)).reshape(-1, count, 3, 4)
        posed[part] = np.einsum("tvab,tvb->tva", blend[..., :3], corrected) + blend[..., 3]
    return posed
