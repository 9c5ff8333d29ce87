"""What scenes remember, in the file."""

from __future__ import annotations

from typing import Any

import bpy
from bpy.props import (
    BoolProperty,
    CollectionProperty,
    EnumProperty,
    FloatProperty,
    FloatVectorProperty,
    IntProperty,
    PointerProperty,
    StringProperty,
)
from bpy.types import PropertyGroup

from .backend.catalogue.lora_choice import MOST as MOST_LORAS
from .backend.catalogue.lora_choice import STRONGEST
from .backend.catalogue.models import DEFAULT_MODEL
from .backend.catalogue.quality import STANDARD, list_quality

_RELATIVE = {"PATH_SUPPORTS_BLEND_RELATIVE"} if bpy.app.version >= (4, 5, 0) else set()
"""Says that a path may start with ``//``, where Blender wants to be told."""


_choices: dict[tuple[str, str], list[tuple[str, str, str]]] = {}
"""Items of each option by model and name; Blender needs their strings kept alive."""


def _choice_items(self: MAQUETTE_PG_option, _context: bpy.types.Context | None) -> list[tuple[str, str, str]]:
    """What an option that is a choice can be."""
    from .scene.job import models

    described = models.option(self.model, self.option)
    names = described.choices if described is not None and described.choices else ("",)
    items = [(name, name.replace("_", " ").replace("-", " ").capitalize(), "") for name in names]
    kept = _choices.setdefault((self.model, self.option), items)
    if kept != items:
        _choices[self.model, self.option] = kept = items
    return kept


def _stored(kind: str, plain: bool | int | float | str) -> dict[str, Any]:
    """Callbacks that show and set an option's value as one kind of property."""

    def get(self: MAQUETTE_PG_option):
        from .scene.job import models, options

        value = options.value(self)
        described = models.option(self.model, self.option)
        if described is None or described.type != kind:
            return plain
        return described.choices.index(str(value)) if kind == "choice" else value

    def put(self: MAQUETTE_PG_option, value) -> None:
        from .scene.job import models, options

        described = models.option(self.model, self.option)
        if described is not None and described.type == kind:
            options.store(self, described.choices[value] if kind == "choice" else value)

    return {"get": get, "set": put, "options": set()}


def _weights(self: MAQUETTE_PG_option) -> list[float]:
    from .scene.job import options

    found = [each.weight for each in options.loras(self)]
    return found + [0.0] * (MOST_LORAS - len(found))


def _weigh(self: MAQUETTE_PG_option, values) -> None:
    from .scene.job import options

    options.weigh(self, values)


class MAQUETTE_PG_option(PropertyGroup):
    """What the animator has set for one option of one model.

    The value is kept as text: which kind it is, and its bounds, only the backend's description of the model says.
    """

    model: StringProperty(name="Model", description="Id of the model")
    option: StringProperty(name="Option", description="Name of the option")
    stored: StringProperty(description="The value as JSON; empty for the model's own")
    as_bool: BoolProperty(name="Value", description="An option of this model alone", **_stored("bool", False))
    as_int: IntProperty(name="Value", description="An option of this model alone", **_stored("int", 0))
    as_float: FloatProperty(
        name="Value", description="An option of this model alone", precision=3, step=5, **_stored("float", 0.0)
    )
    as_choice: EnumProperty(
        name="Value", description="An option of this model alone", items=_choice_items, **_stored("choice", 0)
    )
    as_text: StringProperty(name="Value", description="An option of this model alone", **_stored("text", ""))
    as_weights: FloatVectorProperty(
        name="Weight",
        description="How much of each LoRA is added to the model",
        size=MOST_LORAS,
        min=-STRONGEST,
        max=STRONGEST,
        soft_min=0.0,
        soft_max=1.5,
        step=5,
        precision=2,
        get=_weights,
        set=_weigh,
        options=set(),
    )


def _shown_otherwise(self: MAQUETTE_PG_shot, _context: bpy.types.Context) -> None:
    """Another video is chosen, or another way to show it: the scene follows."""
    from .scene.job import library

    library.follow_switch(self.id_data)


