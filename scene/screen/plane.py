"""The finished video on a plane that fills the camera's view.

The plane hangs on the camera by a Child Of constraint, without the camera's scale, which Blender ignores as well when
rendering. Drivers of plain arithmetic place and size it from the lens, shift, sensor and resolution, so that it fills
the picture whatever is animated. Its depth is the object's own property ``depth``, in metres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import bpy

from ..marks import TAG
from .playback import Playback, set_playback

_ASPECT = "(floor(X*p/100)*i)/(floor(Y*p/100)*j)"
_UNIT = "d*(h if f==2 else w)/l"
_WIDE = f"(f==1 or f==0 and {_ASPECT}>=1)"


@dataclass(frozen=True)
class Cell:
    """A part of the camera's picture, in shares of its width and height.

    Attributes:
        x, y: its middle from the picture's, right and up.
        width, height: its size.
    """

    x: float = 0.0
    y: float = 0.0
    width: float = 1.0
    height: float = 1.0


WHOLE = Cell()
_BEHIND = 1.01
"""How much farther a backdrop stands than what is before it."""


def add_plane(
    scene: bpy.types.Scene,
    camera: bpy.types.Object,
    playback: Playback,
    image: bpy.types.Image,
    depth: float,
    cell: Cell = WHOLE,
) -> bpy.types.Object:
    """Add the plane that fills ``camera``'s view, or a cell of it, at ``depth`` metres, playing the film."""
    name = f"Maquette Screen {camera.name}"
    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata([(-0.5, -0.5, 0), (0.5, -0.5, 0), (0.5, 0.5, 0), (-0.5, 0.5, 0)], [], [(0, 1, 2, 3)])
    layer = mesh.uv_layers.new(name="UVMap")
    layer.data.foreach_set("uv", [0, 0, 1, 0, 1, 1, 0, 1])
    mesh.materials.append(_material(name, playback, image))
    plane = bpy.data.objects.new(name, mesh)
    _hang(plane, scene, camera, playback, depth)
    across, down = f"(1 if {_WIDE} else {_ASPECT})", f"({_ASPECT} if {_WIDE} else 1)"
    _drive(plane, "scale", 0, f"{_UNIT}*{across}{_times(cell.width)}", scene, camera)
    _drive(plane, "scale", 1, f"{_UNIT}/{down}{_times(cell.height)}", scene, camera)
    x, y = f"s+{cell.x:.6g}*{across}", f"s+{cell.y:.6g}/{down}"
    _drive(plane, "location", 0, f"{_UNIT}*({x})" if cell.x else f"{_UNIT}*s", scene, camera, s="shift_x")
    _drive(plane, "location", 1, f"{_UNIT}*({y})" if cell.y else f"{_UNIT}*s", scene, camera, s="shift_y")
    return plane


def add_label(
    scene: bpy.types.Scene,
    camera: bpy.types.Object,
    playback: Playback,
    text: str,
    depth: float,
    cell: Cell,
    line: float,
) -> bpy.types.Object:
    """Add a line of text under a cell.

    Args:
        line: its height over that of the camera's picture.
    """
    name = f"Maquette Label {text}"
    curve = bpy.data.curves.new(name, "FONT")
    curve.body = text
    curve.align_x, curve.align_y = "CENTER", "CENTER"
    curve.materials.append(_paint(name, playback, 1.0))
    label = bpy.data.objects.new(name, curve)
    label.hide_select = True
    _hang(label, scene, camera, playback, depth)
    across, down = f"(1 if {_WIDE} else {_ASPECT})", f"({_ASPECT} if {_WIDE} else 1)"
    for axis in (0, 1):
        _drive(label, "scale", axis, f"{_UNIT}/{down}*{0.7 * line:.6g}", scene, camera)
    below = cell.y - cell.height / 2 - line / 2
    _drive(label, "location", 0, f"{_UNIT}*(s+{cell.x:.6g}*{across})", scene, camera, s="shift_x")
    _drive(label, "location", 1, f"{_UNIT}*(s+{below:.6g}/{down})", scene, camera, s="shift_y")
    return label


def _times(share: float) -> str:
    return "" if share == 1 else f"*{share:.6g}"


def _hang(
    plane: bpy.types.Object, scene: bpy.types.Scene, camera: bpy.types.Object, playback: Playback, depth: float
) -> None:
    """Put an object into the scene, before the camera and fast to it."""
    plane[TAG] = playback.key
    plane["depth"] = float(depth)
    plane.id_properties_ui("depth").update(
        min=0.001,
        soft_max=100.0,
        subtype="DISTANCE",
        description="Distance from the camera; the plane keeps its place in the view",
    )
    scene.collection.objects.link(plane)
    for attribute in ("lock_location", "lock_rotation", "lock_scale"):
        setattr(plane, attribute, (True, True, True))
    for attribute in ("diffuse", "glossy", "transmission", "volume_scatter", "shadow"):
        setattr(plane, f"visible_{attribute}", False)
    hang = plane.constraints.new("CHILD_OF")
    hang.name = "Camera"
    hang.target = camera
    hang.use_scale_x = hang.use_scale_y = hang.use_scale_z = False
    hang.set_inverse_pending = False
    hang.inverse_matrix.identity()
    _drive(plane, "location", 2, "-d", scene, camera)


