"""The shot's camera in each format, read back by the format's own rules or by Blender's importers."""

from __future__ import annotations

import json

import bpy
import numpy as np
import pytest

from ..builders import add_camera, aim, module

SPOTS = np.array([[0, 0, 1], [0.6, 0.2, 1.4], [-0.5, -0.3, 0.4], [0.2, 0.7, 1.9]], float)
KINDS = {
    "plain": {},
    "shifted": {"shift_x": 0.21, "shift_y": -0.13},
    "vertical sensor": {"sensor_fit": "VERTICAL", "sensor_height": 18.0, "shift_y": 0.1},
    "zoom": {"zoom": True},
}


@pytest.fixture
def export(addon):
    return module(addon, "scene.camera.export")


def shot(size=(96, 64), aspect=(1.0, 1.0), zoom=False, frames=4, step=1, **lens) -> bpy.types.Scene:
    scene, camera = bpy.context.scene, add_camera()
    scene.frame_start, scene.frame_end, scene.frame_step = 11, 11 + step * (frames - 1), step
    scene.render.resolution_x, scene.render.resolution_y = size
    scene.render.pixel_aspect_x, scene.render.pixel_aspect_y = aspect
    for name, value in lens.items():
        setattr(camera.data, name, value)
    for k, frame in enumerate(range(11, scene.frame_end + 1, step)):
        aim(camera, (0.7 * k - 1, -6 + 0.3 * k, 1 + 0.2 * k), (0, 0, 1))
        camera.keyframe_insert("location", frame=frame)
        camera.keyframe_insert("rotation_euler", frame=frame)
        if zoom:
            camera.data.lens = 35 + 5 * k
            camera.data.keyframe_insert("lens", frame=frame)
    return scene


def seen(viewmat, K, spots=SPOTS):
    """(N,2) pixels, centres at +0.5, of places in the world."""
    local = spots @ np.asarray(viewmat)[:3, :3].T + np.asarray(viewmat)[:3, 3]
    image = local @ np.asarray(K).T
    return image[:, :2] / image[:, 2:]


def same(reads, viewmats, Ks):
    """Whether cameras stand within a millimetre, and see spots within 0.01 pixels."""
    assert len(reads) == len(viewmats)
    for (viewmat, K), want, want_K in zip(reads, viewmats, Ks, strict=True):
        eyes = [-np.asarray(v)[:3, :3].T @ np.asarray(v)[:3, 3] for v in (viewmat, want)]
        assert np.linalg.norm(eyes[0] - eyes[1]) < 1e-3
        assert np.abs(seen(viewmat, K) - seen(want, want_K)).max() < 0.01


def read_json(path):
    told = json.loads(path.read_text("utf-8"))
    assert told["pixel_center"] == [0.5, 0.5] and not any(told["distortion"])
    return [(row["viewmat"], row["K"]) for row in told["frames"]], told


