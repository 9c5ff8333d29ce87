"""References and backgrounds: what the pictures show, where they show it, and files that are none."""

from __future__ import annotations

import bpy
import numpy as np
import pytest

from ..builders import add_box, add_camera, add_mesh, add_performer, module, read_pixels, small_scene, write_film


@pytest.fixture
def dancer(addon):
    scene = small_scene(frames=3)
    scene.maquette.points = 128
    mesh = add_performer(frames=(1, 3))
    mesh.maquette.reference_source = "NONE"
    camera = add_camera((0.5, -6, 1.4), (0, 0, 1))
    camera.data.shift_x = 0.05
    return mesh


def colour(mesh, rgb):
    """A viewport colour on a mesh."""
    material = bpy.data.materials.new("Colour")
    material.diffuse_color = (*rgb, 1)
    mesh.data.materials.append(material)


def decode(media, tmp_path, channels=3):
    path = tmp_path / "picture.png"
    path.write_bytes(media.data)
    image = bpy.data.images.load(str(path))
    flat = np.empty(image.size[0] * image.size[1] * image.channels, dtype=np.float32)
    image.pixels.foreach_get(flat)
    picture = flat.reshape(image.size[1], image.size[0], -1)[::-1, :, :channels] * 255
    bpy.data.images.remove(image)
    return picture


def project(reference):
    camera = reference.points @ reference.viewmat[:3, :3].T + reference.viewmat[:3, 3]
    pixels = camera @ reference.K.T
    return pixels[:, :2] / pixels[:, 2:]


def test_the_reference_shows_the_character_alone_where_its_points_are(capture, dancer, tmp_path):
    """A red body, its blue hat, and a green box in front that must not show."""
    colour(dancer, (0.8, 0.02, 0.02))
    hat = add_box("Hat", 0.5, (0, 0, 2.3))
    colour(hat, (0.02, 0.02, 0.8))
    hat.parent = dancer.parent
    colour(add_box("Box", 1.0, (0, -2, 1)), (0.02, 0.8, 0.02))
    marks = dancer.maquette
    marks.reference_source, marks.reference_frame = "RENDER", 2
    shot = capture.capture_shot(bpy.context)
    reference = shot.characters[0].reference
    picture = decode(reference.image, tmp_path, 4)
    assert picture.shape == (64, 96, 4)
    solid = picture[..., 3] > 200
    red, green, blue = (picture[..., c] for c in range(3))
    assert (solid & (red > 2 * blue)).sum() > 100 and (solid & (blue > 2 * red)).sum() > 10
    assert not (solid & (green > red) & (green > blue)).any()
    assert (picture[:5, :5, 3] == 0).all()
    np.testing.assert_allclose(reference.points, shot.characters[0].points[1], atol=1e-5)
    assert 0.3 < reference.visibility.mean() < 0.7
    u, v = project(reference)[reference.visibility].astype(int).T
    assert (picture[v, u, 3] > 20).mean() > 0.97


def test_a_reference_out_of_the_picture_is_taken_at_a_better_frame(capture, dancer):
    dancer.maquette.reference_source, dancer.maquette.reference_frame = "RENDER", 40
    rig = dancer.parent
    for frame, x in ((3, 0.0), (40, 60.0)):
        rig.location.x = x
        rig.keyframe_insert("location", frame=frame)
    notices = []
    reference = capture.capture_shot(bpy.context, notices=notices).characters[0].reference
    assert reference.visibility.any() and any("reference frame 40" in n for n in notices)


@pytest.mark.parametrize("size", [(192, 128), (480, 320), (100, 100), (60, 200)])
def test_a_picture_of_any_size_is_fitted(capture, dancer, size):
    """A pinhole of the picture's size sees each point where the render does, scaled and centred."""
    marks = dancer.maquette
    marks.reference_source, marks.reference_frame = "IMAGE", 1
    marks.reference_image = bpy.data.images.new("Painted", *size)
    notices = []
    shot = capture.capture_shot(bpy.context, notices=notices)
    reference = shot.characters[0].reference
    assert reference.image.mime == "image/png"
    rendered = project(type(reference)(**{**vars(reference), "K": shot.clip.Ks[0]}))
    scale = max(size[0] / 96, size[1] / 64)
    expected = (rendered - [48, 32]) * scale + np.array(size) / 2
    np.testing.assert_allclose(project(reference), expected, atol=2e-2)
    assert any("Fit" in n for n in notices) == (size in ((100, 100), (60, 200)))


