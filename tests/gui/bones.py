"""Map Bones in a window: a file that nothing explains, the dialog with its guesses, and what importing then finds.

Pictured, as the word after ``--`` says: the dialog (``dialog``, the default), the panel after the failure (``panel``),
or the body that the choice has moved (``done``). With ``return`` the dialog is confirmed while a part is missing, which
must not lose the choice, and then again when it is there (``--enable-event-simulate``). Further words: a file of your
own instead of the made one.
"""

import importlib
import sys
import tempfile
import time
from pathlib import Path

import bpy

WORDS = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else []
STATE = next((word for word in ("panel", "done", "return") if word in WORDS), "dialog")
ADDON = next(addon.module for addon in bpy.context.preferences.addons if addon.module.endswith(".maquette"))
gui = importlib.import_module(f"{ADDON}.tests.gui.window")
deadline = time.monotonic() + 150
ticks = 0


def made_file():
    """A walk whose joints have names of no meaning but some, and hang on one root."""
    import numpy as np

    kinematics, motions = gui.module("backend.motions.kinematics"), gui.module("backend.motions")
    body = gui.module("backend.bodies").embedded()
    walk = motions.generate_walk(2.0, 24, body=body)
    turn = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    rest = body.joints_rest().astype(float)
    turns = kinematics.to_global(kinematics.axis_angle_to_matrix(walk.poses.astype(float)))
    places = 100 * kinematics.place(turns, rest, walk.trans) @ turn.T
    matrices = turn @ turns
    x = np.arcsin(np.clip(matrices[..., 2, 1], -1, 1))
    z, y = (
        np.arctan2(-matrices[..., 0, 1], matrices[..., 1, 1]),
        np.arctan2(-matrices[..., 2, 0], matrices[..., 2, 2]),
    )
    rows = np.concatenate([places, np.degrees(np.stack([z, x, y], axis=-1))], axis=-1).reshape(walk.frames, -1)
    words = {"hip": "Thigh", "knee": "Shin", "ankle": "Foot", "foot": "Ball", "collar": "Clav", "shoulder": "UArm"}
    words |= {"elbow": "FArm", "wrist": "Palm", "hand": "Knuckle"}
    joint_names = gui.module("backend.shot.types").SMPL_JOINT_NAMES
    lines = ["HIERARCHY", "ROOT Scene", "{", "OFFSET 0 0 0", "CHANNELS 0"]
    for name, place in zip(joint_names, 100 * rest, strict=True):
        side, _, part = name.rpartition("_")
        name = f"ctrl_{words[part]}_{side[0].upper()}" if side else f"ctrl_{part.title()}"
        lines += [f"JOINT {name}", "{", f"OFFSET {place[0]:.6f} {place[1]:.6f} {place[2]:.6f}"]
        lines += ["CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation", "}"]
    lines += ["}", "MOTION", f"Frames: {len(rows)}", "Frame Time: 0.0416667"]
    path = Path(tempfile.mkdtemp()) / "control_rig_walk.bvh"
    path.write_text("\n".join([*lines, *(" ".join(f"{v:.6f}" for v in row) for row in rows)]) + "\n")
    return path


def setup():
    """An import that fails for want of names."""
    gui.empty()
    own = next((word for word in WORDS if word.startswith("/")), "")
    path = Path(own) if own else made_file()
    try:
        bpy.ops.maquette.import_motion(filepath=str(path))
    except RuntimeError as error:
        print("refused:", error)
    view = bpy.context.window_manager.maquette.bones
    print("trouble", view.trouble)
    if STATE == "panel":
        return
    bpy.ops.maquette.map_bones("INVOKE_DEFAULT")
    print("guessed", {row.name: row.joint for row in view.parts})
    if STATE == "done":
        names = {"spine": "Spine1", "chest": "Spine3", "neck": "Neck", "pelvis": "Pelvis", "head": "Head"}
        names |= {"left_shoulder": "UArm_L", "left_elbow": "FArm_L", "left_wrist": "Palm_L", "left_hand": "Knuckle_L"}
        names |= {"left_collar": "Clav_L", "left_foot": "Ball_L", "left_ankle": "Foot_L", "left_hip": "Thigh_L"}
        names |= {"left_knee": "Shin_L"}
        for part, name in names.items() if not own else ():
            view.parts[part].joint = f"ctrl_{name}"
        bpy.ops.maquette.mirror_bones()
        print("result", bpy.ops.maquette.map_bones(), "trouble", view.trouble, "preset", view.preset)
        print("again", bpy.ops.maquette.import_motion(filepath=str(path), target="NEW", frame_start=1))
        bpy.ops.screen.frame_jump(end=False)


def ready():
    """A moment for the window to draw."""
    global ticks
    assert time.monotonic() < deadline
    ticks += 1
    if STATE == "return":
        view, window = bpy.context.window_manager.maquette.bones, bpy.context.window_manager.windows[0]
        if ticks == 4:
            view.parts["head"].joint = ""
        if ticks in (8, 24):
            for value in ("PRESS", "RELEASE"):
                window.event_simulate(type="RET", value=value)
        if ticks == 20:
            print("after a return too early", view.label, [row.name for row in view.parts if not row.joint])
            assert not any(obj.maquette.body for obj in bpy.data.objects)
            view.parts["head"].joint = "ctrl_Head"
        return ticks > 36
    return ticks > 8


def done():
    """Say what stands in the scene."""
    print("bodies", [obj.name for obj in bpy.data.objects if obj.type == "MESH"])
