"""The film over the camera's frame, measured in a real window: colours, frames, edges, wipe, the key, renders.

Needs ImageMagick's ``import`` beside Blender, and ``--enable-event-simulate`` for the key. Colours are looked for
within 2 levels of those that the film's file holds, as a 3D view shows them where no view transform is applied: on
some screens it lifts the darkest by some levels, its own background as well. The view transform is AgX, which changes
everything else.
"""

import importlib
import subprocess
import tempfile
import time
from pathlib import Path

import bpy
import numpy as np
from bpy_extras.view3d_utils import location_3d_to_region_2d

ADDON = next(addon.module for addon in bpy.context.preferences.addons if addon.module.endswith(".maquette"))
gui = importlib.import_module(f"{ADDON}.tests.gui.window")
START, FRAMES, LEVELS = 5, 12, 2.0
COLOURS = np.array([[30 + 18 * i, 200 - 12 * i, 60 + (37 * i) % 150] for i in range(FRAMES)])
folder = Path(tempfile.mkdtemp())
steps = None
kept = {}


def picture():
    """The screen, (H,W,3) in levels, from the bottom up."""
    path = folder / "screen.png"
    subprocess.run(["import", "-window", "root", "PNG24:" + str(path)], check=True)
    image = bpy.data.images.load(str(path))
    image.colorspace_settings.name = "Non-Color"
    values = np.empty(image.size[0] * image.size[1] * image.channels, dtype=np.float32)
    image.pixels.foreach_get(values)
    values = values.reshape(image.size[1], image.size[0], -1)[..., :3] * 255
    bpy.data.images.remove(image)
    return values


def place(x, y):
    """Screen pixel of a spot of the camera's frame, in shares from its lower left corner, found by projection."""
    _, area, region = gui.view()
    scene = bpy.context.scene
    camera = scene.camera
    corners = np.array([camera.matrix_world.normalized() @ c for c in camera.data.view_frame(scene=scene)])
    rv3d = area.spaces.active.region_3d
    found = np.array([location_3d_to_region_2d(region, rv3d, corner) for corner in corners])
    low, high = found.min(axis=0), found.max(axis=0)
    spot = low + np.array((x, y)) * (high - low)
    return round(region.x + spot[0]), round(region.y + spot[1])


def seen(screen, x, y):
    """Mean colour of 3 x 3 pixels about a spot of the frame."""
    across, up = place(x, y)
    return screen[up - 1 : up + 2, across - 1 : across + 2].mean(axis=(0, 1))


def in_file(index):
    """A frame's colours as Blender decodes them and a 3D view shows them: upper right, lower left."""
    return kept["shown"][index]


def measure_shown(space):
    """Let the view's plain background show every colour of the film, and note what is on the screen then."""
    space.shading.background_type = "VIEWPORT"
    bpy.context.scene.view_settings.view_transform = "Standard"
    space.overlay.show_overlays = False
    kept["shown"] = {}
    for index in (0, 2, 4, 11):
        pair, found = kept["decoded"][index], []
        for colour in pair:
            share = np.array(colour) / 255
            linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
            space.shading.background_color = linear
            yield from waited(3)
            found.append(seen(picture(), 0.05, 0.95))
        kept["shown"][index] = found
    apart = np.max([np.abs(np.subtract(kept["decoded"][i], kept["shown"][i])) for i in kept["shown"]], axis=(0, 2))
    print(f"a 3D view shows bright levels {apart[0]:.0f} and dark ones {apart[1]:.0f} off, at worst")
    space.shading.background_type = "THEME"
    bpy.context.scene.view_settings.view_transform = "AgX"
    space.overlay.show_overlays = True


def decode(film):
    """The colours of all frames as they come out of the decoder, encoding having changed them a little."""
    import gpu

    image = bpy.data.images.load(str(film))
    image.colorspace_settings.name = "Non-Color"
    found = []
    for frame in range(1, FRAMES + 1):
        image.gl_free()
        assert not image.gl_load(frame=frame)
        texture = gpu.texture.from_image(image)
        levels = texture.read()
        levels.dimensions = texture.width * texture.height * 4
        levels = np.array(levels, dtype=float).reshape(texture.height, texture.width, 4)[..., :3]
        levels *= 255 if levels.max() <= 1 else 1
        found.append((levels[144, 256], levels[36, 64]))
    bpy.data.images.remove(image)
    assert np.abs(np.array(found)[:, 0] - COLOURS).max() < 5
    return found


