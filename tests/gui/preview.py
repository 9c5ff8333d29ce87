"""Previews in a real window: the draft, an edit, a live model preview, Refine; with the longest block of each step.

Against a backend on 127.0.0.1:8391 whose default model is the embedded one:

    maquette serve --port 8391

With ``--enable-event-simulate`` the preview is asked for by its key.

Prints the longest step of each kind, the longest wait between two ticks of a timer of our own beside the time that
the window itself takes to draw, and the seconds from an edit to the frame drawn anew. Pictures go to /share.
"""

import importlib
import time

import bpy

ADDON = next(addon.module for addon in bpy.context.preferences.addons if addon.module.endswith(".maquette"))
gui = importlib.import_module(f"{ADDON}.tests.gui.window")
preview = gui.module("scene.job.preview")
previews = gui.module("scene.screen.previews")
draft = gui.module("scene.screen.draft")
DEADLINE = time.monotonic() + 900
_BEFORE = [f"MAQUETTE_PT_{name}" for name in ("body_shape", "body_colors", "body", "motion", "framing", "camera")]
steps = iter(())
drawn, hidden = [], []


def timed_draw():
    """The draft's drawing, timed."""
    began = time.monotonic()
    draft.DraftDrawer._draw(draft.drawer)
    drawn.append((time.monotonic(), time.monotonic() - began))


def setup():
    """A body that walks about a cube, and a camera that turns around it."""
    global steps
    gui.send_to("http://127.0.0.1:8391/")
    gui.empty()
    bpy.ops.mesh.primitive_plane_add(size=8)
    bpy.ops.mesh.primitive_cube_add(size=0.8, location=(0.5, -1.6, 0.4))
    bpy.ops.maquette.add_body("EXEC_DEFAULT")
    bpy.ops.maquette.add_walk("EXEC_DEFAULT")
    bpy.ops.maquette.add_camera_move("EXEC_DEFAULT", move="ORBIT")
    scene = bpy.context.scene
    scene.frame_start, scene.frame_end = 1, 60
    scene.render.resolution_x, scene.render.resolution_y = 320, 180
    scene.frame_set(30)
    window, area, _ = gui.view()
    gui.through_camera()
    # The panels before the Shot's would fill the sidebar.
    hidden.extend(getattr(bpy.types, name) for name in _BEFORE)
    for panel in hidden:
        bpy.utils.unregister_class(panel)
    other = next(area for area in window.screen.areas if area.type == "PROPERTIES")
    other.ui_type = "TIMELINE"
    other.spaces.active.show_region_channels = False
    draft.drawer.stop()
    bpy.types.SpaceView3D.draw_handler_add(timed_draw, (), "WINDOW", "POST_VIEW")
    steps = checks(scene, window, area)


