"""Render a stage to PNG bytes: plain sRGB, the same every time.

Workbench is fast everywhere and needs no lights; its Standard view transform shows colours as they are. The scene's
own engine keeps the scene's view transform, which its lights were set for.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import bpy

from ...backend.shot import ShotError
from ..stage import Changes, Stage
from .wants import described

MAX_SIDE = 1408
"""Pixels; the largest model works at 1408x768, more would only make the shot heavy."""
REFERENCE_SIDE = 512
"""Pixels that the longer side of a reference has at least, where the render is that large."""

_STAMPS = (
    "date",
    "time",
    "render_time",
    "frame",
    "frame_range",
    "memory",
    "hostname",
    "camera",
    "lens",
    "scene",
    "note",
    "marker",
    "filename",
    "sequencer_strip",
)

_UNTOUCHED = (0.8, 0.8, 0.8)


def working_side(model: str) -> int:
    """Pixels of the longest side at which a model can use a picture, by its description; ``MAX_SIDE`` when unknown."""
    spec = described(model)
    return MAX_SIDE if spec is None else max(min(spec.limits.get("max_size", MAX_SIDE), MAX_SIDE), 64)


def shot_side(scene: bpy.types.Scene) -> int:
    """``working_side`` of the largest of the models that the scene's shot is sent to."""
    shot = scene.maquette
    return max(working_side(name) for name in (shot.model, *(entry.name for entry in shot.compare)))


def film_side(scene: bpy.types.Scene) -> int:
    """Pixels of the longest side of pictures of which a shot needs one a frame.

    Models that say by their short side how large their film is by default need no more than that; others can use a
    picture as large as they can make, as for ``shot_side``.
    """
    render, shot = scene.render, scene.maquette
    aspect = max(render.resolution_x, render.resolution_y) / min(render.resolution_x, render.resolution_y)
    return max(_film_side(name, aspect) for name in (shot.model, *(entry.name for entry in shot.compare)))


def _film_side(model: str, aspect: float) -> int:
    most, spec = working_side(model), described(model)
    if spec is None or "max_short_side" not in spec.limits:
        return most
    short = min(spec.defaults.width, spec.defaults.height)
    return min(most, 2 * round(short * aspect / 2))


def set_up(stage: Stage, engine: str, transparent: bool, side: int, rough: bool = False) -> None:
    """Set the stage's own render settings.

    Args:
        engine: ``WORKBENCH`` or ``SCENE``.
        side: pixels that neither side of the picture exceeds.
        transparent: no backdrop: the picture's alpha says what is there.
        rough: leave edges as they are: several times as fast where no graphics card draws.
    """
    scene = stage.scene
    render = scene.render
    render.use_compositing = False
    render.use_sequencer = False
    render.use_border = False
    render.use_multiview = False
    render.use_stamp = False
    for stamp in _STAMPS:  # They are written into the file even so, and equal pictures would differ.
        setattr(render, f"use_stamp_{stamp}", False)
    render.use_simplify = render.use_simplify if engine == "SCENE" else False
    render.film_transparent = transparent
    render.dither_intensity = 0.0
    render.use_file_extension = True
    render.use_overwrite = True
    render.use_placeholder = False
    fit_size(render, side)
    settings = render.image_settings
    if hasattr(settings, "media_type"):
        settings.media_type = "IMAGE"
    settings.file_format = "PNG"
    settings.color_mode = "RGBA" if transparent else "RGB"
    settings.color_depth = "8"
    settings.compression = 15
    settings.color_management = "FOLLOW_SCENE"
    if engine == "SCENE":
        return
    render.engine = "BLENDER_WORKBENCH"
    scene.display_settings.display_device = "sRGB"
    view = scene.view_settings
    view.view_transform = "Standard"
    view.look = "None"
    view.exposure, view.gamma = 0.0, 1.0
    view.use_curve_mapping = False
    scene.display.render_aa = "OFF" if rough else "5"
    shading = scene.display.shading
    shading.light = "STUDIO"
    shading.color_type = colour_type(stage.scene.objects)
    shading.show_backface_culling = False
    shading.show_xray = False
    shading.show_shadows = False
    shading.show_cavity = False
    shading.show_object_outline = False
    shading.show_specular_highlight = False  # It would stick to skin that turns away from it.
    shading.use_dof = False