def test_a_picture_file_travels_as_it_is(addon, capture, dancer, tmp_path):
    media = module(addon, "scene.capture.media")
    path = tmp_path / "face.png"
    picture = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    path.write_bytes(media.encode_png(picture))
    np.testing.assert_allclose(read_pixels(path), picture, atol=0.6)
    marks = dancer.maquette
    marks.reference_source, marks.reference_image = "IMAGE", bpy.data.images.load(str(path))
    shot = capture.capture_shot(bpy.context)
    assert shot.characters[0].reference.image.data == path.read_bytes()
    marks.reference_image.pack()
    path.unlink()
    assert capture.capture_shot(bpy.context).characters[0].reference.image.data.startswith(b"\x89PNG")


def test_other_pictures_become_png_of_the_same_colours(addon, tmp_path):
    """A painted one of linear floats, and a TIFF file."""
    media = module(addon, "scene.capture.media")
    deep = bpy.data.images.new("Deep", 3, 2, float_buffer=True)
    deep.pixels.foreach_set(np.tile(np.array([0.0, 0.2140, 1.0, 1.0], dtype=np.float32), 6))
    plain = bpy.data.images.new("Plain", 3, 2)
    plain.pixels.foreach_set(np.tile(np.array([0.0, 0.5, 1.0, 1.0], dtype=np.float32), 6))
    plain.filepath_raw, plain.file_format = str(tmp_path / "plain.tif"), "TIFF"
    plain.save()
    for made in (media.picture_from_image(deep, "x")[0], media.picture_from_file(tmp_path / "plain.tif", "x")):
        assert made.mime == "image/png"
        np.testing.assert_allclose(decode(made, tmp_path)[0, 0], [0, 127.5, 255], atol=0.6)


def test_reference_pictures_that_are_none(capture, dancer, error, tmp_path):
    marks = dancer.maquette
    marks.reference_source = "IMAGE"
    with pytest.raises(error, match=r"characters\.Dancer\.reference.*choose one"):
        capture.capture_shot(bpy.context)
    (tmp_path / "no.png").write_bytes(b"not a picture at all")
    marks.reference_image = bpy.data.images.load(str(tmp_path / "no.png"))
    with pytest.raises(error, match="damaged or not a picture"):
        capture.capture_shot(bpy.context)
    marks.reference_image = bpy.data.images.new("Good", 96, 64)
    marks.reference_frame = 30
    dancer.parent.keyframe_insert("location", frame=3)
    dancer.parent.location.x = 70
    dancer.parent.keyframe_insert("location", frame=30)
    with pytest.raises(error, match="does not see 'Dancer' at its reference frame 30"):
        capture.capture_shot(bpy.context)


def test_the_scene_behind_is_rendered_without_characters_and_clothes(capture, dancer, tmp_path):
    scene = bpy.context.scene
    scene.maquette.background = "SCENE"
    colour(dancer, (0.8, 0.02, 0.02))
    hat = add_box("Hat", 0.5, (0, 0, 2.1))
    colour(hat, (0.8, 0.02, 0.02))
    hat.parent = dancer.parent
    screen = add_mesh("Screen", [(-3, -2, -1), (3, -2, -1), (3, -2, 4), (-3, -2, 4)], [(0, 1, 2, 3)])
    screen["maquette_result"] = "old"
    box = add_box("Box", 1.0, (-1, 2, 0.5))
    colour(box, (0.02, 0.8, 0.02))
    shot = capture.capture_shot(bpy.context)
    assert shot.background.kind == "still"
    picture = decode(shot.background.media[0], tmp_path)
    assert picture.shape == (64, 96, 3)
    assert (picture[..., 1] > 2 * picture[..., 0]).sum() > 50
    assert not (picture[..., 0] > picture[..., 1] + 20).any()

    box.keyframe_insert("location", frame=1)
    box.location.x = 1.5
    box.keyframe_insert("location", frame=3)
    moving = capture.capture_shot(bpy.context).background
    assert moving.kind == "video" and len(moving.media) == 3
    places = []
    for media in moving.media:
        picture = decode(media, tmp_path)
        places.append(np.argwhere(picture[..., 1] > 2 * picture[..., 0])[:, 1].mean())
    assert places[0] + 5 < places[1] < places[2] - 5


