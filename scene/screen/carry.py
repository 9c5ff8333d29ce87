"""What a draft drawn inside Blender needs of each character's looks: where every vertex lies in their pictures.

The backend's draft (``backend/raster/carry.py``) does the same pixel by pixel, and brings the light along. Here colours
are carried as the pictures show them.

Shape letters: V vertices, F triangles, H W picture.
"""

from __future__ import annotations

import tempfile
from collections.abc import Generator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np
from mathutils.kdtree import KDTree

from ..camera.matrices import CameraView, read_camera
from ..capture import render
from ..capture.cut_out import enlarged, opacity
from ..capture.looks import asked_of
from ..capture.match import standing
from ..capture.media import loaded
from ..capture.mesh import MeshReader, MeshReading
from ..capture.pace import Pace
from ..capture.reference import Asked, fit_intrinsics
from ..capture.surfaces import move
from ..rig.characters import GEOMETRY, find_characters, worn_by
from ..stage import Keeper, open_stage, scene_kept, shown_layer

_SIDE = 1024
"""Pixels of a picture's longest side that are kept."""
_FACING = (0.1, 0.5)
"""Cosine to the camera at which a vertex begins to be seen well, and from which on it is."""
_CELLS = 128
"""Of the depth map, along the longer side of the body."""
_THICK = 0.025
"""Share of the body's size by which what hides a spot stands before it."""
_SURE = (0.25, 0.75)
_PLASTER = 160 / 255
_AT_ONCE = 1500
"""Unseen vertices that are looked after in one step."""


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture of a character.

    Attributes:
        pixels: (H,W,4) float32 sRGB, times its alpha, from the bottom up.
        places: (V,2) float32, where each vertex lies, in shares of the picture from its lower left.
        share: (V,) float32, how much it counts over the pictures before it.
    """

    pixels: np.ndarray
    places: np.ndarray
    share: np.ndarray


@dataclass(frozen=True, eq=False)
class Dress:
    """The looks of a character.

    Attributes:
        character: the object's name.
        plain: (V,4) float32, sRGB borrowed from the nearest spot that a picture shows, and 1 where none shows this one.
    """

    character: str
    pictures: tuple[Picture, ...]
    plain: np.ndarray


def take_looks(
    scene: bpy.types.Scene, notices: list[str], pace: Pace
) -> Generator[tuple[int, int], None, tuple[Dress, ...]]:
    """Take the pictures of all characters, step by step, and leave the scene as found; see ``capture_steps``.

    It yields when the pace pauses.

    Raises:
        ShotError: no character, no camera, or a picture that is missing or cannot be read.
    """
    layer = shown_layer(scene)
    dressed: list[Dress] = []
    with scene_kept(scene, layer) as keeper, tempfile.TemporaryDirectory(prefix="maquette-") as folder:

        def pause() -> Generator[tuple[int, int], None, None]:
            pace.breathe()
            if pace.pausing:
                keeper.settle()
                yield 0, 0
                keeper.resume()

        for obj in find_characters(scene, layer):
            taken: list[_Taken] = []
            for asked in asked_of(obj):
                for done in _take(keeper, obj, asked, Path(folder), notices):
                    taken += [done] if done is not None else []
                    yield from pause()
            known, pictures = _mixed(taken)
            plain = np.full((len(known), 4), _PLASTER, dtype=np.float32)
            if taken and known.any():
                for done in _borrowed(obj, taken, known):
                    if done is not None:
                        plain[:, :3] = done
                        break
                    yield from pause()
            plain[:, 3] = 1 - known
            if taken:
                dressed.append(Dress(obj.name_full, pictures, plain))
    return tuple(dressed)


@dataclass(frozen=True, eq=False)
class _Taken:
    """A picture with what it shows: weight (V,) in [0,1], and the colours (V,3) of the vertices that it shows."""

    pixels: np.ndarray
    places: np.ndarray
    weight: np.ndarray
    colours: np.ndarray


def _take(
    keeper: Keeper, obj: bpy.types.Object, asked: Asked, folder: Path, notices: list[str]
) -> Generator[_Taken | None, None, None]:
    """Take one picture; yields None after each step, and what was taken, if anything is seen, at the end."""
    engine = keeper.scene.maquette.render_engine
    shown = {obj, *worn_by(obj, keeper.scene)}
    lit = asked.rendered and engine == "SCENE"
    keeper.changes.set(obj, "hide_render", False)
    objects = [o for o in keeper.scene.objects if o in shown or (lit and o.type not in GEOMETRY)]
    stage = open_stage(keeper.scene, keeper.view_layer, keeper.changes, objects, "Maquette Reference")
    file = folder / "picture"
    if asked.rendered:
        render.set_up(stage, engine, transparent=True, side=render.REFERENCE_SIDE, rough=True)
        if engine == "WORKBENCH":
            render.show_base_colours(stage.scene.objects, keeper.changes)
    yield None
    reader = MeshReader(obj)
    media, figure = None, None
    if not asked.rendered:
        media, width, height = asked.picture()
    for frame in _frames(keeper.scene, asked):
        matched = nullcontext()
        if asked.match is not None and media is not None:
            matched = standing(stage, obj, frame, asked.match, (width, height), asked.field)
        with matched:
            depsgraph = stage.at(frame)
            view = read_camera(stage.scene, depsgraph)
            reading = reader.read(depsgraph)
            if asked.match is not None and asked.margin is not None and asked.image is not None:
                figure = opacity(stage, asked.image, asked.margin * asked.match.tall, folder, asked.field)
        world = move(reading.vertices.astype(np.float64), reading.matrix)
        K = view.K
        yield None
        places = _places(world, view, K, (view.width, view.height))
        seen = _seen(world, reading.topology.triangles, view) & _inside(places)
        yield None
        seen = seen * _ramp(_facing(world, reading, view), *_FACING)
        yield None
        if seen.any():
            break
    if not seen.any():
        notices.append(f"'{obj.name}' is not in the picture at {asked.moment}: nothing of it is carried")
        return
    if frame != asked.frame:
        notices.append(f"'{obj.name}' is not in the picture at {asked.moment}; frame {frame} is taken")
    if media is None:
        file.write_bytes(render.render(stage, folder, asked.field))
    else:
        file.write_bytes(media.data)
        output = stage.scene.render
        pixel = np.array([output.pixel_aspect_x, output.pixel_aspect_y], dtype=np.float64)
        K, _ = fit_intrinsics(view.K, view.width, view.height, width, height, pixel / pixel.min())
    yield None
    pixels, size = _pixels(file)
    if figure is not None:
        pixels[..., 3] *= enlarged(figure, *pixels.shape[:2])[::-1]
    if not asked.rendered:
        places = _places(world, view, K, size)
    weight = seen * _inside(places)
    rows, columns = pixels.shape[:2]
    at = np.clip((places * np.array((columns, rows))).astype(int), 0, (columns - 1, rows - 1))
    colours = pixels[at[:, 1], at[:, 0]]
    # What is half transparent lies on the outline.
    weight *= colours[:, 3] > 0.95
    pixels[..., :3] *= pixels[..., 3:]
    yield _Taken(pixels, np.asarray(places, dtype=np.float32), weight.astype(np.float32), colours[:, :3])


def _frames(scene: bpy.types.Scene, asked: Asked) -> list[int]:
    """The frame of a picture, and others to be tried where a character's first one does not show it there."""
    if not asked.rendered or asked.name:
        return [asked.frame]
    spread = np.linspace(scene.frame_start, scene.frame_end, 5).round().astype(int).tolist()
    return list(dict.fromkeys([asked.frame, scene.frame_current, *spread]))


