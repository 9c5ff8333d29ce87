"""The film's colours through the scene's view transform."""

from __future__ import annotations

import bpy

_SPACES = {
    "Standard": "sRGB",
    "AgX": "AgX Base sRGB",
    "Filmic": "Filmic sRGB",
    "Khronos PBR Neutral": "Khronos PBR Neutral sRGB",
    "Raw": "Non-Color",
}
"""The colour space that each view transform turns into what is in the file."""
_EXACT = ("Standard", "Filmic", "Raw")

LINEAR = """
vec3 linear(vec3 c)
{
  return mix(pow((c + 0.055) / 1.055, vec3(2.4)), c / 12.92, vec3(lessThanEqual(c, vec3(0.04045))));
}
"""
"""For shaders: sRGB to linear light, in which Blender lays its overlays over the view."""


def undo_transform(settings: bpy.types.ColorManagedInputColorspaceSettings, scene: bpy.types.Scene) -> None:
    """Let the film be read such that the scene's view transform gives its own colours back, as far as it can."""
    name = _SPACES.get(scene.view_settings.view_transform, "sRGB")
    try:
        settings.name = name
    except TypeError:  # The studio's own colours have no such space.
        return


def colour_notice(scene: bpy.types.Scene, where: str) -> list[str]:
    """What the scene's view transform does to a film that it is applied to, if anything.

    Args:
        where: what shows the film, as in "on the plane".
    """
    view = scene.view_settings
    changed = [name for name, on in (("exposure", view.exposure != 0), ("gamma", view.gamma != 1)) if on]
    if view.use_curve_mapping:
        changed.append("curves")
    if view.look not in ("", "None"):
        changed.append("look")
    if view.view_transform in _EXACT and not changed:
        return []
    what = f"view transform {view.view_transform}" if view.view_transform not in _EXACT else " and ".join(changed)
    kept = "strong colours" if view.view_transform in _SPACES and not changed else "the video's colours"
    return [
        f"The scene's {what} changes {kept} {where} when it is rendered; set it to Standard, without a look, to render "
        "them as they are"
    ]