def test_a_scene_of_nothing_but_characters_has_its_plain_world_behind(capture, dancer, tmp_path):
    scene = bpy.context.scene
    scene.maquette.background = "SCENE"
    scene.world = bpy.data.worlds.new("World")
    if scene.world.node_tree is None:
        scene.world.use_nodes = True
    scene.world.node_tree.nodes["Background"].inputs["Color"].default_value = (0.0, 0.2140, 1.0, 1.0)
    before = tuple(scene.world.color)
    notices = []
    shot = capture.capture_shot(bpy.context, notices=notices)
    assert shot.background.kind == "still" and any("nothing but characters" in n for n in notices)
    np.testing.assert_allclose(
        decode(shot.background.media[0], tmp_path).reshape(-1, 3).mean(axis=0), [0, 127.5, 255], atol=2
    )
    assert tuple(scene.world.color) == before


@pytest.fixture
def presets(addon, tmp_path, monkeypatch):
    """A tiny model of 256 pixels, a large one of 1024, and one whose films have 100 on the short side by default."""
    models = module(addon, "backend.catalogue.models")
    nano = (models.PRESETS / "isa-nano.toml").read_text("utf-8")
    for name, limits, size in (
        ("tiny", "max_size = 256", 256),
        ("large", "max_size = 1024", 256),
        ("short", "max_size = 1024\nmax_short_side = 512", 100),
    ):
        text = nano
        for before, after in (
            ('id = "isa-nano"', f'id = "{name}"'),
            ("max_size = 2048\nmax_short_side = 1080\nwithin_clip = 1", limits),
            ("width = 512\nheight = 512", f"width = {size}\nheight = {size}"),
        ):
            assert before in text
            text = text.replace(before, after)
        (tmp_path / f"{name}.toml").write_text(text, "utf-8")
    monkeypatch.setattr(models, "PRESETS", tmp_path)


def test_large_scenes_are_rendered_no_larger_than_the_model_can_use(addon, presets):
    render = module(addon, "scene.capture.render")
    assert render.working_side("tiny") == 256
    assert render.working_side("never heard of") == render.MAX_SIDE == 1408
    settings = bpy.context.scene.render
    settings.resolution_x, settings.resolution_y, settings.resolution_percentage = 3840, 2160, 50
    render.fit_size(settings, 256)
    assert (settings.resolution_x, settings.resolution_y, settings.resolution_percentage) == (256, 144, 100)


def test_pictures_are_large_enough_for_every_compared_model(addon, capture, dancer, presets, tmp_path):
    """The largest decides: a shot that only a small model would make stays small."""
    scene = bpy.context.scene
    scene.frame_end = 1
    scene.render.resolution_x, scene.render.resolution_y = 1280, 640
    scene.maquette.model, scene.maquette.background = "tiny", "SCENE"
    dancer.maquette.reference_source = "RENDER"

    def sides():
        render = module(addon, "scene.capture.render")
        return [render.film_side(scene), render.shot_side(scene)]

    assert sides() == [256, 256]
    scene.maquette.model = "short"
    assert sides() == [200, 1024]
    scene.maquette.compare.add().name = "tiny"
    assert sides() == [256, 1024]
    scene.maquette.compare.clear()
    scene.maquette.model = "tiny"
    scene.maquette.compare.add().name = "large"
    assert sides() == [1024, 1024]
    scene.maquette.compare.clear()
    shot = capture.capture_shot(bpy.context)
    media = (shot.background.media[0], shot.characters[0].reference.image)
    assert [decode(each, tmp_path).shape[1] for each in media] == [256, 512]


