"""Give the file's shots to a render farm."""

from __future__ import annotations

from pathlib import Path

import bpy
from bpy.props import EnumProperty, IntProperty, StringProperty
from bpy.types import Context, Event, Operator

from ..scene.job import farm
from ..scene.job.reports import reason
from .answers import possible, refused


class MAQUETTE_OT_submit_to_farm(Operator):
    """Write a folder that a render farm takes: it captures every shot of this file, scenes and markers' cameras, and \
makes their videos"""

    bl_idname = "maquette.submit_to_farm"
    bl_label = "Submit to Farm"
    bl_options = {"REGISTER"}

    directory: StringProperty(name="Folder", description="Where the job bundle goes", subtype="DIR_PATH")
    flavour: EnumProperty(
        name="Farm",
        description="What takes the job",
        items=(
            ("flamenco", "Flamenco", "A job type in JavaScript, and the job for Flamenco Manager"),
            ("openjd", "Deadline Cloud", "An Open Job Description, which openjd runs on this computer too"),
        ),
    )
    gpus: IntProperty(
        name="GPUs per Task",
        description="So many GPUs of a machine make each video together, sooner; drafts need none",
        default=1,
        min=1,
        max=16,
    )
    chunk: IntProperty(
        name="Frames per Draft Task",
        description="Longer drafts are shared out to several tasks; 0: none is. A model's video is one task, for "
        "each of its frames depends on the whole shot",
        default=farm.CHUNK,
        min=0,
        soft_max=1000,
    )

    @classmethod
    def poll(cls, context: Context) -> bool:
        """Only of a file that the farm can open."""
        return possible(cls, bpy.data.filepath, "Save the file first: the farm opens it")

    def invoke(self, context: Context, event: Event) -> set[str]:
        """Choose the folder."""
        if not self.directory:
            path = Path(bpy.data.filepath)
            self.directory = str(path.with_name(f"{path.stem}_farm"))
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def draw(self, context: Context) -> None:
        """The farm, and how its machines share the work out."""
        for name in ("flavour", "gpus", "chunk"):
            self.layout.prop(self, name)

    def execute(self, context: Context) -> set[str]:
        """Write the bundle."""
        dirty = bpy.data.is_dirty
        try:
            count, told = farm.submit(self.flavour, Path(bpy.path.abspath(self.directory)), self.gpus, self.chunk)
        except Exception as error:
            return refused(self, reason(error))
        print(f"Maquette: {told}")
        if dirty:
            self.report({"WARNING"}, "The file has changes that the farm will not see: save it before it is submitted")
        self.report({"INFO"}, f"{count} videos. {told}")
        return {"FINISHED"}


def _menu(self, _context):
    self.layout.operator(MAQUETTE_OT_submit_to_farm.bl_idname, text="Maquette Job for a Render Farm")


CLASSES = (MAQUETTE_OT_submit_to_farm,)
MENUS = {"TOPBAR_MT_file_export": _menu}
