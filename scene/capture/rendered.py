"""What renders is what is captured: modifiers as the render has them, and what it sees otherwise is said."""

from __future__ import annotations

from collections.abc import Iterable

import bpy

from ..stage import Changes


def as_rendered(
    changes: Changes, objects: Iterable[bpy.types.Object], characters: Iterable[bpy.types.Object], notes: list[str]
) -> None:
    """Switch modifiers on and off as the render does, for the stage is evaluated as a viewport.

    Notes are added for characters whose surface in the viewport is another one, for characters that renders leave
    out, and for objects that hide what is behind them although they render wholly transparent.
    """
    people = set(characters)
    for obj in objects:
        other = [m for m in obj.modifiers if m.show_viewport != m.show_render]
        for modifier in other:
            changes.set(modifier, "show_viewport", modifier.show_render)
        if other and obj in people:
            names = ", ".join(f"{m.name} ({'on' if m.show_render else 'off'})" for m in other)
            notes.append(f"'{obj.name}' is captured as it renders, not as the viewport shows it: {names}")
        if obj in people and obj.hide_render:
            notes.append(
                f"'{obj.name}' is a character but off in renders: it is in the shot, not in rendered backgrounds"
            )
        if obj not in people and obj.type == "MESH" and not obj.hide_render and _transparent(obj):
            notes.append(
                f"'{obj.name}' renders wholly transparent but hides what is behind it in the shot: "
                "switch it off in renders"
            )


def _transparent(obj: bpy.types.Object) -> bool:
    """Whether all materials of an object have a surface of alpha 0 that is not keyed."""
    materials = [slot.material for slot in obj.material_slots if slot.material is not None]
    return bool(materials) and all(_alpha(material) == 0 for material in materials)


def _alpha(material: bpy.types.Material) -> float:
    tree = material.node_tree
    if tree is None:
        return 1.0
    shaders = [node for node in tree.nodes if node.type == "BSDF_PRINCIPLED" and node.outputs[0].is_linked]
    inputs = [node.inputs["Alpha"] for node in shaders]
    if any(socket.is_linked for socket in inputs) or (tree.animation_data and tree.animation_data.action):
        return 1.0
    return max((socket.default_value for socket in inputs), default=1.0)