def _starred(self: MAQUETTE_PG_result, _context: bpy.types.Context) -> None:
    from .scene.job import library

    library.keep_star(self)


def _drawn_otherwise(_self: MAQUETTE_PG_shot, _context: bpy.types.Context) -> None:
    from .scene.screen.overlay import redraw

    redraw()


class MAQUETTE_PG_track(PropertyGroup):
    """A spot whose way through the shot is sent: an object's origin, or one vertex of a mesh."""

    object: PointerProperty(name="Object", type=bpy.types.Object, description="What carries the spot")
    vertex: IntProperty(
        name="Vertex", description="Number of the mesh's vertex; -1 for the object's origin", default=-1, min=-1
    )


class MAQUETTE_PG_compared(PropertyGroup):
    """A model that makes the same shot for comparison. The group's name is the model's id."""


class MAQUETTE_PG_result(PropertyGroup):
    """One finished video of the scene."""

    job: StringProperty(name="Job", description="The backend's id of the job that made it")
    created: StringProperty(name="Made", description="When the video arrived")
    filepath: StringProperty(name="Video", description="The video's file", subtype="FILE_PATH", options=_RELATIVE)
    frame_start: IntProperty(name="First Frame", description="Frame of its first picture", default=1)
    frame_count: IntProperty(name="Frames", description="Number of its pictures", default=0)
    frame_step: IntProperty(name="Frame Step", description="Frames of the scene from picture to picture", default=1)
    fps: FloatProperty(name="Rate", description="Pictures a second", default=24.0)
    model: StringProperty(name="Model", description="Id of the model that made it")
    model_label: StringProperty(name="Model", description="The model's name as people know it")
    seed: IntProperty(name="Seed", description="The seed that it was made with")
    comparison: StringProperty(description="Shared by videos that several models made from one captured shot")
    take: IntProperty(name="Take", description="Counts the scene's presses of Generate; 0 when it is not known")
    starred: BoolProperty(name="Star", description="Mark this video as one to keep", default=False, update=_starred)
    picked: BoolProperty(name="Side by Side", description="Show this video beside the others that are ticked")
    camera: PointerProperty(name="Camera", description="The camera that it was seen through", type=bpy.types.Object)


