"""Which models make the shot, and their options."""

from __future__ import annotations

import math

from bpy.props import EnumProperty, StringProperty
from bpy.types import Context, Operator

from ..backend.catalogue.lora_choice import MOST, ChosenLora
from ..scene.job import model_checks, models, options
from .answers import refused


def words(model: models.Model) -> str:
    """A tooltip: what a model is, what it takes, its limits, its licence, and why it cannot be chosen."""
    lines = [model.description or model.label, *model.takes(), *model.bounds()]
    if model.license:
        lines.append(f"Licence: {model.license}")
    if model.reason:
        lines += ["", model.reason]
    return "\n".join(line.rstrip(".") for line in lines)


class MAQUETTE_OT_choose_model(Operator):
    """Choose the model that makes the video"""

    bl_idname = "maquette.choose_model"
    bl_label = "Choose Model"
    bl_options = {"REGISTER", "UNDO", "INTERNAL"}

    model: StringProperty(name="Model", description="Id of the model", options={"SKIP_SAVE"})

    @classmethod
    def description(cls, context: Context, properties: MAQUETTE_OT_choose_model) -> str:
        """What the model is, takes and lacks."""
        return words(models.find(properties.model)) if properties.model else "Choose the model that makes the video"

    def execute(self, context: Context) -> set[str]:
        """Note the model in the scene."""
        model = models.find(self.model)
        if model.state == "MISSING":
            return refused(self, model.reason)
        shot = context.scene.maquette
        shot.model = self.model
        if (index := shot.compare.find(self.model)) >= 0:
            shot.compare.remove(index)
        options.ensure(context.scene, self.model)
        return {"FINISHED"}


class MAQUETTE_OT_compare_model(Operator):
    """Have this model make the same shot as well, for comparison"""

    bl_idname = "maquette.compare_model"
    bl_label = "Compare With"
    bl_options = {"REGISTER", "UNDO", "INTERNAL"}

    model: StringProperty(name="Model", description="Id of the model", options={"SKIP_SAVE"})

    @classmethod
    def description(cls, context: Context, properties: MAQUETTE_OT_compare_model) -> str:
        """What the model is, takes and lacks."""
        return words(models.find(properties.model)) if properties.model else "Have the same shot made by another model"

    def execute(self, context: Context) -> set[str]:
        """Tick the model, or take the tick away."""
        scene, model = context.scene, models.find(self.model)
        compare = scene.maquette.compare
        if (index := compare.find(self.model)) >= 0:
            compare.remove(index)
            return {"FINISHED"}
        if self.model == scene.maquette.model:
            return refused(self, f"{model.label} makes the video already")
        if model.state == "MISSING":
            return refused(self, model.reason)
        compare.add().name = self.model
        options.ensure(scene, self.model)
        if found := model_checks.problems(scene, model):
            self.report({"WARNING"}, found[0])
        return {"FINISHED"}


class MAQUETTE_OT_reset_option(Operator):
    """Let the model's own value apply again"""

    bl_idname = "maquette.reset_option"
    bl_label = "Reset Option"
    bl_options = {"REGISTER", "UNDO", "INTERNAL"}

    model: StringProperty(name="Model", description="Id of the model", options={"SKIP_SAVE"})
    option: StringProperty(name="Option", description="Name of the option", options={"SKIP_SAVE"})

    @classmethod
    def description(cls, context: Context, properties: MAQUETTE_OT_reset_option) -> str:
        """What the option does, what it can be, and the value that it goes back to."""
        found = models.option(properties.model, properties.option)
        if found is None:
            return "Let the model's own value apply again"
        bounds = ""
        if found.type in ("int", "float") and math.isfinite(found.low) and math.isfinite(found.high):
            bounds = f", {found.low:g} to {found.high:g}"
        return f"{found.description.rstrip('.') or found.label}\n\nReset to the model's own: {found.default}{bounds}"

    def execute(self, context: Context) -> set[str]:
        """Forget what was set."""
        for entry, _ in options.entries(context.scene, self.model):
            if entry.option == self.option:
                entry.stored = ""
        return {"FINISHED"}


_loras: list[tuple[str, str, str]] = []
"""Items of the menu that was drawn last; Blender needs their strings kept alive."""


def _lora_items(self: MAQUETTE_OT_add_lora, _context: Context | None) -> list[tuple[str, str, str]]:
    """The backend's LoRAs that fit the model."""
    fitting = [entry for entry in models.find(self.model).loras if not entry.reason]
    items = [(entry.name, entry.name, models.lora_words(entry)) for entry in fitting]
    if items != _loras:
        _loras[:] = items
    return _loras


class MAQUETTE_OT_add_lora(Operator):
    """Add one of the backend's LoRAs to the model, for this shot"""

    bl_idname = "maquette.add_lora"
    bl_label = "Add LoRA"
    bl_options = {"REGISTER", "UNDO", "INTERNAL"}

    model: StringProperty(name="Model", description="Id of the model", options={"SKIP_SAVE"})
    lora: EnumProperty(name="LoRA", description="A file of the backend's LoRA folder", items=_lora_items)

    def execute(self, context: Context) -> set[str]:
        """Put it at the list's end."""
        entry = options.lora_entry(context.scene, self.model)
        if entry is None or not self.lora:
            return refused(self, f"{models.find(self.model).label} takes no LoRA")
        chosen = options.loras(entry)
        if any(each.name == self.lora for each in chosen):
            return refused(self, f"{self.lora} is on the list already; change its weight there")
        if len(chosen) >= MOST:
            return refused(self, f"{MOST} LoRAs are the most; take one off the list first")
        options.choose_loras(entry, [*chosen, ChosenLora(self.lora)])
        return {"FINISHED"}


class MAQUETTE_OT_remove_lora(Operator):
    """Take this LoRA off the list; its file stays"""

    bl_idname = "maquette.remove_lora"
    bl_label = "Remove LoRA"
    bl_options = {"REGISTER", "UNDO", "INTERNAL"}

    model: StringProperty(name="Model", description="Id of the model", options={"SKIP_SAVE"})
    lora: StringProperty(name="LoRA", description="Its name", options={"SKIP_SAVE"})

    def execute(self, context: Context) -> set[str]:
        """Forget it."""
        entry = options.lora_entry(context.scene, self.model)
        if entry is not None:
            options.choose_loras(entry, [each for each in options.loras(entry) if each.name != self.lora])
        return {"FINISHED"}


class MAQUETTE_OT_use_first_frame(Operator):
    """Take every character's reference at the shot's first frame, as this model needs it"""

    bl_idname = "maquette.use_first_frame"
    bl_label = "Take References at the First Frame"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: Context) -> set[str]:
        """Set the frame of every character's reference."""
        scene = context.scene
        for obj in scene.objects:
            if obj.type == "MESH" and obj.maquette.is_character:
                obj.maquette.reference_frame = scene.frame_start
        return {"FINISHED"}


CLASSES = (
    MAQUETTE_OT_choose_model,
    MAQUETTE_OT_compare_model,
    MAQUETTE_OT_reset_option,
    MAQUETTE_OT_add_lora,
    MAQUETTE_OT_remove_lora,
    MAQUETTE_OT_use_first_frame,
)
