"""The list of finished videos: where a file lies, and taking one off the list."""

from __future__ import annotations

from pathlib import Path

import bpy
from bpy.props import BoolProperty, IntProperty
from bpy.types import Context, Event, Operator

from ..backend.shot import ShotError
from ..scene.job import library
from .answers import chosen, possible, refused, refusing


class _Result:
    """Mixin: acts on one entry of the scene's list of results."""

    index: IntProperty(name="Index", description="Entry of the list; the active one when negative", default=-1)

    @classmethod
    def poll(cls, context: Context) -> bool:
        """Only when there is a result."""
        return possible(cls, context.scene.maquette.results, "There is no result yet: press Generate")

    def _chosen(self, context: Context) -> int | None:
        """Index of the entry meant; reports when there is none."""
        shot = context.scene.maquette
        return chosen(self, shot.results, shot.active_result)


class MAQUETTE_OT_reveal_result(_Result, Operator):
    """Show the video's file in its folder"""

    bl_idname = "maquette.reveal_result"
    bl_label = "Show File"

    def execute(self, context: Context) -> set[str]:
        """Open the folder."""
        index = self._chosen(context)
        if index is None:
            return {"CANCELLED"}
        path = Path(bpy.path.abspath(context.scene.maquette.results[index].filepath))
        if not path.parent.is_dir():
            return refused(self, f"The folder {path.parent} is not there any more")
        bpy.ops.wm.path_open(filepath=str(path.parent))
        return {"FINISHED"}


class MAQUETTE_OT_remove_result(_Result, Operator):
    """Take this video off the list; what was loaded from it stays in the scene"""

    bl_idname = "maquette.remove_result"
    bl_label = "Remove from List"
    bl_options = {"REGISTER", "UNDO"}

    delete_file: BoolProperty(
        name="Delete File",
        description="Delete the video's file as well; this cannot be undone",
        default=False,
        options={"SKIP_SAVE"},
    )

    def invoke(self, context: Context, event: Event) -> set[str]:
        """Ask, since a deleted file does not come back."""
        return context.window_manager.invoke_props_dialog(self)

    def execute(self, context: Context) -> set[str]:
        """Take it off, and delete the file where that was asked for."""
        index = self._chosen(context)
        if index is None:
            return {"CANCELLED"}
        try:
            path = library.take_off_list(context.scene, index)
            if self.delete_file:
                for file in (path, path.with_suffix(".json")):
                    file.unlink(missing_ok=True)
        except OSError as error:
            return refused(self, f"The file cannot be changed: {error}")
        return {"FINISHED"}


class MAQUETTE_OT_reuse_settings(_Result, Operator):
    """Set prompt, model, quality, seed and background as they were when this video was asked for"""

    bl_idname = "maquette.reuse_settings"
    bl_label = "Reuse Settings"
    bl_options = {"REGISTER", "UNDO"}

    @refusing(ShotError)
    def execute(self, context: Context) -> set[str]:
        """Set them."""
        index = self._chosen(context)
        if index is None:
            return {"CANCELLED"}
        library.reuse(context.scene, index)
        return {"FINISHED"}


CLASSES = (MAQUETTE_OT_reveal_result, MAQUETTE_OT_remove_result, MAQUETTE_OT_reuse_settings)
