"""Export the shot."""

from __future__ import annotations

from pathlib import Path

import bpy
from bpy.props import StringProperty
from bpy.types import Operator
from bpy_extras.io_utils import ExportHelper

from ..backend.shot import Shot, ShotError, save_shot
from ..scene.capture.shot import capture_shot
from ..scene.capture.wants import Wants
from ..scene.job import models, shots
from .answers import refused, tell


def capture_at_once(context: bpy.types.Context, notices: list[str], wants: Wants, part: range | None = None) -> Shot:
    """Capture the scene while the window waits and the cursor tells how far it is; see ``capture_shot``."""
    manager = context.window_manager
    manager.progress_begin(0, 100)
    try:
        return capture_shot(
            context,
            on_progress=lambda done, total: manager.progress_update(100 * done // total),
            notices=notices,
            wants=wants,
            part=part,
        )
    finally:
        manager.progress_end()


class MAQUETTE_OT_export_shot(Operator, ExportHelper):
    """Write the characters, the camera and their surroundings to a .shot file that any backend can render"""

    bl_idname = "maquette.export_shot"
    bl_label = "Export Shot"
    bl_options = {"REGISTER"}

    filename_ext = ".shot"
    filter_glob: StringProperty(default="*.shot", options={"HIDDEN"})

    @classmethod
    def poll(cls, context):
        return context.scene is not None

    def execute(self, context):
        notices: list[str] = []
        try:
            wants = shots.wants(context.scene, [models.find(context.scene.maquette.model)])
            shot = capture_at_once(context, notices, wants)
            save_shot(shot, self.filepath)
        except ShotError as error:
            return refused(self, error)
        except OSError as error:
            return refused(
                self, f"'{self.filepath}' cannot be written ({error.strerror or error}); choose another place"
            )
        tell(self, notices, "WARNING")
        self.report(
            {"INFO"},
            f"Written to {Path(self.filepath).name}. Frames: {shot.clip.frames}, characters: {len(shot.characters)}",
        )
        return {"FINISHED"}


def _menu(self, _context):
    self.layout.operator(MAQUETTE_OT_export_shot.bl_idname, text="Maquette Shot (.shot)")


CLASSES = (MAQUETTE_OT_export_shot,)
MENUS = {"TOPBAR_MT_file_export": _menu}
