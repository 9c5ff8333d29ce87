"""Bring a finished video back into the scene."""

from __future__ import annotations

from pathlib import Path

import bpy
from bpy.props import BoolProperty, EnumProperty, FloatProperty, IntProperty, StringProperty
from bpy.types import Operator
from bpy_extras.io_utils import ImportHelper

from ..backend.shot import ShotError
from ..scene.capture.media import probe_film, resolve
from ..scene.screen import switch
from ..scene.screen.grid import show_side_by_side
from ..scene.screen.overlay import overlay, redraw, showing
from ..scene.screen.previews import reel_of
from ..scene.screen.show import load_result, record_of
from .answers import possible, refused, refusing, tell

_RELATIVE = {"PATH_SUPPORTS_BLEND_RELATIVE"} if bpy.app.version >= (4, 5, 0) else set()


class MAQUETTE_OT_load_result(Operator, ImportHelper):
    """Show a finished video in the scene, on the frames of its shot"""

    bl_idname = "maquette.load_result"
    bl_label = "Load Result"
    bl_options = {"REGISTER", "UNDO"}

    filename_ext = ".mp4"
    filepath: StringProperty(
        name="Video",
        description="File of the video; the active entry of the list of results when empty",
        subtype="FILE_PATH",
        options=_RELATIVE | {"SKIP_SAVE"},
    )
    filter_glob: StringProperty(default="*.mp4;*.mov;*.mkv;*.webm", options={"HIDDEN"})
    job: StringProperty(name="Job", description="Id of the job that made the video", options={"SKIP_SAVE"})
    mode: EnumProperty(
        name="Show As",
        description="How the video appears",
        items=(
            ("OVERLAY", "Overlay", "Over the camera's frame in 3D views, in every shading; never rendered"),
            ("PLANE", "Plane", "A plane that fills the camera's view and plays the video"),
            ("BACKGROUND", "Camera Background", "The camera's background image in the viewport"),
            ("STRIP", "Strip", "A strip in the video sequencer"),
            ("ALL", "All", "Plane, camera background and strip; the strip is muted, so that rendering shows the scene"),
        ),
        default="PLANE",
    )
    frame_start: IntProperty(
        name="First Frame",
        description="Scene frame of the video's first frame; that of its shot when not given",
        options={"SKIP_SAVE"},
    )
    frame_step: IntProperty(
        name="Frame Step",
        description="Scene frames from one frame of the video to the next; that of its shot when not given",
        min=1,
        default=1,
        options={"SKIP_SAVE"},
    )
    placement: EnumProperty(
        name="Place",
        description="Where the plane stands",
        items=(
            ("FRONT", "In Front", "Right before the camera: nothing hides the video"),
            ("CHARACTERS", "At the Characters", "As far away as the characters on average"),
            ("BEHIND", "Behind the Characters", "Farther away than any character in the shot"),
            ("DEPTH", "At a Depth", "At a distance of your own"),
        ),
        default="FRONT",
    )
    depth: FloatProperty(
        name="Depth", description="Distance of the plane from the camera", default=5.0, min=0.001, subtype="DISTANCE"
    )
    replace: BoolProperty(
        name="Replace", description="Take away videos that were loaded in the same way before", default=True
    )

    def invoke(self, context, event):
        """Load the active result, or ask for a file when there is none."""
        shot = context.scene.maquette
        if self.filepath or 0 <= shot.active_result < len(shot.results):
            return self.execute(context)
        return ImportHelper.invoke(self, context, event)

    def execute(self, context):
        scene = context.scene
        known = len(scene.maquette.results)
        try:
            record = self._record(scene)
            given = self.properties.is_property_set
            if given("frame_start"):
                record.frame_start = self.frame_start
            if given("frame_step"):
                record.frame_step = self.frame_step
            notices = load_result(
                scene, record, self.mode, placement=self.placement, depth=self.depth, replace=self.replace
            )
        except ShotError as error:
            while len(scene.maquette.results) > known:
                scene.maquette.results.remove(known)
            return refused(self, error)
        tell(self, notices, "WARNING")
        with switch.standing_still():
            scene.maquette.active_result = next(i for i, r in enumerate(scene.maquette.results) if r == record)
            if self.mode != "ALL":
                scene.maquette.show_as = self.mode
        context.view_layer.update()
        return {"FINISHED"}

    def _record(self, scene):
        shot = scene.maquette
        if self.filepath:
            film = probe_film(resolve(self.filepath, "video", "video"), "video")
            return record_of(scene, Path(film.path), self.job)
        for record in shot.results:
            if self.job and record.job == self.job:
                return record
        if not self.job and 0 <= shot.active_result < len(shot.results):
            return shot.results[shot.active_result]
        raise ShotError("video", f"no video of job '{self.job}' is in the list" if self.job else "no video is chosen")


