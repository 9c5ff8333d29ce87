"""What the scene, a body and the window remember."""

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


class MAQUETTE_PG_character(PropertyGroup):
    """Marks a mesh object as a character of the shot, and says what it looks like."""

    is_character: BoolProperty(name="Character", description="Send this mesh to the backend as a performer", default=False)
    body: StringProperty(name="Body", description="Id of the parametric body this mesh was made from; empty for other meshes")
    reference_source: EnumProperty(
        name="Reference",
        description="Where the character's looks come from",
        items=(
            ("RENDER", "Render", "Render the character as it stands in the scene at the reference frame"),
            ("IMAGE", "Picture", "A picture that shows the character as the scene's camera sees it at the reference frame"),
            ("NONE", "None", "No reference: the model invents the looks"),
        ),
        default="RENDER",
    )
    reference_image: PointerProperty(name="Picture", type=bpy.types.Image, description="Picture of the character")
    reference_frame: IntProperty(
        name="Reference Frame", description="Frame whose pose and camera match the reference picture", default=1
    )


class MAQUETTE_PG_result(PropertyGroup):
    """One finished video of the scene."""

    job: StringProperty(name="Job")
    filepath: StringProperty(name="Video", subtype="FILE_PATH")
    frame_start: IntProperty(name="First Frame", default=1)
    frame_count: IntProperty(name="Frames", default=0)
    frame_step: IntProperty(name="Frame Step", default=1)
    fps: FloatProperty(name="Rate", default=24.0)
    model: StringProperty(name="Model")
    seed: IntProperty(name="Seed")
    camera: PointerProperty(name="Camera", type=bpy.types.Object)


class MAQUETTE_PG_shot(PropertyGroup):
    """The shot's settings, kept in the scene."""

    points: IntProperty(name="Points", description="Surface points sent for each character", default=256, min=16, max=8192)
    background: EnumProperty(
        name="Background",
        description="What stands behind the characters",
        items=(
            ("NONE", "None", "The model invents the background"),
            ("PICTURE", "Picture", "One picture for the whole shot"),
            ("VIDEO", "Video", "A film, played from the first frame of the shot"),
            ("SCENE", "This Scene", "Render this scene without the characters"),
        ),
        default="SCENE",
    )
    background_path: StringProperty(name="File", description="Picture or film behind the characters", subtype="FILE_PATH")
    prompt: StringProperty(name="Prompt", description="Text for models that read it")
    model: StringProperty(name="Model", description="Model that makes the video", default="isa-nano")
    seed: IntProperty(name="Seed", description="Same seed, same video", default=0, min=0)
    steps: IntProperty(name="Steps", description="Denoising steps; 0 takes the model's own number", default=0, min=0, max=200)
    guidance: FloatProperty(
        name="Guidance", description="How strictly to follow the shot; 0 takes the model's own value", default=0.0, min=0.0, max=20.0
    )
    results: CollectionProperty(type=MAQUETTE_PG_result)
    active_result: IntProperty(name="Result", default=0)


class MAQUETTE_PG_job(PropertyGroup):
    """A view of the running job for the panels; never saved with the file."""

    state: StringProperty(default="idle", options={"SKIP_SAVE"})
    message: StringProperty(options={"SKIP_SAVE"})
    queue_position: IntProperty(default=-1, options={"SKIP_SAVE"})
    stage: StringProperty(options={"SKIP_SAVE"})
    step: IntProperty(options={"SKIP_SAVE"})
    steps: IntProperty(options={"SKIP_SAVE"})
    progress: FloatProperty(subtype="FACTOR", min=0.0, max=1.0, options={"SKIP_SAVE"})
    eta_seconds: FloatProperty(default=-1.0, options={"SKIP_SAVE"})


CLASSES = (MAQUETTE_PG_character, MAQUETTE_PG_result, MAQUETTE_PG_shot, MAQUETTE_PG_job)


def register() -> None:
    """Hang the groups on their owners."""
    bpy.types.Object.maquette = PointerProperty(type=MAQUETTE_PG_character)
    bpy.types.Scene.maquette = PointerProperty(type=MAQUETTE_PG_shot)
    bpy.types.WindowManager.maquette = PointerProperty(type=MAQUETTE_PG_job)


def unregister() -> None:
    """Take the groups off again."""
    del bpy.types.WindowManager.maquette
    del bpy.types.Scene.maquette
    del bpy.types.Object.maquette