def _pixels(file: Path) -> tuple[np.ndarray, tuple[int, int]]:
    """(H,W,4) float32 sRGB from the bottom up, of at most ``_SIDE``, and the width and height in the file."""
    with loaded(file) as image:
        image.colorspace_settings.name = "Non-Color"
        width, height = image.size
        values = np.ones((height, width, 4), dtype=np.float32)
        flat = np.empty(width * height * image.channels, dtype=np.float32)
        image.pixels.foreach_get(flat)
        values[..., : image.channels] = flat.reshape(height, width, -1)
    step = -(-max(width, height) // _SIDE)
    return np.ascontiguousarray(values[::step, ::step]), (width, height)


def _places(world: np.ndarray, view: CameraView, K: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    camera = world @ view.viewmat[:3, :3].T + view.viewmat[:3, 3]
    pixel = camera @ K.T
    uv = pixel[:, :2] / np.maximum(pixel[:, 2:], 1e-6) / size
    return np.column_stack([uv[:, 0], 1 - uv[:, 1]])


def _seen(world: np.ndarray, triangles: np.ndarray, view: CameraView) -> np.ndarray:
    """(V,) bool, the vertices before which no other part of the body stands, as far as a coarse depth map tells.

    Exact visibility (``capture.visibility``) of so many points would take half a second.
    """
    camera = world @ view.viewmat[:3, :3].T + view.viewmat[:3, 3]
    depth = np.maximum(camera[:, 2], 1e-6)
    place = camera[:, :2] / depth[:, None]
    low = place.min(axis=0)
    cell = max(float(np.ptp(place, axis=0).max()) / _CELLS, 1e-9)
    place = (place - low) / cell
    a, b, c = (place[triangles[:, k]] for k in range(3))
    area = np.abs((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]) / 2
    count = np.clip(np.rint(2 * area).astype(int), 0, _CELLS)  # Its corners stand for a small one.
    which = np.repeat(triangles, count, axis=0)
    root, other = np.random.default_rng(0).random((2, len(which)))
    root = np.sqrt(root)
    share = np.column_stack([1 - root, root * (1 - other), root * other])  # Even over each triangle.
    spots = np.concatenate([place, (place[which] * share[..., None]).sum(axis=1)]).astype(int)
    depths = np.concatenate([depth, (depth[which] * share).sum(axis=1)])
    nearest = np.full((_CELLS + 1, _CELLS + 1), np.inf)
    np.minimum.at(nearest, (spots[:, 0], spots[:, 1]), depths)
    margin = _THICK * float(np.ptp(world, axis=0).max())
    found = nearest[spots[: len(world), 0], spots[: len(world), 1]]
    return (camera[:, 2] > view.clip_start) & (depth < found + margin)


def _inside(places: np.ndarray) -> np.ndarray:
    """(V,) bool, the places (V,2) that lie within the picture."""
    within = (places > 0) & (places < 1)
    return within[:, 0] & within[:, 1]


def _facing(world: np.ndarray, reading: MeshReading, view: CameraView) -> np.ndarray:
    """(V,) cosine between each vertex's normal and the way to the camera."""
    triangles = reading.topology.triangles
    corners = world[triangles]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.stack(
        [np.bincount(triangles.ravel(), np.repeat(across[:, k], 3), len(world)) for k in range(3)], axis=1
    )
    eye = -view.viewmat[:3, :3].T @ view.viewmat[:3, 3] - world
    length = np.linalg.norm(normals, axis=1) * np.linalg.norm(eye, axis=1)
    return (normals * eye).sum(axis=1) / np.maximum(length, 1e-12)


def _ramp(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.clip((values - low) / (high - low), 0, 1)


def _mixed(taken: list[_Taken]) -> tuple[np.ndarray, tuple[Picture, ...]]:
    """How far each vertex is known (V,), and the pictures laid one over the other such that their shares add up."""
    if not taken:
        return np.zeros(0, dtype=np.float32), ()
    weights = np.stack([one.weight for one in taken])
    known = _ramp(weights.max(axis=0), *_SURE)
    shares = known * weights / np.maximum(weights.sum(axis=0), 1e-6)
    left = np.ones_like(known)
    pictures: list[Picture] = []
    for one, share in zip(reversed(taken), shares[::-1], strict=True):
        over = np.where(left > 1e-4, share / np.maximum(left, 1e-4), 0.0)
        pictures.append(Picture(one.pixels, one.places, np.clip(over, 0, 1).astype(np.float32)))
        left = left - share
    return known.astype(np.float32), tuple(reversed(pictures))


def _borrowed(
    obj: bpy.types.Object, taken: list[_Taken], known: np.ndarray
) -> Generator[np.ndarray | None, None, None]:
    """Colours (V,3): of unseen vertices those of the nearest seen one on the rest mesh or its mirror image.

    Yields:
        None after each step, and the colours at the end.
    """
    weights = np.stack([one.weight for one in taken])
    colours = (weights[..., None] * np.stack([one.colours for one in taken])).sum(axis=0)
    colours /= np.maximum(weights.sum(axis=0), 1e-6)[:, None]
    rest = np.empty(3 * len(obj.data.vertices), dtype=np.float32)
    obj.data.vertices.foreach_get("co", rest)
    rest = rest.reshape(-1, 3)
    if len(rest) != len(known):  # A modifier makes other vertices: no rest pose is at hand.
        colours[known <= 0] = colours[known > 0].mean(axis=0)
        yield colours
        return
    sure = np.flatnonzero(known > 0.5) if (known > 0.5).any() else np.flatnonzero(known > 0)
    tree = KDTree(len(sure))
    for number, place in zip(sure.tolist(), rest[sure].tolist(), strict=True):
        tree.insert(place, number)
    tree.balance()
    yield None
    unsure = np.flatnonzero(known <= 0.5)
    nearest = np.zeros(len(unsure), dtype=np.int64)
    for start in range(0, len(unsure), _AT_ONCE):
        for row, (x, y, z) in enumerate(rest[unsure[start : start + _AT_ONCE]].tolist(), start):
            own, mirrored = tree.find((x, y, z)), tree.find((-x, y, z))
            nearest[row] = own[1] if own[2] <= mirrored[2] else mirrored[1]
        yield None
    colours[unsure] = colours[nearest]
    yield colours
