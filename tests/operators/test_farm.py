"""Submit to Farm as the animator calls it."""

from __future__ import annotations

import json

import bpy
import pytest

from ..scene.builders import add_camera, add_performer, small_scene


def test_every_shot_of_the_file(addon, tmp_path):
    small_scene(frames=20)
    scene = bpy.context.scene
    scene.name = "Walk"
    add_performer(frames=(1, 3))
    first = add_camera()
    second = first.copy()
    scene.collection.objects.link(second)
    for frame, camera in ((1, first), (5, first), (9, second)):
        scene.timeline_markers.new(f"F{frame}", frame=frame).camera = camera
    bpy.ops.scene.new(type="FULL_COPY")
    bpy.context.scene.name = "Run"
    bpy.context.scene.timeline_markers.clear()
    bpy.context.scene.maquette.seeds = 2
    bpy.ops.scene.new(type="NEW")
    with pytest.raises(RuntimeError, match="Save the file first"):
        bpy.ops.maquette.submit_to_farm(directory=str(tmp_path / "farm"))
    blend = tmp_path / "night.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(blend))
    assert bpy.ops.maquette.submit_to_farm(directory=str(tmp_path / "farm"), flavour="flamenco") == {"FINISHED"}
    settings = json.loads((tmp_path / "farm" / "job.json").read_text())["settings"]
    captures = {tuple(each.values()) for each in json.loads(settings["captures"])}
    assert captures == {("Walk-1-8", "Walk", 1, 8), ("Walk-9-20", "Walk", 9, 20), ("Run", "Run", 1, 20)}
    assert settings["blend"] == str(blend)
    seed = bpy.data.scenes["Run"].maquette.seed
    films = {each["name"] for each in json.loads(settings["films"])}
    assert films == {"Walk-1-8", "Walk-9-20", f"Run-seed{seed}", f"Run-seed{seed + 1}"}
    assert bpy.ops.maquette.submit_to_farm(directory=str(tmp_path / "jd"), flavour="openjd") == {"FINISHED"}
    assert (tmp_path / "jd" / "template.json").is_file()
    for scene in bpy.data.scenes:
        scene.maquette.quality = "draft"
    options = {"directory": str(tmp_path / "jd"), "flavour": "openjd", "chunk": 10, "gpus": 2}
    assert bpy.ops.maquette.submit_to_farm(**options) == {"FINISHED"}
    assert "shots/Walk-1-8.shot\nshots/Walk-9-20.shot parts=2\n" in (tmp_path / "jd" / "films.txt").read_text()
    with pytest.raises(RuntimeError, match="holds something else"):
        bpy.ops.maquette.submit_to_farm(directory=str(tmp_path), flavour="openjd")
