"""Draw docs/control.png: every control film of one shot at one moment, beside Blender's own render of it.

Runs in Blender's environment, where it builds the scene and captures the shot through the operators that an animator
presses, and calls itself in the backend's, where the films are drawn.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from staged import main

SIZE = (640, 384)
FRAMES = 9
SHOWN = 4
"""The frame that is drawn."""
_TILE = 176
_COLUMNS = 4


def build(bpy: ModuleType, run: Any) -> None:
    """Two walkers who cross before a wall and beside a box, seen by an orbiting camera."""
    scene = bpy.context.scene
    for place, side in enumerate((-1, 1)):
        run(bpy.ops.maquette.add_body)
        body = bpy.context.view_layer.objects.active
        run(bpy.ops.maquette.add_walk, seconds=2.0 * FRAMES / scene.render.fps, place="BODY")
        rig = body.parent or body
        rig.location = (0.45 * side, 0.9 * place, 0.0)
        rig.rotation_euler.z = math.radians(60) * side
        if place:
            body.maquette.color_shirt = (0.55, 0.18, 0.10)
            body.maquette.color_trousers = (0.12, 0.20, 0.10)
    add = bpy.ops.mesh
    for name, location, scale, colour in (
        ("Wall", (0.0, 2.6, 1.1), (6.0, 0.2, 2.2), (0.50, 0.36, 0.27)),
        ("Box", (-1.25, 0.3, 0.35), (0.7, 0.7, 0.7), (0.25, 0.33, 0.45)),
    ):
        add.primitive_cube_add(size=1.0, location=location)
        thing = bpy.context.object
        thing.name, thing.scale = name, scale
        for corner in thing.data.color_attributes.new("Color", "FLOAT_COLOR", "CORNER").data:
            corner.color = (*colour, 1.0)
    bpy.context.view_layer.objects.active = body
    run(bpy.ops.maquette.add_camera_move, move="ORBIT", amount=0.3, angle=-0.15)
    scene.frame_start, scene.frame_end = 1, FRAMES
    scene.maquette.model, scene.maquette.background = "vace-1.3b", "SCENE"


def draw(folder: Path, target: Path) -> None:
    """Everything that needs the backend."""
    import imageio.v3 as iio
    from maquette.backend.catalogue.control import KINDS
    from maquette.backend.control.films import ControlFilms
    from maquette.backend.media import contact_sheet, decode_image
    from maquette.backend.shot import load_shot

    films = ControlFilms(load_shot(folder / "one.shot"))
    render = decode_image(sorted(folder.glob("????.png"))[SHOWN])
    pictures = [("Blender's render", render)]
    pictures += [(kind.label, films.picture(name, SHOWN)) for name, kind in KINDS.items()]
    tiles = [contact_sheet([(label, picture[None])], 1, _TILE) for label, picture in pictures]
    # A face is a square.
    wide = max(tile.shape[1] for tile in tiles)
    tiles = [np.pad(tile, ((0, 0), (0, wide - tile.shape[1]), (0, 0)), mode="edge") for tile in tiles]
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % _COLUMNS)
    rows = [np.concatenate(tiles[i : i + _COLUMNS], axis=1) for i in range(0, len(tiles), _COLUMNS)]
    # Six bits of a colour are enough for the eye, and halve the file.
    iio.imwrite(target, np.concatenate(rows) & np.uint8(0xFC), optimize=True)
    print(f"{target}: {target.stat().st_size // 1000} kB")


if __name__ == "__main__":
    sys.exit(main(Path(__file__), "control.png", build, draw, SIZE, FRAMES))
