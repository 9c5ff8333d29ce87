"""A body with fewer vertices, posed in torch: what the renderer of the synthetic shots draws.

Shape letters: T frames, V vertices, F faces, J joints, S betas. The skinning is SMPL's, as ``BodyModel.pose`` does it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..bodies import BodyModel
from .face import in_face


@dataclass(frozen=True, eq=False)
class Puppet:
    """Part of a body model's vertices, as tensors.

    Attributes:
        kept: (V,) int64, which vertices of the body model these are.
        v_template: (V,3); shapedirs: (V,3,S); weights: (V,J).
        faces: (F,3) int64.
        joints: (J,3) of the mean shape; joint_dirs: (J,3,S).
        parents: of each joint; -1 is the root.
        regions: (V,) uint8 or None.
        region_names: names of the regions.
    """

    kept: np.ndarray
    v_template: Tensor
    shapedirs: Tensor
    weights: Tensor
    faces: Tensor
    joints: Tensor
    joint_dirs: Tensor
    parents: tuple[int, ...]
    regions: np.ndarray | None
    region_names: tuple[str, ...]

    def shaped(self, betas: Tensor) -> tuple[Tensor, Tensor]:
        """Rest vertices (V,3) and joints (J,3) of a shape (S,)."""
        return self.v_template + self.shapedirs @ betas, self.joints + self.joint_dirs @ betas

    def transforms(self, joints: Tensor, rotations: Tensor) -> tuple[Tensor, Tensor]:
        """What moves rest vertices, each joint's 3x4 matrix flat (T,J,12), and the posed joints (T,J,3).

        Args:
            joints: (J,3) at rest.
            rotations: (T,J,3,3), each joint relative to its parent.
        """
        frames = rotations.shape[0]
        turns: list[Tensor] = []
        places: list[Tensor] = []
        for j, parent in enumerate(self.parents):
            if parent < 0:
                turns.append(rotations[:, j])
                places.append(joints[j].expand(frames, 3))
                continue
            turns.append(turns[parent] @ rotations[:, j])
            places.append(places[parent] + turns[parent] @ (joints[j] - joints[parent]))
        turn, place = torch.stack(turns, dim=1), torch.stack(places, dim=1)
        shift = place - (turn @ joints[..., None])[..., 0]
        return torch.cat([turn, shift[..., None]], dim=-1).flatten(2), place

    def pose(self, betas: Tensor, rotations: Tensor, trans: Tensor) -> tuple[Tensor, Tensor]:
        """Vertices (T,V,3) and joints (T,J,3) in the world.

        Args:
            betas: (S,).
            rotations: (T,J,3,3), each joint relative to its parent.
            trans: (T,3) metres, added after posing.
        """
        vertices, joints = self.shaped(betas)
        transforms, place = self.transforms(joints, rotations)
        blended = (self.weights @ transforms).unflatten(-1, (3, 4))
        posed = (blended[..., :3] @ vertices[..., None])[..., 0] + blended[..., 3]
        return posed + trans[:, None], place + trans[:, None]


def _normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Area-weighted normals (V,3), not of length one, of vertices (V,3) and faces (F,3)."""
    corners = vertices[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    flat = faces.reshape(-1)
    return np.stack([np.bincount(flat, np.repeat(normal[:, k], 3), len(vertices)) for k in range(3)], axis=1)


def _clusters(body: BodyModel, cell: float, face_cell: float) -> np.ndarray:
    """Cluster of each vertex (V,): same cell of a grid, same region, same leading bone.

    In the face, front and back stay apart as well, so that lips do not merge with the mouth behind them.
    """
    face = in_face(body.v_template)[:, None]
    side = np.where(face, face_cell, cell)
    outward = face & (_normals(body.v_template, body.faces)[:, 2:] > 0)
    keys = [np.floor(body.v_template / side).astype(np.int64), body.weights.argmax(axis=1)[:, None], face, outward]
    if body.regions is not None:
        keys.append(body.regions[:, None].astype(np.int64))
    return np.unique(np.concatenate(keys, axis=1), axis=0, return_inverse=True)[1].reshape(-1)


def make_puppet(
    body: BodyModel, cell: float = 0.014, face_cell: float = 0.0065, device: torch.device | str = "cpu"
) -> Puppet:
    """Thin out a body by merging the vertices of each cell of a grid into the one nearest their middle.

    Args:
        cell, face_cell: metres; the face's cells are smaller, so that a face can be painted.
    """
    cluster = _clusters(body, cell, face_cell)
    count = int(cluster.max()) + 1
    sizes = np.bincount(cluster, minlength=count)[:, None]
    middle = np.stack([np.bincount(cluster, body.v_template[:, k], count) for k in range(3)], axis=1) / sizes
    distance = np.linalg.norm(body.v_template - middle[cluster], axis=1)
    order = np.lexsort((distance, cluster))
    kept = order[np.searchsorted(cluster[order], np.arange(count))]
    faces = cluster[body.faces]
    distinct = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    faces = np.unique(faces[distinct], axis=0)

    def tensor(array: np.ndarray) -> Tensor:
        return torch.as_tensor(np.ascontiguousarray(array, dtype=np.float32), device=device)

    regressor = body.J_regressor.astype(np.float32)
    return Puppet(
        kept=kept,
        v_template=tensor(body.v_template[kept]),
        shapedirs=tensor(body.shapedirs[kept]),
        weights=tensor(body.weights[kept]),
        faces=torch.as_tensor(faces.astype(np.int64), device=device),
        joints=tensor(regressor @ body.v_template),
        joint_dirs=tensor(np.einsum("jv,vks->jks", regressor, body.shapedirs.astype(np.float32))),
        parents=tuple(int(p) for p in body.parents),
        regions=None if body.regions is None else body.regions[kept],
        region_names=tuple(body.region_names),
    )