def setup():
    """A camera with a shifted lens, a character before it, and a film of known colours."""
    global steps
    builders = gui.module("tests.scene.builders")
    film = builders.write_film(folder / "film.mp4", COLOURS, 24, (320, 180))
    scene = bpy.context.scene
    scene.frame_start, scene.frame_end, scene.render.fps = START, START + FRAMES - 1, 24
    scene.render.resolution_x, scene.render.resolution_y = 640, 360
    scene.camera.data.shift_x, scene.camera.data.shift_y = 0.1, -0.05
    assert scene.view_settings.view_transform == "AgX"
    cube = bpy.data.objects["Cube"]
    cube.maquette.is_character = True
    bpy.ops.object.select_all(action="DESELECT")
    window, area, region = gui.view()
    area.spaces.active.region_3d.view_perspective = "CAMERA"
    area.spaces.active.region_3d.view_camera_zoom = 8
    area.spaces.active.region_3d.view_camera_offset = (0.06, 0.02)
    scene.frame_set(START + 4)
    objects = len(bpy.data.objects)
    assert bpy.ops.maquette.load_result(filepath=str(film), mode="OVERLAY") == {"FINISHED"}
    assert len(bpy.data.objects) == objects
    scene.maquette.overlay_outline = False
    kept["decoded"] = decode(film)
    steps = checks(scene, window, area, region)


def waited(count=6):
    """Let the window draw."""
    yield from gui.waited(count)


def off_by(screen, index):
    """How far the screen is from the film, at its worst, in levels."""
    upper, lower = in_file(index)
    spots = [((0.8, 0.8), upper), ((0.55, 0.9), upper), ((0.9, 0.1), upper), ((0.2, 0.2), lower)]
    return max(np.abs(seen(screen, *spot) - colour).max() for spot, colour in spots)


