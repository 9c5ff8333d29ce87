"""The bones at hand, drawn again over a preview or film that would hide them from the animator who poses them."""

from __future__ import annotations

from typing import Any

import bpy
import numpy as np
from bpy.types import Context

_WIDTH = 4.0
"""Of the lines, in pixels at the interface's scale 1."""


def draw_bones(context: Context) -> None:
    """Draw the armatures in Pose Mode as lines, where the view shows bones at all; for the end of ``POST_VIEW``."""
    shown = context.space_data.overlay
    if not (shown.show_overlays and shown.show_bones):
        return
    places, colors = bone_lines(context)
    if not len(places):
        return
    import gpu
    from gpu_extras.batch import batch_for_shader

    shader = gpu.shader.from_builtin("POLYLINE_SMOOTH_COLOR")
    batch = batch_for_shader(shader, "LINES", {"pos": places, "color": colors})
    depth, blend = gpu.state.depth_test_get(), gpu.state.blend_get()
    gpu.state.depth_test_set("NONE")
    gpu.state.blend_set("ALPHA")
    shader.bind()
    shader.uniform_float("viewportSize", gpu.state.viewport_get()[2:])
    shader.uniform_float("lineWidth", _WIDTH * context.preferences.system.ui_scale)
    batch.draw(shader)
    gpu.state.blend_set(blend)
    gpu.state.depth_test_set(depth)


def bone_lines(context: Context) -> tuple[np.ndarray, np.ndarray]:
    """Heads and tails (2N, 3) in the world of the bones that are posed and visible, and their colours (2N, 4)."""
    places: list[Any] = []
    colors: list[tuple[float, ...]] = []
    for obj in context.view_layer.objects:
        if obj.type != "ARMATURE" or obj.mode != "POSE" or not obj.visible_get(view_layer=context.view_layer):
            continue
        for bone in obj.pose.bones:
            if _hidden(bone):
                continue
            places += [obj.matrix_world @ bone.head, obj.matrix_world @ bone.tail]
            colors += 2 * [(*_color(context, obj, bone), 1.0)]
    return np.array(places, dtype=np.float32).reshape(-1, 3), np.array(colors, dtype=np.float32).reshape(-1, 4)


def _hidden(bone: bpy.types.PoseBone) -> bool:
    collections = bone.bone.collections
    if collections and not any(each.is_visible_effectively for each in collections):
        return True
    return (bone if hasattr(bone, "hide") else bone.bone).hide  # of the bone until 4.5


def _color(context: Context, obj: bpy.types.Object, bone: bpy.types.PoseBone) -> Any:
    """As Blender draws it: by the theme, or by the bone's own palette."""
    chosen = (bone if hasattr(bone, "select") else bone.bone).select  # of the bone until 4.5
    active = chosen and obj.data.bones.active == bone.bone
    theme = context.preferences.themes[0]
    palette = bone.color.palette if bone.color.palette != "DEFAULT" else bone.bone.color.palette
    if palette.startswith("THEME"):
        colors = theme.bone_color_sets[int(palette[-2:]) - 1]
        return colors.active if active else colors.select if chosen else colors.normal
    plain = theme.view_3d
    return plain.bone_pose_active if active else plain.bone_pose if chosen else plain.bone_solid
