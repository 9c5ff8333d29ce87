"""The surfaces of characters and set as they move, for models that are led by dense motion.

Shape letters: T frames, V vertices, F triangles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import bpy
import numpy as np

from ...backend.shot import Mesh, ShotError
from ...backend.shot.validate import MAX_MESHES, MAX_VERTICES
from ..camera.matrices import CameraView
from .mesh import MeshReading, Topology
from .surfaces import MeshCache, TriMesh, move, shown

MAX_POSITIONS = 16_000_000
"""Vertices times frames that a shot carries (192 MB); what stands still counts once. Characters go first, then the
parts of the set that are largest in the picture."""
MAX_PARTS = 20_000
"""Parts of the set, instances included, that are looked at."""

_STILL = 1e-6


@dataclass(eq=False)
class _Part:
    """One surface while the frames are read.

    Attributes:
        name: of the object.
        character: index, or -1 for the set.
        topology: at its first frame.
        vertices: world (V,3) float32 of each frame; of a rigid one, once in its own space.
        matrices: (4,4) float64 of each frame of a rigid one.
        area: pixels of the picture that its bounding box covers, the most of all frames.
    """

    name: str
    character: int
    topology: Topology
    rigid: bool
    vertices: list[np.ndarray] = field(default_factory=list)
    matrices: list[np.ndarray] = field(default_factory=list)
    area: float = 0.0
    changed: bool = False

    @property
    def frames(self) -> int:
        return len(self.matrices if self.rigid else self.vertices)

    def add(self, surface: TriMesh, matrix: np.ndarray) -> None:
        """Take in the surface at the next frame."""
        if self.rigid:
            if not self.vertices:
                self.vertices.append(surface.vertices)
            self.matrices.append(matrix)
        else:
            self.put(move(surface.vertices, matrix))

    def put(self, world: np.ndarray) -> None:
        """Take in the vertices (V,3) at the next frame; what stands still is kept once."""
        last = self.vertices[-1] if self.vertices else None
        self.vertices.append(last if last is not None and np.array_equal(last, world) else world)

    @property
    def still(self) -> bool:
        if self.rigid:
            return np.ptp(np.stack(self.matrices), axis=0).max() < _STILL
        return all(v is self.vertices[0] for v in self.vertices)

    def positions(self) -> int:
        """Vertices times frames that it needs."""
        return self.topology.vertices * (1 if self.still else self.frames)

    def mesh(self) -> Mesh:
        """As a part of a Shot."""
        if self.rigid:
            matrices = self.matrices[:1] if self.still else self.matrices
            vertices = np.stack([move(self.vertices[0], matrix) for matrix in matrices])
        else:
            vertices = np.stack(self.vertices[:1] if self.still else self.vertices)
        return Mesh(self.name[:256], self.character, vertices.astype(np.float32), self.topology.triangles)


class GeometryReader:
    """Collects the surfaces of a shot, frame after frame."""

    def __init__(
        self,
        characters: Sequence[bpy.types.Object],
        wardrobe: Mapping[bpy.types.Object, int],
        never: Callable[[bpy.types.Object], bool],
    ) -> None:
        """
        Args:
            characters: in the order of the shot.
            wardrobe: by which of them an object is worn.
            never: tells of an object that it is not part of the picture.
        """
        self._characters = {obj: index for index, obj in enumerate(characters)}
        self._wardrobe = wardrobe
        self._never = never
        self._surfaces = MeshCache()
        self._bodies: dict[bpy.types.Object, _Part] = {}
        self._parts: dict[tuple, _Part] = {}
        self._left_out: dict[str, str] = {}
        self._kept: dict[int, list[_Part]] = {}
        self._held = 0
        self._frames = 0

    def read(
        self, depsgraph: bpy.types.Depsgraph, view: CameraView, readings: Mapping[bpy.types.Object, MeshReading]
    ) -> None:
        """Take in the frame that ``depsgraph`` has evaluated.

        Args:
            readings: of the characters, at this frame.
        """
        for obj, reading in readings.items():
            if obj not in self._bodies:
                self._bodies[obj] = _Part(obj.name, self._characters[obj], reading.topology, False)
            self._bodies[obj].put(move(reading.vertices, reading.matrix))
        for item in shown(depsgraph, self._never):
            if item.source in self._characters and not item.instance:
                continue
            key = item.key()
            part = self._parts.get(key)
            if part is not None and part.changed:
                continue
            surface = self._surfaces.of(item.object)
            if surface is None:
                continue
            area = covered(move(surface.box, view.viewmat @ item.matrix), view)
            if part is None:
                part = self._new_part(key, item.source, surface, area)
                if part is None:
                    continue
            part.area = max(part.area, area)
            if part.topology is not surface.topology or part.rigid != surface.rigid:
                self._drop(part, "changes its topology")
                continue
            held = len(part.vertices)
            part.add(surface, item.matrix)
            if len(part.vertices) > held and (held == 0 or part.vertices[-1] is not part.vertices[-2]):
                self._held += part.topology.vertices
        self._frames += 1
        while self._held > 2 * MAX_POSITIONS and len(loose := self._loose()) > 1:
            self._drop(min(loose, key=lambda part: part.area), "")

    def meshes(self, notices: list[str], required: bool = True) -> tuple[Mesh, ...]:
        """The surfaces of all frames read: characters, what they wear, then the set, the largest first.

        Args:
            notices: a sentence is added for what had to be left out.
            required: whether characters that are too heavy are refused; else they are left out, with what they wear.

        Raises:
            ShotError: the characters alone are too heavy, and required.
        """
        bodies = self._bodies_that_fit(notices, required)
        used = sum(part.positions() for part in bodies)
        kept = list(bodies)
        present = {part.character for part in bodies}
        heavy: list[str] = [name for name, why in self._left_out.items() if not why]
        for part in sorted(self._parts.values(), key=lambda part: (part.character < 0, -part.area)):
            if part.changed or part.area <= 0 or (part.character >= 0 and part.character not in present):
                continue
            if part.frames != self._frames:
                self._left_out[part.name] = "comes or goes during the shot"
                continue
            need = part.positions()
            fits = used + need <= MAX_POSITIONS and part.topology.vertices <= MAX_VERTICES
            if not fits or len(kept) >= MAX_MESHES:
                heavy.append(part.name)
                continue
            used += need
            kept.append(part)
        for name, why in self._left_out.items():
            if why:
                notices.append(f"'{name}' {why}: the model is not told how it moves")
        if heavy:
            names = ", ".join(f"'{name}'" for name in dict.fromkeys(heavy[:3])) + (" ..." if len(heavy) > 3 else "")
            notices.append(
                f"{len(heavy)} parts of the set are left out of what the model is told of motion ({names}): at most "
                f"{MAX_MESHES} meshes and {MAX_POSITIONS / 1e6:.0f} million vertices over all frames go in, the "
                "largest in the picture first"
            )
        # Each character's own mesh comes first.
        self._kept = {character: [part for part in kept if part.character == character] for character in present}
        return tuple(part.mesh() for part in kept)

    def moment(self, character: int, depsgraph: bpy.types.Depsgraph, reading: MeshReading) -> np.ndarray | None:
        """What a character's ``meshes`` are at another moment, one after another in their order.

        Args:
            character: its index.
            depsgraph: has evaluated the moment.
            reading: of the character's mesh at that moment.

        Returns:
            (V,3) float32 world. None when it has no meshes in the shot, or when a part of them is not there or has
            other vertices.
        """
        kept = self._kept.get(character, [])
        if not kept:
            return None
        found = {id(kept[0]): move(reading.vertices, reading.matrix)}
        wanted = {key: part for key, part in self._parts.items() if any(part is one for one in kept)}
        for item in shown(depsgraph, self._never):
            if (item.source in self._characters and not item.instance) or (part := wanted.get(item.key())) is None:
                continue
            surface = self._surfaces.of(item.object)
            if surface is not None and surface.topology is part.topology:
                found[id(part)] = move(surface.vertices, item.matrix)
        if len(found) < len(kept):
            return None
        return np.concatenate([found[id(part)] for part in kept]).astype(np.float32)

    def has(self, character: int) -> bool:
        """Whether a character has any of the ``meshes``."""
        return bool(self._kept.get(character))

    def _bodies_that_fit(self, notices: list[str], required: bool) -> list[_Part]:
        """Characters in the order of the shot."""
        bodies = sorted(self._bodies.values(), key=lambda part: part.character)
        total = sum(part.positions() for part in bodies)
        if total <= MAX_POSITIONS and all(part.topology.vertices <= MAX_VERTICES for part in bodies):
            return bodies
        if required:
            raise ShotError(
                "meshes",
                f"the characters have {total / 1e6:.0f} million vertices over all frames; at most "
                f"{MAX_POSITIONS / 1e6:.0f} million are possible: lower their subdivision in the viewport or shorten "
                "the range",
            )
        fitting, used = [], 0
        for part in sorted(bodies, key=_Part.positions):
            need = part.positions()
            if used + need <= MAX_POSITIONS and part.topology.vertices <= MAX_VERTICES:
                used += need
                fitting.append(part)
                continue
            notices.append(
                f"'{part.name}' is sent without its surface, which has {need / 1e6:.1f} million vertices over all "
                f"frames (together {MAX_POSITIONS / 1e6:.0f} million are possible): lower its subdivision in the "
                "viewport or shorten the range for a finer film"
            )
        return sorted(fitting, key=lambda part: part.character)

    def _new_part(self, key: tuple, source: bpy.types.Object, surface: TriMesh, area: float) -> _Part | None:
        """A part that is shown for the first time; one that was not there from the beginning is left out."""
        if len(self._parts) >= MAX_PARTS:
            self._left_out[source.name] = f"has instances beyond the first {MAX_PARTS}"
            return None
        part = _Part(source.name, self._wardrobe.get(source, -1), surface.topology, surface.rigid, area=area)
        self._parts[key] = part
        if self._frames:
            self._drop(part, "comes or goes during the shot")
            return None
        return part

    def _drop(self, part: _Part, why: str) -> None:
        part.changed = True
        distinct = {id(v): v for v in part.vertices}
        self._held -= part.topology.vertices * len(distinct)
        part.vertices, part.matrices = [], []
        if part.area > 0:
            self._left_out[part.name] = why

    def _loose(self) -> list[_Part]:
        """Parts that may be left out for their weight: of the set, and deforming."""
        return [part for part in self._parts.values() if not part.changed and not part.rigid and part.character < 0]


def covered(box: np.ndarray, view: CameraView) -> float:
    """Pixels of the picture that a box (8,3) in camera space may cover; the whole picture when it reaches behind."""
    before = box[:, 2] > view.clip_start
    if not before.any() or box[:, 2].min() > view.clip_end:
        return 0.0
    size = np.array([view.width, view.height], dtype=np.float64)
    if not before.all():
        return float(size.prod())
    pixels = box @ view.K.T
    uv = pixels[:, :2] / pixels[:, 2:]
    low, high = np.clip(uv.min(axis=0), 0, size), np.clip(uv.max(axis=0), 0, size)
    return float((high - low).prod())
