"""Looks: the pictures that say what a character looks like."""

from __future__ import annotations

import bpy
from bpy.props import IntProperty
from bpy.types import Context, Operator

from ..backend.shot.validate import MAX_REFERENCES
from ..scene.rig.bodies import find_body
from ..scene.rig.characters import armatures_of
from .answers import chosen, possible, refused

_NAMES = ("Back", "Face", "Left Side", "Right Side")


def active_character(context: Context) -> bpy.types.Object | None:
    """The mesh that panels and operators speak of: the active body, the active mesh, or the largest of an armature."""
    active = context.active_object
    body = find_body(active)
    if body is not None or active is None or active.type == "MESH":
        return body or active
    if active.type != "ARMATURE":
        return None
    moved = [obj for obj in context.scene.objects if obj.type == "MESH" and active in armatures_of(obj)]
    return max(moved, key=lambda obj: (obj.maquette.is_character, len(obj.data.vertices)), default=None)


def _looks(context: Context) -> bpy.types.PropertyGroup:
    """What the active character, which there is, looks like."""
    mesh = active_character(context)
    assert mesh is not None
    return mesh.maquette


class _OfCharacter:
    """Mixin: only for an active character that has a reference."""

    @classmethod
    def poll(cls, context: Context) -> bool:
        """Only for an active character that has a reference."""
        mesh = active_character(context)
        if mesh is None or not mesh.maquette.is_character:
            return possible(cls, False, "Select a character")
        shown = mesh.maquette.reference_source != "NONE"
        return possible(cls, shown, "Set the character's Reference to Render or Picture first")


class MAQUETTE_OT_add_reference(_OfCharacter, Operator):
    """Show one more side of the active character: its back, its face, at the current frame"""

    bl_idname = "maquette.add_reference"
    bl_label = "Add Reference"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: Context) -> set[str]:
        """Add an entry of the first reference's kind, with a name of its own."""
        marks = _looks(context)
        if len(marks.references) >= MAX_REFERENCES:
            return refused(self, f"{MAX_REFERENCES} further references are the most; remove one")
        taken = {entry.name for entry in marks.references}
        numbered = (f"Picture {number}" for number in range(2, MAX_REFERENCES + 3))
        entry = marks.references.add()
        entry.name = next(name for name in (*_NAMES, *numbered) if name not in taken)
        entry.source, entry.frame = marks.reference_source, context.scene.frame_current
        return {"FINISHED"}


class MAQUETTE_OT_remove_reference(_OfCharacter, Operator):
    """Remove this reference; a picture stays in the file"""

    bl_idname = "maquette.remove_reference"
    bl_label = "Remove Reference"
    bl_options = {"REGISTER", "UNDO"}

    index: IntProperty(
        name="Index", description="Entry of the list; the last one when negative", default=-1, options={"SKIP_SAVE"}
    )

    def execute(self, context: Context) -> set[str]:
        """Remove it; the first reference is none of the list."""
        references = _looks(context).references
        if (index := chosen(self, references, len(references) - 1)) is None:
            return {"CANCELLED"}
        references.remove(index)
        return {"FINISHED"}


CLASSES = (MAQUETTE_OT_add_reference, MAQUETTE_OT_remove_reference)
