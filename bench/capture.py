"""Capture of 97 frames x 2 bodies x 256 points, against the plain way, in the same run.

    .venv-blender/bin/python bench/capture.py [--frames 97] [--points 256] [--repeats 5]

Prints JSON. ``ratio`` is the time of the plain way over that of ``scene/capture/shot.py``. The plain way steps the
scene, reads each evaluated mesh with ``vertices.foreach_get``, and asks ``world_to_camera_view`` and
``scene.ray_cast`` about every point. ``seconds`` is elapsed time; ``cpu_seconds`` is processor time, which other work
on the computer touches less. ``keypoints_ratio`` is what the capture takes with the 128 keypoints of each body over
what it takes without; ``clay_ratio`` likewise, of 17 frames that Workbench renders with This Scene behind. The
capture also reads joints, body parameters and cameras, and validates the Shot. Both sides must say the same about
nearly every point.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import bpy
import numpy as np
from bpy_extras.object_utils import world_to_camera_view
from mathutils import Vector

_CLAY_FRAMES = 17

ROOT = Path(__file__).resolve().parents[1]


def enable() -> str:
    """Enable this checkout as an extension; returns its package name."""
    parent = Path(tempfile.mkdtemp(prefix="maquette-bench-"))
    os.symlink(ROOT, parent / "maquette", target_is_directory=True)
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    bpy.context.preferences.extensions.repos.new(name="Dev", module="dev", custom_directory=str(parent))
    bpy.ops.preferences.addon_enable(module="bl_ext.dev.maquette")
    return "bl_ext.dev.maquette"


def build(frames: int, points: int) -> list[bpy.types.Object]:
    """Two moving bodies, a moving camera, a floor and a box between them; returns the bodies' meshes."""
    scene = bpy.context.scene
    scene.frame_start, scene.frame_end = 1, frames
    scene.maquette.background, scene.maquette.points = "NONE", points
    meshes = []
    for place in (-0.5, 0.5):
        bpy.ops.maquette.add_body(location=(place, 0, 0))
        mesh = next(o for o in scene.objects if o.type == "MESH" and o not in meshes)
        mesh.maquette.reference_source = "NONE"
        meshes.append(mesh)
        for frame, angle in ((1, 0.0), (frames, 0.9)):
            for name in ("left_shoulder", "right_shoulder", "right_knee", "spine1", "pelvis"):
                bone = mesh.parent.pose.bones[name]
                bone.rotation_mode = "XYZ"
                bone.rotation_euler = (angle, angle / 2, -angle / 3)
                bone.keyframe_insert("rotation_euler", frame=frame)
    bpy.ops.mesh.primitive_plane_add(size=20)
    bpy.ops.mesh.primitive_cube_add(size=0.5, location=(0.3, -1, 0.25))
    camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    scene.collection.objects.link(camera)
    scene.camera = camera
    camera.rotation_euler = (1.45, 0, 0)
    for frame, x in ((1, -0.5), (frames, 0.5)):
        camera.location = (x, -4.5, 1.2)
        camera.keyframe_insert("location", frame=frame)
    return meshes


