"""The finished video in the scene: rendered, frame by frame, and compared with the film."""

from __future__ import annotations

import importlib
import math

import bpy
import numpy as np
import pytest

from ..builders import add_camera, render_frame, screening, write_film

FRAMES = 9


@pytest.fixture(scope="module")
def colours():
    return np.random.default_rng(5).integers(30, 226, (FRAMES, 3)).astype(np.uint8)


@pytest.fixture
def films(addon, colours, tmp_path):
    """Writes the film at a rate."""
    return lambda fps: write_film(tmp_path / f"film{fps}.mp4", colours, fps)


@pytest.fixture
def stage_set(addon):
    return screening(FRAMES, (48, 36))


def load(**options):
    assert bpy.ops.maquette.load_result(**options) == {"FINISHED"}


def expected(colour, size):
    """The film's picture (H,W,3): the lower left quarter half as bright."""
    width, height = size
    picture = np.tile(np.asarray(colour, dtype=float), (height, width, 1))
    picture[height // 2 :, : width // 2] /= 2
    return picture


def psnr(a, b):
    return 10 * math.log10(255**2 / max(((a - b) ** 2).mean(), 1e-9))


def inner(picture):
    """Without the rows and columns beside the quarter's edge, where the film's chroma blurs."""
    height, width = picture.shape[:2]
    keep_v = np.abs(np.arange(height) + 0.5 - height / 2) > height / 12
    keep_u = np.abs(np.arange(width) + 0.5 - width / 2) > width / 12
    return picture[keep_v][:, keep_u]


def shown(picture, colours):
    """Index of the film's frame that a picture shows, and how well."""
    size = picture.shape[1], picture.shape[0]
    scores = [psnr(inner(picture), inner(expected(c, size))) for c in colours]
    return int(np.argmax(scores)), max(scores)


def optics(name):
    camera, render = bpy.context.scene.camera, bpy.context.scene.render
    lens = camera.data
    if name == "shifted portrait":
        lens.shift_x, lens.shift_y, lens.lens = 0.3, -0.2, 24
        render.resolution_x, render.resolution_y = 36, 48
    elif name == "vertical":
        lens.sensor_fit, lens.sensor_height, lens.shift_y = "VERTICAL", 20, 0.15
    elif name == "horizontal portrait":
        lens.sensor_fit, render.resolution_x, render.resolution_y = "HORIZONTAL", 36, 48
    elif name == "wide pixels":
        render.pixel_aspect_x, lens.shift_x = 2.0, 0.1
    elif name == "scaled and animated":
        camera.scale = (2, 0.5, 3)
        render.resolution_x, render.resolution_y, render.resolution_percentage = 97, 73, 50
        for frame, focal, shift, x in ((11, 20, 0.0, 0.0), (19, 90, 0.4, 3.0)):
            lens.lens, lens.shift_x, camera.location.x = focal, shift, x
            lens.keyframe_insert("lens", frame=frame)
            lens.keyframe_insert("shift_x", frame=frame)
            camera.keyframe_insert("location", frame=frame)


@pytest.mark.parametrize(
    "name", ["plain", "shifted portrait", "vertical", "horizontal portrait", "wide pixels", "scaled and animated"]
)
def test_the_plane_fills_the_picture_with_the_right_frame(stage_set, films, colours, tmp_path, name):
    """Every pixel of every rendered frame is the film's, through any lens."""
    optics(name)
    load(filepath=str(films(24)), placement="FRONT" if name == "plain" else "DEPTH", depth=1.5)
    frames = range(11, 11 + FRAMES) if name in ("plain", "scaled and animated") else (11, 15)
    worst = 100.0
    for frame in frames:
        picture = render_frame(tmp_path / "out.png", frame)
        index, score = shown(picture, colours)
        assert index == frame - 11
        worst = min(worst, score)
    print(f"{name}: worst PSNR {worst:.1f} dB")
    assert worst > 34


@pytest.mark.parametrize("engine", ["CYCLES", "BLENDER_WORKBENCH"])
@pytest.mark.parametrize(
    ("fps", "step", "scene_fps"),
    [(12, 2, 24), (8, 3, 24), (30, 1, 24), (24, 1, 30), (24, 1, 24)],
    ids=["every 2nd frame", "every 3rd frame", "faster film", "slower film", "alike"],
)
def test_films_of_other_rates_show_the_frame_of_the_time(
    addon, stage_set, films, colours, tmp_path, engine, fps, step, scene_fps
):
    stage_set.render.fps, stage_set.frame_step = scene_fps, step
    load(filepath=str(films(fps)))
    if engine == "BLENDER_WORKBENCH":
        stage_set.display.shading.light, stage_set.display.shading.color_type = "FLAT", "TEXTURE"
        stage_set.display.render_aa = "OFF"
    rate = fps / scene_fps
    last = 11 + math.ceil(FRAMES / rate) - 1
    found, wanted = [], []
    for frame in sorted({11, 12, 13, 14, 16, last - 1, last, last + 5}):
        index, score = shown(render_frame(tmp_path / "out.png", frame, engine), colours)
        assert score > 30
        found.append(index)
        wanted.append(min(math.floor((min(frame, last) - 11) * rate + 1e-6), FRAMES - 1))
    assert found == wanted


@pytest.mark.parametrize(("fps", "step"), [(24, 1), (12, 2), (30, 1)])
def test_the_strip_plays_the_same_frames(stage_set, films, colours, tmp_path, fps, step):
    stage_set.frame_step = step
    load(filepath=str(films(fps)), mode="STRIP")
    stage_set.render.use_sequencer = True
    rate = fps / 24
    count = math.ceil(FRAMES / rate)
    found = []
    for frame in range(11, 11 + count):
        picture = render_frame(tmp_path / "out.png", frame, "BLENDER_WORKBENCH")
        index, score = shown(picture, colours)
        assert score > 26
        found.append(index)
    assert found == [math.floor(i * rate + 1e-6) for i in range(count)]
    editor = stage_set.sequence_editor
    strip = next(s for s in (editor.strips if hasattr(editor, "strips") else editor.sequences) if s.type == "MOVIE")
    assert strip.frame_final_start == 11 and not strip.mute


@pytest.mark.parametrize(("fps", "step"), [(24, 1), (12, 2)])
def test_the_camera_background_plays_on_its_frames(stage_set, films, fps, step):
    stage_set.frame_step = step
    load(filepath=str(films(fps)), mode="BACKGROUND")
    lens = stage_set.camera.data
    assert lens.show_background_images and len(lens.background_images) == 1
    background = lens.background_images[0]
    assert background.frame_method == "STRETCH" and background.image.source == "MOVIE"
    rate = fps / 24
    for frame in (11, 12, 15, 19):
        stage_set.frame_set(frame)
        user = lens.evaluated_get(bpy.context.evaluated_depsgraph_get()).background_images[0].image_user
        played = min(frame - user.frame_start + 1, user.frame_duration) + user.frame_offset - 1
        assert played == math.floor((frame - 11) * rate + 1e-6)
    assert user.use_auto_refresh and not user.use_cyclic


def test_all_at_once_leaves_renders_to_the_scene(stage_set, films, tmp_path, colours):
    load(filepath=str(films(24)), mode="ALL")
    assert stage_set.sequence_editor is not None and stage_set.camera.data.background_images
    assert shown(render_frame(tmp_path / "out.png", 14), colours)[0] == 3
    plane = next(o for o in stage_set.objects if "maquette_result" in o)
    plane.hide_render = True
    picture = render_frame(tmp_path / "out.png", 14)
    assert shown(picture, colours)[1] < 25


def test_planes_stand_where_they_are_asked_to(addon, stage_set, films, tmp_path):
    film = str(films(24))
    camera = stage_set.camera

    def depth_of(**options):
        load(filepath=film, **options)
        plane = next(o for o in stage_set.objects if "maquette_result" in o)
        bpy.context.view_layer.update()
        place = camera.matrix_world.normalized().inverted() @ plane.matrix_world.translation
        assert plane["depth"] == pytest.approx(-place.z, rel=1e-4)
        return -place.z

    assert depth_of(placement="FRONT") == pytest.approx(1.1 * camera.data.clip_start, rel=1e-4)
    assert depth_of(placement="DEPTH", depth=7.5) == pytest.approx(7.5, rel=1e-4)
    assert 4.5 < depth_of(placement="CHARACTERS") < 5.5
    assert depth_of(placement="BEHIND") > 5.3
    assert [o.name for o in stage_set.objects if "maquette_result" in o] == ["Maquette Screen Camera"]
    with pytest.raises(RuntimeError, match="outside what 'Camera' sees"):
        bpy.ops.maquette.load_result(filepath=film, placement="DEPTH", depth=5000)


def test_each_camera_of_the_cut_has_its_plane(stage_set, films, colours, tmp_path):
    second = add_camera((4, -2, 3), (0, 0, 1), "Second")
    stage_set.timeline_markers.new("a", frame=11).camera = bpy.data.objects["Camera"]
    stage_set.timeline_markers.new("b", frame=15).camera = second
    load(filepath=str(films(24)))
    assert len([o for o in stage_set.objects if "maquette_result" in o]) == 2
    for frame in (11, 14, 15, 18):
        picture = render_frame(tmp_path / "out.png", frame)
        assert stage_set.camera.name == ("Camera" if frame < 15 else "Second")
        index, score = shown(picture, colours)
        assert index == frame - 11 and score > 34


def counts():
    scene = bpy.context.scene
    editor = scene.sequence_editor
    strips = (editor.strips if hasattr(editor, "strips") else editor.sequences) if editor is not None else []
    return {
        "planes": len([o for o in scene.objects if "maquette_result" in o]),
        "images": len([i for i in bpy.data.images if i.source == "MOVIE"]),
        "materials": len(bpy.data.materials),
        "meshes": len([m for m in bpy.data.meshes if m.name.startswith("Maquette")]),
        "backgrounds": len(scene.camera.data.background_images),
        "strips": len(strips),
        "drivers": len(scene.animation_data.drivers) if scene.animation_data else 0,
        "results": len(scene.maquette.results),
    }


def test_loading_again_replaces(stage_set, films):
    slow, fast = str(films(12)), str(films(30))
    stage_set.frame_step = 2
    load(filepath=slow, mode="ALL", job="vid_1")
    first = counts()
    assert first == {**dict.fromkeys(first, 1), "strips": 2, "images": 2}
    load(filepath=slow, mode="ALL", job="vid_1")
    assert counts() == first
    load(filepath=fast, mode="ALL", job="vid_2")
    assert counts() == {**first, "results": 2}
    load(filepath=slow, mode="PLANE", job="vid_1", replace=False)
    assert counts()["planes"] == 2 and counts()["results"] == 2
    load(filepath=slow, mode="BACKGROUND", job="vid_1", replace=False)
    lens = stage_set.camera.data
    assert len(lens.background_images) == 2 and len(lens.animation_data.drivers) == 2
    load(filepath=fast, mode="BACKGROUND", job="vid_2", replace=False)
    assert len(lens.background_images) == 2 and len(lens.animation_data.drivers) == 2
    bpy.ops.maquette.unload_results()
    gone = counts()
    assert gone == dict.fromkeys(gone, 0) | {"results": 2}


def test_the_animators_own_background_and_strip_stay(stage_set, films):
    own = bpy.data.images.new("Mine", 8, 8)
    lens = stage_set.camera.data
    lens.background_images.new().image = own
    editor = stage_set.sequence_editor_create()
    strips = editor.strips if hasattr(editor, "strips") else editor.sequences
    strips.new_movie(name="Mine", filepath=str(films(24)), channel=1, frame_start=1)
    load(filepath=str(films(30)), mode="ALL")
    bpy.ops.maquette.unload_results()
    assert [b.image.name for b in lens.background_images] == ["Mine"] and lens.show_background_images is not None
    assert [s.name for s in strips] == ["Mine"]


def test_one_undo_takes_it_away(stage_set, films):
    film = str(films(24))
    bpy.ops.ed.undo_push(message="before")
    assert bpy.ops.maquette.load_result("EXEC_DEFAULT", True, filepath=film, mode="ALL") == {"FINISHED"}
    bpy.ops.ed.undo()
    scene = bpy.context.scene
    assert not [o for o in scene.objects if "maquette_result" in o] and not scene.maquette.results
    assert not scene.camera.data.background_images


def test_paths_are_relative_once_the_blend_is_saved(stage_set, films, tmp_path):
    film = films(24)
    (tmp_path / "sub").mkdir()
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "sub" / "shot.blend"))
    load(filepath=str(film), mode="ALL")
    scene = bpy.context.scene
    assert scene.maquette.results[0].filepath == "//../film24.mp4"
    assert scene.camera.data.background_images[0].image.filepath == "//../film24.mp4"
    assert [i.filepath for i in bpy.data.images if i.source == "MOVIE"] == ["//../film24.mp4"] * 2


