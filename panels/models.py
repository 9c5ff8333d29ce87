"""The Shot panel's part about models: which one, what it takes, its options, and what it is compared with."""

from __future__ import annotations

from bpy.types import Context, Menu, PropertyGroup, UILayout

from ..scene.job import models, options
from ..scene.job.model_checks import compared
from .main import draw_text

_ICONS = {"READY": "CHECKMARK", "MISSING": "CANCEL", "UNKNOWN": "BLANK1"}


class MAQUETTE_MT_models(Menu):
    """The models that the backend knows"""

    bl_idname = "MAQUETTE_MT_models"
    bl_label = "Model"

    def draw(self, context: Context) -> None:
        """One entry a model, with whether the backend can run it; the tooltip says the rest."""
        for model in models.everyone():
            if model.state != "MISSING":
                self.layout.operator(
                    "maquette.choose_model", text=model.label, icon=_ICONS[model.state]
                ).model = model.id
        draw_missing(self.layout)
        self.layout.separator()
        self.layout.operator("maquette.test_connection", text="Ask the Backend Again", icon="FILE_REFRESH")


def draw_missing(layout: UILayout) -> None:
    """One line for all models that the backend cannot run, with the way to get them."""
    missing = sum(model.state == "MISSING" for model in models.everyone())
    if missing:
        layout.operator("maquette.get_models", text=f"{missing} More to Install", icon="IMPORT")


def draw_model(layout: UILayout, context: Context, model: models.Model) -> None:
    """The model, and why it cannot run."""
    icon = "ERROR" if model.state == "MISSING" else "SHADERFX"
    layout.menu("MAQUETTE_MT_models", text=model.label, icon=icon)


def draw_about(layout: UILayout, context: Context, model: models.Model) -> None:
    """What the model takes, its limits and its licence."""
    if not model.inputs:
        return
    header, body = layout.panel("maquette_model_about", default_closed=True)
    header.label(text=f"About {model.label}")
    if body is None:
        return
    if model.description:
        draw_text(body, context, model.description)
    for line in model.takes():
        draw_text(body, context, line, "FORWARD")
    if bounds := model.bounds():
        draw_text(body, context, ". ".join(bounds), "DRIVER_DISTANCE")
    if model.license:
        draw_text(body, context, f"Licence: {model.license}", "INFO")


def draw_options(layout: UILayout, context: Context, model: models.Model, beside: bool = False) -> None:
    """What this model alone lets the animator choose.

    Args:
        beside: whether it is one that the shot's own model is compared with.
    """
    found = options.entries(context.scene, model.id)
    if not found:
        return
    header, body = layout.panel(f"maquette_options_{model.id}" if beside else "maquette_options", default_closed=True)
    changed = sum(bool(entry.stored) for entry, _ in found)
    text = f"{model.label} Options" if beside else "Options"
    header.label(text=text if not changed else f"{text} ({changed} set)")
    if body is None:
        return
    body.use_property_split = True
    body.use_property_decorate = False
    for entry, described in found:
        if described.type == "loras":
            _draw_loras(body, context, model, entry)
            continue
        label, short = described.label, len(described.label) < 15
        # Beside its value a long label would be cut. A number has room for it within; a text has it above.
        if described.type == "text" and not short:
            body.label(text=label)
            label = ""
        row = body.row(align=True)
        row.use_property_split = short
        row.prop(entry, f"as_{described.type}", text=label)
        icon = "LOOP_BACK" if entry.stored else "DOT"
        reset = row.operator("maquette.reset_option", text="", icon=icon, emboss=False)
        reset.model, reset.option = model.id, entry.option


def _draw_loras(layout: UILayout, context: Context, model: models.Model, entry: PropertyGroup) -> None:
    """The shot's LoRAs with their weights, and a menu of those that the backend has."""
    there = {each.name: each for each in model.loras}
    fitting = sum(not each.reason for each in model.loras)
    column = layout.column(align=True)
    for place, chosen in enumerate(options.loras(entry)):
        known = there.get(chosen.name)
        lost = "The backend does not have it" if known is None else known.reason
        row = column.split(factor=0.6, align=True)
        row.use_property_split = False
        row.alert = bool(lost)
        row.label(text=chosen.name, icon="ERROR" if lost else "MOD_LINEART")
        row = row.row(align=True)
        row.prop(entry, "as_weights", index=place, text="")
        remove = row.operator("maquette.remove_lora", text="", icon="X", emboss=False)
        remove.model, remove.lora = model.id, chosen.name
        if lost:
            draw_text(column, context, lost, "BLANK1")
        elif known is not None and known.steps is not None:
            draw_text(column, context, models.lora_wants(known), "BLANK1")
    row = column.row(align=True)
    row.enabled = bool(fitting)
    text = "Add LoRA" if fitting else "No LoRA for This Model on the Backend"
    row.operator_menu_enum("maquette.add_lora", "lora", text=text, icon="ADD").model = model.id


def draw_compare(layout: UILayout, context: Context, model: models.Model) -> None:
    """Further models that make the same shot."""
    ticked = compared(context.scene)
    # One that this backend does not name can be unticked all the same.
    others = [other for other in models.everyone() if other.id != model.id]
    others += [other for other in ticked if not models.known(other.id)]
    compare = context.scene.maquette.compare
    header, body = layout.panel("maquette_compare", default_closed=True)
    seeds = context.scene.maquette.seeds
    more = len(ticked) + (seeds > 1)
    header.label(text=f"Compare ({more})" if more else "Compare")
    if body is None:
        return
    row = body.row()
    row.use_property_split = True
    row.use_property_decorate = False
    row.prop(context.scene.maquette, "seeds")
    column = body.column(align=True)
    for other in others:
        on = other.id in compare
        if not on and other.state == "MISSING":
            continue
        row = column.row(align=True)
        row.alignment = "LEFT"
        icon = "CHECKBOX_HLT" if on else "CHECKBOX_DEHLT"
        row.operator("maquette.compare_model", text=other.label, icon=icon, emboss=False).model = other.id
    draw_missing(column)
    for other in ticked:
        draw_options(body, context, other, beside=True)


CLASSES = (MAQUETTE_MT_models,)
