"""The carried film drawn by Blender's own GPU: each character's pictures laid onto its mesh as it stands."""

from __future__ import annotations

from typing import Any

import bpy
import numpy as np

from .bones import draw_bones
from .carry import Dress
from .colour import LINEAR
from .overlay import camera_rectangle, overlay
from .previews import reel_of

_VERTEX = """
void main()
{
  spot = place;
  weight = share;
  base = plain;
  gl_Position = mvp * vec4(pos, 1.0);
  // Before the very surface that the view has drawn already.
  gl_Position.z -= 2e-4 * gl_Position.w;
}
"""
_FRAGMENT = (
    LINEAR
    + """
void main()
{
  if (gl_FragCoord.x > edge) {
    discard;
  }
  if (kept < 1.0) {
    color = vec4(kept);
  }
  else if (plainly > 0.5) {
    vec3 c = base.rgb;
    float stripe = mod(gl_FragCoord.x + gl_FragCoord.y, 8.0) < 2.0 ? 1.0 : 0.0;
    color = vec4(linear(mix(c, mark, 0.3 * stripe * step(0.5, base.a))), 1.0);
  }
  else {
    vec4 c = texture(picture, spot);
    color = vec4(linear(c.rgb / max(c.a, 0.01)), 1.0) * weight * step(0.01, c.a);
  }
}
"""
)
_MARK = (0.15, 0.35, 0.9)
"""Colour of the stripes over what no picture shows."""


class DraftDrawer:
    """Draws the drafts of the scenes that views show."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._shader: Any = None
        self._textures: dict[int, tuple[Any, Any]] = {}
        self._shapes: dict[str, tuple[object, Any, Any]] = {}
        self._still: dict[str, _Still] = {}

    def start(self) -> None:
        """Draw from now on, where there is a window."""
        if not bpy.app.background and self._handle is None:
            self._handle = bpy.types.SpaceView3D.draw_handler_add(self._draw, (), "WINDOW", "POST_VIEW")

    def stop(self) -> None:
        """Draw no more, and leave nothing behind."""
        if self._handle is not None:
            bpy.types.SpaceView3D.draw_handler_remove(self._handle, "WINDOW")
            self._handle = None
        self.forget()

    def forget(self) -> None:
        """Other looks, another file or an undo: all is made again."""
        self._textures.clear()
        self._shapes.clear()
        self._still.clear()

    def _draw(self) -> None:
        context = bpy.context
        scene, space, view = context.scene, context.space_data, context.region_data
        reel = reel_of(scene.maquette.uid)
        if reel is None or reel.draft is None or overlay.held:
            return
        if space is None or view is None or view.view_perspective != "CAMERA" or not space.overlay.show_overlays:
            return
        if overlay.shows(scene):
            return
        depsgraph = context.view_layer.depsgraph
        if depsgraph is None:
            return
        import gpu

        depth, blend = gpu.state.depth_test_get(), gpu.state.blend_get()
        gpu.state.depth_test_set("LESS_EQUAL")
        gpu.state.depth_mask_set(True)
        edge, kept = self._edge(context), scene.maquette.overlay_opacity
        for dress in reel.draft.dressed:
            obj = scene.objects.get(dress.character)
            if obj is not None and obj.visible_get(view_layer=context.view_layer):
                self._draw_one(obj, dress, depsgraph, view.perspective_matrix, edge, kept)
        gpu.state.depth_mask_set(False)
        gpu.state.blend_set(blend)
        gpu.state.depth_test_set(depth)
        draw_bones(context)

    def _draw_one(
        self, obj: bpy.types.Object, dress: Dress, depsgraph: Any, perspective: Any, edge: float, kept: float
    ) -> None:
        import gpu

        key = (overlay.revision, depsgraph.scene.frame_current_final, id(dress))
        shape = self._shapes.get(dress.character)
        if shape is None or shape[0] != key:
            made = self._shape(obj, dress, depsgraph)
            if made is None:
                return
            shape = self._shapes[dress.character] = (key, *made)
        _, world, batches = shape
        shader = self._program()
        # What was laid over the view counts in part at last.
        passes = [*enumerate(batches), (len(batches), batches[0])] if kept < 1 else [*enumerate(batches)]
        for number, batch in passes:
            last = number == len(batches)
            shader.bind()
            shader.uniform_float("edge", edge)
            shader.uniform_float("kept", kept if last else 1.0)
            shader.uniform_float("mvp", perspective @ world)
            shader.uniform_float("mark", _MARK)
            shader.uniform_float("plainly", 1.0 if number == 0 else 0.0)
            shader.uniform_sampler("picture", self._texture(dress, max(number - 1, 0)))
            gpu.state.blend_set("MULTIPLY" if last else "NONE" if number == 0 else "ALPHA_PREMULT")
            batch.draw(shader)

    def _edge(self, context: bpy.types.Context) -> float:
        """Up to which column of the region's pixels the wipe lets the draft show."""
        wipe = context.scene.maquette.overlay_wipe
        camera = context.space_data.camera if context.space_data.use_local_camera else context.scene.camera
        frame = camera_rectangle(context, camera) if wipe < 1 and camera is not None else None
        return 1e6 if frame is None else frame.left + wipe * (frame.right - frame.left)

    def _shape(self, obj: bpy.types.Object, dress: Dress, depsgraph: Any) -> tuple[Any, list[Any]] | None:
        """The world matrix and a batch for each pass; None for a mesh with other vertices than the looks have."""
        import gpu

        evaluated = obj.evaluated_get(depsgraph)
        mesh = evaluated.to_mesh()
        try:
            if mesh is None or len(mesh.vertices) != len(dress.plain):
                return None
            still = self._still.get(dress.character)
            if still is None or still.dress is not dress or still.corners != len(mesh.loops):
                still = self._still[dress.character] = _Still(dress, mesh)
            flat = np.empty(3 * len(mesh.vertices), dtype=np.float32)
            mesh.attributes["position"].data.foreach_get("vector", flat)
        finally:
            evaluated.to_mesh_clear()
        places = _buffer({"pos": flat.reshape(-1, 3)})
        batches = []
        for each in still.passes:
            batch = gpu.types.GPUBatch(type="TRIS", buf=places, elem=still.triangles)
            batch.vertbuf_add(each)
            batches.append(batch)
        return evaluated.matrix_world.copy(), batches

    def _texture(self, dress: Dress, number: int) -> Any:
        import gpu

        if number >= len(dress.pictures):
            pixels = np.ones((1, 1, 4), dtype=np.float32)
        else:
            pixels = dress.pictures[number].pixels
            kept = self._textures.get(id(pixels))
            if kept is not None and kept[0] is pixels:
                return kept[1]
        rows, columns = pixels.shape[:2]
        buffer = gpu.types.Buffer("FLOAT", rows * columns * 4, pixels.reshape(-1))
        texture = gpu.types.GPUTexture((columns, rows), format="RGBA8", data=buffer)
        self._textures[id(pixels)] = (pixels, texture)
        return texture

    def _program(self) -> Any:
        if self._shader is None:
            import gpu

            info = gpu.types.GPUShaderCreateInfo()
            passed = gpu.types.GPUStageInterfaceInfo("maquette_draft")
            passed.smooth("VEC2", "spot")
            passed.smooth("FLOAT", "weight")
            passed.smooth("VEC4", "base")
            for slot, (kind, name) in enumerate(
                (("VEC3", "pos"), ("VEC2", "place"), ("FLOAT", "share"), ("VEC4", "plain"))
            ):
                info.vertex_in(slot, kind, name)
            info.vertex_out(passed)
            info.sampler(0, "FLOAT_2D", "picture")
            info.push_constant("MAT4", "mvp")
            info.push_constant("VEC3", "mark")
            for name in ("plainly", "edge", "kept"):
                info.push_constant("FLOAT", name)
            info.fragment_out(0, "VEC4", "color")
            info.vertex_source(_VERTEX)
            info.fragment_source(_FRAGMENT)
            self._shader = gpu.shader.create_from_info(info)
        return self._shader


