"""Small scenes, films and snapshots for the tests of capture and results."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import bpy
import numpy as np


def module(addon: ModuleType, name: str) -> ModuleType:
    """A module of the enabled extension."""
    return importlib.import_module(f"{addon.__name__}.{name}")


def keyed(owner: bpy.types.ID) -> tuple[float, float]:
    """First and last frame with keys in a datablock's action."""
    first, last = owner.animation_data.action.frame_range
    return first, last


def add_camera(location=(0.0, -6.0, 1.0), target=(0.0, 0.0, 1.0), name="Camera") -> bpy.types.Object:
    """A camera that looks at a place; the scene's active one."""
    camera = bpy.data.objects.new(name, bpy.data.cameras.new(name))
    bpy.context.scene.collection.objects.link(camera)
    aim(camera, location, target)
    bpy.context.scene.camera = camera
    return camera


def aim(camera: bpy.types.Object, location, target) -> None:
    """Place a camera and turn it to a target."""
    from mathutils import Vector

    camera.location = location
    camera.rotation_euler = (Vector(target) - Vector(location)).to_track_quat("-Z", "Y").to_euler()


def add_mesh(name: str, vertices, faces, location=(0.0, 0.0, 0.0)) -> bpy.types.Object:
    """A mesh object in the scene's collection."""
    data = bpy.data.meshes.new(name)
    data.from_pydata(np.asarray(vertices).tolist(), [], [list(map(int, face)) for face in faces])
    obj = bpy.data.objects.new(name, data)
    obj.location = location
    bpy.context.scene.collection.objects.link(obj)
    return obj


def cylinder(radius=0.3, height=2.0, around=24, rings=20) -> tuple[np.ndarray, list[list[int]]]:
    """A closed upright cylinder from z = 0."""
    angle = np.linspace(0, 2 * math.pi, around, endpoint=False)
    ring = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
    levels = np.linspace(0, height, rings)
    vertices = np.concatenate([np.column_stack([ring, np.full(around, z)]) for z in levels])
    faces = [
        [r * around + i, r * around + (i + 1) % around, (r + 1) * around + (i + 1) % around, (r + 1) * around + i]
        for r in range(rings - 1)
        for i in range(around)
    ]
    faces += [list(range(around))[::-1], [(rings - 1) * around + i for i in range(around)]]
    return vertices, faces


def add_box(name: str, size: float, location) -> bpy.types.Object:
    """A cube of an edge length."""
    s = size / 2
    vertices = [(x, y, z) for x in (-s, s) for y in (-s, s) for z in (-s, s)]
    faces = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    return add_mesh(name, vertices, faces, location)


def add_performer(name="Dancer", location=(0.0, 0.0, 0.0), bend=0.8, frames=(1, 9)) -> bpy.types.Object:
    """A skinned cylinder marked as a character, that bends at its middle; returns the mesh object."""
    armature = add_armature(f"{name} Rig", [("low", (0, 0, 0), (0, 0, 1), ""), ("high", (0, 0, 1), (0, 0, 2), "low")])
    vertices, faces = cylinder()
    mesh = add_mesh(name, vertices, faces)
    share = np.clip(vertices[:, 2] - 0.5, 0, 1)
    groups = [mesh.vertex_groups.new(name=n) for n in ("low", "high")]
    for vertex, weight in enumerate(share):
        groups[0].add([vertex], 1 - weight, "REPLACE")
        groups[1].add([vertex], weight, "REPLACE")
    mesh.parent = armature
    mesh.modifiers.new("Armature", "ARMATURE").object = armature
    armature.location = location
    bone = armature.pose.bones["high"]
    bone.rotation_mode = "XYZ"
    for frame, angle in zip(frames, (0.0, bend), strict=True):
        bone.rotation_euler.x = angle
        bone.keyframe_insert("rotation_euler", frame=frame)
    mesh.maquette.is_character = True
    bpy.context.view_layer.update()
    return mesh


