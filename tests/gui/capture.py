"""How fast a shot is captured in a window, pictured in the middle; prints one line of JSON.

No backend is needed. Measured in the same window, one after the other: the capture in one go, as scripts and Blender
without a window make it; in turns with the window, as Generate does; Generate again after another seed; and the
longest time that each operator which reads or writes many frames keeps the window waiting.
"""

import importlib
import itertools
import json
import sys
import time

import bpy

ADDON = next(addon.module for addon in bpy.context.preferences.addons if addon.module.endswith(".maquette"))
gui = importlib.import_module(f"{ADDON}.tests.gui.window")
FRAMES, LENGTH = 17, 97
"""Of the capture, and of what the operators work on."""

figures = {"blender": bpy.app.version_string}
stage = "start"
turns = []


def timed(name, call, **more):
    """Note how long an operator takes."""
    began = time.perf_counter()
    call("EXEC_DEFAULT", **more)
    figures.setdefault("operator_seconds", {})[name] = round(time.perf_counter() - began, 3)


def in_one_go():
    began = time.perf_counter()
    gui.module("scene.capture.shot").capture_shot(bpy.context)
    return time.perf_counter() - began


def watch():
    """Note when each poll of the add-on begins and ends."""
    effects = gui.module("scene.job.effects")
    poll = effects.poll

    def watched():
        began = time.perf_counter()
        if effects.runner.state.phase.value != "capturing":
            return poll()
        after = poll()
        turns.append((began, time.perf_counter()))
        return after

    effects.poll = watched


def generate():
    turns.clear()
    bpy.ops.maquette.generate("INVOKE_DEFAULT")


def setup():
    """A walking body on a small set, a moving camera, and what the operators take."""
    gui.send_to("http://127.0.0.1:9/")
    scene = bpy.context.scene
    gui.empty()
    scene.frame_end = LENGTH
    timed("add_body", bpy.ops.maquette.add_body)
    timed("add_walk", bpy.ops.maquette.add_walk)
    timed("add_camera_move", bpy.ops.maquette.add_camera_move, move="ORBIT")
    timed("check_framing", bpy.ops.maquette.check_framing)
    timed("frame_55", bpy.ops.maquette.frame_55)
    bpy.ops.mesh.primitive_plane_add(size=20)
    bpy.ops.mesh.primitive_cube_add(size=0.5, location=(0.8, 1, 0.25))
    scene.frame_end = FRAMES
    scene.frame_set(9)
    scene.render.resolution_x, scene.render.resolution_y = 832, 480
    watch()


def ready():
    """Take one measurement after the other, each until no backend is found; a last one is pictured in the middle."""
    global stage
    view, scene = bpy.context.window_manager.maquette, bpy.context.scene
    if stage == "start":
        in_one_go()  # The first renders of a session compile shaders.
        figures["in_one_go_seconds"] = round(in_one_go(), 2)
        generate()
        stage = "turns"
    elif stage == "turns" and view.state == "failed":
        slices = [end - began for began, end in turns]
        figures["in_turns_seconds"] = round(turns[-1][1] - turns[0][0], 2)
        figures["in_turns_working_seconds"] = round(sum(slices), 2)
        figures["longest_block_seconds"] = round(max(slices), 2)
        figures["drawing_seconds"] = round(max(b[0] - a[1] for a, b in itertools.pairwise(turns)), 2)
        figures["ratio"] = round(figures["in_turns_seconds"] / figures["in_one_go_seconds"], 2)
        for name in ("in_one_go", "in_turns"):
            figures[f"{name}_per_frame"] = round(figures[f"{name}_seconds"] / FRAMES, 3)
        scene.maquette.seed += 1
        generate()
        stage = "seed"
    elif stage == "seed" and view.state == "failed":
        figures["another_seed_seconds"] = round(max(end - began for began, end in turns), 3)
        figures["another_seed_turns"] = len(turns)
        bpy.data.objects["Cube"].location.x += 0.1
        generate()
        stage = "edit"
    elif stage == "edit":
        assert view.state == "capturing", "the edit went unnoticed, or the capture was too quick to be pictured"
        return view.step > 22 and view.eta_seconds > 0
    return False


def done():
    """Print what was measured."""
    print("FIGURES", json.dumps(figures), flush=True)
    sys.stdout.flush()