def test_the_scenes_own_engine_can_render(capture, dancer, tmp_path):
    scene = bpy.context.scene
    scene.frame_end = 1
    scene.maquette.background, scene.maquette.render_engine = "SCENE", "SCENE"
    scene.render.engine, scene.cycles.samples, scene.view_settings.view_transform = "CYCLES", 1, "Standard"
    scene.cycles.use_denoising = False
    wall = add_mesh("Wall", [(-9, 4, -9), (9, 4, -9), (9, 4, 9), (-9, 4, 9)], [(0, 1, 2, 3)])
    material = bpy.data.materials.new("Glow")
    if material.node_tree is None:
        material.use_nodes = True
    tree = material.node_tree
    tree.nodes.clear()
    glow = tree.nodes.new("ShaderNodeEmission")
    glow.inputs["Color"].default_value = (1.0, 0.0, 0.2140, 1.0)
    tree.links.new(glow.outputs[0], tree.nodes.new("ShaderNodeOutputMaterial").inputs[0])
    wall.data.materials.append(material)
    shot = capture.capture_shot(bpy.context)
    picture = decode(shot.background.media[0], tmp_path)
    np.testing.assert_allclose(picture.reshape(-1, 3).mean(axis=0), [255, 0, 127.5], atol=2)


def test_files_behind_the_characters(addon, capture, dancer, tmp_path):
    options = bpy.context.scene.maquette
    media = module(addon, "scene.capture.media")
    options.background = "PICTURE"
    path = tmp_path / "sky.png"
    path.write_bytes(media.encode_png(np.full((8, 8, 3), 90, dtype=np.uint8)))
    options.background_path = str(path)
    assert capture.capture_shot(bpy.context).background.media[0].data == path.read_bytes()
    film = write_film(tmp_path / "film.mp4", np.full((2, 3), 120), fps=24)
    options.background, options.background_path = "VIDEO", str(film)
    notices = []
    background = capture.capture_shot(bpy.context, notices=notices).background
    assert background.kind == "video" and background.media[0].data == film.read_bytes()
    assert not any("film" in n for n in notices)
    bpy.context.scene.frame_end = 9
    capture.capture_shot(bpy.context, notices=notices)
    assert any("its last frame is held" in n for n in notices)
    assert not bpy.data.movieclips and not bpy.data.images


@pytest.mark.parametrize(
    ("kind", "content", "words"),
    [
        ("PICTURE", None, ("does not exist", "choose the picture again")),
        ("VIDEO", None, ("does not exist", "choose the film again")),
        ("PICTURE", b"", ("is empty",)),
        ("VIDEO", b"", ("is empty",)),
        ("PICTURE", b"nonsense" * 50, ("damaged or not a picture",)),
        ("VIDEO", b"nonsense" * 50, ("not a film", "mp4")),
        ("VIDEO", "picture", ("not a film", "mp4")),
        ("VIDEO", "half", ("stops before its end", "again")),
        ("PICTURE", "film", ("is a film", "still picture")),
        ("VIDEO", "folder", ("is a folder",)),
        ("PICTURE", "unsaved", ("not saved yet",)),
        ("PICTURE", "nothing", ("no picture is chosen",)),
    ],
)
def test_files_that_are_none(addon, capture, dancer, error, tmp_path, kind, content, words):
    path = tmp_path / ("file.mp4" if content in ("film", "half") or kind == "VIDEO" else "file.png")
    chosen = str(path)
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "picture":
        path.write_bytes(module(addon, "scene.capture.media").encode_png(np.zeros((8, 8, 3), dtype=np.uint8)))
    elif content in ("film", "half"):
        write_film(path, np.full((3, 3), 100))
        if content == "half":
            path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    elif content in ("folder", "unsaved", "nothing"):
        chosen = {"folder": str(tmp_path), "unsaved": "//sky.png", "nothing": ""}[content]
    options = bpy.context.scene.maquette
    options.background, options.background_path = kind, chosen
    with pytest.raises(error) as caught:
        capture.capture_shot(bpy.context)
    assert caught.value.field == "background"
    for word in words:
        assert word in str(caught.value)
    assert not bpy.data.movieclips and not bpy.data.images
