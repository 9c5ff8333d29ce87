"""What each pixel of a frame shows: characters and set, drawn together.

Shape letters: V vertices, F faces, H W film, S samples along a pixel's side, P covered samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..raster.character_meshes import character_mesh
from ..raster.rasterise import Raster, rasterise
from ..raster.surfaces import Surface, SurfaceSet, body_surface
from ..shot import Shot, ShotError

_SHARP_SET = 0.64
"""Cosine of the turn (50 degrees) from a face to the mean of its neighbours at which edges of the set are sharp, as a
box's are (55): the Shot does not tell which faces are shaded smooth."""
_SHARP = 0.17
"""The same of characters (80 degrees), which hardly ever have sharp edges."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """One frame.

    Attributes:
        vertices: (V,3) float32 world.
        corners: (P,3) int64, the vertices of the face that each covered sample shows.
        raster: of T = 1 frames of (S H, S W) pixels.
        owner: (P,) int64, the character that each covered sample shows, or -1 for the set.
        view: (4,4), lens: (3,3) it was drawn with.
    """

    vertices: Tensor
    corners: Tensor
    raster: Raster
    owner: Tensor
    view: Tensor
    lens: Tensor

    def grid(self, values: Tensor, empty: float) -> Tensor:
        """Values (P,D) of the covered samples as a map (S H, S W, D)."""
        _, height, width = self.raster.depth.shape
        image = torch.full((height * width, values.shape[1]), empty, dtype=values.dtype, device=values.device)
        image[self.raster.index] = values
        return image.view(height, width, -1)

    def depth(self) -> Tensor:
        """(S H, S W) metres along the optical axis; infinite where nothing is."""
        return self.raster.depth[0]

    def places(self, vertices: Tensor) -> Tensor:
        """Where the covered samples' spots (P,3) lie when the vertices are (V,3)."""
        return (vertices[self.corners] * self.raster.barycentric[..., None]).sum(dim=1)


class Surfaces:
    """All surfaces of a shot: its set, and its characters as meshes, else as bodies, else as discs around points.

    Raises:
        ShotError: there are none.

    Attributes:
        notes: sentences for the animator.
        has_set: whether anything but characters is there.
    """

    def __init__(self, shot: Shot, device: torch.device) -> None:
        clip = shot.clip
        self.notes: list[str] = []
        self.has_set = any(mesh.character < 0 for mesh in shot.meshes)
        surfaces = [Surface(mesh.vertices, mesh.triangles, 1 + mesh.character) for mesh in shot.meshes]
        for index, character in enumerate(shot.characters):
            if any(mesh.character == index for mesh in shot.meshes):
                continue
            rebuilt = body_surface(character)
            if rebuilt is not None:
                surfaces.append(Surface(*rebuilt, 1 + index))
                self.notes.append(f"{character.name} came without its mesh: it is drawn as its body without clothes")
                continue
            discs = character_mesh(shot, index, torch.device("cpu"))
            surfaces.append(Surface(discs.vertices.numpy(), discs.faces.numpy(), 1 + index))
            self.notes += discs.notes
        if not surfaces:
            raise ShotError("meshes", "the shot has neither characters nor a set; capture it again with surfaces")
        self._set = SurfaceSet(surfaces, device=device)
        self._views = torch.as_tensor(np.ascontiguousarray(clip.viewmats), device=device).float()
        self._lenses = torch.as_tensor(np.ascontiguousarray(clip.Ks), device=device).float()
        self._size = clip.height, clip.width
        self.frames = clip.frames
        self.device = device

    def vertices(self, frame: int) -> Tensor:
        """(V,3) float32 world."""
        return self._set.vertices(frame)

    def camera(self, frame: int) -> tuple[Tensor, Tensor]:
        """View (4,4) and lens (3,3) in pixels of the film."""
        return self._views[frame], self._lenses[frame]

    def draw(self, frame: int, scale: float = 1.0) -> Drawn:
        """Draw a frame at ``scale`` times the film's size."""
        height, width = (max(1, round(side * scale)) for side in self._size)
        view, lens = self.camera(frame)
        lens = lens.clone()
        lens[0] *= width / self._size[1]
        lens[1] *= height / self._size[0]
        vertices = self.vertices(frame)
        raster = rasterise(vertices[None], self._set.faces, view[None], lens[None], height, width, cull=False)
        return Drawn(vertices, self._set.faces[raster.face], raster, self._set.labels[raster.face] - 1, view, lens)

    def normals(self, drawn: Drawn) -> Tensor:
        """Unit normals (P,3) of the covered samples in the OpenCV camera's frame, turned towards the camera.

        Smooth across faces, but for what counts as a sharp edge.
        """
        corners = drawn.vertices[self._set.faces]
        along = F.normalize(corners.roll(-1, dims=1) - corners, dim=-1)
        flat = F.normalize(torch.linalg.cross(along[:, 0], along[:, 1]), dim=-1)
        # Each face counts by its angle at the vertex, as in Blender: how it is cut into triangles makes no difference.
        angle = torch.arccos((along * -along.roll(1, dims=1)).sum(dim=-1).clamp(-1, 1))
        total = torch.zeros_like(drawn.vertices)
        for k in range(3):
            total.index_add_(0, self._set.faces[:, k], flat * angle[:, k, None])
        smooth, own = F.normalize(total, dim=-1), flat[drawn.raster.face]
        around = smooth[drawn.corners]
        sharp = torch.where(drawn.owner < 0, _SHARP_SET, _SHARP)[:, None, None]
        bent = (around * own[:, None]).sum(dim=-1, keepdim=True) < sharp
        around = torch.where(bent, own[:, None], around)
        mixed = F.normalize((around * drawn.raster.barycentric[..., None]).sum(dim=1), dim=-1)
        turned, flat_turned = (n @ drawn.view[:3, :3].T for n in (mixed, own))
        ray = drawn.places(drawn.vertices) @ drawn.view[:3, :3].T + drawn.view[:3, 3]
        away = (flat_turned * ray).sum(dim=-1, keepdim=True) > 0
        return torch.where(away, -turned, turned)
