"""Seconds for which each operator that reads or writes many frames keeps Blender waiting.

    .venv-blender-5.2/bin/python bench/operators.py [--frames 97] [--repeats 3]

Prints JSON: of each operator the least elapsed and the least processor time of its repeats, in an empty scene with one
embedded body that walks. The first repeat of a session also reads files and imports modules; it is told by itself.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import bpy

sys.path.insert(0, str(Path(__file__).resolve().parent))
from capture import enable


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=97)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    enable()
    ours = bpy.ops.maquette
    found: dict[str, list[tuple[float, float]]] = {}

    def timed(name: str, call: Callable[..., object], **more: object) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        call("EXEC_DEFAULT", **more)
        found.setdefault(name, []).append((time.perf_counter() - wall, time.process_time() - cpu))

    for _ in range(arguments.repeats):
        bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
        bpy.context.scene.frame_end = arguments.frames
        timed("add_body", ours.add_body)
        timed("add_walk", ours.add_walk)
        for move in ("ORBIT", "HANDHELD"):
            timed(f"add_camera_move {move}", ours.add_camera_move, move=move)
        timed("check_framing", ours.check_framing)
        timed("frame_55", ours.frame_55)
        timed("export_camera", ours.export_camera, filepath=f"{bpy.app.tempdir}camera.json")
        timed("export_motion", ours.export_motion, filepath=f"{bpy.app.tempdir}motion.bvh")
        timed("import_motion", ours.import_motion, filepath=f"{bpy.app.tempdir}motion.bvh")
        timed("lock_feet", ours.lock_feet)
    print(
        json.dumps(
            {"bench": "operators", "blender": bpy.app.version_string, "frames": arguments.frames}
            | {
                name: {
                    "first": round(each[0][0], 3),
                    "seconds": round(min(wall for wall, _ in each), 3),
                    "cpu_seconds": round(min(cpu for _, cpu in each), 3),
                }
                for name, each in found.items()
            },
            indent=1,
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
