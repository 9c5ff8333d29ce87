"""Which points the camera sees, against ray casts."""

from __future__ import annotations

import bpy
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mathutils import Vector
from mathutils.bvhtree import BVHTree

from ..builders import add_box, add_camera, add_mesh, add_performer, cylinder, module, small_scene


@pytest.fixture
def visibility(addon):
    return module(addon, "scene.capture.visibility")


@pytest.fixture(scope="module")
def occluded():
    """The pure part needs no add-on."""
    from maquette.scene.capture import occlusion

    return occlusion


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), size=st.sampled_from([0.05, 0.4, 3.0, 30.0]))
def test_triangles_hide_what_a_ray_tree_says_they_hide(occluded, seed, size):
    """Random triangles, many of them reaching behind the camera, against mathutils' BVHTree."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 400))
    centres = rng.uniform(-6, 6, (count, 1, 3)) + [0, 0, 4]
    corners = (centres + rng.normal(size=(count, 3, 3)) * size).astype(np.float32)
    points = rng.uniform(-1, 1, (150, 3)) * [3, 3, 0] + np.column_stack(
        [np.zeros(150), np.zeros(150), rng.uniform(0.5, 12, 150)]
    )
    near, limit = 0.1, np.full(150, 0.999)
    vertices = corners.reshape(-1, 3)
    triangles = np.arange(3 * count).reshape(-1, 3)
    grid = occluded.PointGrid(points)
    found = occluded.occluded(np.ascontiguousarray(vertices.T), np.ascontiguousarray(triangles.T), grid, limit, near)

    tree = BVHTree.FromPolygons(vertices.tolist(), triangles.tolist())
    start = points * (near / points[:, 2:])
    expected = []
    for a, p, share in zip(start, points, limit, strict=True):
        reach = np.linalg.norm(p * share - a)
        expected.append(tree.ray_cast(Vector(a), Vector(p - a), reach)[0] is not None)
    # Rays through an edge may go either way in single precision.
    assert (found != np.array(expected)).sum() <= 1


def brute_force(scene, depsgraph, view, points, margin):
    """One scene.ray_cast a point."""
    eye = -view.viewmat[:3, :3].T @ view.viewmat[:3, 3]
    camera = points @ view.viewmat[:3, :3].T + view.viewmat[:3, 3]
    uv = camera @ view.K.T
    uv = uv[:, :2] / uv[:, 2:]
    seen = (camera[:, 2] > view.clip_start) & (camera[:, 2] < view.clip_end)
    seen &= ((uv >= 0) & (uv <= [view.width, view.height])).all(axis=1)
    for index in np.flatnonzero(seen):
        start = eye + (points[index] - eye) * (view.clip_start / camera[index, 2])
        way = points[index] - start
        length = np.linalg.norm(way)
        seen[index] = not scene.ray_cast(depsgraph, Vector(start), Vector(way / length), distance=length - margin)[0]
    return seen


@pytest.mark.parametrize("force_rays", [None, True, False])
def test_a_moving_scene_agrees_with_ray_casts(addon, visibility, force_rays):
    """Bending bodies, boxes, a floor, a text and instances, over frames and camera places: 6,000 points."""
    state, characters = module(addon, "scene.stage"), module(addon, "scene.capture.characters")
    cameras = module(addon, "scene.camera.matrices")
    scene = small_scene()
    performers = [add_performer("A", (-0.4, 0, 0)), add_performer("B", (0.5, 0.7, 0), bend=-1.2)]
    rng = np.random.default_rng(3)
    for index in range(12):
        add_box(f"Box{index}", 0.3, (*rng.uniform(-1.5, 1.5, 2), rng.uniform(0, 2)))
    add_mesh("Floor", [(-9, -9, 0), (9, -9, 0), (9, 9, 0), (-9, 9, 0)], [(0, 1, 2, 3)])
    text = bpy.data.objects.new("Text", bpy.data.curves.new("Text", "FONT"))
    text.data.body, text.location, text.rotation_euler.x = "MAQUETTE", (-1.5, -1, 1), 1.5
    scene.collection.objects.link(text)
    group = bpy.data.collections.new("Group")
    group.objects.link(add_box("Part", 0.4, (0, 0, 0)))
    instance = bpy.data.objects.new("Instance", None)
    instance.instance_type, instance.instance_collection, instance.location = "COLLECTION", group, (0.6, -1.5, 1.4)
    scene.collection.objects.link(instance)
    camera = add_camera((0, -5, 1.2))
    camera.data.lens = 22
    for frame, place in ((1, (0, -5, 1.2)), (9, (4, -1, 2.0))):
        camera.location = place
        camera.keyframe_insert("location", frame=frame)
    camera.constraints.new("TRACK_TO").target = text
    layer = bpy.context.view_layer
    different = total = 0
    with state.scene_kept(scene, layer) as keeper:
        stage = state.open_stage(scene, layer, keeper.changes, list(scene.objects))
        crew = characters.prepare(stage, performers, 300, 1)
        occluders = visibility.Occluders({p.object: i for i, p in enumerate(crew)}, {}, lambda obj: False)
        occluders.force_rays = force_rays
        for frame in range(1, 11):
            depsgraph = stage.at(frame)
            view = cameras.read_camera(stage.scene, depsgraph)
            read = [p.read(depsgraph) for p in crew]
            points = np.concatenate([r[0] for r in read])
            height = np.repeat([p.height for p in crew], 300)
            targets = visibility.VisibilityQuery.on_skin(points, height, np.repeat([0, 1], 300))
            known = {p.object: r[1] for p, r in zip(crew, read, strict=True)}
            found = occluders.look(depsgraph, view, targets, known).seen
            expected = brute_force(stage.scene, depsgraph, view, points, visibility.SELF_MARGIN * height[0])
            different += (found != expected).sum()
            total += len(found)
            assert 20 < found.sum() < 580
    print(f"{different} of {total} points differ from ray casts")
    assert different <= 0.002 * total


def seen_share(addon, name="Dancer") -> float:
    capture = module(addon, "scene.capture.shot")
    shot = capture.capture_shot(bpy.context)
    return float(next(c for c in shot.characters if c.name == name).visibility.mean())


@pytest.fixture
def stage_set(addon):
    """A performer before a camera, and a wall between them that hides it."""
    scene = small_scene(frames=2)
    mesh = add_performer(frames=(1, 50))
    mesh.maquette.reference_source = "NONE"
    add_camera((0, -6, 1))
    wall = add_mesh("Wall", [(-3, -2, -1), (3, -2, -1), (3, -2, 4), (-3, -2, 4)], [(0, 1, 2, 3)])
    return scene, mesh, wall


def _in_hidden_collection(wall):
    group = bpy.data.collections.new("Off")
    bpy.context.scene.collection.children.link(group)
    bpy.context.scene.collection.objects.unlink(wall)
    group.objects.link(wall)
    group.hide_render = True


@pytest.mark.parametrize(
    ("change", "hides"),
    [
        (lambda w: None, True),
        (lambda w: setattr(w, "hide_viewport", True), True),
        (lambda w: w.hide_set(True), True),
        (lambda w: setattr(w, "hide_render", True), False),
        (lambda w: setattr(w, "visible_camera", False), False),
        (lambda w: w.__setitem__("maquette_result", "a video"), False),
        (_in_hidden_collection, False),
        (lambda w: setattr(w, "location", (0, -3.95, 0)), False),
        (lambda w: setattr(w, "location", (0, 4, 0)), False),
    ],
    ids=[
        "there",
        "off in viewport",
        "eye closed",
        "off in renders",
        "unseen by camera",
        "a result",
        "collection off",
        "before the near plane",
        "behind",
    ],
)
def test_only_what_shows_in_renders_hides(addon, stage_set, change, hides):
    scene, _, wall = stage_set
    change(wall)
    share = seen_share(addon)
    assert share == 0 if hides else 0.3 < share < 0.6
    assert scene.objects["Wall"].hide_viewport == (hides and wall.hide_viewport)


def test_clothes_do_not_hide_the_skin_they_are_worn_on(addon, stage_set):
    _, mesh, wall = stage_set
    wall.hide_render = True
    bare = seen_share(addon)
    vertices, faces = cylinder(radius=0.32, height=2.02)
    shirt = add_mesh("Shirt", vertices - [0, 0, 0.01], faces)
    assert seen_share(addon) == 0
    shirt.parent = mesh.parent
    assert seen_share(addon) == pytest.approx(bare, abs=0.1)  # At grazing angles cloth hides skin.
    shirt.scale = (2, 2, 1)
    assert seen_share(addon) == 0


def test_a_character_that_does_not_render_still_hides_another(addon, stage_set):
    _, _, wall = stage_set
    wall.hide_render = True
    free = seen_share(addon)
    before = add_performer("Before", (0, -1, 0), bend=0, frames=(1, 50))
    before.maquette.reference_source = "NONE"
    before.hide_render = True
    assert seen_share(addon) < 0.5 * free
    assert before.hide_render
