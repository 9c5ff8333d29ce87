"""What the window shows of jobs, the backend and the shot's state; never saved with a file."""

from __future__ import annotations

import bpy
from bpy.props import (
    BoolProperty,
    CollectionProperty,
    EnumProperty,
    FloatProperty,
    IntProperty,
    PointerProperty,
    StringProperty,
)
from bpy.types import PropertyGroup


class MAQUETTE_PG_check(PropertyGroup):
    """One line about the shot: something that is there, or that is missing, with its cure."""

    kind: EnumProperty(
        items=(
            ("CHARACTER", "Character", ""),
            ("CAMERA", "Camera", ""),
            ("MOTION", "Motion", ""),
            ("BACKGROUND", "Background", ""),
            ("MODEL", "Model", ""),
            ("COMPARE", "Comparison", ""),
            ("FRAMING", "Framing", ""),
            ("UPSCALE", "Upscale", ""),
            ("BACKEND", "Backend", ""),
        )
    )
    level: EnumProperty(items=(("OK", "Ready", ""), ("WARNING", "Warning", ""), ("ERROR", "Missing", "")))
    target: StringProperty(description="Name of the object concerned")
    message: StringProperty()
    cure: StringProperty(description="What a press does about it")


class MAQUETTE_PG_model(PropertyGroup):
    """One model as the backend last described it. The group's name is the model's id."""

    label: StringProperty(name="Model")
    description: StringProperty()
    state: EnumProperty(
        items=(
            ("READY", "Ready", "The backend has its files"),
            ("MISSING", "Missing", "The backend lacks some of its files"),
            ("UNKNOWN", "Unknown", "No backend has been asked yet"),
        ),
        default="UNKNOWN",
    )
    missing: StringProperty(description="Why the backend cannot run it")


class MAQUETTE_PG_part(PropertyGroup):
    """One model's share of a comparison. The group's name is the model's label."""

    state: EnumProperty(
        items=(
            ("WAITING", "Waiting", ""),
            ("NOW", "Under Way", ""),
            ("DONE", "Done", ""),
            ("FAILED", "Failed", ""),
            ("CANCELLED", "Cancelled", ""),
        )
    )
    message: StringProperty()


class MAQUETTE_PG_queued(PropertyGroup):
    """A job behind the one under way. The group's name is what it makes."""

    state: StringProperty(description="Its phase")
    message: StringProperty()
    can_resume: BoolProperty()
    can_move: BoolProperty(description="Whether it can pass the one in front of it")


class MAQUETTE_PG_backend(PropertyGroup):
    """A view of the backend for the panels and preferences."""

    test_state: EnumProperty(
        items=(("NONE", "Untested", ""), ("BUSY", "Testing", ""), ("OK", "Connected", ""), ("ERROR", "Failed", "")),
        options={"SKIP_SAVE"},
    )
    test_message: StringProperty(options={"SKIP_SAVE"})
    local_state: EnumProperty(
        items=(
            ("ABSENT", "Not Installed", ""),
            ("INSTALLING", "Installing", ""),
            ("CANCELLING", "Cancelling", ""),
            ("STOPPED", "Stopped", ""),
            ("STARTING", "Starting", ""),
            ("RUNNING", "Running", ""),
            ("STOPPING", "Stopping", ""),
            ("FAILED", "Installation Failed", ""),
            ("DEAD", "Ended", ""),
        ),
        options={"SKIP_SAVE"},
    )
    local_message: StringProperty(options={"SKIP_SAVE"})
    local_progress: FloatProperty(subtype="FACTOR", min=0.0, max=1.0, options={"SKIP_SAVE"})
    local_log: StringProperty(subtype="FILE_PATH", options={"SKIP_SAVE"})
    models: CollectionProperty(type=MAQUETTE_PG_model, options={"SKIP_SAVE"})


class MAQUETTE_PG_file_joint(PropertyGroup):
    """A joint of a motion file. The group's name is the joint's."""

    parent: IntProperty(description="Its parent's place in the list; -1 for none", options={"SKIP_SAVE"})
    depth: IntProperty(options={"SKIP_SAVE"})
    mirror: StringProperty(description="Its like on the other side; empty where there is none", options={"SKIP_SAVE"})


def _mirrored(self: MAQUETTE_PG_body_part, _context: bpy.types.Context) -> None:
    from .scene.rig import bone_map

    bone_map.follow_left(self)


class MAQUETTE_PG_body_part(PropertyGroup):
    """A part of the body. The group's name is the part's, ``left_hip``."""

    joint: StringProperty(
        name="Joint", description="The file's joint that stands for it", update=_mirrored, options={"SKIP_SAVE"}
    )


