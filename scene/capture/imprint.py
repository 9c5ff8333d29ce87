"""A digest of everything in a file that a capture of a scene depends on.

It follows the scene's data from datablock to datablock, whoever changed it and by whatever way. Values that keys or
drivers write count by those, not by what they are at the current frame. Where something may matter that cannot be read
(simulations, scripts, image sequences, what is being edited in another mode) there is no digest: then nothing that was
captured before is known to be right.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from typing import Any

import bpy
import numpy as np

from ..marks import is_screen
from ..stage import STAGE, curves_of, others_listen, owner_of


class Unknowable(Exception):
    """Something that a capture depends on cannot be read; the message says what."""


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
_MOST = 400_000
"""Values; a file with more takes longer to read than its frames."""
_MOST_WEIGHTED = 200_000
"""Vertices of a mesh with weights, which Blender gives one by one."""

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
        "y_axis", "z_axis", "center", "is_in_ik_chain", "children", "parent_recursive",
    },
    "Scene": {
        "frame_current", "frame_current_final", "frame_float", "frame_subframe", "frame_preview_start",
        "frame_preview_end", "use_preview_range", "tool_settings", "cursor", "sequence_editor", "statistics", "objects",
        "keying_sets", "keying_sets_all", "grease_pencil", "annotation", "node_tree", "maquette", "uid",
        "transform_orientation_slots", "compositing_node_group", "is_nla_tweakmode", "simulation_frame_start",
        "simulation_frame_end",
    },
    "RenderSettings": {"filepath", "engine_type", "is_movie_format", "file_extension", "has_multiple_engines"},
    "ViewLayer": {"objects", "depsgraph", "active_layer_collection", "active_aov", "active_lightgroup"},
    "Node": {"location", "location_absolute", "width", "height", "dimensions", "hide", "parent", "internal_links"},
    "NodeSocket": {"links", "node", "is_inactive", "is_icon_visible", "inferred_structure_type"},
    "AnimData": {"nla_tracks_active"},
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


def imprint(scene: bpy.types.Scene, more: Iterable[Any] = ()) -> bytes | None:
    """Digest of all that a scene's capture depends on in the open file and the files that it uses.

    Args:
        more: whatever else must be the same.

    Returns:
        None where something cannot be read.
    """
    try:
        return _Reader(scene, more).digest()
    except Unknowable:
        return None


def file_state(path: str) -> tuple[str, int, int]:
    """A file's path, size, and when it was last written (ns); zeros where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return path, 0, 0
    return path, found.st_size, found.st_mtime_ns


