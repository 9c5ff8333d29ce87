"""Reads a whole shot: every frame of its performers, the shot's meshes, and each performer's looks."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import bpy
import numpy as np

from ...backend.shot import Mesh, Reference, ShotError
from ..camera.matrices import CameraView
from ..stage import Changes, Keeper, Stage
from .characters import Performer, prepare
from .frames import perform, wardrobe_of
from .geometry import GeometryReader
from .looks import look
from .pace import BREATH
from .reference import Asked, Studio
from .stills import Pictures
from .tracks import Spot
from .wants import Wants

_STILL = 1e-5

_VARYING = (
    frozenset(
        ("BOOLEAN", "BUILD", "DECIMATE", "EXPLODE", "FLUID", "MASK", "MESH_SEQUENCE_CACHE", "NODES", "OCEAN", "REMESH",
         "WELD")
    ),
    frozenset(("ARRAY", "BEVEL", "EDGE_SPLIT", "SCREW", "SKIN", "SUBSURF")),
)  # fmt: skip
"""Modifiers that can make another number of vertices in every frame: mostly do, and do only when they are keyed."""


class PerformanceReader:
    """Reads performers and what belongs to them; take a new one after a reading that stopped midway.

    Attributes:
        performers: of the characters, in their order, with all frames.
        views: the camera of each frame.
        meshes: the shot's surfaces, empty for a model that uses none.
        looks: the references of each performer.
        notices: sentences for the animator.
    """

    def __init__(
        self,
        keeper: Keeper,
        stage: Stage,
        characters: list[bpy.types.Object],
        asked: list[list[Asked]],
        frames: range,
        wants: Wants,
        never: Callable[[bpy.types.Object], bool],
        spots: list[Spot],
        pictures: Pictures,
        whole: bool = True,
    ) -> None:
        """
        Args:
            stage: holds the characters and all that may hide them.
            asked: the references of each.
            never: tells of an object that it hides nothing.
            spots: to be followed.
            pictures: takes those of the references.
            whole: whether the frames are all of the shot, so that every character must show in one of them.
        """
        self._whole = whole
        self._keeper, self._stage, self._frames = keeper, stage, frames
        self._characters, self._asked = characters, asked
        self._wants, self._never, self._spots, self._pictures = wants, never, spots, pictures
        self.performers: list[Performer] = []
        self.views: list[CameraView] = []
        self.meshes: tuple[Mesh, ...] = ()
        self.looks: list[list[Reference]] = []
        self.notices: list[str] = []

    def read(self) -> Iterator[object]:
        """Read everything; yields None after each frame and each reference, and ``BREATH`` between.

        Raises:
            TopologyError: a character's vertices do not stay the same.
            BodyError: a body's file cannot be read.
            ShotError: something else about the characters, tracks or the camera.
        """
        wants, options = self._wants, self._keeper.scene.maquette
        for spot in self._spots:
            spot.points_T.clear()
            spot.visibility_T.clear()
        yield BREATH
        self.performers = prepare(
            self._stage, self._characters, options.points, self._frames[0], wants.keypoints, self.notices
        )
        yield BREATH
        geometry = None
        if wants.meshes:
            geometry = GeometryReader(self._characters, wardrobe_of(self.performers), self._never)
        for view in perform(self._stage, self.performers, self._frames, self._never, self._spots, geometry):
            self.views.append(view)
            yield
        if self._whole:
            check_seen(self.performers, self.views, self._frames, self.notices)
        if geometry is not None:
            self.meshes = geometry.meshes(self.notices, wants.meshes_required)
        studio = Studio(self._keeper, self._pictures, geometry, wants.clay, self.notices)
        for index, (performer, asked) in enumerate(zip(self.performers, self._asked, strict=True)):
            self.looks.append([])
            for made in look(studio, performer, index, asked, self._frames):
                self.looks[-1] += [made] if isinstance(made, Reference) else []
                yield BREATH if made is BREATH else None


def leave_out_modifiers(changes: Changes, obj: bpy.types.Object) -> list[str]:
    """Switch off modifiers of an object that can change its number of vertices; returns the names of the next such."""
    for kinds in _VARYING:
        found = [m for m in obj.modifiers if m.type in kinds and (m.show_viewport or m.show_render)]
        for modifier in found:
            changes.set(modifier, "show_viewport", False)
            changes.set(modifier, "show_render", False)
        if found:
            return [modifier.name for modifier in found]
    return []


def check_seen(performers: list[Performer], views: list[CameraView], frames: range, notes: list[str]) -> None:
    """Raise when a character is never in the picture; note what the animator may want to know."""
    still = all(np.ptp(np.stack(p.points_T), axis=0).max() < _STILL for p in performers)
    cameras = np.stack([view.viewmat for view in views]), np.stack([view.K for view in views])
    if len(frames) > 1 and still and all(np.ptp(part, axis=0).max() < _STILL for part in cameras):
        notes.append("Nothing moves in this shot: neither a character nor the camera is keyed")
    if len(frames) == 1:
        notes.append(f"The shot has one frame, {frames[0]}: set the scene's end after its start for a film")
    for performer in performers:
        name = performer.object.name
        if np.stack(performer.visibility_T).any():
            _note_behind(performer, views, frames, notes)
            continue
        if any(_in_image(view, points) for view, points in zip(views, performer.points_T, strict=True)):
            notes.append(f"'{name}' is behind something in every frame")
        else:
            raise ShotError(
                f"characters.{name}",
                f"'{name}' is never in the picture of '{views[0].name}'; aim the camera at it, or unmark it",
            )


def _in_image(view: CameraView, points: np.ndarray) -> bool:
    camera = points @ view.viewmat[:3, :3].T + view.viewmat[:3, 3]
    camera = camera[camera[:, 2] > view.clip_start]
    pixels = camera @ view.K.T
    uv = pixels[:, :2] / pixels[:, 2:]
    return bool(((uv >= 0) & (uv <= [view.width, view.height])).all(axis=1).any())


def _note_behind(performer: Performer, views: list[CameraView], frames: range, notes: list[str]) -> None:
    """Say so where a character that is seen elsewhere stands behind the camera."""
    behind = [
        frame
        for frame, view, points in zip(frames, views, performer.points_T, strict=True)
        if (points @ view.viewmat[2, :3] + view.viewmat[2, 3]).max() <= view.clip_start
    ]
    if behind:
        where = f"at frame {behind[0]}" if len(behind) == 1 else f"in {len(behind)} frames from {behind[0]} on"
        notes.append(f"'{performer.object.name}' is behind the camera {where}: it does not show there")