class MAQUETTE_PG_bone_map(PropertyGroup):
    """Which joint of a motion file is which of the body, as the animator chooses."""

    source: StringProperty(description="The file, or the name of the armature", options={"SKIP_SAVE"})
    is_armature: BoolProperty(options={"SKIP_SAVE"})
    settings: StringProperty(description="How it was brought in, as JSON", options={"SKIP_SAVE"})
    trouble: StringProperty(description="Why the joints should be looked at", options={"SKIP_SAVE"})
    read: StringProperty(description="The source whose joints are listed", options={"SKIP_SAVE"})
    told: StringProperty(description="What has explained the joints", options={"SKIP_SAVE"})
    preset: StringProperty(description="The animator's own preset that explains them", options={"SKIP_SAVE"})
    label: StringProperty(
        name="Save As", description="Name of the preset; files of the same joints find it", options={"SKIP_SAVE"}
    )
    joints: CollectionProperty(type=MAQUETTE_PG_file_joint, options={"SKIP_SAVE"})
    active: IntProperty(options={"SKIP_SAVE"})
    parts: CollectionProperty(type=MAQUETTE_PG_body_part, options={"SKIP_SAVE"})


def _number(name: str):
    """What shows one of the job's numbers, which change too often to be set here: Blender would draw all windows."""

    def get(_self: MAQUETTE_PG_window):
        from .scene.job import view

        return view.numbers[name]

    return get


class MAQUETTE_PG_window(PropertyGroup):
    """A view of the running job, the shot's state and the backend for the panels."""

    state: StringProperty(default="idle", options={"SKIP_SAVE"})
    message: StringProperty(options={"SKIP_SAVE"})
    scene_name: StringProperty(options={"SKIP_SAVE"})
    queue_position: IntProperty(default=-1, options={"SKIP_SAVE"})
    stage: StringProperty(options={"SKIP_SAVE"})
    step: IntProperty(get=_number("step"), options={"SKIP_SAVE"})
    steps: IntProperty(get=_number("steps"), options={"SKIP_SAVE"})
    progress: FloatProperty(get=_number("progress"), subtype="FACTOR", min=0.0, max=1.0, options={"SKIP_SAVE"})
    eta_seconds: FloatProperty(get=_number("eta_seconds"), options={"SKIP_SAVE"})
    notes: StringProperty(description="One note a line", options={"SKIP_SAVE"})
    can_resume: BoolProperty(options={"SKIP_SAVE"})
    parts: CollectionProperty(type=MAQUETTE_PG_part, options={"SKIP_SAVE"})
    queue: CollectionProperty(type=MAQUETTE_PG_queued, options={"SKIP_SAVE"})
    preview_path: StringProperty(description="Picture of the newest preview", options={"SKIP_SAVE"})
    preview: IntProperty(description="Icon of the newest preview; 0 when there is none", options={"SKIP_SAVE"})
    checks: CollectionProperty(type=MAQUETTE_PG_check, options={"SKIP_SAVE"})
    checked_scene: StringProperty(description="Name of the scene that the checks are about", options={"SKIP_SAVE"})
    framing: CollectionProperty(type=MAQUETTE_PG_check, options={"SKIP_SAVE"})
    live: BoolProperty(
        name="Live Preview",
        description="A second after an edit, make what it has outdated near the playhead anew",
        default=False,
        options={"SKIP_SAVE"},
    )
    expected: StringProperty(description="Frames, size and time of the scene's next video", options={"SKIP_SAVE"})
    motion_notes: StringProperty(description="What the last import told, one note a line", options={"SKIP_SAVE"})
    framed_scene: StringProperty(description="Name of the scene whose framing was looked at", options={"SKIP_SAVE"})
    framing_old: BoolProperty(description="The scene has changed since then", options={"SKIP_SAVE"})
    backend: PointerProperty(type=MAQUETTE_PG_backend, options={"SKIP_SAVE"})
    bones: PointerProperty(type=MAQUETTE_PG_bone_map, options={"SKIP_SAVE"})


CLASSES = (
    MAQUETTE_PG_check,
    MAQUETTE_PG_model,
    MAQUETTE_PG_part,
    MAQUETTE_PG_queued,
    MAQUETTE_PG_backend,
    MAQUETTE_PG_file_joint,
    MAQUETTE_PG_body_part,
    MAQUETTE_PG_bone_map,
    MAQUETTE_PG_window,
)
GROUPS = {"WindowManager": MAQUETTE_PG_window}