def screening(frames: int, size: tuple[int, int]) -> bpy.types.Scene:
    """A scene for a film on frames from 11 on, whose pixels are rendered as the film has them."""
    scene = small_scene(frames=frames, size=size)
    scene.frame_start, scene.frame_end = 11, 11 + frames - 1
    scene.render.fps = 24
    scene.view_settings.view_transform = "Standard"
    scene.maquette.plane_renders = True
    add_performer(frames=(11, 30))
    add_camera((0, -5, 1))
    return scene


def world_vertices(mesh: bpy.types.Object) -> np.ndarray:
    """Evaluated vertices (V,3) in the world."""
    evaluated = mesh.evaluated_get(bpy.context.evaluated_depsgraph_get())
    data = evaluated.to_mesh()
    flat = np.empty(len(data.vertices) * 3, dtype=np.float32)
    data.vertices.foreach_get("co", flat)
    evaluated.to_mesh_clear()
    matrix = np.array(evaluated.matrix_world)
    return flat.reshape(-1, 3) @ matrix[:3, :3].T + matrix[:3, 3]


def add_armature(name: str, bones) -> bpy.types.Object:
    """An armature of bones in edit order: name, head, tail and the parent's name, empty for none."""
    data = bpy.data.armatures.new(name)
    armature = bpy.data.objects.new(name, data)
    bpy.context.scene.collection.objects.link(armature)
    bpy.context.view_layer.objects.active = armature
    bpy.ops.object.mode_set(mode="EDIT")
    for bone_name, head, tail, parent in bones:
        bone = data.edit_bones.new(bone_name)
        bone.head, bone.tail = head, tail
        if parent:
            bone.parent = data.edit_bones[parent]
    bpy.ops.object.mode_set(mode="OBJECT")
    return armature


def small_scene(frames=5, size=(96, 64)) -> bpy.types.Scene:
    """The scene at a small size and a short range, without background and quick to capture."""
    scene = bpy.context.scene
    scene.frame_start, scene.frame_end = 1, frames
    scene.render.resolution_x, scene.render.resolution_y = size
    scene.maquette.background = "NONE"
    scene.maquette.points = 64
    return scene


def write_film(path: Path, colours: np.ndarray, fps: int = 24, size=(64, 48)) -> Path:
    """An H.264 mp4 of one colour (T,3) uint8 a frame; its lower left quarter is half as bright."""
    scene = bpy.data.scenes.new("Film")
    render = scene.render
    render.resolution_x, render.resolution_y, render.fps = *size, fps
    render.resolution_percentage = 100
    scene.frame_start, scene.frame_end = 1, len(colours)
    scene.view_settings.view_transform = "Standard"
    editor = scene.sequence_editor_create()
    strips = editor.strips if hasattr(editor, "strips") else editor.sequences
    by_length = "length" in strips.bl_rna.functions["new_effect"].parameters
    for index, colour in enumerate(np.asarray(colours) / 255):
        span = {"length": 1} if by_length else {"frame_end": index + 2}
        for channel, scale in ((1, 1.0), (2, 0.5)):
            strip = strips.new_effect(name="c", type="COLOR", channel=channel, frame_start=index + 1, **span)
            strip.color = colour * scale
            if channel == 2:
                strip.transform.scale_x = strip.transform.scale_y = 0.5
                strip.transform.offset_x, strip.transform.offset_y = -size[0] / 4, -size[1] / 4
                strip.blend_type = "ALPHA_OVER"
    if hasattr(render.image_settings, "media_type"):
        render.image_settings.media_type = "VIDEO"
    render.image_settings.file_format = "FFMPEG"
    render.ffmpeg.format = "MPEG4"
    render.ffmpeg.codec = "H264"
    render.ffmpeg.constant_rate_factor = "PERC_LOSSLESS"
    render.ffmpeg.gopsize = 8
    render.use_file_extension = False
    render.filepath = str(path)
    with bpy.context.temp_override(scene=scene):
        bpy.ops.render.render(animation=True)
    bpy.data.scenes.remove(scene)
    drop_render_result()
    return path


def drop_render_result() -> None:
    """Forget what was rendered so far."""
    for image in [i for i in bpy.data.images if i.type == "RENDER_RESULT"]:
        bpy.data.images.remove(image)


