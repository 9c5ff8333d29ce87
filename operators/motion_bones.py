"""Map Bones: the animator says which joint of a motion file or armature is which of the body."""

from __future__ import annotations

import json
from pathlib import Path

import bpy
from bpy.props import BoolProperty, StringProperty
from bpy.types import Operator

from ..backend.catalogue.reader import CatalogueError
from ..backend.motions import naming
from ..backend.motions.bones import LIMBS, NEEDED, TRUNK, part_label
from ..scene.rig import bone_map
from ..scene.rig.armature import foreign_armature
from ..scene.rig.bodies import find_body
from .answers import refused
from .motion_target import ERRORS

_OPERATORS = ("import_motion", "use_armature_motion")
"""What brings in a file's motion, and an armature's."""
_WIDTH = 760
_ROWS = 20


class MAQUETTE_OT_map_bones(Operator):
    """Say which joint is which of the body, and bring in the motion. Saved as a preset that all alike find"""

    bl_idname = "maquette.map_bones"
    bl_label = "Map Bones"
    bl_options = {"UNDO"}

    filepath: StringProperty(
        name="File",
        description="Motion whose joints are meant; empty for the one that was brought in last",
        subtype="FILE_PATH",
        options={"SKIP_SAVE"},
    )
    of_armature: BoolProperty(
        name="Of Armature", description="Those of the active armature", default=False, options={"SKIP_SAVE"}
    )
    asked: BoolProperty(default=False, options={"SKIP_SAVE", "HIDDEN"})

    @classmethod
    def description(cls, _context, properties):
        if properties.of_armature:
            return "Say which bone of the active armature is which of the body, and use its motion"
        return cls.__doc__

    def invoke(self, context, event):
        return self._ask(context) if self._open(context) else {"CANCELLED"}

    def _ask(self, context: bpy.types.Context) -> set[str]:
        self.asked = True
        return context.window_manager.invoke_props_dialog(
            self, width=_WIDTH, title="Map Bones", confirm_text="Import Motion"
        )

    def execute(self, context):
        if not self._open(context):
            return {"CANCELLED"}
        view = context.window_manager.maquette.bones
        if told := bone_map.faults(view):
            if self.asked:  # the dialog itself says what is wrong
                return self._ask(context)
            return refused(self, f"Nothing was imported: {'; '.join(told)}")
        try:
            path = bone_map.save(view)
        except (CatalogueError, OSError) as error:
            return refused(self, f"The preset cannot be saved: {error}")
        self.report({"INFO"}, f"Saved as {path}")
        view.trouble = ""
        try:
            return self._bring(context)
        except RuntimeError as error:  # told by the operator already
            return refused(self, str(error).removeprefix("Error: ").strip())

    def _open(self, context: bpy.types.Context) -> bool:
        view = context.window_manager.maquette.bones
        armature = foreign_armature(context.active_object)
        source = ""
        if self.of_armature:
            source = armature.name if armature is not None else ""
        elif self.filepath:
            source = str(Path(bpy.path.abspath(self.filepath)))
        if source and (source, self.of_armature) != (view.source, view.is_armature):
            view.source, view.is_armature, view.settings, view.trouble = source, self.of_armature, "{}", ""
        if not view.source or (self.of_armature and not source):
            self.report({"ERROR"}, "Import a motion of a skeleton first, or make an armature active")
            return False
        try:
            bone_map.read_joints(context)
        except ERRORS as error:
            self.report({"ERROR"}, str(error))
            return False
        return True

    def _bring(self, context: bpy.types.Context) -> set[str]:
        view = context.window_manager.maquette.bones
        settings = json.loads(view.settings or "{}")
        again = getattr(bpy.ops.maquette, settings.pop("operator", _OPERATORS[view.is_armature]))
        if not view.is_armature:
            return again(filepath=view.source, **settings)
        armature, body = bpy.data.objects[view.source], find_body(context.active_object)
        selected = [*context.selected_objects, *([body] if body is not None else [])]
        with context.temp_override(active_object=armature, selected_objects=selected):
            return again(**settings)

    def draw(self, context):
        view = context.window_manager.maquette.bones
        layout = self.layout
        split = layout.split(factor=0.38)
        left = split.column()
        left.label(text=Path(view.source).name, icon="ARMATURE_DATA" if view.is_armature else "FILE")
        left.template_list(
            "MAQUETTE_UL_file_joints", "", view, "joints", view, "active", rows=_ROWS, maxrows=_ROWS, sort_lock=True
        )
        right = split.column()
        told = f"Explained by {view.told}" if view.told else "Nothing known explains these joints: complete the guesses"
        right.label(text=told, icon="INFO")
        twice = _twice(view)
        trunk = right.column(align=True)
        for part in TRUNK:
            row = trunk.split(factor=0.2)
            _label(row, view, (part,), twice)
            _field(row, view, part, twice)
        head = right.split(factor=0.2)
        head.label()
        sides = head.row(align=True)
        sides.label(text="Left")
        sides.label(text="Right")
        sides.operator("maquette.mirror_bones", text="", icon="MOD_MIRROR")
        limbs = right.column(align=True)
        for limb in LIMBS:
            row = limbs.split(factor=0.2)
            _label(row, view, (f"left_{limb}", f"right_{limb}"), twice, limb)
            pair = row.row(align=True)
            for side in ("left", "right"):
                _field(pair, view, f"{side}_{limb}", twice)
        right.prop(view, "label")
        wrong = bone_map.faults(view)
        text = "; ".join(wrong[:2]) + (f" and {len(wrong) - 2} more" if len(wrong) > 2 else "")
        row = right.row()
        row.alert = bool(wrong)
        row.label(text=text or "* needed. All that is needed is chosen", icon="ERROR" if wrong else "CHECKMARK")


