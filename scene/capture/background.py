"""What stands behind the characters, packed as the bytes that a Shot carries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import bpy

from ...backend.shot import Background, Media, ShotError
from ..stage import Keeper, open_stage
from . import render
from .media import is_mp4, picture_from_file, probe_film, read_bytes, resolve
from .stills import Pictures

FIELD = "background"


def picture_background(path: str) -> Background:
    """One picture file for the whole shot. Raises ShotError when it is missing or no picture."""
    return Background("still", (picture_from_file(resolve(path, FIELD, "picture"), FIELD),))


def film_background(path: str, frames: int, fps: float, notices: list[str]) -> Background:
    """One mp4 file, played from the first frame of the shot at its own rate.

    Args:
        frames, fps: of the shot.

    Raises:
        ShotError: missing, no film, half written, or in a container that backends do not read.
    """
    film = probe_film(resolve(path, FIELD, "film"), FIELD)
    data = read_bytes(film.path, FIELD)
    if not is_mp4(data[:16]):
        raise ShotError(FIELD, f"'{film.path.name}' is not an mp4; save the film as mp4 (H.264)")
    if film.frames / film.fps < (frames - 1) / fps - 1e-6:
        notices.append(
            f"The background film lasts {film.frames / film.fps:.1f} s, the shot {frames / fps:.1f} s; "
            "its last frame is held"
        )
    return Background("video", (Media(data, "video/mp4"),))


def scene_background(
    keeper: Keeper, objects: Iterable[bpy.types.Object], frames: Sequence[int], pictures: Pictures
) -> Iterator[Background | None]:
    """Render the scene without its characters, one PNG a frame; a single still when nothing in it moves.

    Args:
        objects: what is to be seen, and what lights it.
        frames: the shot's frames.

    Yields:
        None after each frame, and the background at the end.
    """
    stage = open_stage(keeper.scene, keeper.view_layer, keeper.changes, objects, "Maquette Background")
    side = render.film_side(keeper.scene)
    pictures.set_up(stage, transparent=False, side=side)
    if pictures.engine == "WORKBENCH":
        render.show_base_colours(stage.scene.objects, keeper.changes)
        render.show_world_colour(stage)
    made: list[Media] = []
    for picture in pictures.take(FIELD, stage, frames, FIELD):
        made.append(picture)
        yield None
    pictures.note(FIELD, made)
    if all(picture.data == made[0].data for picture in made):
        yield Background("still", (made[0],))
    else:
        yield Background("video", tuple(made))
