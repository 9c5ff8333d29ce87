"""Write tests/control/passes.shot and .npz: a small shot, and what Blender's own passes say of every pixel of it.

Runs in Blender's environment. Cycles looks through the middle of each pixel, so that its passes and the shot's control
films can be compared pixel by pixel.
"""

from __future__ import annotations

import importlib
import struct
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "tests" / "control"
SIZE = (128, 96)
FRAMES = 3


def build(bpy: ModuleType) -> None:
    """Two heads that cross behind a box, over a floor with a ball, under a camera that moves."""
    scene = bpy.context.scene
    for number, (name, x, y) in enumerate((("Left", -1.0, 0.0), ("Right", 1.0, 0.9)), 1):
        bpy.ops.mesh.primitive_monkey_add(size=1.2, location=(x, y, 1.0))
        bpy.ops.object.shade_smooth()
        head = bpy.context.object
        head.name, head.pass_index, head.maquette.is_character = name, number, True
        head.maquette.reference_source = "NONE"
        for frame, at in ((1, x), (FRAMES, -0.4 * x)):
            head.location.x, head.rotation_euler.z = at, 0.4 * at
            head.keyframe_insert("location", frame=frame)
            head.keyframe_insert("rotation_euler", frame=frame)
    bpy.ops.mesh.primitive_plane_add(size=12.0)
    bpy.ops.mesh.primitive_cube_add(size=0.8, location=(0.2, -1.0, 0.4))
    bpy.ops.mesh.primitive_uv_sphere_add(radius=0.5, location=(-1.6, 1.2, 0.5))
    bpy.ops.object.shade_smooth()
    camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    scene.collection.objects.link(camera)
    scene.camera = camera
    camera.data.lens = 35.0
    for frame, x in ((1, -0.6), (FRAMES, 0.6)):
        camera.location, camera.rotation_euler = (x, -4.5, 1.8), (1.35, 0.02, 0.1 * x)
        camera.keyframe_insert("location", frame=frame)
        camera.keyframe_insert("rotation_euler", frame=frame)
    scene.frame_start, scene.frame_end = 1, FRAMES
    scene.render.resolution_x, scene.render.resolution_y = SIZE
    scene.maquette.background, scene.maquette.points = "NONE", 64


def render(bpy: ModuleType, frame: int, path: Path) -> dict[str, np.ndarray]:
    """Depth in metres, normals in the world, and index of the object: (H,W,...) of one frame."""
    scene, layer = bpy.context.scene, bpy.context.view_layer
    scene.frame_set(frame)
    scene.render.engine, scene.cycles.device = "CYCLES", "CPU"
    scene.cycles.samples, scene.cycles.use_denoising, scene.cycles.use_adaptive_sampling = 1, False, False
    scene.cycles.pixel_filter_type, scene.cycles.filter_width = "BOX", 0.01
    layer.use_pass_z = layer.use_pass_normal = layer.use_pass_object_index = True
    settings = scene.render.image_settings
    if hasattr(settings, "media_type"):
        settings.media_type = "MULTI_LAYER_IMAGE"
    settings.file_format, settings.color_depth, settings.exr_codec = "OPEN_EXR_MULTILAYER", "32", "NONE"
    scene.render.filepath = str(path)
    bpy.ops.render.render(write_still=True)
    channels = {name.split(".", 1)[1]: values for name, values in read_exr(path).items()}
    depth = next(values for name, values in channels.items() if name.startswith("Depth."))
    index = next(values for name, values in channels.items() if name.startswith(("IndexOB.", "Object Index.")))
    normal = np.stack([channels[f"Normal.{axis}"] for axis in "XYZ"], axis=-1)
    return {"depth": depth, "normal": normal, "index": index.astype(np.uint8)}


def read_exr(path: Path) -> dict[str, np.ndarray]:
    """Channels (H,W) float32 of an uncompressed 32-bit OpenEXR file of scan lines, by name."""
    data = path.read_bytes()
    at, header = 8, {}
    while data[at]:
        name, kind, rest = data[at:].split(b"\0", 2)
        start = at + len(name) + len(kind) + 6
        size = struct.unpack_from("<i", data, start - 4)[0]
        header[name] = data[start : start + size]
        at = start + size
    left, top, right, bottom = struct.unpack("<4i", header[b"dataWindow"])
    width, height = right - left + 1, bottom - top + 1
    names, rest = [], header[b"channels"]
    while rest != b"\0":
        name, rest = rest.split(b"\0", 1)
        names.append(name.decode())
        rest = rest[16:]
    offsets = struct.unpack_from(f"<{height}q", data, at + 1)
    rows = np.stack([np.frombuffer(data, "<f4", len(names) * width, start + 8) for start in offsets])
    lines = rows.reshape(height, len(names), width)
    return {name: lines[:, i].copy() for i, name in enumerate(names)}


def main() -> None:
    """Build, capture, render."""
    sys.path.insert(0, str(ROOT / "demo"))
    demo = importlib.import_module("demo")
    with tempfile.TemporaryDirectory(prefix="maquette-passes-") as folder:
        demo.WORK = Path(folder)
        bpy, package = demo.start_blender(Path(folder))
        build(bpy)
        wants = importlib.import_module(f"{package}.scene.capture.wants").Wants(
            keypoints=False, tracks=False, clay=False, pictures=False
        )
        shot = importlib.import_module(f"{package}.scene.capture.shot").capture_shot(bpy.context, wants=wants)
        importlib.import_module(f"{package}.backend.shot").save_shot(shot, TARGET / "passes.shot")
        frames = [render(bpy, frame, Path(folder) / f"{frame}.exr") for frame in range(1, FRAMES + 1)]
        passes = {name: np.stack([each[name] for each in frames]) for name in frames[0]}
        passes["normal"] = np.round(passes["normal"] * 32767).astype(np.int16)
        np.savez_compressed(TARGET / "passes.npz", **passes)
    for path in (TARGET / "passes.shot", TARGET / "passes.npz"):
        print(f"{path}: {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
