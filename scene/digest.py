"""What a datablock is set to, part by part: whoever has set it, and by whatever way.

Values that keys or drivers write are left out: their curves say what they are. Where something may matter that cannot
be read (simulations, scripts, image sequences, what is being edited in another mode) that is said as a doubt.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import bpy
import numpy as np

from .marks import is_screen
from .stage import STAGE, curves_of, others_listen, owner_of

_READ = (
    "Action", "Armature", "Camera", "Collection", "Curve", "Image", "Key", "Lattice", "Light", "LightProbe",
    "Material", "Mesh", "MetaBall", "NodeTree", "Object", "Scene", "Speaker", "SurfaceCurve", "TextCurve", "Texture",
    "VectorFont", "World",
)  # fmt: skip
"""Datablocks that can be read whole."""
_MODIFIERS = {
    "CLOTH", "COLLISION", "DYNAMIC_PAINT", "EXPLODE", "FLUID", "MESH_CACHE", "MESH_SEQUENCE_CACHE", "MULTIRES", "OCEAN",
    "PARTICLE_INSTANCE", "PARTICLE_SYSTEM", "SOFT_BODY", "SURFACE",
}  # fmt: skip
"""Modifiers whose result depends on more than their settings."""
_IN_NODES = {
    "GeometryNodeSimulationInput", "GeometryNodeSimulationOutput", "GeometryNodeBake", "ShaderNodeScript",
    "GeometryNodeImportOBJ", "GeometryNodeImportPLY", "GeometryNodeImportSTL", "GeometryNodeImportCSV",
    "GeometryNodeImportText", "GeometryNodeImportVDB", "GeometryNodeInputActiveCamera", "GeometryNodeViewer",
}  # fmt: skip
_AT_ONCE = 1500
"""Vertices whose weights are one part: Blender gives them one by one."""
_MOST_WEIGHTED = 200_000
"""Vertices of a mesh whose weights are read."""

_SHOT = ("background", "background_path", "points", "render_engine")
_BESIDE = (bpy.types.Library, bpy.types.WindowManager, bpy.types.Screen, bpy.types.WorkSpace)

_PLAYERS = (bpy.types.AnimData, bpy.types.NlaStrip)
"""The curves of their actions are the owner's own."""

_NEVER = {
    "rna_type", "id_data", "name_full", "session_uid", "is_evaluated", "tag", "users", "use_fake_user",
    "use_extra_user", "original", "preview", "asset_data", "is_runtime_data", "is_library_indirect", "is_missing",
    "library_weak_reference", "select", "select_head", "select_tail", "show_expanded", "is_expanded", "execution_time",
    "persistent_uid", "is_embedded_data", "is_editable", "ui_icon", "color_tag",
}  # fmt: skip
_LEFT_OUT = {
    "Camera": {"background_images"},
    "Collection": {"all_objects", "exporters", "collection_children", "collection_objects"},
    "Light": {"cycles_visibility"},
    "Mesh": {
        "attributes", "color_attributes", "corner_normals", "edges", "loop_triangle_polygons", "loop_triangles",
        "loops", "polygon_normals", "polygons", "skin_vertices", "uv_layers", "vertex_colors", "vertex_normals",
        "vertices", "uv_layer_clone", "uv_layer_stencil", "normals_domain", "has_custom_normals", "is_editmode",
    },
    "Object": {
        "bound_box", "dimensions", "matrix_basis", "matrix_local", "matrix_world", "mode", "is_instancer",
        "is_from_instancer", "is_from_set", "motion_path", "use_dynamic_topology_sculpting",
        "active_material", "active_material_index", "active_selection_set",
    },
    "PoseBone": {
        "head", "tail", "length", "matrix", "matrix_basis", "matrix_channel", "motion_path", "vector", "x_axis",
        "y_axis", "z_axis", "center", "is_in_ik_chain", "children", "parent_recursive", "bone",
    },
    "Scene": {
        "frame_start", "frame_end", "frame_step", "timeline_markers",
        "frame_current", "frame_current_final", "frame_float", "frame_subframe", "frame_preview_start",
        "frame_preview_end", "use_preview_range", "tool_settings", "cursor", "sequence_editor", "statistics", "objects",
        "keying_sets", "keying_sets_all", "grease_pencil", "annotation", "node_tree", "maquette", "uid",
        "transform_orientation_slots", "compositing_node_group", "is_nla_tweakmode", "simulation_frame_start",
        "simulation_frame_end",
    },
    "CyclesRenderSettings": {"denoiser", "preview_denoiser"},
    "RenderSettings": {
        "filepath", "engine_type", "is_movie_format", "file_extension", "has_multiple_engines", "bake", "ffmpeg",
        "image_settings",
    },
    "View3DShading": {"wireframe_color_type"},
    "ViewLayer": {
        "freestyle_settings", "objects", "depsgraph", "active_layer_collection", "active_aov", "active_lightgroup",
    },
    "Node": {"location", "location_absolute", "width", "height", "dimensions", "hide", "parent", "internal_links"},
    "NodeSocket": {"links", "node", "is_inactive", "is_icon_visible", "inferred_structure_type"},
    "Action": {"layers", "fcurves", "groups", "curve_frame_range", "frame_range", "pose_markers"},
    "AnimData": {"drivers", "nla_tracks_active"},
    "FCurve": {
        "keyframe_points", "sampled_points", "color", "color_mode", "auto_smoothing", "group", "hide", "lock",
        "is_empty", "is_valid",
    },
    "ShapeKey": {"data", "points"},
    "Bone": {"children", "use_scale_easing"},
    "NodeTree": {"active_input", "active_output", "debug_lazy_function_graph", "debug_zone_body_lazy_function_graph",
                 "debug_zone_lazy_function_graph", "animation_data_view", "view_center", "type_info"},
}  # fmt: skip
"""By class: what evaluation, the interface or the current frame writes, and what renders do not show."""

