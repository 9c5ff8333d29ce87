"""Export control films: depth, pose, masks and more of the shot, for any tool that video models are led by."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import bpy
from bpy.props import BoolProperty, EnumProperty, FloatProperty, IntProperty, StringProperty
from bpy.types import Context, Event, Operator
from bpy_extras.io_utils import ExportHelper

from ..backend.catalogue.control import FORMATS, KINDS
from ..backend.shot import ShotError
from ..scene.job import control
from ..scene.job.reports import reason
from .answers import possible, refused, tell
from .shot import capture_at_once

_LABELS = {"mp4": "MP4 Film", "png": "PNG Sequence", "exr": "EXR Sequence, 32-Bit"}
_KINDS = tuple((name, kind.label, kind.description) for name, kind in KINDS.items())
_FORMATS = tuple((name, _LABELS[name], f"{text[0].upper()}{text[1:]}") for name, text in FORMATS.items())


class _Export(ExportHelper):
    """Films that the backend of this computer draws of a capture."""

    filename_ext = ""
    check_extension = None

    if TYPE_CHECKING:
        report: Callable[[set[str], str], None]

    wait: BoolProperty(
        name="Wait",
        description="Return only when all is written, for scripts",
        default=False,
        options={"SKIP_SAVE", "HIDDEN"},
    )

    def _begin(
        self,
        context: Context,
        kinds: list[str],
        target: Path,
        arguments: list[str],
        frames: range | None = None,
        command: str = "control",
    ) -> set[str]:
        """Capture what films of these kinds need, have a command draw them, and with ``wait`` see that through."""
        notices: list[str] = []
        try:
            shot = capture_at_once(context, notices, control.wants(kinds), frames)
            control.start(shot, str(target), arguments, command)
        except (ShotError, OSError) as error:
            return refused(self, reason(error))
        tell(self, notices, "WARNING")
        if not self.wait:
            return {"FINISHED"}
        while control.beside.busy():
            control.beside.poll()
            time.sleep(0.05)
        level, words = control.beside.outcome()
        self.report({level}, words)
        return {"FINISHED"} if level == "INFO" else {"CANCELLED"}


class MAQUETTE_OT_export_control_film(_Export, Operator):
    """Write films of the shot that video models are led by, in ComfyUI for instance: exact, with no estimate"""

    bl_idname = "maquette.export_control_film"
    bl_label = "Export Control Film"
    bl_options = {"REGISTER"}

    filter_glob: StringProperty(default="*.mp4", options={"HIDDEN"})

    kinds: EnumProperty(
        name="Films",
        description="What to draw; several go into a folder",
        items=_KINDS,
        options={"ENUM_FLAG"},
        default={"depth"},
    )
    format: EnumProperty(
        name="Format",
        description="How the films are written",
        items=_FORMATS,
        default="mp4",
    )
    width: IntProperty(name="Width", description="Pixels; 0 goes by the scene", default=0, min=0, max=8192)
    height: IntProperty(name="Height", description="Pixels; 0 goes by the scene", default=0, min=0, max=8192)
    multiple: IntProperty(
        name="Multiple Of",
        description="Both sides become multiples of it: 16 for Wan, 32 for LTX",
        default=2,
        min=2,
        max=128,
    )
    fps: FloatProperty(
        name="Frame Rate",
        description="Resampled over the same time, 16 for Wan; 0 is the scene's",
        default=0.0,
        min=0.0,
        max=240.0,
    )
    depth: EnumProperty(
        name="Depth By",
        description="What the grey of the depth film is linear in",
        items=(
            ("disparity", "Disparity", "1 / distance, as Depth-Anything and MiDaS give it"),
            ("metres", "Metres", "Distance, from the shot's nearest to its farthest spot"),
        ),
    )
    normals: EnumProperty(
        name="Normals",
        description="Which colour is which direction",
        items=(
            ("bae", "Normal BAE", "Red is left, green up, blue to the front: what ControlNet's model knows"),
            ("opengl", "OpenGL", "Red is right, green up, blue to the front"),
        ),
    )
    invert: BoolProperty(
        name="Invert Masks",
        description="White is what is to be made: silhouettes and the known mask with black and white exchanged",
        default=False,
    )

    @classmethod
    def poll(cls, context: Context) -> bool:
        """Only one export at a time."""
        free = possible(cls, not control.beside.busy(), "Control films are being written already")
        return free and context.scene is not None

    def invoke(self, context: Context, event: Event) -> set[str]:
        """Offer a name beside the file."""
        if not self.filepath:
            self.filepath = f"{Path(bpy.data.filepath).stem or 'shot'}_control"
        return super().invoke(context, event)

    def draw(self, context: Context) -> None:
        """The films first, then their form, then what concerns one of them."""
        layout = self.layout
        layout.column(align=True).prop(self, "kinds")
        layout.use_property_split = True
        layout.use_property_decorate = False
        layout.prop(self, "format")
        column = layout.column(align=True)
        column.prop(self, "width")
        column.prop(self, "height")
        column.prop(self, "multiple")
        layout.prop(self, "fps")
        if "depth" in self.kinds and self.format != "exr":
            layout.prop(self, "depth")
        if "normals" in self.kinds and self.format != "exr":
            layout.prop(self, "normals")
        if self.kinds & {"silhouettes", "known"}:
            layout.prop(self, "invert")

    def execute(self, context: Context) -> set[str]:
        """Capture the shot, then have the films drawn in the background."""
        kinds = [name for name in KINDS if name in self.kinds]
        why = self._problem(kinds)
        if why:
            return refused(self, why)
        target = self._target(kinds)
        return self._begin(context, kinds, target, self._arguments(kinds, target))

    def _problem(self, kinds: list[str]) -> str:
        """Why this cannot be exported, or an empty string."""
        if not kinds:
            return "No film is chosen: choose at least one"
        pictures = [KINDS[kind].label for kind in kinds if self.format == "exr" and not KINDS[kind].data]
        if pictures:
            return f"{', '.join(pictures)}: pictures, not quantities; as EXR choose Depth, Normals or Optical Flow"
        if not Path(bpy.path.abspath(self.filepath)).parent.is_dir():
            return f"'{self.filepath}' cannot be written: there is no such folder; choose another place"
        return control.problem()

    def _target(self, kinds: list[str]) -> Path:
        """A film is a file, everything else a folder."""
        path = Path(bpy.path.abspath(self.filepath))
        if self.format == "mp4" and len(kinds) == 1:
            return path.with_name(f"{path.name}.mp4") if path.suffix.lower() != ".mp4" else path
        return path.with_suffix("") if path.suffix.lower() in (".mp4", ".png", ".exr") else path

    def _arguments(self, kinds: list[str], target: Path) -> list[str]:
        """Of ``maquette control``, after the shot."""
        render = bpy.context.scene.render
        aspect = render.resolution_x / render.resolution_y
        size = self.width or round(self.height * aspect), self.height or round(self.width / aspect)
        arguments = [word for kind in kinds for word in ("--kind", kind)]
        arguments += ["--output", str(target), "--format", self.format, "--multiple", str(self.multiple)]
        arguments += ["--size", f"{size[0]}x{size[1]}"] if self.width or self.height else []
        arguments += ["--fps", f"{self.fps:g}"] if self.fps else []
        arguments += ["--depth", self.depth, "--normals", self.normals]
        return arguments + (["--invert"] if self.invert else [])


class MAQUETTE_OT_export_matte(_Export, Operator):
    """Write the chosen video with the exact outline of its characters as alpha, to composite the figures"""

    bl_idname = "maquette.export_matte"
    bl_label = "Export Matte"
    bl_options = {"REGISTER"}

    filter_glob: StringProperty(default="*.mov", options={"HIDDEN"})

    format: EnumProperty(
        name="Format",
        description="How the film with its alpha is written",
        items=(
            ("mov", "ProRes 4444", "One film with alpha, for compositors and editors"),
            ("png", "PNG Sequence", "A folder of 8-bit PNG files with alpha"),
        ),
    )

    @classmethod
    def poll(cls, context: Context) -> bool:
        """A video is chosen, and nothing else is being written."""
        free = possible(cls, not control.beside.busy(), "Films are being written already")
        shot = None if context.scene is None else context.scene.maquette
        return free and shot is not None and 0 <= shot.active_result < len(shot.results)

    def invoke(self, context: Context, event: Event) -> set[str]:
        """Offer a name beside the video."""
        if not self.filepath:
            shot = context.scene.maquette
            film = Path(bpy.path.abspath(shot.results[shot.active_result].filepath))
            self.filepath = str(film.with_name(f"{film.stem}_matte.mov"))
        return super().invoke(context, event)

    def check(self, context: Context) -> bool:
        """The name's ending follows the format."""
        wanted = self._named()
        changed, self.filepath = self.filepath != wanted, wanted
        return changed

    def _named(self) -> str:
        plain = self.filepath[:-4] if self.filepath.lower().endswith(".mov") else self.filepath
        return f"{plain}.mov" if self.format == "mov" else plain

    def execute(self, context: Context) -> set[str]:
        """Capture the bodies on the video's frames, then have it drawn in the background."""
        item = context.scene.maquette.results[context.scene.maquette.active_result]
        film, target = Path(bpy.path.abspath(item.filepath)), Path(bpy.path.abspath(self._named()))
        frames = range(item.frame_start, item.frame_start + item.frame_count * item.frame_step, item.frame_step)
        why = control.problem()
        if not film.is_file():
            why = f"'{film}' is not there any more: choose another video of the list"
        elif not target.parent.is_dir():
            why = f"'{target}' cannot be written: there is no such folder; choose another place"
        if why:
            return refused(self, why)
        return self._begin(context, ["silhouettes"], target, [str(film), "--output", str(target)], frames, "matte")


class MAQUETTE_OT_cancel_control_film(Operator):
    """Stop writing control films; those that are finished stay"""

    bl_idname = "maquette.cancel_control_film"
    bl_label = "Cancel Control Films"
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        """Only while there are any."""
        return control.beside.busy()

    def execute(self, context: Context) -> set[str]:
        """Stop; the next look at the process tells."""
        control.beside.cancel()
        return {"FINISHED"}


def _menu(self, _context: Context) -> None:
    self.layout.operator(MAQUETTE_OT_export_control_film.bl_idname, text="Maquette Control Film (.mp4, .png, .exr)")


CLASSES = (MAQUETTE_OT_export_control_film, MAQUETTE_OT_export_matte, MAQUETTE_OT_cancel_control_film)
MENUS = {"TOPBAR_MT_file_export": _menu}