def _twice(view: bpy.types.PropertyGroup) -> set[str]:
    """Joints that stand for two parts that cannot share one."""
    found = [row.joint for row in view.parts if row.joint and row.name not in ("spine", "chest", "pelvis")]
    shared = {row.joint for row in view.parts if row.name in ("spine", "chest", "pelvis")}
    return {joint for joint in found if found.count(joint) > 1 or joint in shared}


def _label(
    layout: bpy.types.UILayout, view: bpy.types.PropertyGroup, parts: tuple[str, ...], twice: set[str], text: str = ""
) -> None:
    """A part's name, red where its joint is missing or taken twice."""
    needed = parts[0] in NEEDED
    row = layout.row()
    row.alert = any(view.parts[part].joint in twice or (needed and not view.parts[part].joint) for part in parts)
    row.label(text=f"{part_label(text or parts[0])}{' *' if needed else ''}")


def _field(layout: bpy.types.UILayout, view: bpy.types.PropertyGroup, part: str, twice: set[str]) -> None:
    row, field = view.parts[part], layout.row(align=True)
    field.alert = row.joint in twice
    field.prop_search(row, "joint", view, "joints", text="", icon="BONE_DATA")


class MAQUETTE_OT_mirror_bones(Operator):
    """Choose for the right side what mirrors the left side's choice"""

    bl_idname = "maquette.mirror_bones"
    bl_label = "Mirror Left to Right"
    bl_options = {"INTERNAL"}

    def execute(self, context):
        for row in context.window_manager.maquette.bones.parts:
            bone_map.follow_left(row, anyhow=True)
        return {"FINISHED"}


CLASSES = (MAQUETTE_OT_map_bones, MAQUETTE_OT_mirror_bones)


def register() -> None:
    """Let importing find the animator's own presets."""
    naming.OWN.append(bone_map.own_folder())


def unregister() -> None:
    """Forget their folder."""
    naming.OWN.remove(bone_map.own_folder())