class MAQUETTE_PG_shot(PropertyGroup):
    """The shot's settings, kept in the scene."""

    uid: StringProperty(name="Id", description="Tells this scene from all others, so that its videos find it again")
    points: IntProperty(
        name="Points", description="Surface points sent for each character", default=512, min=16, max=8192
    )
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
    background_path: StringProperty(
        name="File", description="Picture or film behind the characters", subtype="FILE_PATH", options=_RELATIVE
    )
    render_engine: EnumProperty(
        name="Render With",
        description="What renders the references and the scene behind the characters",
        items=(
            ("WORKBENCH", "Workbench", "Plain shading: fast everywhere, needs no lights"),
            ("SCENE", "Scene's Engine", "The scene's own engine, lights and view transform: slower, looks as rendered"),
        ),
        default="WORKBENCH",
    )
    prompt: StringProperty(name="Prompt", description="Text for models that read it")
    model: StringProperty(name="Model", description="Model that makes the video", default=DEFAULT_MODEL)
    quality: EnumProperty(
        name="Quality",
        description="How much time goes into the video",
        items=[(level.id, level.label, level.description, "NONE", level.order) for level in list_quality().values()],
        default=STANDARD,
    )
    options: CollectionProperty(type=MAQUETTE_PG_option)
    compare: CollectionProperty(type=MAQUETTE_PG_compared)
    tracks: CollectionProperty(type=MAQUETTE_PG_track)
    active_track: IntProperty(name="Track", description="The chosen track", default=0)
    seed: IntProperty(name="Seed", description="Same seed, same video", default=0, min=0)
    seeds: IntProperty(
        name="Seeds", description="Videos that each model makes, one a seed from Seed on", default=1, min=1, max=8
    )
    priority: EnumProperty(
        name="Priority",
        description="Which of your jobs that wait come first",
        items=(
            ("HIGH", "High", "Before all others"),
            ("NORMAL", "Normal", "In their order, drafts first"),
            ("LOW", "Low", "When nothing else waits"),
        ),
        default="NORMAL",
    )
    steps: IntProperty(
        name="Steps", description="Denoising steps; 0 takes the model's own number", default=0, min=0, max=200
    )
    guidance: FloatProperty(
        name="Guidance",
        description="How strictly to follow the shot; 0 takes the model's own value",
        default=0.0,
        min=0.0,
        max=20.0,
    )
    upscale: EnumProperty(
        name="Upscale",
        description="Make the finished video larger; the backend needs a package for it",
        items=(
            ("OFF", "Off", "The size that the model makes", 1),
            ("X2", "2x", "Twice as wide and high", 2),
            ("X4", "4x", "Four times as wide and high", 4),
        ),
        default="OFF",
    )
    show_as: EnumProperty(
        name="Show As",
        description="How the chosen video is shown in this scene",
        # The numbers are those that files hold; those of the plane, the background and the strip were flags once.
        items=(
            ("OFF", "Off", "Nowhere: videos are only listed", "HIDE_ON", 0),
            (
                "OVERLAY",
                "Overlay",
                "Over the camera's frame in 3D views, in every shading; never rendered",
                "OVERLAY",
                8,
            ),
            ("BACKGROUND", "Background", "The camera's background image", "IMAGE_BACKGROUND", 2),
            ("PLANE", "Plane", "A plane that fills the camera's view", "IMAGE_PLANE", 1),
            ("STRIP", "Strip", "A strip in the video sequencer", "SEQUENCE", 4),
        ),
        default="OVERLAY",
        update=_shown_otherwise,
    )
    overlay_opacity: FloatProperty(
        name="Opacity",
        description="How much of the scene the video hides",
        default=1.0,
        min=0.0,
        max=1.0,
        subtype="FACTOR",
        update=_drawn_otherwise,
    )
    overlay_wipe: FloatProperty(
        name="Wipe",
        description="How far the video reaches from the left; the scene shows beyond",
        default=1.0,
        min=0.0,
        max=1.0,
        subtype="FACTOR",
        update=_drawn_otherwise,
    )
    overlay_outline: BoolProperty(
        name="Outline",
        description="Draw the outline of the characters as they stand over the video",
        default=True,
        update=_drawn_otherwise,
    )
    plane_place: EnumProperty(
        name="Place",
        description="Where the plane stands",
        items=(
            ("FRONT", "In Front", "Right before the camera: nothing hides the video"),
            ("CHARACTERS", "At the Characters", "As far away as the characters on average"),
            ("BEHIND", "Behind the Characters", "Farther away than any character in the shot"),
        ),
        default="FRONT",
        update=_shown_otherwise,
    )
    plane_renders: BoolProperty(
        name="Render",
        description="Render the plane with the scene; otherwise only 3D views show it",
        default=False,
        update=_shown_otherwise,
    )
    beside: BoolProperty(description="Several videos are shown side by side")
    sequencer_was_on: BoolProperty(description="Rendering the sequencer was turned off for a strip of ours")
    preview_by: EnumProperty(
        name="Preview By",
        description="What makes previews",
        items=(
            ("DRAFT", "Draft", "Blender lays the looks onto the bodies, in every frame at once and without a network"),
            ("MODEL", "Model", "The chosen model, some frames at a time, those near the playhead first"),
        ),
        default="DRAFT",
    )
    results: CollectionProperty(type=MAQUETTE_PG_result)
    active_result: IntProperty(name="Result", description="The chosen video", default=0, update=_shown_otherwise)


CLASSES = (
    MAQUETTE_PG_option,
    MAQUETTE_PG_track,
    MAQUETTE_PG_compared,
    MAQUETTE_PG_result,
    MAQUETTE_PG_shot,
)
GROUPS = {"Scene": MAQUETTE_PG_shot}