_ARRAYS = {
    "FLOAT": ("value", 1, np.float32), "INT": ("value", 1, np.int32), "FLOAT_VECTOR": ("vector", 3, np.float32),
    "FLOAT_COLOR": ("color", 4, np.float32), "BYTE_COLOR": ("color", 4, np.float32), "BOOLEAN": ("value", 1, np.bool_),
    "FLOAT2": ("vector", 2, np.float32), "INT8": ("value", 1, np.int32), "INT16_2D": ("value", 2, np.int32),
    "INT32_2D": ("value", 2, np.int32), "QUATERNION": ("value", 4, np.float32), "FLOAT4X4": ("value", 16, np.float32),
}  # fmt: skip
_KEYS = (
    ("co", 2, np.float32), ("handle_left", 2, np.float32), ("handle_right", 2, np.float32),
    ("interpolation", 1, np.int32), ("easing", 1, np.int32), ("amplitude", 1, np.float32), ("back", 1, np.float32),
    ("period", 1, np.float32),
)  # fmt: skip


def file_state(path: str) -> tuple[str, int, int]:
    """A file's path, size, and when it was last written (ns); zeros where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return path, 0, 0
    return path, found.st_size, found.st_mtime_ns


def scene_doubts(scene: bpy.types.Scene) -> Iterator[str]:
    """Why frames of a scene may differ by more than its datablocks say."""
    handlers = bpy.app.handlers
    if others_listen() or handlers.render_init or handlers.render_pre or handlers.render_post:
        yield "other add-ons listen to frames or renders"
    if scene.rigidbody_world is not None:
        yield "rigid bodies"
    if scene.render.use_freestyle:
        yield "Freestyle"


def curve_parts(curve: bpy.types.FCurve) -> Iterator[Any]:
    """All that determines the values of an F-curve."""
    yield curve.extrapolation, curve.mute, [tuple(_simple(modifier)) for modifier in curve.modifiers]
    for name, width, kind in _KEYS if len(curve.keyframe_points) else ():
        yield _array(curve.keyframe_points, name, width, kind)


class Reading:
    """One datablock, as it is read.

    Attributes:
        named: the datablocks that it points to.
        doubts: why it may be more than is read.
        divided: whether the next part may be taken later, when the datablock may have changed.
    """

    def __init__(self, datablock: bpy.types.ID) -> None:
        self.named: list[bpy.types.ID] = []
        self.doubts: list[str] = []
        self.divided = False
        self._of = datablock
        self._number: dict[tuple[str, int], int] = {}
        self._structs: list[Any] = []
        self._written: set[tuple[int, str, int]] = set()

    def parts(self) -> Iterator[Any]:
        """Values and bytes, all to be taken before anything can change; but see ``divided``."""
        datablock = self._of
        if not any(base.__name__ in _READ for base in type(datablock).__mro__):
            self.doubts.append(type(datablock).__name__)
            return
        animation = getattr(datablock, "animation_data", None)
        if animation is not None:
            yield from self._animation(animation)
        if isinstance(datablock, bpy.types.Image):
            yield from self._image(datablock)
            return
        if isinstance(datablock, bpy.types.VectorFont):
            yield file_state(bpy.path.abspath(datablock.filepath, library=datablock.library))
            return
        if isinstance(datablock, bpy.types.Object):
            if datablock.mode not in ("OBJECT", "POSE"):
                self.doubts.append(f"{datablock.mode} mode")
            if any(modifier.type in _MODIFIERS for modifier in datablock.modifiers):
                self.doubts.append("a simulation")
        if isinstance(datablock, bpy.types.Scene):
            yield sorted((m.frame, self._id(m.camera)) for m in datablock.timeline_markers if m.camera is not None)
            yield [getattr(datablock.maquette, name) for name in _SHOT]
        self._structs.append(datablock)
        while self._structs:
            yield from self._struct(self._structs.pop())
        if isinstance(datablock, bpy.types.Mesh):
            self.divided = True
            yield from self._mesh(datablock)

    def _id(self, datablock: bpy.types.ID) -> str | None:
        """What to call a datablock; None for what is not part of the picture."""
        if isinstance(datablock, bpy.types.Object) and is_screen(datablock):
            return None
        if isinstance(datablock, bpy.types.Scene) and STAGE in datablock:
            return None
        if not isinstance(datablock, _BESIDE):
            self.named.append(datablock)
        return datablock.name_full

    def _animation(self, animation: bpy.types.AnimData) -> Iterator[Any]:
        """Which values are written, and by which drivers; see ``curve_parts`` for the keys."""
        self.divided = True
        for index in range(len(animation.drivers)):
            now = self._of.animation_data  # type: ignore[attr-defined]
            if now is None or index >= len(now.drivers):
                break
            driven = now.drivers[index]
            driver = driven.driver
            if driver.type == "SCRIPTED" and not driver.is_simple_expression:
                self.doubts.append("a scripted driver")
            told = [
                (each.name, each.type, [self._target(t, each.type) for t in each.targets]) for each in driver.variables
            ]
            yield driven.data_path, driven.array_index, driver.type, driver.expression, driver.use_self, told
            yield from curve_parts(driven)
        self.divided = False
        animation = self._of.animation_data  # type: ignore[attr-defined]
        if animation is None:
            return
        curves = [curve for curve in curves_of(animation) if not curve.mute]
        paths: dict[str, tuple[Any, str] | None] = {}
        for curve in (*curves, *animation.drivers):
            path = curve.data_path
            if path not in paths:
                try:
                    paths[path] = owner_of(self._of, path)
                except (ValueError, KeyError, AttributeError, TypeError):
                    paths[path] = None  # A curve whose target is gone writes nothing.
            if (found := paths[path]) is not None:
                self._written.add((found[0].as_pointer(), found[1], curve.array_index))
        yield None

    def _target(self, target: bpy.types.DriverTarget, kind: str) -> Any:
        of = None if target.id is None else self._id(target.id)
        if kind == "SINGLE_PROP":
            return of, target.data_path, target.use_fallback_value, target.fallback_value
        return of, tuple(_simple(target))

    def _struct(self, owner: Any) -> Iterator[Any]:
        """All properties of a datablock or a part of one; parts within it are read later."""
        pointer = owner.as_pointer()
        key = (type(owner).__name__, pointer)
        if key in self._number:
            yield self._number[key]
            return
        number = self._number[key] = len(self._number)
        if isinstance(owner, bpy.types.ShapeKey):
            yield _array(owner.data, "co", 3, np.float32)
        elif isinstance(owner, bpy.types.FCurve):
            yield from curve_parts(owner)
        elif isinstance(owner, bpy.types.Node) and owner.bl_idname in _IN_NODES:
            self.doubts.append(owner.bl_idname)
        told: list[Any] = [number]
        for name, kind, is_array in _properties_of(type(owner)):
            value = getattr(owner, name)
            if kind == "POINTER":
                if isinstance(value, bpy.types.Action) and not isinstance(owner, _PLAYERS):
                    for curve in _all_curves(value):
                        yield from curve_parts(curve)
                elif isinstance(value, bpy.types.ID) and not value.is_embedded_data:
                    told.append((name, self._id(value)))
                elif isinstance(value, bpy.types.bpy_struct):
                    told.append(name)
                    self._structs.append(value)
            elif kind == "COLLECTION":
                told.append((name, [called for item in value if (called := self._item(item)) is not None]))
            elif is_array:
                flat = [x for row in value for x in (row if hasattr(row, "__len__") else (row,))]
                told.append([None if (pointer, name, i) in self._written else x for i, x in enumerate(flat)])
            elif (pointer, name, 0) not in self._written:
                told.append(sorted(value) if isinstance(value, set) else value)
        told += self._custom(owner, pointer)
        yield told

    def _item(self, item: Any) -> str | None:
        if isinstance(item, bpy.types.ID) and not item.is_embedded_data:
            return self._id(item)
        self._structs.append(item)
        return ""

    def _custom(self, owner: Any, pointer: int) -> Iterator[Any]:
        """Custom properties, which hold what modifiers give to their nodes."""
        if isinstance(owner, bpy.types.PropertyGroup):
            return  # They hold the values of its properties, from the first time that these are asked for.
        try:
            names = owner.keys()
        except (TypeError, AttributeError):
            return
        for name in sorted(names):
            if name in ("maquette", "cycles") or (pointer, f'["{name}"]', 0) in self._written:
                continue
            value = owner[name]
            if isinstance(value, bpy.types.ID):
                yield name, self._id(value)
            else:
                for part in ("to_dict", "to_list"):
                    value = getattr(value, part)() if hasattr(value, part) else value
                yield name, value

    def _mesh(self, mesh: bpy.types.Mesh) -> Iterator[Any]:
        """What is no property of a mesh, divided."""
        for name in list(mesh.attributes.keys()):
            attribute = mesh.attributes.get(name)
            if attribute is None:
                continue
            yield name, attribute.domain, attribute.data_type
            if (attribute := mesh.attributes.get(name)) is not None and attribute.data_type in _ARRAYS:
                yield _array(attribute.data, *_ARRAYS[attribute.data_type])
            elif attribute is not None:
                self.doubts.append(f"attributes of type {attribute.data_type}")
        yield _array(mesh.polygons, "loop_total", 1, np.int32)
        count = len(mesh.vertices)
        if count > _MOST_WEIGHTED:
            self.doubts.append("too many vertices")
            return
        for first in range(0, count, _AT_ONCE):
            some = mesh.vertices[first : first + _AT_ONCE]
            told = [x for vertex in some for group in vertex.groups for x in (group.group, group.weight, vertex.index)]
            yield np.array(told).tobytes()

    def _image(self, image: bpy.types.Image) -> Iterator[Any]:
        if image.source not in ("FILE", "GENERATED"):
            self.doubts.append(f"an image of source {image.source}")
            return
        yield image.colorspace_settings.name, image.alpha_mode, image.source, image.is_dirty
        if image.packed_file is not None:
            yield bytes(image.packed_file.data)
        elif image.filepath:
            yield file_state(bpy.path.abspath(image.filepath, library=image.library))
        if image.is_dirty or image.source == "GENERATED":
            yield tuple(image.size), image.generated_type, tuple(image.generated_color)
            values = np.empty(len(image.pixels), dtype=np.float32)
            image.pixels.foreach_get(values)
            yield values.tobytes()


def _all_curves(action: bpy.types.Action) -> Iterator[bpy.types.FCurve]:
    if not hasattr(action, "layers"):  # Until 4.3.
        yield from action.fcurves
        return
    for layer in action.layers:
        for strip in layer.strips:
            for bag in strip.channelbags:
                yield from bag.fcurves


def _array(items: Any, name: str, width: int, kind: type) -> bytes:
    values = np.empty(width * len(items), dtype=kind)
    if values.size:
        items.foreach_get(name, values)
    return values.tobytes()


def _simple(struct: Any) -> Iterator[Any]:
    """All values of a struct; what it points to is left out."""
    for name, kind, is_array in _properties_of(type(struct)):
        if kind not in ("POINTER", "COLLECTION"):
            value = getattr(struct, name)
            yield tuple(value) if is_array else value


_known: dict[type, list[tuple[str, str, bool]]] = {}


def _properties_of(kind: type) -> list[tuple[str, str, bool]]:
    """Properties of a class that count: name, kind, and whether it is an array."""
    if kind not in _known:
        left_out = _NEVER.union(*(_LEFT_OUT.get(base.__name__, ()) for base in kind.__mro__))
        _known[kind] = [
            (prop.identifier, prop.type, getattr(prop, "is_array", False))
            for prop in kind.bl_rna.properties  # type: ignore[attr-defined]
            if prop.identifier not in left_out
        ]
    return _known[kind]
