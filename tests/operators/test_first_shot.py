"""A whole shot at one press, and what a press puts right."""

from __future__ import annotations

import importlib

import bpy


def names() -> list[str]:
    return sorted(obj.name for obj in bpy.context.scene.objects)


def test_first_shot_is_whole_and_undone_in_one_step(addon):
    bpy.ops.mesh.primitive_cube_add()
    bpy.ops.ed.undo_push(message="before")
    assert bpy.ops.maquette.first_shot("EXEC_DEFAULT", True) == {"FINISHED"}
    scene = bpy.context.scene
    assert names() == ["Body", "Body Rig", "Camera", "Cube"] and scene.camera.name == "Camera"
    assert (scene.frame_start, scene.frame_end, scene.frame_current) == (1, 49, 1)
    assert scene.objects["Cube"].hide_render, "the body would stand in it"
    readiness = importlib.import_module(f"{addon.__name__}.scene.job.readiness")
    found = readiness.check(scene)
    assert not [check for check in found if check.level != "OK" and check.kind != "BACKEND"]
    assert not bpy.ops.maquette.first_shot.poll(), "somebody performs already"
    bpy.ops.ed.undo()
    assert names() == ["Cube"] and bpy.context.scene.frame_end == 250
    assert not bpy.context.scene.objects["Cube"].hide_render


def test_a_cube_of_the_animator_s_own_stays(addon):
    bpy.ops.mesh.primitive_cube_add(location=(0, 3, 1))
    bpy.ops.maquette.first_shot()
    assert not bpy.data.objects["Cube"].hide_render and bpy.data.objects["Cube"].visible_get()


HARMS = {
    "SHOW": lambda scene, body: (setattr(body, "hide_viewport", True), setattr(body, "hide_render", True)),
    "RENDER_LOOKS": lambda scene, body: setattr(body.maquette, "reference_source", "IMAGE"),
    "PERSPECTIVE": lambda scene, body: setattr(scene.camera.data, "type", "ORTHO"),
    "PREVIEW_RANGE": lambda scene, body: setattr(scene, "use_preview_range", True),
    "END": lambda scene, body: setattr(scene, "frame_end", 200),
    "SCENE": lambda scene, body: setattr(scene.maquette, "background", "PICTURE"),
    "ORBIT": lambda scene, body: setattr(scene, "camera", None),
    "UPSCALE_OFF": lambda scene, body: setattr(scene.maquette, "upscale", "X2"),
}


def test_every_cure_cures(addon, monkeypatch):
    bpy.ops.maquette.first_shot()
    readiness = importlib.import_module(f"{addon.__name__}.scene.job.readiness")
    cure = importlib.import_module(f"{addon.__name__}.operators.cure")
    scene = bpy.context.scene
    monkeypatch.setattr(readiness.backends, "upscale_lack", lambda: "the backend cannot upscale")
    assert set(HARMS) == set(cure._CURES)
    for kind, harm in HARMS.items():
        harm(scene, bpy.data.objects["Body"])
        (found,) = [each for each in readiness.check(scene) if each.cure]
        assert found.cure.partition(" ")[0] == kind and cure.cure_label(found.cure, found.target)
        assert bpy.ops.maquette.cure(cure=found.cure, target=found.target) == {"FINISHED"}
        assert not [each for each in readiness.check(scene) if each.cure], kind
