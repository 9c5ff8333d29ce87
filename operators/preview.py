"""Previews of the shot: made, refined, stopped and cleared."""

from __future__ import annotations

from bpy.types import Context, Operator

from ..scene.job import effects, preview
from ..scene.screen import draft, strip
from ..scene.screen.previews import reel_of
from .answers import possible, refused


class MAQUETTE_OT_preview(Operator):
    """Preview the preview range, or the frames around the playhead, as Preview By says"""

    bl_idname = "maquette.preview"
    bl_label = "Preview"

    def execute(self, context: Context) -> set[str]:
        """Start; what happens is told in the panel."""
        if effects.runner.state.busy:
            return refused(self, preview.BUSY)
        preview.preview(context.scene)
        return {"FINISHED"}


class MAQUETTE_OT_refine(Operator):
    """Have the chosen model make the previewed frames in one piece, with the shot's seed, and show them in place"""

    bl_idname = "maquette.refine"
    bl_label = "Refine"

    def execute(self, context: Context) -> set[str]:
        """Start."""
        if effects.runner.state.busy:
            return refused(self, preview.BUSY)
        preview.refine(context.scene)
        return {"FINISHED"}


class MAQUETTE_OT_stop_preview(Operator):
    """Stop making the preview; frames that are here stay"""

    bl_idname = "maquette.stop_preview"
    bl_label = "Stop Preview"

    @classmethod
    def poll(cls, context: Context) -> bool:
        """Only while one is being made."""
        return possible(cls, preview.runner.busy, "No preview is being made")

    def execute(self, context: Context) -> set[str]:
        """Stop it, at the backend too."""
        context.window_manager.maquette.live = False
        preview.runner.cancel()
        return {"FINISHED"}


class MAQUETTE_OT_clear_preview(Operator):
    """Take all previews of this scene away; results stay"""

    bl_idname = "maquette.clear_preview"
    bl_label = "Clear Preview"

    @classmethod
    def poll(cls, context: Context) -> bool:
        """Only where there is one."""
        return possible(cls, reel_of(context.scene.maquette.uid) is not None, "This scene has no preview")

    def execute(self, context: Context) -> set[str]:
        """Clear, and make none anew."""
        context.window_manager.maquette.live = False
        preview.runner.clear(context.scene.maquette.uid)
        return {"FINISHED"}


CLASSES = (MAQUETTE_OT_preview, MAQUETTE_OT_refine, MAQUETTE_OT_stop_preview, MAQUETTE_OT_clear_preview)
KEYS = (
    ("Screen", "EMPTY", MAQUETTE_OT_preview.bl_idname, "F12", {"alt": True}),
    ("Screen", "EMPTY", MAQUETTE_OT_refine.bl_idname, "F12", {"alt": True, "shift": True}),
)


def register() -> None:
    """Draw drafts and strips from now on."""
    draft.drawer.start()
    strip.start()


def unregister() -> None:
    """Undo ``register``."""
    strip.stop()
    draft.drawer.stop()
