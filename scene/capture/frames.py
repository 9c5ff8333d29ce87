"""One pass over the frames of a shot: surfaces, joints, keypoints, tracks, and what the camera sees of them.

Shape letters: N points, K keypoints, P tracks, V vertices, F triangles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import bpy
import numpy as np

from ...backend.shot import ShotError
from ..camera.matrices import CameraView, read_camera
from ..stage import Stage
from .characters import Performer
from .geometry import GeometryReader
from .mesh import MeshReading
from .tracks import Spot, bodies_of, track_targets
from .visibility import SELF_MARGIN, Occluders, Sight, VisibilityQuery


def perform(
    stage: Stage,
    performers: list[Performer],
    frames: range,
    never: Callable[[bpy.types.Object], bool],
    spots: list[Spot],
    geometry: GeometryReader | None,
) -> Iterator[CameraView]:
    """Step through the frames: fill what performers, spots and geometry read, and yield the cameras.

    Args:
        never: tells of an object that it hides nothing.

    Raises:
        ShotError: a character, a track or the camera cannot be read, or the camera stands inside a character.
    """
    bodies = {performer.object: index for index, performer in enumerate(performers)}
    owners = bodies_of(spots, bodies)
    heights = {index: performer.height for index, performer in enumerate(performers)}
    occluders = Occluders(owners, wardrobe_of(performers), never)
    for frame in frames:
        depsgraph = stage.at(frame)
        view = read_camera(stage.scene, depsgraph)
        readings, targets = {}, []
        for index, performer in enumerate(performers):
            points, reading = performer.read(depsgraph)
            readings[performer.object] = reading
            performer.points_T.append(points.astype(np.float32))
            targets += [VisibilityQuery.on_skin(points, performer.height, index)]
            _check_outside(performer, reading, view, frame)
            if performer.joints is not None:
                performer.joints_T.append(performer.joints.read(depsgraph).astype(np.float32))
            if performer.body is not None:
                performer.body_T.append(performer.body.read(depsgraph))
            if performer.keypoints is not None:
                performer.keypoints_T.append(performer.keypoints.read(depsgraph, reading))
        for index, performer in enumerate(performers):
            if performer.keypoints is not None:
                margin = SELF_MARGIN * performer.height
                targets.append(performer.keypoints.targets(performer.keypoints_T[-1], index, margin))
        if spots:
            places = np.stack([spot.read(depsgraph, readings) for spot in spots])
            targets.append(track_targets(spots, places, owners, heights))
            for spot, place in zip(spots, places, strict=True):
                spot.points_T.append(place)
        _note(performers, spots, occluders.look(depsgraph, view, VisibilityQuery.joined(targets), readings))
        if geometry is not None:
            geometry.read(depsgraph, view, readings)
        yield view


def wardrobe_of(performers: list[Performer]) -> dict[bpy.types.Object, int]:
    """What everybody wears, by the performer's index."""
    return {obj: index for index, performer in enumerate(performers) for obj in performer.worn}


def _note(performers: list[Performer], spots: list[Spot], sight: Sight) -> None:
    """Hand out what is seen at one frame, in the order of the targets."""
    place = 0
    for performer in performers:
        count = len(performer.rest_points)
        performer.visibility_T.append(sight.seen[place : place + count])
        place += count
    for performer in performers:
        if performer.keypoints is not None:
            count = len(performer.keypoints_T[-1])
            part = slice(place, place + count)
            performer.states_T.append(performer.keypoints.states(Sight(sight.seen[part], sight.hidden[part])))
            place += count
    for spot, seen in zip(spots, sight.seen[place:], strict=True):
        spot.visibility_T.append(bool(seen))


def _check_outside(performer: Performer, reading: MeshReading, view: CameraView, frame: int) -> None:
    """Raise ShotError when the camera stands inside the character's body."""
    eye = -view.viewmat[:3, :3].T @ view.viewmat[:3, 3]
    local = np.linalg.solve(reading.matrix, np.append(eye, 1.0))[:3]
    if (local < reading.bounds[0]).any() or (local > reading.bounds[1]).any():
        return
    if abs(winding_number(reading.vertices, reading.topology.triangles, local)) > 0.5:
        raise ShotError(
            "camera",
            f"'{view.name}' stands inside '{performer.object.name}' at frame {frame}; move the camera out of the body",
        )


def winding_number(vertices: np.ndarray, triangles: np.ndarray, point: np.ndarray) -> float:
    """How often a mesh, vertices (V,3) and triangles (F,3), wraps around a point (3,): 0 outside, 1 or -1 inside.

    Solid angles of the triangles (van Oosterom and Strackee 1983); holes in the mesh only blur it.
    """
    a, b, c = np.moveaxis(vertices.astype(np.float64)[triangles] - point, 1, 0)
    la, lb, lc = (np.linalg.norm(x, axis=1) for x in (a, b, c))
    above = np.einsum("fi,fi->f", a, np.cross(b, c))
    below = la * lb * lc + (a * b).sum(1) * lc + (b * c).sum(1) * la + (c * a).sum(1) * lb
    return float(np.arctan2(above, below).sum() / (2 * np.pi))
