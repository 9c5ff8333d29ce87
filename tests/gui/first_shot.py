"""Clicks and seconds from an empty scene to a moving draft and to the first video, from enabling the extension on.

Against a backend on 127.0.0.1:8391 (``maquette serve --port 8391``). A click is a press of a button of the panel.
Prints one line a mark; pictures of the screen go to /share.
"""

import importlib
import time

import bpy

ADDON = next(addon.module for addon in bpy.context.preferences.addons if addon.module.endswith(".maquette"))
gui = importlib.import_module(f"{ADDON}.tests.gui.window")
DEADLINE = time.monotonic() + 900
steps = iter(())
drawn = []
clicks = 0
began = worked_before = 0.0


def mark(words):
    """Say how long it has taken, and keep a picture."""
    seconds, worked = time.monotonic() - began, time.process_time() - worked_before
    print(f"FIRST SHOT {seconds:6.1f} s ({worked:.1f} s of Blender's own), {clicks} clicks: {words}", flush=True)
    gui.picture(words.replace(" ", "_").replace(",", ""))


def click(operator, **options):
    """Press a button of the panel."""
    global clicks
    clicks += 1
    with gui.in_view():
        operator("INVOKE_DEFAULT", True, **options)


def note_drawing():
    """Which frames of the draft the view has drawn."""
    reel = gui.module("scene.screen.previews").reel_of(bpy.context.scene.maquette.uid)
    if reel is not None and reel.draft is not None:
        drawn.append(bpy.context.scene.frame_current)


def setup():
    """Blender's startup scene without anything in it, and the extension switched off."""
    global steps
    gui.empty()
    bpy.ops.preferences.addon_disable(module=ADDON)
    steps = way()


def way():
    """What an animator presses, a wait at each yield."""
    global began, worked_before
    yield
    began, worked_before = time.monotonic(), time.process_time()
    bpy.ops.preferences.addon_enable(module=ADDON)
    gui.send_to("http://127.0.0.1:8391/")
    for _ in range(4):
        yield
    mark("enabled")
    bpy.types.SpaceView3D.draw_handler_add(note_drawing, (), "WINDOW", "POST_VIEW")
    click(bpy.ops.maquette.first_shot)
    while not drawn:
        yield
    mark("the draft is seen")
    while len(set(drawn)) < 3:
        yield
    mark("the draft moves")
    click(bpy.ops.maquette.generate)
    runner = gui.module("scene.job.effects").runner
    phase = None
    while runner.state.busy:
        if runner.state.phase is not phase:
            phase = runner.state.phase
            mark(phase.value)
        yield
    assert runner.state.phase.value == "done", runner.state.message
    for _ in range(3):
        yield
    mark("the first video is shown")


def ready():
    """A step a call."""
    assert time.monotonic() < DEADLINE
    return next(steps, "over") == "over"
