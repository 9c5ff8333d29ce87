"""Characters of the scene: which meshes they are, what moves them, and what they wear."""

from __future__ import annotations

import itertools

import bpy

from ...backend.shot import ShotError

GEOMETRY = ("MESH", "CURVE", "SURFACE", "META", "FONT", "CURVES", "POINTCLOUD", "VOLUME")
"""Object types that show in a picture."""


def find_characters(scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer) -> list[bpy.types.Object]:
    """Mesh objects marked as characters, in the order of the scene; those disabled in viewport and render are out.

    Raises:
        ShotError: none.
    """
    marked = [o for o in scene.objects if o.type == "MESH" and o.maquette.is_character]
    usable = [o for o in marked if o.name in view_layer.objects and not (o.hide_viewport and o.hide_render)]
    if usable:
        return usable
    if marked:
        raise ShotError(
            "characters",
            f"'{marked[0].name}' is a character but is switched off; enable it in the viewport or in renders, and its "
            "collection in this view layer",
        )
    raise ShotError("characters", "the scene has none; add a body, or mark a mesh object as a character")


def armatures_of(obj: bpy.types.Object) -> list[bpy.types.Object]:
    """Armature objects that deform a mesh object, nearest first."""
    found = [m.object for m in obj.modifiers if m.type == "ARMATURE" and m.object is not None]
    if obj.parent is not None and obj.parent.type == "ARMATURE" and obj.parent_type == "ARMATURE":
        found.append(obj.parent)
    return list(dict.fromkeys(found))


def worn_by(character: bpy.types.Object, scene: bpy.types.Scene) -> set[bpy.types.Object]:
    """What belongs to a character's looks besides its mesh: clothes, hair, eyes, what it holds.

    Everything that hangs below it or its armature, and every mesh the same armature deforms; no other character.
    """
    owners = {character, *armatures_of(character)}
    worn = set()
    for obj in scene.objects:
        if obj.type not in GEOMETRY or obj == character or (obj.type == "MESH" and obj.maquette.is_character):
            continue
        parents = itertools.takewhile(lambda o: o is not None, _ancestors(obj))
        if owners.intersection(parents) or (obj.type == "MESH" and owners.intersection(armatures_of(obj))):
            worn.add(obj)
    return worn


def _ancestors(obj: bpy.types.Object):
    while obj is not None:
        obj = obj.parent
        yield obj
