"""Picking what is followed through the shot."""

from __future__ import annotations

from types import ModuleType

import bmesh
import bpy
import pytest


@pytest.fixture
def scene(addon: ModuleType) -> bpy.types.Scene:
    return bpy.context.scene


def names(scene: bpy.types.Scene) -> list[str]:
    return [track.name for track in scene.maquette.tracks]


def test_objects_are_followed_by_their_origins(scene: bpy.types.Scene) -> None:
    for _ in range(2):
        bpy.ops.object.empty_add()
    bpy.ops.object.select_all(action="SELECT")
    assert bpy.ops.maquette.add_tracks() == {"FINISHED"}
    assert sorted(names(scene)) == ["Empty", "Empty.001"]
    assert all(track.vertex == -1 and track.object.type == "EMPTY" for track in scene.maquette.tracks)
    bpy.ops.maquette.add_tracks()
    assert len(scene.maquette.tracks) == 2  # none is added twice


def test_vertices_are_followed_by_their_numbers(scene: bpy.types.Scene) -> None:
    bpy.ops.mesh.primitive_cube_add()
    cube = bpy.context.object
    bpy.ops.object.mode_set(mode="EDIT")
    mesh = bmesh.from_edit_mesh(cube.data)
    mesh.verts.ensure_lookup_table()
    for vertex in mesh.verts:
        vertex.select = vertex.index in (2, 5)
    mesh.select_flush(False)
    assert bpy.ops.maquette.add_tracks() == {"FINISHED"}
    bpy.ops.object.mode_set(mode="OBJECT")
    found = {(track.name, track.object, track.vertex) for track in scene.maquette.tracks}
    assert found == {("Cube vertex 2", cube, 2), ("Cube vertex 5", cube, 5)}


def test_nothing_selected(scene: bpy.types.Scene) -> None:
    assert not bpy.ops.maquette.add_tracks.poll()
    bpy.ops.mesh.primitive_cube_add()
    bpy.ops.object.mode_set(mode="EDIT")
    bpy.ops.mesh.select_all(action="DESELECT")
    with pytest.raises(RuntimeError, match="No vertex is selected"):
        bpy.ops.maquette.add_tracks()


def test_a_slip_on_a_dense_mesh_is_refused(scene: bpy.types.Scene) -> None:
    bpy.ops.mesh.primitive_grid_add(x_subdivisions=40, y_subdivisions=40)
    bpy.ops.object.mode_set(mode="EDIT")
    bpy.ops.mesh.select_all(action="SELECT")
    with pytest.raises(RuntimeError, match="at most 512"):
        bpy.ops.maquette.add_tracks()
    assert not scene.maquette.tracks


def test_remove_and_clear(scene: bpy.types.Scene) -> None:
    assert not bpy.ops.maquette.remove_track.poll() and not bpy.ops.maquette.clear_tracks.poll()
    for _ in range(3):
        bpy.ops.object.empty_add()
        bpy.ops.maquette.add_tracks()
    assert scene.maquette.active_track == 2
    with pytest.raises(RuntimeError, match="no entry 7"):
        bpy.ops.maquette.remove_track(index=7)
    assert bpy.ops.maquette.remove_track() == {"FINISHED"} and names(scene) == ["Empty", "Empty.001"]
    assert scene.maquette.active_track == 1
    assert bpy.ops.maquette.clear_tracks() == {"FINISHED"} and not scene.maquette.tracks


def test_what_is_gone_is_told(addon: ModuleType, scene: bpy.types.Scene) -> None:
    from importlib import import_module

    bpy.ops.mesh.primitive_cube_add()
    cube = bpy.context.object
    bpy.ops.maquette.add_tracks()
    carries = import_module(f"{addon.__name__}.scene.job.model_checks").carries
    assert carries(scene, scene.maquette.tracks[0])
    scene.maquette.tracks[0].vertex = 99
    assert not carries(scene, scene.maquette.tracks[0])
    scene.maquette.tracks[0].vertex = -1
    scene.collection.objects.unlink(cube)
    assert not carries(scene, scene.maquette.tracks[0])
