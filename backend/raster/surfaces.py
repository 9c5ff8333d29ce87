"""Every surface of a shot that moves pixels: characters and the set, as meshes or, failing these, as points.

Shape letters: T frames, V vertices, F triangles, N points of a character.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..bodies import BodyError, BodyModel, load_body
from ..shot import Character, Shot

SET_LABEL = 0
"""Of what never moves: the still parts of the set, and where nothing is known."""


@dataclass(frozen=True, eq=False)
class Surface:
    """A mesh.

    Attributes:
        vertices: (T,V,3) float32 world, or (1,V,3) when it never moves.
        triangles: (F,3) integers.
        label: which body it belongs to: 0 for the still set, 1 + i for character i, more for moving parts of the set.
    """

    vertices: np.ndarray
    triangles: np.ndarray
    label: int


@dataclass(frozen=True, eq=False)
class Cloud:
    """A character of which only points are known.

    Attributes:
        points: (T,N,3) float32 world.
        visibility: (T,N) bool.
        label: as a Surface's.
    """

    points: np.ndarray
    visibility: np.ndarray
    label: int


class SurfaceSet:
    """All surfaces as one list of triangles.

    Args:
        surfaces: in any order.
        clouds: characters without a surface.
        device: of the tensors.

    Attributes:
        faces: (F,3) int64; labels: (F,) int64, of the surface that each belongs to.
    """

    def __init__(
        self, surfaces: Sequence[Surface], clouds: Sequence[Cloud] = (), device: torch.device | str = "cpu"
    ) -> None:
        self._surfaces = tuple(surfaces)
        self.clouds = tuple(clouds)
        self.device = torch.device(device)
        faces, labels, offset = [np.zeros((0, 3), np.int64)], [np.zeros(0, np.int64)], 0
        for surface in self._surfaces:
            faces.append(surface.triangles.astype(np.int64) + offset)
            labels.append(np.full(len(surface.triangles), surface.label, np.int64))
            offset += surface.vertices.shape[1]
        self.faces = torch.as_tensor(np.concatenate(faces), device=self.device)
        self.labels = torch.as_tensor(np.concatenate(labels), device=self.device)

    def vertices(self, frame: int) -> Tensor:
        """All vertices (V,3) float32 at a frame; beyond the last one as at the last."""
        parts = [np.zeros((0, 3), np.float32)]
        parts += [s.vertices[min(frame, len(s.vertices) - 1)].astype(np.float32) for s in self._surfaces]
        return torch.as_tensor(np.concatenate(parts), device=self.device)


def parametric_body(character: Character) -> BodyModel | None:
    """The model of a character's body; None where it has none that this computer knows."""
    body = character.body
    # A shot names bodies; it may not name files of this computer.
    if body is None or Path(body.body).name != body.body or Path(body.body).suffix:
        return None
    try:
        return load_body(body.body)
    except (BodyError, OSError):
        return None


def body_surface(character: Character) -> tuple[np.ndarray, np.ndarray] | None:
    """Vertices (T,V,3) and triangles (F,3) rebuilt from a character's body parameters.

    Returns:
        None when it has no parameters, or when its body is none of those that this computer has.
    """
    body, model = character.body, parametric_body(character)
    if body is None or model is None:
        return None
    try:
        posed = model.pose(body.betas, body.poses, body.trans)
    except BodyError:
        return None
    return posed.vertices, model.faces


def shot_surfaces(shot: Shot) -> tuple[list[Surface], list[Cloud], list[str]]:
    """What a shot says about its surfaces.

    A character without a mesh is rebuilt from its body parameters, unclothed; without these its points stand for it.

    Returns:
        Surfaces, clouds, and notes for the animator.
    """
    surfaces, clouds, notes = [], [], []
    count = len(shot.characters)
    moving = 1 + count
    for mesh in shot.meshes:
        label = 1 + mesh.character
        if mesh.character < 0:
            label, moving = (moving, moving + 1) if len(mesh.vertices) > 1 else (SET_LABEL, moving)
        surfaces.append(Surface(mesh.vertices, mesh.triangles, label))
    for i, character in enumerate(shot.characters):
        if any(mesh.character == i for mesh in shot.meshes):
            continue
        rebuilt = body_surface(character)
        if rebuilt is not None:
            surfaces.append(Surface(*rebuilt, 1 + i))
            notes.append(f"{character.name} came without its mesh: its motion is that of its body without clothes")
        else:
            clouds.append(Cloud(character.points, character.visibility, 1 + i))
            notes.append(
                f"{character.name} came without its mesh: its motion is taken from its {character.points.shape[1]} "
                "points, so that its outline is rough; capture the shot again for this model to send the mesh"
            )
    return surfaces, clouds, notes
