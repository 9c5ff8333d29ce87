"""Undo and redo at moments of a capture and a job, in a real window: the pose must be the one of that step.

A bone is keyed over the frames, and turned besides at the current frame without a key, step by step: each undo step
has a pose of its own. While the scene is captured and while its job runs, steps are undone, redone and added; after
each the evaluated mesh is held against what it was when the step was made. Uses the backend of the tests.
"""

import importlib
import sys
import time

import bpy
import numpy as np

ADDON = next(addon.module for addon in bpy.context.preferences.addons if addon.module.endswith(".maquette"))
gui = importlib.import_module(f"{ADDON}.tests.gui.window")
deadline = time.monotonic() + 400
FRAME = 7
poses = []
steps = None
held = {}
worst = [0.0]


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
    with gui.in_view():
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
    builders = gui.module("tests.scene.builders")
    held["backend"] = gui.module("tests.fake_backend").FakeBackend()
    held["backend"].script = [{"status": "in_progress", "stage": "denoising", "step": 1, "steps": 9, "progress": 10}]
    gui.send_to(held["backend"].address)
    gui.empty()
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
        with gui.in_view():
            bpy.ops.ed.undo()
        at -= 1
        check(at, f"undone while capturing, frame {step}")
        yield from wait_for("capturing", 2)
        check(at, "a while after")
    yield from wait_for("capturing", 3)
    with gui.in_view():
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
        with gui.in_view():
            bpy.ops.ed.undo()
        at -= 1
        check(at, "undone what was done while capturing")
    for _ in range(2):
        with gui.in_view():
            bpy.ops.ed.redo()
        at += 1
        check(at, "redone what was done while capturing")
    yield from wait_for("running")
    check(at, "after the capture")
    for _ in range(2):
        with gui.in_view():
            bpy.ops.ed.undo()
        at -= 1
        check(at, "undone while the job runs")
    with gui.in_view():
        bpy.ops.ed.redo()
    check(at + 1, "redone while the job runs")
    print("worst", worst[0], "bad", held.get("bad"))
    assert not held["bad"], held["bad"]
    bpy.ops.maquette.cancel()
    yield from wait_for_rest()
    yield from series()


def wait_for_rest():
    """Until no job is under way."""
    while bpy.context.window_manager.maquette.state not in ("failed", "done", "cancelled", "idle"):
        assert time.monotonic() < deadline
        yield


def act(name, value):
    """One thing that an animator does."""
    rig, scene = bpy.data.objects["Dancer Rig"], bpy.context.scene
    bone = rig.pose.bones["high"]
    if name == "frame":
        scene.frame_set(int(1 + value * 59))
    elif name in ("undo", "redo"):
        with gui.in_view():
            getattr(bpy.ops.ed, name)()
    else:
        bone.rotation_euler.x, bone.rotation_euler.z = value, -value
        if name == "key":
            bone.keyframe_insert("rotation_euler", frame=scene.frame_current)
        bpy.context.view_layer.update()
        with gui.in_view():
            bpy.ops.ed.undo_push(message=f"{name} {value:.2f}")


def series():
    """The same things done without and with a capture under way."""
    seed = next((int(word[5:]) for word in sys.argv if word.startswith("seed=")), 0)
    random = np.random.default_rng(seed)
    made, depth, ahead = [], 0, 0
    for _ in range(30):
        name = random.choice(["turn", "key", "frame", "undo", "undo", "redo"])
        if (name == "undo" and depth < 2) or (name == "redo" and not ahead):
            name = "turn"
        made.append((str(name), float(random.random())))
        if name == "undo":
            depth, ahead = depth - 1, ahead + 1
        elif name == "redo":
            depth, ahead = depth + 1, ahead - 1
        elif name != "frame":
            depth, ahead = depth + 1, 0
    with gui.in_view():
        bpy.ops.ed.undo_push(message="Series")
    wanted = []
    for thing in made:
        act(*thing)
        yield
        wanted.append((evaluated(), bpy.context.scene.frame_current))
    for _ in range(depth):
        with gui.in_view():
            bpy.ops.ed.undo()
    bpy.context.scene.frame_set(FRAME)
    with gui.in_view():
        bpy.ops.ed.undo()
        bpy.ops.ed.redo()
    bpy.context.scene.frame_set(FRAME)
    bpy.ops.maquette.generate("INVOKE_DEFAULT")
    wrong = []
    for number, (thing, (pose, frame)) in enumerate(zip(made, wanted, strict=True)):
        if bpy.context.window_manager.maquette.state != "capturing":
            bpy.ops.maquette.cancel()
            yield from wait_for_rest()
            bpy.ops.maquette.generate("INVOKE_DEFAULT")
        yield from wait_for("capturing", 1)
        act(*thing)
        for words in ("at once", "later"):
            apart = float(np.abs(evaluated() - pose).max())
            print(
                number, thing, words, "frame", bpy.context.scene.frame_current, frame, f"off by {apart:.4f}", flush=True
            )
            # Whether an undo takes the playhead along is Blender's to say: it does where it sees the scene changed.
            if apart > 1e-3 or (thing[0] == "frame" and bpy.context.scene.frame_current != frame):
                wrong.append((number, thing, words))
            yield
            yield
    assert not wrong, wrong


def ready():
    """One moment a call."""
    assert time.monotonic() < deadline
    return next(steps, "over") == "over"


def done():
    """All poses were right."""
    if bpy.ops.maquette.cancel.poll():
        bpy.ops.maquette.cancel()
    held["backend"].close()
    print("the poses are right")
