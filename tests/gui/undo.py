"""Real undo around a job, against the same backend as generate.py with quick engines.

An undo in the middle of the capture makes it begin again; the loaded video undoes and redoes in one step and stays on
the list; the window goes on living while the scene is captured.
"""

import importlib
import time

import bpy

ADDON = next(addon.module for addon in bpy.context.preferences.addons if addon.module.endswith(".maquette"))
gui = importlib.import_module(f"{ADDON}.tests.gui.window")
deadline = time.monotonic() + 900
stage = "capture"
seen = []


def planes():
    """Objects that show a result."""
    return [obj.name for obj in bpy.data.objects if obj.get("maquette_result")]


def setup():
    """A scene of several undo steps, and Generate."""
    gui.send_to("127.0.0.1:8377")
    scene = bpy.context.scene
    scene.frame_end = 40
    scene.render.resolution_x = scene.render.resolution_y = 64
    cube = bpy.data.objects["Cube"]
    cube.maquette.is_character = True
    cube.maquette.reference_source = "NONE"
    for frame, x in ((1, -1.0), (40, 1.0)):
        cube.location.x = x
        cube.keyframe_insert("location", frame=frame)
    bpy.ops.ed.undo_push(message="Scene of the test")
    scene.maquette.prompt = "to be undone"
    bpy.ops.ed.undo_push(message="Prompt")
    bpy.ops.maquette.generate("INVOKE_DEFAULT")


def ready():
    """Undo while capturing, then wait for the video, undo, redo."""
    global stage
    view, scene = bpy.context.window_manager.maquette, bpy.context.scene
    if time.monotonic() > deadline:
        raise AssertionError(f"{stage}: still {view.state}: {view.message}")
    if stage == "capture":
        if view.state == "capturing" and view.step == 0:
            return False
        assert view.state == "capturing", f"the capture was over before it could be undone: {view.state}"
        with gui.in_view():
            bpy.ops.ed.undo()
        seen.append(("undone at step", view.step, "prompt", bpy.context.scene.maquette.prompt))
        assert bpy.context.scene.maquette.prompt == ""
        assert [s.name for s in bpy.data.scenes] == ["Scene"], [s.name for s in bpy.data.scenes]
        stage = "job"
    elif stage == "job" and view.state in gui.ENDED:
        assert view.state == "done", view.message
        assert len(scene.maquette.results) == 1 and planes()
        with gui.in_view():
            bpy.ops.ed.undo()
        scene = bpy.context.scene
        seen.append(("after undo", planes(), len(scene.maquette.results), scene.maquette.uid != ""))
        assert not planes() and len(scene.maquette.results) == 1 and scene.maquette.uid
        with gui.in_view():
            bpy.ops.ed.redo()
        seen.append(("after redo", planes(), len(bpy.context.scene.maquette.results)))
        assert planes() and len(bpy.context.scene.maquette.results) == 1
        stage = "end"
    return stage == "end"


def done():
    """Say what was seen."""
    for line in seen:
        print(*line)
