"""Where the characters are in a 3D view, as a picture on the GPU: their outline is drawn over the film from it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import bpy
import numpy as np

_VERTEX = "void main() { gl_Position = mvp * vec4(pos, 1.0); }"
_FRAGMENT = "void main() { color = vec4(mark, 0.0, 0.0, 1.0); }"


class Silhouettes:
    """The characters of a scene as they stand, each in a shade of its own."""

    def __init__(self) -> None:
        self._shader: Any = None
        self._offscreen: Any = None
        self._shapes: list[tuple[Any, np.ndarray, float]] = []
        self._drawn: object = None

    def draw(
        self, characters: Iterable[bpy.types.Object], depsgraph: bpy.types.Depsgraph, view: np.ndarray, region, key
    ) -> Any:
        """The texture, of the region's size: red is 0 where there is nobody.

        Args:
            view: (4,4), from the world to the region, -1 to 1.
            key: stays the same for as long as no character has moved or changed.
        """
        import gpu

        if self._offscreen is None or (self._offscreen.width, self._offscreen.height) != (region.width, region.height):
            self._offscreen = gpu.types.GPUOffScreen(region.width, region.height)
        if self._drawn != key:
            self._shapes = [self._shape(obj, depsgraph, index) for index, obj in enumerate(characters)]
            self._drawn = key
        shader = self._program()
        with self._offscreen.bind():
            gpu.state.active_framebuffer_get().clear(color=(0.0, 0.0, 0.0, 0.0), depth=1.0)
            gpu.state.blend_set("NONE")
            gpu.state.depth_test_set("LESS_EQUAL")
            gpu.state.depth_mask_set(True)
            for batch, world, mark in self._shapes:
                shader.bind()
                shader.uniform_float("mvp", _matrix(view @ world))
                shader.uniform_float("mark", mark)
                batch.draw(shader)
            gpu.state.depth_mask_set(False)
            gpu.state.depth_test_set("NONE")
        return self._offscreen.texture_color

    def forget(self) -> None:
        """Let go of everything on the GPU."""
        self._shapes, self._drawn, self._offscreen = [], None, None

    def _shape(
        self, obj: bpy.types.Object, depsgraph: bpy.types.Depsgraph, index: int
    ) -> tuple[Any, np.ndarray, float]:
        from gpu_extras.batch import batch_for_shader

        evaluated = obj.evaluated_get(depsgraph)
        mesh = evaluated.to_mesh()
        try:
            places = np.empty((len(mesh.vertices), 3), dtype=np.float32)
            mesh.vertices.foreach_get("co", places.ravel())
            mesh.calc_loop_triangles()
            triangles = np.empty((len(mesh.loop_triangles), 3), dtype=np.int32)
            mesh.loop_triangles.foreach_get("vertices", triangles.ravel())
        finally:
            evaluated.to_mesh_clear()
        batch = batch_for_shader(self._program(), "TRIS", {"pos": places}, indices=triangles)
        world = np.array(evaluated.matrix_world, dtype=np.float64)
        return batch, world, (index % 15 + 1) / 15

    def _program(self) -> Any:
        if self._shader is None:
            import gpu

            info = gpu.types.GPUShaderCreateInfo()
            info.vertex_in(0, "VEC3", "pos")
            info.push_constant("MAT4", "mvp")
            info.push_constant("FLOAT", "mark")
            info.fragment_out(0, "VEC4", "color")
            info.vertex_source(_VERTEX)
            info.fragment_source(_FRAGMENT)
            self._shader = gpu.shader.create_from_info(info)
        return self._shader


def _matrix(values: np.ndarray):
    from mathutils import Matrix

    return Matrix(values.tolist())