def fit_size(render: bpy.types.RenderSettings, side: int) -> None:
    """Full size in the pixels themselves instead of a percentage, and neither side longer than ``side``."""
    percentage = render.resolution_percentage
    width, height = render.resolution_x * percentage // 100, render.resolution_y * percentage // 100
    scale = min(1.0, side / max(width, height))
    render.resolution_percentage = 100
    render.resolution_x, render.resolution_y = max(round(width * scale), 4), max(round(height * scale), 4)


def colour_type(objects: Iterable[bpy.types.Object]) -> str:
    """What Workbench takes colours from: image textures before vertex colours before plain materials."""
    painted = False
    for obj in objects:
        if obj.type != "MESH":
            continue
        for slot in obj.material_slots:
            tree = slot.material.node_tree if slot.material is not None else None
            if tree is not None and any(n.type == "TEX_IMAGE" and n.image is not None for n in tree.nodes):
                return "TEXTURE"
        painted = painted or len(obj.data.color_attributes) > 0
    return "VERTEX" if painted else "MATERIAL"


def show_base_colours(objects: Iterable[bpy.types.Object], changes: Changes) -> None:
    """Let Workbench show a material's base colour where nobody has set a viewport colour.

    Where it shows colour attributes, it gives objects without any their own colour, which the Solid view does not show:
    these get their first material's.
    """
    for obj in objects:
        for slot in obj.material_slots:
            material = slot.material
            if material is None or material.node_tree is None or material.library is not None:
                continue
            if tuple(round(c, 4) for c in material.diffuse_color[:3]) != _UNTOUCHED:
                continue
            colour = _base_colour(material.node_tree)
            if colour is not None:
                changes.set(material, "diffuse_color", (*colour, material.diffuse_color[3]))
        first = obj.material_slots[0].material if obj.material_slots else None
        if first is not None and obj.library is None and obj.type == "MESH" and not obj.data.color_attributes:
            changes.set(obj, "color", tuple(first.diffuse_color))


def show_world_colour(stage: Stage) -> None:
    """Give Workbench the colour of a plain world as its backdrop."""
    world = stage.scene.world
    if world is None or world.node_tree is None or world.library is not None:
        return
    for node in world.node_tree.nodes:
        if node.type == "BACKGROUND" and not node.inputs["Color"].is_linked:
            strength = min(float(node.inputs["Strength"].default_value), 1.0)
            stage.changes.set(world, "color", tuple(c * strength for c in node.inputs["Color"].default_value[:3]))
            return


def _base_colour(tree: bpy.types.NodeTree) -> tuple[float, float, float] | None:
    for kind, socket in (("BSDF_PRINCIPLED", "Base Color"), ("EMISSION", "Color"), ("BSDF_DIFFUSE", "Color")):
        for node in tree.nodes:
            if node.type == kind and not node.inputs[socket].is_linked:
                red, green, blue = (min(float(c), 1.0) for c in node.inputs[socket].default_value[:3])
                return red, green, blue
    return None


def render(stage: Stage, folder: Path, field: str) -> bytes:
    """Render the stage's frame and return the PNG file's bytes.

    Raises:
        ShotError: on ``field`` when Blender cannot render.
    """
    target = folder / "picture.png"
    if stage.scene.render.filepath != str(target):  # Blender draws the window again for it.
        stage.scene.render.filepath = str(target)
    try:
        with stage.from_lobby():
            bpy.ops.render.render(write_still=True, scene=stage.scene.name)
        return target.read_bytes()
    except RuntimeError as error:
        raise ShotError(
            field, f"Blender could not render it ({str(error).strip()}); render the scene once to see why"
        ) from error
    except OSError as error:
        raise ShotError(
            field, f"the rendered picture could not be kept in '{folder}' ({error.strerror or error}); free some space"
        ) from error
