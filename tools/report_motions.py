"""How well motions arrive on a body: a table of figures for the files in a folder, and pictures to look at.

    python tools/report_motions.py DIR [--body ID] [--sheets OUT]

prints one row for each clip of each motion file in DIR: frames and rate; for joint positions the mean joint error in
millimetres; for BVH the mean bone-direction error in degrees over matched bones, and over the bones whose rest geometry
has no counterpart (``backend/motions/retarget.py`` says which); how deep soles sink under z = 0, how fast standing
soles slide, and in what part of the frames a foot stands. A generated walk closes the table. ``--sheets`` writes a
contact sheet of each, front view over side view (needs pillow).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from maquette.backend.bodies import BodyModel, load_body
from maquette.backend.motions import BodyMotion, MotionError, foot_report, generate_walk, load_motion
from maquette.backend.motions.bvh import parse_bvh
from maquette.backend.motions.retarget import retarget

SUFFIXES = (".bvh", ".npz", ".npy", ".pkl", ".pt")
COLOURS = np.array([[224, 172, 140], [70, 45, 30], [70, 110, 190], [60, 60, 80], [40, 40, 40], [250, 250, 250]], float)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--body", default="maquette_neutral")
    parser.add_argument("--sheets", type=Path, help="folder for contact sheets")
    options = parser.parse_args()
    if not options.folder.is_dir():
        parser.error(f"{options.folder} is not a folder")
    body = load_body(options.body)
    print(f"{'clip':28} {'frames':>6} {'fps':>6} {'joint mm':>9} {'bone deg':>9} {'apart deg':>9} {'sink mm':>8} "
          f"{'skate mm/s':>10} {'standing':>8} {'CPU s':>6}")  # fmt: skip
    for path in sorted(p for p in options.folder.iterdir() if p.suffix.lower() in SUFFIXES):
        clip = 0
        while True:
            start = time.process_time()
            try:
                motion = load_motion(path, body=body, clip=clip)
            except MotionError as error:
                if error.field != "clip":
                    print(f"{path.name:28} {error}")
                break
            report(motion, body, time.process_time() - start, path, options.sheets)
            clip += 1
    start = time.process_time()
    walk = generate_walk(4.0, 30.0, body=body)
    report(walk, body, time.process_time() - start, None, options.sheets)


def report(motion: BodyMotion, body: BodyModel, seconds: float, path: Path | None, sheets: Path | None) -> None:
    """Print one row, and write the sheet where wanted."""
    error = motion.source_error or {}
    apart = ""
    if path is not None and path.suffix.lower() == ".bvh":
        values = retarget(parse_bvh(path.read_text(errors="replace")), body).apart_deg
        apart = f"{np.mean(list(values.values())):.1f}" if values else ""
    feet = foot_report(motion, body)
    joints = f"{error['joints_mm']:.1f}" if "joints_mm" in error else ""
    bones = f"{error['bones_deg']:.2f}" if "bones_deg" in error else ""
    print(f"{motion.name:28} {motion.frames:6} {motion.fps:6g} {joints:>9} {bones:>9} {apart:>9} "
          f"{feet.sinking_mm:8.1f} {feet.skate_mm_s:10.0f} {feet.standing:8.2f} {seconds:6.2f}")  # fmt: skip
    if sheets is not None:
        sheets.mkdir(parents=True, exist_ok=True)
        write_sheet(motion, body, sheets / f"{motion.name.replace(' ', '_')}.png")


def write_sheet(motion: BodyMotion, body: BodyModel, path: Path, count: int = 8, size: int = 260) -> None:
    """Front view (from -Y) over side view (from +X) of frames spread over the clip; the grey band is the ground."""
    import imageio.v3 as iio

    frames = np.linspace(0, motion.frames - 1, count).round().astype(int)
    posed = body.pose(motion.betas, motion.poses[frames], motion.trans[frames])
    faces = body.faces
    regions = body.regions if body.regions is not None else np.zeros(len(body.v_template), int)
    rows = []
    for axis, depth, sign in ((0, 1, 1.0), (1, 0, -1.0)):
        row = []
        for vertices, joints in zip(posed.vertices.astype(float), posed.joints, strict=True):
            corners = vertices[faces]
            normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
            normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
            light = 0.45 + 0.55 * np.clip(
                normal @ [0.35 * (axis == 0) + 0.7 * (axis == 1), -0.7 * (axis == 0), 0.6], 0, 1
            )
            mixes = np.array([[1, 1, 1], [4, 1, 1], [1, 4, 1], [1, 1, 4], [0, 1, 1], [1, 0, 1], [1, 1, 0]], float)
            points = np.einsum("mk,fka->mfa", mixes / mixes.sum(1, keepdims=True), corners).reshape(-1, 3)
            colour = np.tile(COLOURS[regions[faces[:, 0]] % len(COLOURS)] * light[:, None], (len(mixes), 1))
            row.append(_splat(points, colour, axis, depth, sign, float(joints[0, axis]), size))
        rows.append(np.concatenate(row, axis=1))
    iio.imwrite(path, np.concatenate(rows))


def _splat(
    points: np.ndarray, colour: np.ndarray, axis: int, depth: int, sign: float, middle: float, size: int
) -> np.ndarray:
    """Points painted from the farthest to the nearest; 2.1 m high, ground at 0."""
    picture = np.full((size, size, 3), 235, np.uint8)
    scale = size / 2.1
    picture[int(size - 0.1 * scale) :] = 205
    order = np.argsort(-sign * points[:, depth])
    u = ((points[order, axis] - middle) * scale + size / 2).astype(int)
    v = (size - (points[order, 2] + 0.1) * scale).astype(int)
    inside = (u >= 0) & (u < size) & (v >= 0) & (v < size)
    picture[v[inside], u[inside]] = colour[order][inside].astype(np.uint8)
    return picture


if __name__ == "__main__":
    main()