def read_colmap(folder):
    """COLMAP's text model as its documentation has it: quaternion w x y z and translation, world to camera."""

    def lines(name):
        return [line for line in (folder / name).read_text("utf-8").splitlines() if not line.startswith("#")]

    cameras = {line.split()[0]: line.split()[1:] for line in lines("cameras.txt")}
    assert not lines("points3D.txt")
    rows, out, names = lines("images.txt"), [], []
    for row, points in zip(rows[::2], rows[1::2], strict=True):
        assert not points
        w, x, y, z, *place = (float(n) for n in row.split()[1:8])
        camera, name = row.split()[8:]
        turn = np.array(
            [[1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
             [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
             [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]]
        )  # fmt: skip
        model, width, height, fx, fy, cx, cy = cameras[camera]
        assert model == "PINHOLE"
        viewmat = np.eye(4)
        viewmat[:3, :3], viewmat[:3, 3] = turn, place
        out.append((viewmat, [[float(fx), 0, float(cx)], [0, float(fy), float(cy)], [0, 0, 1]]))
        names.append((name, int(width), int(height), camera))
    return out, names


def reimport(kind, path, clip, first, addon):
    """Each frame's matrices of the camera that Blender reads from a file into a new scene."""
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    scene = bpy.context.scene
    scene.render.fps, scene.render.fps_base = 24, 24 / clip.fps
    scene.render.resolution_x, scene.render.resolution_y = clip.width, clip.height
    aspect = clip.Ks[0, 0, 0] / clip.Ks[0, 1, 1]
    scene.render.pixel_aspect_x, scene.render.pixel_aspect_y = max(1, 1 / aspect), max(1, aspect)
    if kind == "ALEMBIC":
        bpy.ops.wm.alembic_import(filepath=str(path), set_frame_range=False)
    else:
        bpy.ops.import_scene.fbx(filepath=str(path), anim_offset=0.0)
    scene.camera = next(obj for obj in bpy.data.objects if obj.type == "CAMERA")
    scene.camera.data.sensor_fit = "HORIZONTAL"
    out = []
    for frame in range(first, first + clip.frames):
        scene.frame_set(frame)
        view = module(addon, "scene.camera.matrices").read_camera(scene, bpy.context.evaluated_depsgraph_get())
        out.append((view.viewmat, view.K))
    return out


@pytest.mark.parametrize("name", KINDS)
def test_json_and_colmap_come_back(export, tmp_path, name):
    scene = shot(size=(97, 160), aspect=(1.5, 1.0), step=2, **KINDS[name])
    scene.render.filepath = "//shots/take 1_####"
    camera = export.read_shot_camera(scene)
    assert export.export_camera(scene, tmp_path / "a.json", "JSON") == []
    assert export.export_camera(scene, tmp_path / "model", "COLMAP") == []
    reads, told = read_json(tmp_path / "a.json")
    same(reads, camera.clip.viewmats, camera.clip.Ks)
    assert [row["frame"] for row in told["frames"]] == [11, 13, 15, 17] and told["fps"] == 12
    assert told["frames"][1]["time"] == pytest.approx(1 / 12) and (told["width"], told["height"]) == (97, 160)
    reads, names = read_colmap(tmp_path / "model")
    same(reads, camera.clip.viewmats, camera.clip.Ks)
    assert names[0][:3] == ("take_1_0011.png", 97, 160)
    assert len({camera for *_, camera in names}) == (4 if name == "zoom" else 1)


@pytest.mark.parametrize("kind", ["ALEMBIC", "FBX"])
@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("size", [(96, 64), (64, 112)])
def test_blender_reads_its_camera_back(export, addon, tmp_path, kind, name, size):
    scene = shot(size=size, aspect=(1.0, 1.25), **KINDS[name])
    clip = export.read_shot_camera(scene).clip
    path = tmp_path / ("a.abc" if kind == "ALEMBIC" else "a.fbx")
    before = [{*getattr(bpy.data, n).keys()} for n in ("objects", "cameras", "scenes", "actions")], scene.frame_current
    notes = export.export_camera(scene, path, kind)
    after = [{*getattr(bpy.data, n).keys()} for n in ("objects", "cameras", "scenes", "actions")], scene.frame_current
    assert before == after
    assert any("Sensor Fit" in note for note in notes) == (size[1] > size[0])
    Ks = clip.Ks
    if kind == "ALEMBIC" and name == "zoom":
        # Blender 4 does not read a zoom; the file holds it, as doubles.
        assert any("zoom" in note for note in notes)
        data = path.read_bytes()
        held = np.concatenate([np.frombuffer(data[k:][: (len(data) - k) // 8 * 8], "<f8") for k in range(8)])
        assert all(np.nanmin(np.abs(held - 35 - 5 * k)) < 1e-4 for k in range(4))
        Ks = Ks if bpy.app.version >= (5, 0) else np.repeat(Ks[:1], len(Ks), axis=0)
    same(reimport(kind, path, clip, 11, addon), clip.viewmats, Ks)


def test_cuts_and_parents_become_one_camera(export, addon, tmp_path):
    scene = shot(frames=4)
    second = add_camera((3, -4, 2), name="Second")
    second.parent = bpy.data.objects.new("Crane", None)
    second.parent.scale = (2, 2, 2)
    scene.collection.objects.link(second.parent)
    for frame, camera in ((11, bpy.data.objects["Camera"]), (13, second)):
        scene.timeline_markers.new("cut", frame=frame).camera = camera
    clip = export.read_shot_camera(scene).clip
    assert np.abs(np.diff(clip.viewmats[:, :3, 3], axis=0))[1].max() > 1
    export.export_camera(scene, tmp_path / "a.fbx", "FBX")
    same(reimport("FBX", tmp_path / "a.fbx", clip, 11, addon), clip.viewmats, clip.Ks)


def test_a_format_that_is_missing_names_its_cure(export, addon, tmp_path, monkeypatch):
    scene = shot()
    monkeypatch.setitem(export._CALLS, "FBX", (lambda: False, None))
    with pytest.raises(Exception, match="Preferences > Add-ons"):
        export.export_camera(scene, tmp_path / "a.fbx", "FBX")
    assert not list(tmp_path.iterdir())


def test_the_operator_writes_and_refuses(export, tmp_path):
    scene = shot()
    for kind, name in (("JSON", "a.json"), ("COLMAP", "a"), ("ALEMBIC", "a.abc"), ("FBX", "a.fbx")):
        assert bpy.ops.maquette.export_camera(filepath=str(tmp_path / "a"), kind=kind) == {"FINISHED"}
        assert (tmp_path / name).exists()
    with pytest.raises(RuntimeError, match="choose another place"):
        bpy.ops.maquette.export_camera(filepath=str(tmp_path / "none" / "a"), kind="FBX")
    scene.camera.data.type = "ORTHO"
    with pytest.raises(RuntimeError, match="orthographic"):
        bpy.ops.maquette.export_camera(filepath=str(tmp_path / "b"), kind="JSON")
