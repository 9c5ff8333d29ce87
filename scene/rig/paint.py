"""Painted bodies: region colours as a colour attribute, and the simple materials that show it.

The mesh carries the attribute ``region`` (one of REGIONS per vertex) and the colour attribute ``Paint``; Vertex Paint
may go on from there. Cycles, EEVEE and the captured reference show the attribute. A Solid view as Blender sets it up
shows one colour a material: so each region has a material of its own, whose viewport colour is the region's. Choosing
another colour repaints that region only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import bpy
import numpy as np
from mathutils import Color as Tint

from ...backend.bodies import BodyModel

Color = tuple[float, float, float]


def _hex(code: str) -> Color:
    return (int(code[0:2], 16) / 255, int(code[2:4], 16) / 255, int(code[4:6], 16) / 255)


@dataclass(frozen=True)
class Palette:
    """One colour (red, green, blue in 0..1, sRGB) for each region of REGIONS, in that order."""

    skin: Color
    hair: Color
    shirt: Color
    trousers: Color
    shoes: Color
    eyes: Color = (0.93, 0.93, 0.91)


REGIONS = ("skin", "hair", "shirt", "trousers", "shoes", "eyes")
REGION_ATTRIBUTE = "region"
PAINT_ATTRIBUTE = "Paint"

PALETTES: tuple[Palette, ...] = tuple(
    Palette(*(_hex(code) for code in row.split()))
    for row in (
        "e2b394 3b2618 c4453a 2e3f66 f0ece4",
        "8d5a3c 17120f e8b23a 37564a 2a2a2e",
        "f0c9ae c98b3c 3f8f8a 4a3a34 d9d4c7",
        "b97d56 241a16 e9e4da 7a2f3d 1d1f26",
        "5f3b29 0f0c0b 6a5acd c9b48a f2f2f2",
        "d9a27e 6e2f1b 5b8c3e 23262e b5472f",
        "f3d5bf 8c8c90 d9783b 3b5d8f 43362d",
        "a56b48 2f2320 d46a9a 3d3d42 ebe5d3",
    )
)
"""Palettes that new bodies take in turn."""

_BY_JOINT = {
    "pelvis": "trousers",
    "hip": "trousers",
    "knee": "trousers",
    "ankle": "shoes",
    "foot": "shoes",
    "toe": "shoes",
    "heel": "shoes",
    "spine": "shirt",
    "collar": "shirt",
    "shoulder": "shirt",
    "eye": "eyes",
}


def next_palette(scene: bpy.types.Scene) -> Palette:
    """The palette that the fewest bodies of a scene wear, the first of those."""
    worn = [0] * len(PALETTES)
    for obj in scene.objects:
        if obj.type == "MESH" and obj.maquette.body:
            for index, palette in enumerate(PALETTES):
                worn[index] += bool(np.allclose(obj.maquette.color_shirt, palette.shirt, atol=1e-3))
    return PALETTES[worn.index(min(worn))]


def body_regions(body: BodyModel) -> np.ndarray:
    """(V,) int32 index into REGIONS per vertex; for a body without regions of its own by the joint it hangs on most."""
    if body.regions is not None:
        table = np.array([REGIONS.index(n) if n in REGIONS else 0 for n in body.region_names], dtype=np.int32)
        return table[np.asarray(body.regions)]
    joints = np.asarray(body.weights).argmax(axis=1)
    by_joint = np.array(
        [next((REGIONS.index(r) for part, r in _BY_JOINT.items() if part in name), 0) for name in body.joint_names],
        dtype=np.int32,
    )
    regions = by_joint[joints]
    if "head" in body.joint_names:
        skull = joints == body.joint_names.index("head")
        if skull.any():
            height, depth = body.v_template[:, 1], body.v_template[:, 2]
            low, high = height[skull].min(), height[skull].max()
            back = depth[skull].mean()
            hair = (height > low + 0.78 * (high - low)) | ((height > low + 0.45 * (high - low)) & (depth < back))
            regions[skull & hair] = REGIONS.index("hair")
    return regions


def paint_body(mesh: bpy.types.Object, body: BodyModel, palette: Palette, made: list[bpy.types.ID]) -> None:
    """Give a new body its regions, colours and material. Datablocks it creates are appended to ``made``."""
    for region, color in zip(REGIONS, astuple(palette), strict=True):
        setattr(mesh.maquette, f"color_{region}", color)
    data = mesh.data
    attribute = data.attributes.new(REGION_ATTRIBUTE, "INT", "POINT")
    attribute.data.foreach_set("value", body_regions(body))
    paint = data.color_attributes.new(PAINT_ATTRIBUTE, "BYTE_COLOR", "CORNER")
    data.color_attributes.active_color = paint
    data.color_attributes.render_color_index = data.color_attributes.find(PAINT_ATTRIBUTE)
    repaint(mesh)
    _add_materials(mesh, made)


def repaint(mesh: bpy.types.Object, regions: Sequence[str] = REGIONS) -> bool:
    """Write the object's colours into some regions. False when the mesh has no painted regions."""
    data = mesh.data
    if not isinstance(data, bpy.types.Mesh) or mesh.mode == "EDIT":
        return False
    source = data.attributes.get(REGION_ATTRIBUTE)
    paint = data.color_attributes.get(PAINT_ATTRIBUTE)
    if source is None or paint is None or paint.domain != "CORNER" or source.data_type != "INT":
        return False
    vertex_regions = np.empty(len(data.vertices), dtype=np.int32)
    source.data.foreach_get("value", vertex_regions)
    vertices = np.empty(len(data.loops), dtype=np.int32)
    data.loops.foreach_get("vertex_index", vertices)
    # By vertex, so that borders blend over one face instead of following the faces' zigzag.
    corners = vertex_regions[vertices]
    colors = np.empty((len(corners), 4), dtype=np.float32)
    paint.data.foreach_get("color_srgb", colors.ravel())
    for region in regions:
        colors[corners == REGIONS.index(region)] = (*getattr(mesh.maquette, f"color_{region}"), 1.0)
    paint.data.foreach_set("color_srgb", colors.ravel())
    for slot, material in enumerate(data.materials):
        region = material.get(REGION_ATTRIBUTE, "") if material is not None else ""
        if material is not None and region in regions:
            color = (*_linear(getattr(mesh.maquette, f"color_{region}")), 1.0)
            if material.users > 1 and tuple(material.diffuse_color) != color:  # A duplicated body shares it.
                material = data.materials[slot] = material.copy()
            material.diffuse_color = color
    data.update()
    return True


