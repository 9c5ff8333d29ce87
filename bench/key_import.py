"""Keys of 1,000 frames x 24 bones: in bulk against one ``keyframe_insert`` per key, in the same run.

    .venv-blender/bin/python bench/key_import.py [--frames 1000] [--repeats 5]

Prints JSON. ``ratio`` is the time of ``keyframe_insert`` over that of ``scene/keys.py``, the same 96 F-curves of
quaternions and three of the root's location. Processor time, so that other work on the
computer counts little.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time

import bpy
import numpy as np
from capture import enable


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5, help="of the quick side; the slow side runs once")
    arguments = parser.parse_args()

    package = enable()
    build = importlib.import_module(f"{package}.scene.rig.build")
    rig_channels = importlib.import_module(f"{package}.scene.rig.channels")
    rig_motion = importlib.import_module(f"{package}.scene.rig.motion")
    bodies = importlib.import_module(f"{package}.backend.bodies")
    motions = importlib.import_module(f"{package}.backend.motions")

    made = build.build_body(bpy.context, bodies.embedded())
    rng = np.random.default_rng(0)
    poses = rng.normal(0, 0.3, (arguments.frames, 24, 3)).astype(np.float32)
    trans = rng.normal(0, 1, (arguments.frames, 3)).astype(np.float32)
    motion = motions.BodyMotion(fps=24.0, poses=poses, trans=trans, body="maquette_neutral")
    channels = rig_channels.pose_channels(made, made.betas(), poses, trans)
    bones = made.armature.pose.bones

    def bulk() -> None:
        rig_motion.key_motion(made, motion, 1, bpy.context.evaluated_depsgraph_get())

    def single() -> None:
        made.armature.animation_data.action = None
        for frame in range(arguments.frames):
            for index, name in enumerate(made.bones):
                bone = bones[name]
                bone.rotation_quaternion = channels.rotations[frame, index]
                bone.keyframe_insert("rotation_quaternion", frame=frame + 1)
            root = bones[made.root]
            root.location = channels.locations[frame]
            root.keyframe_insert("location", frame=frame + 1)

    def best(run, repeats: int) -> float:
        times = []
        for _ in range(repeats):
            start = time.process_time()
            run()
            times.append(time.process_time() - start)
        return min(times)

    seconds = {"bulk": best(bulk, arguments.repeats), "keyframe_insert": best(single, 1)}
    json.dump(
        {
            "blender": bpy.app.version_string,
            "frames": arguments.frames,
            "bones": len(made.bones),
            "keys": arguments.frames * (len(made.bones) * 4 + 3),
            "seconds": {name: round(value, 4) for name, value in seconds.items()},
            "ratio": round(seconds["keyframe_insert"] / seconds["bulk"], 1),
            "reference": "bone.keyframe_insert, once a bone and frame, in this run",
        },
        sys.stdout,
        indent=2,
    )
    print()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