def read_pixels(path: Path) -> np.ndarray:
    """(H,W,3) float in 0..255 of a PNG, first row at the top."""
    image = bpy.data.images.load(str(path))
    width, height = image.size
    flat = np.empty(width * height * image.channels, dtype=np.float32)
    image.pixels.foreach_get(flat)
    bpy.data.images.remove(image)
    return flat.reshape(height, width, -1)[::-1, :, :3] * 255


def render_frame(path: Path, frame: int, engine: str = "CYCLES", transform: str = "Standard") -> np.ndarray:
    """Render the scene at a frame, by default with colours as they are: (H,W,3) float in 0..255."""
    scene = bpy.context.scene
    scene.frame_set(frame)
    scene.render.engine = engine
    scene.view_settings.view_transform = transform
    if engine == "CYCLES":
        scene.cycles.samples = 1
        scene.cycles.use_denoising = False
        scene.cycles.device = "CPU"
    if hasattr(scene.render.image_settings, "media_type"):
        scene.render.image_settings.media_type = "IMAGE"
    scene.render.image_settings.file_format = "PNG"
    scene.render.image_settings.color_mode = "RGB"
    scene.render.dither_intensity = 0
    scene.render.filepath = str(path)
    bpy.ops.render.render(write_still=True)
    return read_pixels(path)


def snapshot() -> dict[str, Any]:
    """Everything that a scene, its objects and their data hold, as plain values, by path."""
    found: dict[str, Any] = {}
    context = bpy.context
    for collection in bpy.data.bl_rna.properties:
        if collection.type != "COLLECTION" or collection.identifier in ("workspaces", "window_managers", "screens"):
            continue
        for datablock in getattr(bpy.data, collection.identifier):
            _describe(f"{collection.identifier}/{datablock.name}", datablock, found, 3)
    found["mode"] = context.mode
    found["scene"] = context.scene.name
    found["active"] = context.view_layer.objects.active
    found["selected"] = [o.name for o in context.view_layer.objects if o.select_get()]
    found["hidden"] = [o.name for o in context.view_layer.objects if o.hide_get()]
    found["layers"] = [(c.name, c.exclude, c.hide_viewport) for c in context.view_layer.layer_collection.children]
    for armature in (o for o in bpy.data.objects if o.type == "ARMATURE"):
        for bone in armature.pose.bones:
            _describe(f"pose/{armature.name}/{bone.name}", bone, found, 1)
    found.pop("scenes/Scene.statistics", None)
    return found


_INNER = (
    "render",
    "view_settings",
    "display_settings",
    "display",
    "image_settings",
    "shading",
    "cycles",
    "data",
    "sequence_editor",
    "maquette",
    "world",
    "tool_settings",
)
"""Pointers to follow."""


_VOLATILE = (
    "rna_type",
    "session_uid",
    "is_evaluated",
    "tag",
    "users",
    "is_updated",
    "is_updated_data",
    "wireframe_color_type",
    "colorspace_settings",
)
"""What Blender changes by itself, or cannot read."""


def _describe(path: str, owner: Any, found: dict[str, Any], depth: int) -> None:
    for prop in owner.bl_rna.properties:
        name = prop.identifier
        if name in _VOLATILE:
            continue
        try:
            value = getattr(owner, name)
        except (AttributeError, RuntimeError):
            continue
        if prop.type in ("BOOLEAN", "INT", "FLOAT", "STRING", "ENUM"):
            if hasattr(value, "__len__") and not isinstance(value, str):
                value = tuple(value) if not hasattr(value, "col") else tuple(tuple(row) for row in value)
                value = tuple(tuple(v) if hasattr(v, "__len__") and not isinstance(v, str) else v for v in value)
            found[f"{path}.{name}"] = value
        elif prop.type == "POINTER":
            found[f"{path}.{name}"] = getattr(value, "name", value is not None)
            if depth and name in _INNER and value is not None:
                _describe(f"{path}.{name}", value, found, depth - 1)
        elif prop.type == "COLLECTION" and name not in ("vertices", "edges", "loops", "polygons", "pixels"):
            found[f"{path}.{name}"] = len(value)