def plain(meshes: list[bpy.types.Object], samples: list, margin: float) -> np.ndarray:
    """Visibility (T,C,N) frame by frame and point by point."""
    scene = bpy.context.scene
    depsgraph = bpy.context.evaluated_depsgraph_get()
    seen = []
    for frame in range(scene.frame_start, scene.frame_end + 1):
        scene.frame_set(frame)
        eye = scene.camera.matrix_world.translation
        for mesh, chosen in zip(meshes, samples, strict=True):
            evaluated = mesh.evaluated_get(depsgraph)
            data = evaluated.to_mesh()
            flat = np.empty(len(data.vertices) * 3, dtype=np.float32)
            data.vertices.foreach_get("co", flat)
            data.calc_loop_triangles()
            triangles = np.empty(len(data.loop_triangles) * 3, dtype=np.int32)
            data.loop_triangles.foreach_get("vertices", triangles)
            matrix = np.array(evaluated.matrix_world)
            points = chosen.apply(flat.reshape(-1, 3), triangles.reshape(-1, 3)) @ matrix[:3, :3].T + matrix[:3, 3]
            evaluated.to_mesh_clear()
            for point in points:
                place = Vector(point)
                u, v, depth = world_to_camera_view(scene, scene.camera, place)
                inside = 0 <= u <= 1 and 0 <= v <= 1 and depth > 0
                way = place - eye
                reach = way.length - margin
                seen.append(inside and not scene.ray_cast(depsgraph, eye, way.normalized(), distance=reach)[0])
    return np.array(seen).reshape(scene.frame_end, len(meshes), -1)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=97)
    parser.add_argument("--points", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5, help="of each side; the best counts")
    arguments = parser.parse_args()

    package = enable()
    capture = importlib.import_module(f"{package}.scene.capture.shot")
    characters = importlib.import_module(f"{package}.scene.capture.characters")
    stages = importlib.import_module(f"{package}.scene.stage")
    wants = importlib.import_module(f"{package}.scene.capture.wants")
    visibility = importlib.import_module(f"{package}.scene.capture.visibility")
    meshes = build(arguments.frames, arguments.points)
    scene, layer = bpy.context.scene, bpy.context.view_layer
    with stages.scene_kept(scene, layer) as keeper:
        stage = stages.open_stage(scene, layer, keeper.changes, list(scene.objects))
        crew = characters.prepare(stage, meshes, arguments.points, 1)
    samples = [performer.samples for performer in crew]
    margin = visibility.SELF_MARGIN * crew[0].height

    def step() -> None:
        for frame in range(1, arguments.frames + 1):
            scene.frame_set(frame)

    def best(run) -> tuple[float, float, object]:
        results = []
        for _ in range(arguments.repeats):
            wall, cpu = time.perf_counter(), time.process_time()
            made = run()
            results.append((time.perf_counter() - wall, time.process_time() - cpu, made))
        return min(r[0] for r in results), min(r[1] for r in results), results[-1][2]

    nothing = wants.Wants(False, False, False, clay=False)
    wall, cpu, shot = best(lambda: capture.capture_shot(bpy.context, wants=nothing))
    spots_wall, spots_cpu, _ = best(lambda: capture.capture_shot(bpy.context, wants=replace(nothing, keypoints=True)))
    all_wall, all_cpu, _ = best(lambda: capture.capture_shot(bpy.context, wants=wants.Wants(clay=False)))
    plain_wall, plain_cpu, expected = best(lambda: plain(meshes, samples, margin))
    step_wall, step_cpu, _ = best(step)
    scene.maquette.background, scene.frame_end = "SCENE", min(arguments.frames, _CLAY_FRAMES)
    behind_wall, behind_cpu, _ = best(lambda: capture.capture_shot(bpy.context, wants=nothing))
    clay_wall, clay_cpu, _ = best(lambda: capture.capture_shot(bpy.context, wants=replace(nothing, clay=True)))
    found = np.stack([character.visibility for character in shot.characters], axis=1)
    print(
        json.dumps(
            {
                "bench": "capture",
                "blender": bpy.app.version_string,
                "frames": arguments.frames,
                "bodies": len(meshes),
                "vertices": len(meshes[0].data.vertices),
                "points": arguments.points,
                "seconds": round(wall, 3),
                "cpu_seconds": round(cpu, 3),
                "with_keypoints_seconds": round(spots_wall, 3),
                "with_keypoints_cpu_seconds": round(spots_cpu, 3),
                "with_meshes_too_seconds": round(all_wall, 3),
                "with_meshes_too_cpu_seconds": round(all_cpu, 3),
                "keypoints_ratio": round(spots_cpu / cpu, 2),
                "background_frames": scene.frame_end,
                "with_background_seconds": round(behind_wall, 3),
                "with_background_cpu_seconds": round(behind_cpu, 3),
                "with_clay_too_seconds": round(clay_wall, 3),
                "with_clay_too_cpu_seconds": round(clay_cpu, 3),
                "clay_ratio": round(clay_cpu / behind_cpu, 2),
                "plain_seconds": round(plain_wall, 3),
                "plain_cpu_seconds": round(plain_cpu, 3),
                "frame_set_alone_cpu_seconds": round(step_cpu, 3),
                "frame_set_alone_seconds": round(step_wall, 3),
                "ratio": round(plain_cpu / cpu, 2),
                "points_that_differ": round(float((found != expected).mean()), 5),
            },
            indent=1,
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
