"""The film laid over the camera's frame in 3D views: never rendered, in every shading, without any object."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from ..camera.timeline import camera_spans
from .bones import draw_bones
from .colour import LINEAR
from .frame import Rectangle, film_frame, frame_corners, frame_rectangle, is_drawn
from .outline import Silhouettes
from .playback import film_rate
from .player import Player
from .previews import reel_of, reels

_VERTEX = """
void main()
{
  place = at;
  gl_Position = vec4(pos, 0.0, 1.0);
}
"""
_FRAGMENT = (
    LINEAR
    + """
float edge(vec2 seat)
{
  float own = texture(bodies, seat).r;
  float found = 0.0;
  for (int i = -1; i <= 1; i++) {
    for (int j = -1; j <= 1; j++) {
      found += abs(texture(bodies, seat + vec2(float(i), float(j)) * texel).r - own) > 0.02 ? 1.0 : 0.0;
    }
  }
  return min(found / 3.0, 1.0);
}

void main()
{
  vec4 c = vec4(texture(film, place).rgb, place.x <= wipe ? opacity : 0.0);
  if (wipe > 0.0 && wipe < 1.0 && abs(place.x - wipe) < line) {
    c = vec4(1.0);
  }
  float on = outline.a > 0.0 ? edge(corner + place * extent) * outline.a : 0.0;
  float covered = on + c.a * (1.0 - on);
  vec3 mixed = linear(outline.rgb) * on + linear(c.rgb) * c.a * (1.0 - on);
  // Blender lays its overlays over the view in linear light, each times its alpha.
  color = vec4(mixed, covered);
}
"""
)
_OUTLINE = (1.0, 0.65, 0.1, 0.9)
_LINE = 0.75
"""Half the wipe's edge, in pixels."""


@dataclass(frozen=True)
class Showing:
    """What is to be drawn at a frame.

    Attributes:
        path: the film's file.
        frame: of the film, from 0.
        cameras: whose frames the film may lie over.
        preview: whether it is a preview and no result.
    """

    path: Path
    frame: int
    cameras: tuple[bpy.types.Object, ...]
    preview: bool = False