def test_the_result_survives_saving_and_opening(stage_set, films, colours, tmp_path):
    load(filepath=str(films(24)))
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "shot.blend"))
    assert shown(render_frame(tmp_path / "out.png", 15), colours)[0] == 4


def planes():
    return [o for o in bpy.context.scene.objects if "maquette_result" in o]


def test_the_switch_shows_one_way_at_a_time(stage_set, films):
    """Each way takes the place of the one before; the overlay puts nothing into the scene."""
    load(filepath=str(films(24)), mode="OVERLAY")
    shot = stage_set.maquette
    assert shot.show_as == "OVERLAY" and not planes()

    def there():
        found = counts()
        return found["planes"], found["backgrounds"], found["strips"]

    for way, parts in {
        "PLANE": (1, 0, 0), "BACKGROUND": (0, 1, 0), "STRIP": (0, 0, 1), "OVERLAY": (0, 0, 0), "OFF": (0, 0, 0),
    }.items():  # fmt: skip
        shot.show_as = way
        assert there() == parts, way
    load(mode="STRIP")
    assert shot.show_as == "STRIP"
    bpy.ops.maquette.unload_results()
    assert shot.show_as == "OFF" and there() == (0, 0, 0)


def test_choosing_another_result_shows_it(stage_set, films):
    load(filepath=str(films(24)), mode="PLANE", job="vid_1")
    load(filepath=str(films(12)), mode="PLANE", job="vid_2")
    stage_set.maquette.active_result = 0
    assert [obj["maquette_result"] for obj in planes()] == ["vid_1"]