def _drive(
    plane: bpy.types.Object,
    path: str,
    index: int,
    expression: str,
    scene: bpy.types.Scene,
    camera: bpy.types.Object,
    **lens: str,
) -> None:
    driver = plane.driver_add(path, index).driver
    sources: dict[str, tuple[str, bpy.types.ID, str]] = {
        "d": ("OBJECT", plane, '["depth"]'),
        "X": ("SCENE", scene, "render.resolution_x"),
        "Y": ("SCENE", scene, "render.resolution_y"),
        "p": ("SCENE", scene, "render.resolution_percentage"),
        "i": ("SCENE", scene, "render.pixel_aspect_x"),
        "j": ("SCENE", scene, "render.pixel_aspect_y"),
    }
    optics = {"l": "lens", "w": "sensor_width", "h": "sensor_height", "f": "sensor_fit", **lens}
    sources |= {name: ("CAMERA", camera.data, source) for name, source in optics.items()}
    words = "".join(c if c.isalnum() else " " for c in expression).split()
    for name, (kind, datablock, source) in sources.items():
        if name in words:
            variable = driver.variables.new()
            variable.name = name
            target = variable.targets[0]
            target.id_type = kind
            target.id = datablock
            target.data_path = source
    driver.expression = expression


def _material(name: str, playback: Playback, image: bpy.types.Image) -> bpy.types.Material:
    """An emission of the film's colours: no light of the scene changes them."""
    material = bpy.data.materials.new(name)
    material[TAG] = playback.key
    if material.node_tree is None:
        material.use_nodes = True
    tree = material.node_tree
    assert tree is not None
    tree.nodes.clear()
    texture = tree.nodes.new("ShaderNodeTexImage")
    texture.name = "Video"
    texture.image = image
    texture.extension = "EXTEND"
    texture.location = (-300, 0)
    emission = tree.nodes.new("ShaderNodeEmission")
    output = tree.nodes.new("ShaderNodeOutputMaterial")
    output.location = (200, 0)
    tree.links.new(texture.outputs["Color"], emission.inputs["Color"])
    tree.links.new(emission.outputs["Emission"], output.inputs["Surface"])
    tree.nodes.active = texture  # What the viewport's texture mode shows.
    set_playback(texture.image_user, playback, tree, 'nodes["Video"].image_user')
    return material


def add_backdrop(
    scene: bpy.types.Scene, camera: bpy.types.Object, playback: Playback, depth: float
) -> bpy.types.Object:
    """Add a dark plane that fills ``camera``'s view behind what stands at ``depth``."""
    name = f"Maquette Backdrop {camera.name}"
    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata([(-0.5, -0.5, 0), (0.5, -0.5, 0), (0.5, 0.5, 0), (-0.5, 0.5, 0)], [], [(0, 1, 2, 3)])
    mesh.materials.append(_paint(name, playback, 0.01))
    plane = bpy.data.objects.new(name, mesh)
    plane.hide_select = True
    _hang(plane, scene, camera, playback, depth * _BEHIND)
    _drive(plane, "scale", 0, f"{_UNIT}*(1 if {_WIDE} else {_ASPECT})", scene, camera)
    _drive(plane, "scale", 1, f"{_UNIT}/({_ASPECT} if {_WIDE} else 1)", scene, camera)
    _drive(plane, "location", 0, f"{_UNIT}*s", scene, camera, s="shift_x")
    _drive(plane, "location", 1, f"{_UNIT}*s", scene, camera, s="shift_y")
    return plane


def _paint(name: str, playback: Playback, grey: float) -> bpy.types.Material:
    """A grey that no light of the scene changes."""
    material = bpy.data.materials.new(name)
    material[TAG] = playback.key
    if material.node_tree is None:
        material.use_nodes = True
    tree = material.node_tree
    assert tree is not None
    tree.nodes.clear()
    emission = tree.nodes.new("ShaderNodeEmission")
    output = tree.nodes.new("ShaderNodeOutputMaterial")
    emission.inputs["Color"].default_value = (grey, grey, grey, 1.0)
    tree.links.new(emission.outputs["Emission"], output.inputs["Surface"])
    material.diffuse_color = (grey, grey, grey, 1.0)
    return material


def show_between(plane: bpy.types.Object, spans: Sequence[tuple[int, bool]]) -> None:
    """Key a plane to be there or not: from each frame on, whether it shows; in renders only where it is to be."""
    attributes = ("hide_viewport",) if plane.hide_render else ("hide_render", "hide_viewport")
    for frame, shown in spans:
        for attribute in attributes:
            setattr(plane, attribute, not shown)
            plane.keyframe_insert(attribute, frame=frame)