def _add_materials(mesh: bpy.types.Object, made: list[bpy.types.ID]) -> None:
    """A material for each region that the body has, on the faces most of whose corners lie in it."""
    data = mesh.data
    vertex_regions = np.empty(len(data.vertices), dtype=np.int32)
    data.attributes[REGION_ATTRIBUTE].data.foreach_get("value", vertex_regions)
    vertices = np.empty(len(data.loops), dtype=np.int32)
    data.loops.foreach_get("vertex_index", vertices)
    starts = np.empty(len(data.polygons), dtype=np.int32)
    data.polygons.foreach_get("loop_start", starts)
    corners = np.eye(len(REGIONS), dtype=np.int32)[vertex_regions[vertices]]
    faces = np.add.reduceat(corners, starts).argmax(axis=1)
    used, slots = np.unique(faces, return_inverse=True)
    for index in used:
        material = _material(f"{mesh.name} {REGIONS[index].title()}", made)
        material[REGION_ATTRIBUTE] = REGIONS[index]
        material.diffuse_color = (*_linear(getattr(mesh.maquette, f"color_{REGIONS[index]}")), 1.0)
        data.materials.append(material)
    data.polygons.foreach_set("material_index", slots.astype(np.int32).ravel())


def _linear(color: Sequence[float]) -> Color:
    """A colour in sRGB as Blender keeps those of materials."""
    red, green, blue = Tint(color).from_srgb_to_scene_linear()
    return red, green, blue


def _material(name: str, made: list[bpy.types.ID]) -> bpy.types.Material:
    material = bpy.data.materials.new(name)
    made.append(material)
    if bpy.app.version < (5, 0):
        material.use_nodes = True
    tree = material.node_tree
    tree.nodes.clear()
    output = tree.nodes.new("ShaderNodeOutputMaterial")
    shader = tree.nodes.new("ShaderNodeBsdfPrincipled")
    color = tree.nodes.new("ShaderNodeVertexColor")
    color.layer_name = PAINT_ATTRIBUTE
    color.location, shader.location, output.location = (-220, 0), (0, 0), (280, 0)
    shader.inputs["Roughness"].default_value = 0.75
    tree.links.new(color.outputs["Color"], shader.inputs["Base Color"])
    tree.links.new(shader.outputs["BSDF"], output.inputs["Surface"])
    return material
