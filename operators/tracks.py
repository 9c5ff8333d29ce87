"""Tracks: spots of objects and meshes whose way through the shot a model follows."""

from __future__ import annotations

import bmesh
import bpy
from bpy.props import IntProperty
from bpy.types import Context, Operator

from .answers import chosen, possible, refused

MOST = 512
"""Tracks of a scene: far more than any model makes use of, far less than one slip on a dense mesh would add."""


def _taken(scene: bpy.types.Scene) -> set[tuple[str, int]]:
    return {(track.object.name, track.vertex) for track in scene.maquette.tracks if track.object is not None}


def _selected(context: Context) -> list[tuple[bpy.types.Object, int]]:
    """What is selected: in Edit Mode vertices, else objects, the latter as vertex -1."""
    if context.mode != "EDIT_MESH":
        return [(obj, -1) for obj in context.selected_objects]
    found = []
    for obj in context.objects_in_mode_unique_data:
        found += [(obj, vertex.index) for vertex in bmesh.from_edit_mesh(obj.data).verts if vertex.select]
    return found


class MAQUETTE_OT_add_tracks(Operator):
    """Follow the origins of the selected objects, or in Edit Mode the selected vertices, through the shot"""

    bl_idname = "maquette.add_tracks"
    bl_label = "Add Selected"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        """Only with a selection to take them from."""
        modes = "Go to Object Mode to pick objects, or to Edit Mode of a mesh to pick vertices"
        some = context.mode != "OBJECT" or context.selected_objects
        return possible(cls, context.mode in ("OBJECT", "EDIT_MESH"), modes) and possible(
            cls, some, "Select empties or other objects, or vertices in Edit Mode"
        )

    def execute(self, context: Context) -> set[str]:
        """Add what is not on the list yet."""
        scene = context.scene
        tracks, taken = scene.maquette.tracks, _taken(scene)
        spots = _selected(context)
        fresh = [(obj, vertex) for obj, vertex in spots if (obj.name, vertex) not in taken]
        if not spots:
            return refused(self, "No vertex is selected")
        if len(tracks) + len(fresh) > MOST:
            return refused(self, f"{len(fresh)} more would be {len(tracks) + len(fresh)} tracks; at most {MOST}")
        for obj, vertex in fresh:
            track = tracks.add()
            track.name = obj.name if vertex < 0 else f"{obj.name} vertex {vertex}"
            track.object, track.vertex = obj, vertex
        scene.maquette.active_track = len(tracks) - 1
        known = len(spots) - len(fresh)
        self.report({"INFO"}, f"{len(fresh)} tracks added" + (f", {known} were there already" if known else ""))
        return {"FINISHED"}


class _Listed:
    """Mixin: only when there are tracks."""

    @classmethod
    def poll(cls, context: Context) -> bool:
        """Only when there are tracks."""
        return possible(cls, context.scene.maquette.tracks, "There are no tracks")


class MAQUETTE_OT_remove_track(_Listed, Operator):
    """Take the chosen track off the list"""

    bl_idname = "maquette.remove_track"
    bl_label = "Remove Track"
    bl_options = {"REGISTER", "UNDO"}

    index: IntProperty(
        name="Index", description="Entry of the list; the active one when negative", default=-1, options={"SKIP_SAVE"}
    )

    def execute(self, context: Context) -> set[str]:
        """Remove it; the object stays."""
        shot = context.scene.maquette
        if (index := chosen(self, shot.tracks, shot.active_track)) is None:
            return {"CANCELLED"}
        shot.tracks.remove(index)
        shot.active_track = max(0, min(shot.active_track, len(shot.tracks) - 1))
        return {"FINISHED"}


class MAQUETTE_OT_clear_tracks(_Listed, Operator):
    """Take all tracks off the list"""

    bl_idname = "maquette.clear_tracks"
    bl_label = "Clear Tracks"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: Context) -> set[str]:
        """Remove them all; the objects stay."""
        context.scene.maquette.tracks.clear()
        context.scene.maquette.active_track = 0
        return {"FINISHED"}


CLASSES = (MAQUETTE_OT_add_tracks, MAQUETTE_OT_remove_track, MAQUETTE_OT_clear_tracks)