class MAQUETTE_OT_unload_results(Operator):
    """Take all loaded videos out of the scene; the files and the list of results stay"""

    bl_idname = "maquette.unload_results"
    bl_label = "Unload Results"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context):
        switch.set_way(context.scene, "OFF")
        switch.take_away(context.scene)
        return {"FINISHED"}


def beside(shot: bpy.types.PropertyGroup) -> list[bpy.types.PropertyGroup]:
    """The results that belong side by side: those that are ticked, else those of the active one's comparison."""
    picked = [record for record in shot.results if record.picked]
    if len(picked) > 1 or not 0 <= shot.active_result < len(shot.results):
        return picked
    comparison = shot.results[shot.active_result].comparison
    return [record for record in shot.results if comparison and record.comparison == comparison]


class MAQUETTE_OT_show_side_by_side(Operator):
    """Show the videos of this comparison, or those that are ticked in the list, beside each other and in step"""

    bl_idname = "maquette.show_side_by_side"
    bl_label = "Show Side by Side"
    bl_options = {"REGISTER", "UNDO"}

    mode: EnumProperty(
        name="Show As",
        description="How the videos appear",
        items=(
            ("PLANE", "Planes", "Planes that share the camera's view"),
            ("STRIP", "Strips", "Strips in the video sequencer that share the picture"),
        ),
        default="PLANE",
    )

    @classmethod
    def poll(cls, context):
        several = len(beside(context.scene.maquette)) > 1
        return possible(cls, several, "Tick two or more videos in the list, or choose one of a comparison")

    @refusing(ShotError)
    def execute(self, context):
        tell(self, show_side_by_side(context.scene, beside(context.scene.maquette), self.mode), "WARNING")
        context.view_layer.update()
        return {"FINISHED"}


class MAQUETTE_OT_show_scene(Operator):
    """See the scene without the video for as long as the key is held down"""

    bl_idname = "maquette.show_scene"
    bl_label = "Hold to See the Scene"
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, context):
        reel = reel_of(context.scene.maquette.uid)
        return showing(context.scene) is not None or (reel is not None and reel.draft is not None)

    def invoke(self, context, event):
        """Hide the film until the key comes up."""
        if event.value != "PRESS":
            return {"PASS_THROUGH"}
        self._key = event.type
        overlay.held = True
        redraw()
        context.window_manager.modal_handler_add(self)
        return {"RUNNING_MODAL"}

    def modal(self, context, event):
        """Everything but the key goes on as ever."""
        if event.type == "WINDOW_DEACTIVATE" or (event.type == self._key and event.value == "RELEASE"):
            self.cancel(context)
            return {"FINISHED"}
        return {"RUNNING_MODAL"} if event.type == self._key else {"PASS_THROUGH"}

    def cancel(self, context):
        """Also where Blender ends it."""
        overlay.held = False
        redraw()


CLASSES = (
    MAQUETTE_OT_load_result,
    MAQUETTE_OT_show_side_by_side,
    MAQUETTE_OT_unload_results,
    MAQUETTE_OT_show_scene,
)
KEYS = (("3D View", "VIEW_3D", MAQUETTE_OT_show_scene.bl_idname, "J", {}),)


def register() -> None:
    """Draw films from now on."""
    overlay.start()


def unregister() -> None:
    """Undo ``register``."""
    overlay.stop()
