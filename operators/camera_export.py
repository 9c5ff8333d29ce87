"""Export the camera."""

from __future__ import annotations

from pathlib import Path

import bpy
from bpy.props import EnumProperty, StringProperty
from bpy.types import Operator
from bpy_extras.io_utils import ExportHelper

from ..backend.shot import ShotError
from ..scene.camera.export import export_camera
from .answers import refused, tell
from .camera import has_camera

_ENDINGS = {"JSON": ".json", "COLMAP": "", "ALEMBIC": ".abc", "FBX": ".fbx"}


class MAQUETTE_OT_export_camera(Operator, ExportHelper):
    """Write the shot's camera, frame by frame, for other programs"""

    bl_idname = "maquette.export_camera"
    bl_label = "Export Camera"
    bl_options = {"REGISTER"}

    kind: EnumProperty(
        name="Format",
        description="What to write",
        items=(
            ("JSON", "JSON", "OpenCV's camera and world-to-camera matrices of each frame"),
            ("COLMAP", "COLMAP", "A folder with cameras.txt, images.txt and points3D.txt"),
            ("ALEMBIC", "Alembic", "One keyed camera, for Maya, Houdini, Nuke, Cinema 4D or Blender"),
            ("FBX", "FBX", "One keyed camera, for game engines and Maya"),
        ),
        default="JSON",
    )
    filename_ext = ""
    filepath: StringProperty(name="File", description="File or folder to write", subtype="FILE_PATH")

    @classmethod
    def poll(cls, context):
        return has_camera(cls, context)

    def check(self, _context):
        old = self.filepath
        path = Path(old)
        if path.suffix.lower() in _ENDINGS.values():
            path = path.with_suffix("")
        self.filepath = f"{path}{_ENDINGS[self.kind]}" if old else old
        return self.filepath != old

    def execute(self, context):
        path = Path(bpy.path.abspath(self.filepath))
        if not path.name:
            return refused(self, "No file is named; give one")
        if path.suffix.lower() != _ENDINGS[self.kind]:
            path = path.with_name(f"{path.name}{_ENDINGS[self.kind]}")
        try:
            notes = export_camera(context.scene, path, self.kind)
        except ShotError as error:
            return refused(self, error)
        except (OSError, RuntimeError) as error:
            why = getattr(error, "strerror", None) or error
            return refused(self, f"'{path}' cannot be written ({why}); choose another place")
        tell(self, notes, "WARNING")
        self.report({"INFO"}, f"Camera written to {path}")
        return {"FINISHED"}


def _menu(self, _context):
    self.layout.operator(MAQUETTE_OT_export_camera.bl_idname, text="Maquette Camera (.json/.abc/.fbx, COLMAP)")


CLASSES = (MAQUETTE_OT_export_camera,)
MENUS = {"TOPBAR_MT_file_export": _menu}
