"""The finished video on a plane that fills the camera's view.

The plane hangs on the camera by a Child Of constraint, without the camera's scale, which Blender ignores as well when
rendering. Drivers of plain arithmetic place and size it from the lens, shift, sensor and resolution, so that it fills
the picture whatever is animated. Its depth is the object's own property ``depth``, in metres.
"""

from __future__ import annotations

from collections.abc import Sequence

import bpy

from .screen_playback import TAG, Playback, set_playback

_ASPECT = "(floor(X*p/100)*i)/(floor(Y*p/100)*j)"
_UNIT = "d*(h if f==2 else w)/l"
_WIDE = f"(f==1 or f==0 and {_ASPECT}>=1)"


def add_plane(
    scene: bpy.types.Scene, camera: bpy.types.Object, playback: Playback, image: bpy.types.Image, depth: float
) -> bpy.types.Object:
    """Add the plane that fills ``camera``'s view at ``depth`` metres, playing the film."""
    name = f"Maquette Screen {camera.name}"
    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata([(-0.5, -0.5, 0), (0.5, -0.5, 0), (0.5, 0.5, 0), (-0.5, 0.5, 0)], [], [(0, 1, 2, 3)])
    layer = mesh.uv_layers.new(name="UVMap")
    layer.data.foreach_set("uv", [0, 0, 1, 0, 1, 1, 0, 1])
    mesh.materials.append(_material(name, playback, image))
    plane = bpy.data.objects.new(name, mesh)
    plane[TAG] = playback.key
    plane["depth"] = float(depth)
    plane.id_properties_ui("depth").update(
        min=0.001,
        soft_max=100.0,
        subtype="DISTANCE",
        description="Distance from the camera; the plane always fills the view",
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
    _drive(plane, "scale", 0, f"{_UNIT}*(1 if {_WIDE} else {_ASPECT})", scene, camera)
    _drive(plane, "scale", 1, f"{_UNIT}/({_ASPECT} if {_WIDE} else 1)", scene, camera)
    _drive(plane, "location", 0, f"{_UNIT}*s", scene, camera, s="shift_x")
    _drive(plane, "location", 1, f"{_UNIT}*s", scene, camera, s="shift_y")
    _drive(plane, "location", 2, "-d", scene, camera)
    return plane


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


def show_between(plane: bpy.types.Object, spans: Sequence[tuple[int, bool]]) -> None:
    """Key a plane to be there or not: from each frame on, whether it shows."""
    for frame, shown in spans:
        for attribute in ("hide_render", "hide_viewport"):
            setattr(plane, attribute, not shown)
            plane.keyframe_insert(attribute, frame=frame)