class _Still:
    """What stays on the GPU while a character moves: its triangles, and the looks of every pass."""

    def __init__(self, dress: Dress, mesh: bpy.types.Mesh) -> None:
        import gpu

        self.dress, self.corners = dress, len(mesh.loops)
        mesh.calc_loop_triangles()
        corners = np.empty(3 * len(mesh.loop_triangles), dtype=np.int32)
        mesh.loop_triangles.foreach_get("vertices", corners)
        self.triangles = gpu.types.GPUIndexBuf(type="TRIS", seq=corners.reshape(-1, 3))
        count = len(dress.plain)
        passes = [(np.zeros((count, 2), dtype=np.float32), np.ones(count, dtype=np.float32))]
        passes += [(picture.places, picture.share) for picture in dress.pictures]
        self.passes = [
            _buffer({"place": place, "share": share.reshape(-1, 1), "plain": dress.plain}) for place, share in passes
        ]


def _buffer(values: dict[str, np.ndarray]) -> Any:
    """Some of a shader's attributes on the GPU, each (V,K) float32."""
    import gpu

    form = gpu.types.GPUVertFormat()
    for name, value in values.items():
        form.attr_add(id=name, comp_type="F32", len=value.shape[1], fetch_mode="FLOAT")
    made = gpu.types.GPUVertBuf(form, len(next(iter(values.values()))))
    for name, value in values.items():
        made.attr_fill(id=name, data=np.ascontiguousarray(value))
    return made


drawer = DraftDrawer()