def test_nothing_renders_unless_asked(stage_set, films, colours, tmp_path):
    stage_set.maquette.plane_renders = False
    for mode in ("OVERLAY", "PLANE", "BACKGROUND", "STRIP"):
        load(filepath=str(films(24)), mode=mode)
        assert shown(render_frame(tmp_path / "out.png", 14), colours)[1] < 25, mode
    assert not stage_set.render.use_sequencer
    stage_set.maquette.show_as = "PLANE"
    assert stage_set.render.use_sequencer  # as it was before the strip
    stage_set.maquette.plane_renders = True
    assert shown(render_frame(tmp_path / "out.png", 14), colours)[0] == 3


def test_a_switch_that_cannot_be_followed_says_so(stage_set, films, capsys):
    path = films(24)
    load(filepath=str(path), mode="PLANE")
    path.unlink()
    stage_set.maquette.show_as = "STRIP"
    assert "does not exist" in capsys.readouterr().out


@pytest.mark.parametrize(("stored", "way"), [(1, "PLANE"), (2, "BACKGROUND"), (4, "STRIP"), (7, "OVERLAY")])
def test_switches_of_older_files_are_understood(addon, stage_set, stored, way):
    """They could be set to several ways at once, and were stored as the sum of 1, 2 and 4."""
    switch = importlib.import_module(f"{addon.__name__}.scene.screen.switch")
    properties = stage_set.maquette
    if hasattr(properties, "bl_system_properties_get"):
        properties.bl_system_properties_get(do_create=True)["show_as"] = stored
    else:
        properties["show_as"] = stored
    switch.mend(stage_set)
    assert properties.show_as == way


@pytest.mark.parametrize(("transform", "levels"), [("Standard", 12), ("Filmic", 12), ("AgX", 25)])
def test_a_rendered_plane_has_the_films_colours(stage_set, films, colours, tmp_path, transform, levels):
    stage_set.view_settings.view_transform = transform
    load(filepath=str(films(24)), mode="PLANE")
    apart = []
    for frame in (11, 14, 17):
        picture = render_frame(tmp_path / "out.png", frame, transform=transform)
        apart.append(np.abs(picture[4:14, 30:44].mean(axis=(0, 1)) - colours[frame - 11]).max())
    assert max(apart) < levels, apart
