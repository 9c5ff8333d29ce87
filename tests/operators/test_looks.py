"""Further references of a character."""

from __future__ import annotations

import importlib
from types import ModuleType

import bpy
import pytest

from ..scene.builders import module


@pytest.fixture
def cube(addon: ModuleType) -> bpy.types.Object:
    bpy.ops.mesh.primitive_cube_add()
    bpy.context.object.maquette.is_character = True
    return bpy.context.object


def names(obj: bpy.types.Object) -> list[str]:
    return [entry.name for entry in obj.maquette.references]


def test_references_are_added_at_the_current_frame_and_removed(cube: bpy.types.Object) -> None:
    scene = bpy.context.scene
    scene.frame_current = 7
    assert bpy.ops.maquette.add_reference() == {"FINISHED"}
    cube.maquette.reference_source = "IMAGE"
    for _ in range(4):
        bpy.ops.maquette.add_reference()
    assert names(cube) == ["Back", "Face", "Left Side", "Right Side", "Picture 2"]
    first, second = cube.maquette.references[:2]
    assert (first.source, first.frame, second.source) == ("RENDER", 7, "IMAGE")
    assert bpy.ops.maquette.remove_reference(index=1) == {"FINISHED"}
    assert bpy.ops.maquette.remove_reference() == {"FINISHED"}
    assert names(cube) == ["Back", "Left Side", "Right Side"]
    bpy.ops.maquette.add_reference()
    assert names(cube)[-1] == "Face"


def test_of_a_body_its_armature_is_enough(addon: ModuleType) -> None:
    bpy.ops.maquette.add_body()
    assert bpy.context.active_object.type == "ARMATURE"
    bpy.ops.maquette.add_reference()
    assert names(next(o for o in bpy.data.objects if o.type == "MESH")) == ["Back"]


def test_what_cannot_be_is_said(addon: ModuleType, cube: bpy.types.Object) -> None:
    with pytest.raises(RuntimeError, match="no entry 3: it holds 0"):
        bpy.ops.maquette.remove_reference(index=3)
    with pytest.raises(RuntimeError, match="no entry -1"):
        bpy.ops.maquette.remove_reference()
    most = module(addon, "backend.shot.validate").MAX_REFERENCES
    for _ in range(most):
        bpy.ops.maquette.add_reference()
    assert len(set(names(cube))) == most
    with pytest.raises(RuntimeError, match=f"{most} further references are the most"):
        bpy.ops.maquette.add_reference()
    cube.maquette.reference_source = "NONE"
    assert not bpy.ops.maquette.add_reference.poll()
    cube.maquette.reference_source, cube.maquette.is_character = "RENDER", False
    assert not bpy.ops.maquette.add_reference.poll()


def test_adding_and_removing_are_undone_in_one_step(cube: bpy.types.Object) -> None:
    name = cube.name
    bpy.ops.ed.undo_push(message="before")
    bpy.ops.maquette.add_reference("EXEC_DEFAULT", True)
    bpy.ops.maquette.remove_reference("EXEC_DEFAULT", True, index=0)
    assert names(bpy.data.objects[name]) == []
    bpy.ops.ed.undo()
    assert names(bpy.data.objects[name]) == ["Back"]
    bpy.ops.ed.undo()
    assert names(bpy.data.objects[name]) == []


def test_an_armature_offers_the_largest_mesh_that_it_moves(addon):
    looks = importlib.import_module(f"{addon.__name__}.operators.looks")
    bpy.ops.object.armature_add()
    armature = bpy.context.object
    for size in (2, 3):
        bpy.ops.mesh.primitive_grid_add(x_subdivisions=size, y_subdivisions=size)
        bpy.context.object.name = f"Grid {size}"
        bpy.context.object.modifiers.new("Armature", "ARMATURE").object = armature
    bpy.ops.mesh.primitive_grid_add(x_subdivisions=9)
    bpy.context.view_layer.objects.active = armature
    assert looks.active_character(bpy.context).name == "Grid 3"
    bpy.data.objects["Grid 2"].maquette.is_character = True
    assert looks.active_character(bpy.context).name == "Grid 2", "the one that performs comes first"