def until(condition, seconds=300):
    """Wait, as a window does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"did not happen: {preview.runner.message}"
        yield


def pictured(name):
    """Let the window draw, then take its picture."""
    began = time.monotonic()
    yield from until(lambda: time.monotonic() - began > 2)
    gui.picture(name)


def told(what):
    """Print the longest block of every kind of step since the last time."""
    found = {name: f"{1e3 * seconds:.0f} ms" for name, seconds in preview.runner.longest.items()}
    preview.runner.longest.clear()
    print(
        f"{what}: longest {found}, drawing the draft {1e3 * max((s for _, s in drawn), default=0):.0f} ms", flush=True
    )
    drawn.clear()


def tally(scene):
    """How many frames stand how."""
    reel = previews.reel_of(scene.maquette.uid)
    found = list(reel.standing().values()) if reel is not None else []
    return {str(kind): found.count(kind) for kind in previews.Standing}


def edit(scene, frame, degrees):
    """Key a bone of the body anew at a frame."""
    rig = next(obj for obj in scene.objects if obj.type == "ARMATURE")
    bone = rig.pose.bones["left_shoulder"]
    bone.rotation_mode = "QUATERNION"
    from mathutils import Quaternion

    bone.rotation_quaternion = Quaternion((0, 1, 0), degrees) @ bone.rotation_quaternion
    bone.keyframe_insert("rotation_quaternion", frame=frame)


def checks(scene, window, area):
    """What is measured, a turn at a time."""
    yield from until(lambda: True)
    began = time.monotonic()
    if bpy.app.use_event_simulate:
        spot = {"x": area.x + area.width // 3, "y": area.y + area.height // 2}
        window.event_simulate(type="MOUSEMOVE", value="NOTHING", **spot)
        yield
        window.event_simulate(type="F12", value="PRESS", alt=True, **spot)
        window.event_simulate(type="F12", value="RELEASE", alt=True, **spot)
        yield from until(lambda: preview.runner.busy)
        print("Alt F12 begins a preview")
    else:
        bpy.ops.maquette.preview()
    yield from until(lambda: not preview.runner.busy)
    yield from until(lambda: drawn and max(s for _, s in drawn) > 0.001)
    print(f"Draft: seen {time.monotonic() - began:.1f} s after Preview; {tally(scene)}")
    told("Draft")
    yield from pictured("1_draft")

    for turn in range(3):
        drawn.clear()
        began = time.monotonic()
        edit(scene, 30, 0.5)
        area.tag_redraw()
        yield from until(lambda: drawn)
        print(
            f"Draft: frame drawn {drawn[-1][0] - began:.2f} s after edit {turn}, {1e3 * drawn[-1][1]:.0f} ms of it ours"
        )
    yield from until(lambda: time.monotonic() - began > 2)
    told("Draft after edits")
    assert tally(scene)["outdated"] == 0, "an edit beside the reference frame outdates no looks"
    yield from pictured("2_draft_edited")

    other = next(area for area in window.screen.areas if area.ui_type == "TIMELINE")
    began, other.ui_type = time.monotonic(), "FCURVES"
    scene.maquette.overlay_opacity, scene.maquette.overlay_wipe = 0.5, 0.5
    yield from until(lambda: time.monotonic() - began > 2)
    yield from pictured("2_draft_half_and_curves")
    scene.maquette.overlay_opacity, scene.maquette.overlay_wipe = 1.0, 1.0
    other.ui_type = "TIMELINE"

    scene.maquette.preview_by = "MODEL"
    scene.use_preview_range, scene.frame_preview_start, scene.frame_preview_end = True, 22, 37
    began = time.monotonic()
    bpy.ops.maquette.preview()
    reel = previews.reel_of(scene.maquette.uid)
    yield from until(lambda: reel.holds(30))
    print(f"Model: the playhead's window after {time.monotonic() - began:.1f} s; {tally(scene)}")
    yield from pictured("3_model_first_window")
    yield from until(lambda: not preview.runner.busy)
    print(f"Model: all windows after {time.monotonic() - began:.1f} s; {tally(scene)}; {preview.runner.message}")
    told("Model")
    assert all(map(reel.holds, range(22, 38)))

    began = time.monotonic()
    for frame in range(28, 34):
        edit(scene, frame, -0.5)
    yield from until(lambda: not reel.holds(30))
    print(f"Orange {time.monotonic() - began:.2f} s after the edit; {tally(scene)}")
    yield from pictured("4_outdated")
    began = time.monotonic()
    bpy.context.window_manager.maquette.live = True
    edit(scene, 30, 0.1)
    yield from until(lambda: preview.runner.busy)
    print(f"Live: begun {time.monotonic() - began:.2f} s after the edit")
    yield from until(lambda: preview.runner._sending is not None)
    yield from pictured("5_live_making")
    edit(scene, 31, 0.3)
    again = time.monotonic()
    yield from until(lambda: not preview.runner.busy)
    print(f"Live: cancelled {time.monotonic() - again:.2f} s after another edit")
    yield from until(lambda: reel.holds(30))
    print(f"Live: here {time.monotonic() - again:.1f} s after that edit; {tally(scene)}")
    yield from until(lambda: time.monotonic() - again > 1 and not preview.runner.busy)
    told("Live")
    yield from pictured("6_live")

    bpy.context.window_manager.maquette.live = False
    bpy.ops.ed.undo_push(message="Edited")
    began = time.monotonic()
    bpy.ops.maquette.refine()
    yield from until(lambda: not preview.runner.busy)
    print(
        f"Refine: {time.monotonic() - began:.1f} s; {tally(scene)}; {len(reel.clips)} films; {preview.runner.message}"
    )
    told("Refine")
    assert len(reel.clips) == 1 and len(reel.clips[0].frames) == 16
    yield from until(lambda: time.monotonic() - began > 1)
    yield from pictured("7_refined")
    for panel in reversed(hidden):
        bpy.utils.register_class(panel)


def ready():
    """One turn of the checks."""
    assert time.monotonic() < DEADLINE
    return next(steps, "over") == "over"
