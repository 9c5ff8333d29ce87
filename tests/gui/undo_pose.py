"""Undo and redo at moments of a capture and a job, in a real window: the pose must be the one of that step.

A bone is keyed over the frames, and turned besides at the current frame without a key, step by step: each undo step
has a pose of its own. While the scene is captured and while its job runs, steps are undone, redone and added; after
each the evaluated mesh is held against what it was when the step was made. Uses the backend of the tests.
"""

import importlib
import time

import bpy
import numpy as np

ADDON = next(addon.module for addon in bpy.context.preferences.addons if addon.module.endswith(".maquette"))
deadline = time.monotonic() + 400
FRAME = 7
poses = []
steps = None
held = {}
worst = [0.0]


def override():
    """The main window, as an operator of the animator's would have it."""
    return bpy.context.temp_override(window=bpy.context.window_manager.windows[0])


def evaluated():
    """The performer's vertices as the scene stands."""
    obj = bpy.data.objects["Dancer"].evaluated_get(bpy.context.evaluated_depsgraph_get())
    places = np.empty(len(obj.data.vertices) * 3, dtype=np.float32)
    obj.data.vertices.foreach_get("co", places)
    return places


def turn(angle):
    """One step of the animator's: turn a bone about an axis that has no keys, and one that has, without keying it."""
    rig = bpy.data.objects["Dancer Rig"]
    rig.pose.bones["high"].rotation_euler.z = angle
    rig.pose.bones["high"].rotation_euler.x = 0.2 + angle / 3
    rig.location.x = angle
    bpy.context.view_layer.update()
    with override():
        bpy.ops.ed.undo_push(message=f"Turn {angle:.1f}")
    poses.append(evaluated())


def check(index, words):
    """The pose is that of a step, and the playhead and list of scenes are as they were."""
    apart = float(np.abs(evaluated() - poses[index]).max())
    worst[0] = max(worst[0], apart)
    view = bpy.context.window_manager.maquette
    names = [scene.name for scene in bpy.data.scenes]
    print(f"{words}: {view.state} at {view.step}, off by {apart:.4f} m, scenes {names}", flush=True)
    assert bpy.context.scene.frame_current == FRAME
    held.setdefault("bad", []).extend([words] if apart > 1e-3 else [])


def setup():
    """A performer with steps to undo, and Generate."""
    global steps
    builders = importlib.import_module(f"{ADDON}.tests.scene.builders")
    held["backend"] = importlib.import_module(f"{ADDON}.tests.fake_backend").FakeBackend()
    held["backend"].script = [{"status": "in_progress", "stage": "denoising", "step": 1, "steps": 9, "progress": 10}]
    preferences = bpy.context.preferences.addons[ADDON].preferences
    preferences.mode, preferences.address = "SERVER", held["backend"].address
    bpy.ops.object.select_all(action="SELECT")
    bpy.ops.object.delete()
    scene = builders.small_scene(frames=60)
    builders.add_camera()
    builders.add_performer(frames=(1, 60))
    scene.frame_set(FRAME)
    for angle in (0.0, 0.4, 0.8, 1.2):
        turn(angle)
    steps = moments()


def wait_for(state, step=0):
    """Until the job is there, and some frames far where it is captured."""
    view = bpy.context.window_manager.maquette
    while view.state != state or (state == "capturing" and view.step < step):
        assert view.state not in ("failed", "done", "cancelled"), (view.state, view.message)
        assert time.monotonic() < deadline, view.state
        yield


def moments():
    """Undo, redo and new steps at several moments."""
    at = len(poses) - 1
    bpy.ops.maquette.generate("INVOKE_DEFAULT")
    for step in (1, 5, 12):
        yield from wait_for("capturing", step)
        with override():
            bpy.ops.ed.undo()
        at -= 1
        check(at, f"undone while capturing, frame {step}")
        yield from wait_for("capturing", 2)
        check(at, "a while after")
    yield from wait_for("capturing", 3)
    with override():
        bpy.ops.ed.redo()
    at += 1
    check(at, "redone while capturing")
    yield from wait_for("capturing", 4)
    del poses[at + 1 :]
    turn(2.0)
    at += 1
    check(at, "turned while capturing")
    yield from wait_for("capturing", 8)
    turn(2.4)
    at += 1
    yield from wait_for("capturing", 12)
    for _ in range(2):
        with override():
            bpy.ops.ed.undo()
        at -= 1
        check(at, "undone what was done while capturing")
    for _ in range(2):
        with override():
            bpy.ops.ed.redo()
        at += 1
        check(at, "redone what was done while capturing")
    yield from wait_for("running")
    check(at, "after the capture")
    for _ in range(2):
        with override():
            bpy.ops.ed.undo()
        at -= 1
        check(at, "undone while the job runs")
    with override():
        bpy.ops.ed.redo()
    check(at + 1, "redone while the job runs")
    print("worst", worst[0], "bad", held.get("bad"))
    assert not held["bad"], held["bad"]


def ready():
    """One moment a call."""
    assert time.monotonic() < deadline
    return next(steps, "over") == "over"


def done():
    """All poses were right."""
    bpy.ops.maquette.cancel()
    held["backend"].close()
    print("the poses are right")
