"""Which bones are drawn over a film, where, and in which colour; the drawing itself needs a window."""

from __future__ import annotations

import bpy
import numpy as np

from ..builders import module


def a_rig() -> bpy.types.Object:
    """Two bones, one above the other, in Pose Mode, a metre along x."""
    bpy.ops.object.armature_add(location=(1.0, 0.0, 0.0))
    rig = bpy.context.object
    bpy.ops.object.mode_set(mode="EDIT")
    second = rig.data.edit_bones.new("Second")
    second.head, second.tail = (0.0, 0.0, 1.0), (0.0, 0.0, 2.0)
    bpy.ops.object.mode_set(mode="POSE")
    rig.data.bones["Bone"].color.palette = "THEME03"
    return rig


def test_posed_bones_in_their_colours(addon):
    bones = module(addon, "scene.screen.bones")
    rig = a_rig()
    rig.pose.bones["Second"].location = (0.5, 0.0, 0.0)
    bpy.ops.pose.select_all(action="DESELECT")
    bpy.context.view_layer.update()
    theme = bpy.context.preferences.themes[0]
    places, colors = bones.bone_lines(bpy.context)
    np.testing.assert_allclose(places, [(1, 0, 0), (1, 0, 1), (1.5, 0, 1), (1.5, 0, 2)], atol=1e-6)
    np.testing.assert_allclose(colors[0, :3], theme.bone_color_sets[2].normal)
    np.testing.assert_allclose(colors[2, :3], theme.view_3d.bone_solid)
    bpy.ops.pose.select_all(action="SELECT")
    rig.data.bones.active = rig.data.bones["Second"]
    _, colors = bones.bone_lines(bpy.context)
    np.testing.assert_allclose(colors[0, :3], theme.bone_color_sets[2].select)
    np.testing.assert_allclose(colors[2, :3], theme.view_3d.bone_pose_active)


def test_only_what_is_posed_and_visible(addon):
    lines = module(addon, "scene.screen.bones").bone_lines
    rig = a_rig()
    second = rig.pose.bones["Second"]
    (second if hasattr(second, "hide") else second.bone).hide = True
    assert len(lines(bpy.context)[0]) == 2
    hidden = rig.data.collections.new("Hidden")
    hidden.assign(rig.pose.bones["Bone"])
    for each in rig.data.collections:
        each.is_visible = False
    assert not len(lines(bpy.context)[0])
    hidden.is_visible = True
    assert len(lines(bpy.context)[0]) == 2
    bpy.ops.object.mode_set(mode="OBJECT")
    places, colors = lines(bpy.context)
    assert places.shape == (0, 3) and colors.shape == (0, 4)