def checks(scene, window, area, region):
    """What is checked, a window's redraw at a time."""
    space = area.spaces.active
    scene.maquette.show_as = "OFF"
    yield from measure_shown(space)
    scene.maquette.show_as = "OVERLAY"
    for kind in ("SOLID", "MATERIAL", "RENDERED", "WIREFRAME"):
        space.shading.type = kind
        yield from waited(12 if kind in ("MATERIAL", "RENDERED") else 6)
        worst = off_by(picture(), 4)
        print(f"{kind}: colours within {worst:.1f} levels")
        assert worst <= LEVELS, kind
    space.shading.type = "SOLID"
    for overlays in (False, True):
        space.overlay.show_overlays = overlays
        yield from waited()
        assert off_by(picture(), 4) <= LEVELS, f"overlays {overlays}"
    for frame in (START, START + 11, START + 2):
        scene.frame_set(frame)
        yield from waited()
        worst = off_by(picture(), frame - START)
        print(f"frame {frame}: within {worst:.1f} levels")
        assert worst <= LEVELS, frame
    scene.frame_set(START + FRAMES)
    yield from waited()
    assert off_by(picture(), FRAMES - 1) > 20, "after its end"
    scene.frame_set(START + 4)
    yield from waited()
    screen = picture()
    for x, y, inside in ((0.01, 0.7, True), (-0.02, 0.7, False), (0.3, 0.98, True), (0.3, 1.03, False)):
        assert (np.abs(seen(screen, x, y) - in_file(4)[0]).max() <= LEVELS) == inside, (x, y, seen(screen, x, y))
    print("edges lie where the camera's frame is projected to")

    scene.maquette.show_as = "OFF"
    yield from waited()
    bare = picture()
    assert off_by(bare, 4) > 20
    scene.maquette.show_as = "OVERLAY"
    scene.maquette.overlay_opacity = 0.5
    yield from waited()
    mixed = picture()
    # Mixed in linear light, as Blender does its own overlays.
    want = ((seen(bare, 0.8, 0.8) ** 2.2 + in_file(4)[0] ** 2.2) / 2) ** (1 / 2.2)
    print("half opaque: off by", np.abs(seen(mixed, 0.8, 0.8) - want).max().round(1))
    assert np.abs(seen(mixed, 0.8, 0.8) - want).max() <= 4
    scene.maquette.overlay_opacity = 1.0
    scene.maquette.overlay_wipe = 0.7
    yield from waited()
    wiped = picture()
    assert np.abs(seen(wiped, 0.6, 0.8) - in_file(4)[0]).max() <= LEVELS
    assert np.abs(seen(wiped, 0.8, 0.8) - seen(bare, 0.8, 0.8)).max() <= LEVELS
    scene.maquette.overlay_wipe = 1.0

    x, y = place(0.8, 0.8)
    window.event_simulate(type="MOUSEMOVE", value="NOTHING", x=x, y=y)
    yield from waited()
    window.event_simulate(type="J", value="PRESS", x=x, y=y)
    yield from waited()
    held = picture()
    window.event_simulate(type="J", value="RELEASE", x=x, y=y)
    yield from waited()
    assert np.abs(seen(held, 0.8, 0.8) - seen(bare, 0.8, 0.8)).max() <= LEVELS, "the key does not hide the film"
    assert off_by(picture(), 4) <= LEVELS, "the film does not come back"
    print("the key hides the film while it is held")

    scene.maquette.overlay_outline = True
    yield from waited()
    lined = picture()
    orange = (np.abs(lined - (255, 175, 50)).max(axis=-1) < 60).sum()
    print("pixels of outline", orange)
    assert 100 < orange < 20000
    kept["outline"] = True

    scene.render.filepath = str(folder / "view.png")
    with bpy.context.temp_override(window=window, area=area, region=region):
        bpy.ops.render.opengl(write_still=True)
    image = bpy.data.images.load(str(folder / "view.png"))
    pixels = np.array(image.pixels[:]).reshape(image.size[1], image.size[0], -1)[..., :3] * 255
    bpy.data.images.remove(image)
    got = pixels[int(0.8 * pixels.shape[0]), int(0.8 * pixels.shape[1])]
    assert np.abs(got - in_file(4)[0]).max() > 20, f"the film was rendered: {got}"
    print("a viewport render shows no film")

    bpy.ops.ed.undo_push(message="Something")
    with bpy.context.temp_override(window=window, area=area, region=region):
        bpy.ops.ed.undo()
        bpy.ops.ed.redo()
    yield from waited(10)
    scene = bpy.context.scene
    scene.maquette.overlay_outline = False
    yield from waited()
    assert off_by(picture(), 4) <= LEVELS, "after undo and redo"
    print("undo and redo leave it")

    area.spaces.active.region_3d.view_perspective = "PERSP"
    yield from waited()
    assert np.abs(picture()[region.y : region.y + region.height] - in_file(4)[0]).max(axis=-1).min() > 5
    area.spaces.active.region_3d.view_perspective = "CAMERA"
    took = {}
    for way in ("OVERLAY", "OFF"):
        scene.maquette.show_as = way
        times = []
        for turn in range(40):
            began = time.monotonic()
            scene.frame_set(START + turn % FRAMES)
            area.tag_redraw()
            with bpy.context.temp_override(window=window):
                bpy.ops.wm.redraw_timer(type="DRAW_WIN_SWAP", iterations=1)
            times.append(time.monotonic() - began)
        took[way] = 1e3 * float(np.median(times))
    print(f"a frame of playback: {took['OVERLAY']:.0f} ms with the film, {took['OFF']:.0f} without")
    scene.maquette.show_as = "OVERLAY"
    scene.maquette.overlay_outline, scene.maquette.overlay_wipe = True, 0.6
    scene.frame_set(START + 4)
    yield from waited()


def ready():
    """One step of the checks a call."""
    return next(steps, "over") == "over"


def done():
    """All was as it should be, or an assertion would have ended the script."""
    print("all of it holds")