class _Reader:
    def __init__(self, scene: bpy.types.Scene, more: Iterable[Any]) -> None:
        self._hash = hashlib.blake2b(digest_size=32)
        self._count = 0
        self._number: dict[tuple[str, int], int] = {}
        self._todo: list[bpy.types.ID] = []
        self._queued: set[int] = set()
        self._written: set[tuple[int, str, int]] = set()
        self._properties: dict[type, list[tuple[str, str, bool]]] = {}
        handlers = bpy.app.handlers
        if others_listen() or handlers.render_init or handlers.render_pre or handlers.render_post:
            raise Unknowable("other add-ons listen to frames or renders")
        if scene.rigidbody_world is not None:
            raise Unknowable("rigid bodies")
        self._tell(list(more))
        self._id(scene)

    def digest(self) -> bytes:
        while self._todo:
            datablock = self._todo.pop()
            self._tell((type(datablock).__name__, datablock.name_full))
            self._datablock(datablock)
        return self._hash.digest()

    def _tell(self, value: Any) -> None:
        self._count += 1
        if self._count > _MOST:
            raise Unknowable("too much to read")
        self._hash.update(repr(value).encode())
        self._hash.update(b"\n")

    def _id(self, datablock: bpy.types.ID) -> str | None:
        """What to call a datablock, which is read in its turn; None for what is not part of the picture."""
        if isinstance(datablock, bpy.types.Object) and is_screen(datablock):
            return None
        if isinstance(datablock, bpy.types.Scene) and STAGE in datablock:
            return None
        if isinstance(datablock, (bpy.types.Library, bpy.types.WindowManager, bpy.types.Screen, bpy.types.WorkSpace)):
            return datablock.name_full
        if datablock.as_pointer() not in self._queued:
            self._queued.add(datablock.as_pointer())
            self._todo.append(datablock)
        return datablock.name_full

    def _datablock(self, datablock: bpy.types.ID) -> None:
        if not any(base.__name__ in _READ for base in type(datablock).__mro__):
            raise Unknowable(type(datablock).__name__)
        animation = getattr(datablock, "animation_data", None)
        if animation is not None:
            for curve in (*curves_of(animation), *animation.drivers):
                driver = getattr(curve, "driver", None)
                if driver is not None and driver.type == "SCRIPTED" and not driver.is_simple_expression:
                    raise Unknowable("a scripted driver")
                try:
                    owner, attribute = owner_of(datablock, curve.data_path)
                except (ValueError, KeyError, AttributeError, TypeError):
                    continue  # A curve whose target is gone writes nothing.
                self._written.add((owner.as_pointer(), attribute, curve.array_index))
        if isinstance(datablock, bpy.types.Image):
            self._image(datablock)
            return
        if isinstance(datablock, bpy.types.VectorFont):
            self._tell(file_state(bpy.path.abspath(datablock.filepath, library=datablock.library)))
            return
        if isinstance(datablock, bpy.types.Object):
            if datablock.mode not in ("OBJECT", "POSE"):
                raise Unknowable(f"{datablock.mode} mode")
            if any(modifier.type in _MODIFIERS for modifier in datablock.modifiers):
                raise Unknowable("a simulation")
        if isinstance(datablock, bpy.types.Mesh):
            self._mesh(datablock)
        self._struct(datablock)

    def _struct(self, owner: Any) -> None:
        """All properties of a datablock or a part of one."""
        pointer = owner.as_pointer()
        key = (type(owner).__name__, pointer)
        if key in self._number:
            self._tell(self._number[key])
            return
        self._number[key] = len(self._number)
        if isinstance(owner, bpy.types.FCurve) and len(owner.keyframe_points):
            for name, width, kind in _KEYS:
                self._array(owner.keyframe_points, name, width, kind)
        elif isinstance(owner, bpy.types.ShapeKey):
            self._array(owner.data, "co", 3, np.float32)
        elif isinstance(owner, bpy.types.Node) and owner.bl_idname in _IN_NODES:
            raise Unknowable(owner.bl_idname)
        for name, kind, is_array in self._of(type(owner)):
            if isinstance(owner, bpy.types.FCurve) and name in ("keyframe_points", "sampled_points"):
                continue
            if isinstance(owner, bpy.types.ShapeKey) and name in ("data", "points"):
                continue
            value = getattr(owner, name)
            if kind == "POINTER":
                if value is None:
                    continue
                if isinstance(value, bpy.types.ID) and not value.is_embedded_data:
                    self._tell((name, self._id(value)))
                elif isinstance(value, bpy.types.bpy_struct):
                    self._tell(name)
                    self._struct(value)
            elif kind == "COLLECTION":
                self._tell(name)
                for item in value:
                    if isinstance(item, bpy.types.ID) and not item.is_embedded_data:
                        called = self._id(item)
                        if called is not None:
                            self._tell(called)
                    else:
                        self._tell("item")
                        self._struct(item)
            else:
                self._value(pointer, name, value, is_array)
        self._custom(owner, pointer)

    def _value(self, pointer: int, name: str, value: Any, is_array: bool) -> None:
        if not is_array:
            if (pointer, name, 0) not in self._written:
                self._tell((name, sorted(value) if isinstance(value, set) else value))
            return
        flat = [x for row in value for x in (row if hasattr(row, "__len__") else (row,))]
        self._tell((name, [None if (pointer, name, i) in self._written else x for i, x in enumerate(flat)]))

    def _custom(self, owner: Any, pointer: int) -> None:
        """Custom properties, which hold what modifiers give to their nodes."""
        try:
            names = owner.keys()
        except (TypeError, AttributeError):
            return
        for name in sorted(names):
            if name in ("maquette", "cycles") or (pointer, f'["{name}"]', 0) in self._written:
                continue
            value = owner[name]
            if isinstance(value, bpy.types.ID):
                self._tell((name, self._id(value)))
            else:
                for part in ("to_dict", "to_list"):
                    value = getattr(value, part)() if hasattr(value, part) else value
                self._tell((name, value))

    def _of(self, kind: type) -> list[tuple[str, str, bool]]:
        """Properties of a class that count: name, kind, and whether it is an array."""
        known = self._properties.get(kind)
        if known is None:
            left_out = _NEVER.union(*(_LEFT_OUT.get(base.__name__, ()) for base in kind.__mro__))
            known = self._properties[kind] = [
                (prop.identifier, prop.type, getattr(prop, "is_array", False))
                for prop in kind.bl_rna.properties  # type: ignore[attr-defined]
                if prop.identifier not in left_out
            ]
        return known

    def _array(self, items: Any, name: str, width: int, kind: type) -> None:
        values = np.empty(width * len(items), dtype=kind)
        if values.size:
            items.foreach_get(name, values)
        self._tell((name, len(items)))
        self._hash.update(values.tobytes())

    def _mesh(self, mesh: bpy.types.Mesh) -> None:
        for attribute in mesh.attributes:
            self._tell((attribute.name, attribute.domain, attribute.data_type))
            if attribute.data_type not in _ARRAYS:
                raise Unknowable(f"attributes of type {attribute.data_type}")
            self._array(attribute.data, *_ARRAYS[attribute.data_type])
        self._array(mesh.polygons, "loop_total", 1, np.int32)
        if len(mesh.vertices) > _MOST_WEIGHTED:
            raise Unknowable("too many vertices")
        self._hash.update(repr([[(g.group, g.weight) for g in v.groups] for v in mesh.vertices]).encode())

    def _image(self, image: bpy.types.Image) -> None:
        if image.source not in ("FILE", "GENERATED"):
            raise Unknowable(f"an image of source {image.source}")
        self._tell((image.colorspace_settings.name, image.alpha_mode, image.source, image.is_dirty))
        if image.packed_file is not None:
            self._hash.update(bytes(image.packed_file.data))
        elif image.filepath:
            self._tell(file_state(bpy.path.abspath(image.filepath, library=image.library)))
        if image.is_dirty or image.source == "GENERATED":
            self._tell((tuple(image.size), image.generated_type, tuple(image.generated_color)))
            values = np.empty(len(image.pixels), dtype=np.float32)
            image.pixels.foreach_get(values)
            self._hash.update(values.tobytes())