class Overlay:
    """Draws the chosen result, or the previews.

    Attributes:
        held: a key hides the film for as long as it is held down.
        revision: changes with the scene.
    """

    def __init__(self) -> None:
        self.held = False
        self._players: dict[Path, Player] = {}
        self._bodies = Silhouettes()
        self.revision = 0
        self._shader: Any = None
        self._handles: list[Any] = []
        self._asked = False

    # -- its life ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Draw from now on; where there is no window nothing is ever drawn."""
        if bpy.app.background or self._handles:
            return
        # Under gizmos and text where Blender draws its own overlays, else last of all.
        for when, overlays in (("POST_VIEW", True), ("POST_PIXEL", False)):
            add = bpy.types.SpaceView3D.draw_handler_add
            self._handles.append((add(self._draw, (overlays,), "WINDOW", when), "WINDOW"))

    def stop(self) -> None:
        """Draw no more, and leave nothing behind."""
        while self._handles:
            bpy.types.SpaceView3D.draw_handler_remove(*self._handles.pop())
        if bpy.app.timers.is_registered(self._open):
            bpy.app.timers.unregister(self._open)
        self._asked = False
        self._bodies.forget()
        self._close(self._players.copy())

    def changed(self) -> None:
        """The scene has changed or moved to another frame: outlines are made anew."""
        self.revision += 1

    def forget(self) -> None:
        """Another file, an undo, or a film written anew: all textures are made again."""
        self.changed()
        for player in self._players.values():
            player.forget()

    def expect(self) -> None:
        """A film has come that will be shown: have it open by then."""
        if self._handles:
            self._ask()

    def shows(self, scene: bpy.types.Scene) -> bool:
        """Whether the film of the scene's frame is open, so that views show it."""
        shown = showing(scene)
        player = self._players.get(shown.path) if shown is not None else None
        return player is not None and shown is not None and player.is_open(shown.path)

    # -- drawing -------------------------------------------------------------------------------------------------

    def _draw(self, overlays: bool) -> None:
        """Blender's call in every 3D view; an error here would be repeated at each redraw."""
        context = bpy.context
        space, view = context.space_data, context.region_data
        if self.held or space is None or view is None or view.view_perspective != "CAMERA":
            return
        if bool(space.overlay.show_overlays) != overlays:
            return
        scene = context.scene
        shown = showing(scene)
        camera = space.camera if space.use_local_camera else scene.camera
        if shown is None or camera not in shown.cameras or camera.type != "CAMERA":
            return
        player = self._players.get(shown.path)
        if player is None or not player.is_open(shown.path):
            self._ask()
            return
        depsgraph = context.view_layer.depsgraph
        frame = camera_rectangle(context, camera)
        texture = player.texture(shown.frame) if frame is not None else None
        if frame is not None and texture is not None:
            self._lay(context, shown, frame, texture, depsgraph)
            draw_bones(context)

    def _lay(self, context: bpy.types.Context, shown: Showing, frame: Rectangle, texture: Any, depsgraph: Any) -> None:
        import gpu
        from gpu_extras.batch import batch_for_shader

        region, shot = context.region, context.scene.maquette
        alone = shown.preview or shot.show_as == "OVERLAY"
        bodies, outline = texture, (0.0, 0.0, 0.0, 0.0)
        if alone and shot.overlay_outline and depsgraph is not None:
            characters = [
                obj
                for obj in context.scene.objects
                if obj.type == "MESH" and obj.maquette.is_character and obj.visible_get(view_layer=context.view_layer)
            ]
            if characters:
                key = (self.revision, context.scene.frame_current_final, tuple(obj.name_full for obj in characters))
                matrix = np.array(context.region_data.perspective_matrix, dtype=np.float64)
                bodies, outline = self._bodies.draw(characters, depsgraph, matrix, region, key), _OUTLINE
        size = np.array((region.width, region.height), dtype=np.float64)
        low, high = np.array((frame.left, frame.bottom)), np.array((frame.right, frame.top))
        (x0, y0), (x1, y1) = low / size * 2 - 1, high / size * 2 - 1
        shader = self._program()
        at = {"pos": [(x0, y0), (x1, y0), (x1, y1), (x0, y1)], "at": [(0, 0), (1, 0), (1, 1), (0, 1)]}
        batch = batch_for_shader(shader, "TRI_FAN", at)
        depth, blend = gpu.state.depth_test_get(), gpu.state.blend_get()
        gpu.state.depth_test_set("NONE")
        gpu.state.blend_set("ALPHA_PREMULT")
        shader.bind()
        shader.uniform_sampler("film", texture)
        shader.uniform_sampler("bodies", bodies)
        shader.uniform_float("outline", outline)
        shader.uniform_float("corner", low / size)
        shader.uniform_float("extent", (high - low) / size)
        shader.uniform_float("texel", 1 / size)
        shader.uniform_float("opacity", shot.overlay_opacity if alone else 1.0)
        shader.uniform_float("wipe", shot.overlay_wipe if alone else 1.0)
        shader.uniform_float("line", _LINE / (frame.right - frame.left))
        batch.draw(shader)
        gpu.state.blend_set(blend)
        gpu.state.depth_test_set(depth)

    def _program(self) -> Any:
        if self._shader is None:
            import gpu

            info = gpu.types.GPUShaderCreateInfo()
            passed = gpu.types.GPUStageInterfaceInfo("maquette_overlay")
            passed.smooth("VEC2", "place")
            info.vertex_in(0, "VEC2", "pos")
            info.vertex_in(1, "VEC2", "at")
            info.vertex_out(passed)
            info.sampler(0, "FLOAT_2D", "film")
            info.sampler(1, "FLOAT_2D", "bodies")
            for kind, names in (("VEC4", ["outline"]), ("VEC2", ["corner", "extent", "texel"])):
                for name in names:
                    info.push_constant(kind, name)
            for name in ("opacity", "wipe", "line"):
                info.push_constant("FLOAT", name)
            info.fragment_out(0, "VEC4", "color")
            info.vertex_source(_VERTEX)
            info.fragment_source(_FRAGMENT)
            self._shader = gpu.shader.create_from_info(info)
        return self._shader

    # -- the film ------------------------------------------------------------------------------------------------

    def _ask(self) -> None:
        """Have the film opened outside of drawing."""
        if not self._asked:
            self._asked = True
            bpy.app.timers.register(self._open, first_interval=0.0)

    def _open(self) -> None:
        self._asked = False
        shown = showing(bpy.context.scene)
        previews = {clip.path for reel in reels.values() for clip in reel.clips}
        wanted = previews | ({shown.path} if shown is not None else set())
        self._close([path for path in self._players if path not in wanted])
        for path in wanted:
            self._players.setdefault(path, Player()).open(path)
        redraw()

    def _close(self, paths: Iterable[Path]) -> None:
        for path in list(paths):
            self._players.pop(path).close()


def showing(scene: bpy.types.Scene) -> Showing | None:
    """What is to be seen at the scene's current frame: a preview, else what its switch and list of results say.

    A preview that does not hold any more gives way to the scene.
    """
    shot = scene.maquette
    reel = reel_of(shot.uid)
    found = reel.at(scene.frame_current) if reel is not None else None
    if found is not None:
        clip, index = found
        if not clip.current[index]:
            return None
        cameras = camera_spans(scene, clip.frames[0], clip.frames[-1])
        return Showing(clip.path, index, tuple(cameras), preview=True)
    if reel is not None and reel.draft is not None:
        return None
    if shot.beside or not is_drawn(shot.show_as, shot.plane_place):
        return None
    if not 0 <= shot.active_result < len(shot.results):
        return None
    record = shot.results[shot.active_result]
    if record.frame_count < 1 or record.fps <= 0:
        return None
    rate = film_rate(record.fps, scene.render.fps / scene.render.fps_base, max(record.frame_step, 1))
    index = film_frame(scene.frame_current_final, record.frame_start, rate, record.frame_count)
    if index is None:
        return None
    last = record.frame_start + round(record.frame_count / rate) - 1
    cameras = camera_spans(scene, record.frame_start, last, record.camera)
    return Showing(Path(bpy.path.abspath(record.filepath)), index, tuple(cameras))


def camera_rectangle(context: bpy.types.Context, camera: bpy.types.Object) -> Rectangle | None:
    """Where a 3D view that looks through a camera shows its frame."""
    depsgraph, region = context.view_layer.depsgraph, context.region
    lens = camera.evaluated_get(depsgraph).data if depsgraph is not None else camera.data
    corners = frame_corners(np.array(lens.view_frame(scene=context.scene)))
    return frame_rectangle(np.array(context.region_data.window_matrix), corners, region.width, region.height)


def redraw() -> None:
    """Draw all 3D views again."""
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
                area.tag_redraw()


overlay = Overlay()
