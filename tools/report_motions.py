"""How well motions arrive on a body: a table of figures for the files in a folder, and pictures to look at.

    python tools/report_motions.py DIR [--body ID] [--sheets OUT]

prints one row for each clip of each motion file in DIR: frames and rate; for skeletons the error in degrees over all
visible lines in the mean, that of the worst line and which it is; for joint positions the mean joint error in
millimetres; how deep soles sink under z = 0, how fast standing soles slide, and in what part of the frames a foot
stands; then the notes. A generated walk closes the table. ``--sheets`` writes a contact sheet of each: the body from
the front over the body from the side, and for skeletons the source's lines (red) over the body's (blue).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from maquette.backend.bodies import BodyModel, load_body
from maquette.backend.motions import EXTENSIONS, BodyMotion, MotionError, foot_report, generate_walk, load_motion
from maquette.backend.motions.bvh import parse_bvh
from maquette.backend.motions.reading import read_data
from maquette.backend.motions.retarget import Retarget, retarget
from maquette.backend.shot.types import SMPL_JOINT_NAMES, SMPL_PARENTS
from PIL import Image, ImageDraw

COLOURS = np.array([[224, 172, 140], [70, 45, 30], [70, 110, 190], [60, 60, 80], [40, 40, 40], [250, 250, 250]], float)
SIZE, COUNT = 260, 8
VIEWS = ((0, 1, 1.0), (1, 0, -1.0))
"""Axis to the right, axis of depth, and the side from which it is seen: front (from -Y), side (from +X)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--body", default="maquette_neutral")
    parser.add_argument("--sheets", type=Path, help="folder for contact sheets")
    options = parser.parse_args()
    if not options.folder.is_dir():
        parser.error(f"{options.folder} is not a folder")
    body = load_body(options.body)
    print(f"{'clip':34} {'frames':>6} {'fps':>7} {'mean deg':>8} {'worst deg':>9} {'joint mm':>8} {'sink mm':>7} "
          f"{'skate mm/s':>10} {'standing':>8} {'CPU s':>6}  worst line; notes")  # fmt: skip
    for path in sorted(p for p in options.folder.iterdir() if p.suffix.lower() in EXTENSIONS):
        clip = 0
        while True:
            start = time.process_time()
            try:
                motion = load_motion(path, body=body, clip=clip)
            except MotionError as error:
                if error.field != "clip":
                    print(f"{path.name:34} {error}")
                break
            report(motion, body, time.process_time() - start, path, options.sheets)
            clip += 1
    start = time.process_time()
    walk = generate_walk(4.0, 30.0, body=body)
    report(walk, body, time.process_time() - start, None, options.sheets)


def report(motion: BodyMotion, body: BodyModel, seconds: float, path: Path | None, sheets: Path | None) -> None:
    """Print one row, and write the sheet where wanted."""
    error = motion.source_error or {}
    feet = foot_report(motion, body)
    figures = [f"{error[key]:.1f}" if key in error else "" for key in ("bones_deg", "worst_deg", "joints_mm")]
    lines = {name.removesuffix("_deg"): value for name, value in error.items() if " " in name or name == "trunk_deg"}
    worst = max(lines, key=lambda name: lines[name], default="")
    print(f"{motion.name:34} {motion.frames:6} {motion.fps:7.5g} {figures[0]:>8} {figures[1]:>9} {figures[2]:>8} "
          f"{feet.sinking_mm:7.1f} {feet.skate_mm_s:10.0f} {feet.standing:8.2f} {seconds:6.2f}  "
          f"{worst}; {'; '.join(motion.notes)}")  # fmt: skip
    if sheets is not None:
        sheets.mkdir(parents=True, exist_ok=True)
        source = None
        if path is not None and path.suffix.lower() == ".bvh":
            source = retarget(parse_bvh(read_data(path)[1]), body)
        write_sheet(motion, body, sheets / f"{motion.name.replace(' ', '_')}.png", source)


def write_sheet(motion: BodyMotion, body: BodyModel, path: Path, source: Retarget | None = None) -> None:
    """Frames spread over the clip, the grey band the ground; for a retargeted skeleton its lines over the body's."""
    frames = np.linspace(0, motion.frames - 1, COUNT).round().astype(int)
    posed = body.pose(motion.betas, motion.poses[frames], motion.trans[frames])
    rows = []
    for view in VIEWS:
        rows.append(
            np.concatenate([_figure(body, v, j, view) for v, j in zip(posed.vertices, posed.joints, strict=True)], 1)
        )
    if source is not None:
        joints = body.smpl_joints(body.pose(None, source.poses[frames].astype(np.float32), source.trans[frames]).joints)
        theirs = {name: places[frames] for name, places in source.source.items()}
        for view in VIEWS:
            rows.append(
                np.concatenate([_lines(joints[k], {n: p[k] for n, p in theirs.items()}, view) for k in range(COUNT)], 1)
            )
    Image.fromarray(np.concatenate(rows)).save(path)


def _figure(body: BodyModel, vertices: np.ndarray, joints: np.ndarray, view: tuple[int, int, float]) -> np.ndarray:
    """The shaded body as points painted from the farthest to the nearest; 2.1 m high, ground at 0."""
    axis, depth, sign = view
    corners = vertices.astype(float)[body.faces]
    regions = body.regions if body.regions is not None else np.zeros(len(body.v_template), int)
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    lamp = np.array([0.35, -0.7, 0.6]) if axis == 0 else np.array([0.7, 0.0, 0.6])
    light = 0.45 + 0.55 * np.clip(normal @ lamp, 0, 1)
    mixes = np.array([[1, 1, 1], [4, 1, 1], [1, 4, 1], [1, 1, 4], [0, 1, 1], [1, 0, 1], [1, 1, 0]], float)
    points = np.einsum("mk,fka->mfa", mixes / mixes.sum(1, keepdims=True), corners).reshape(-1, 3)
    colour = np.tile(COLOURS[regions[body.faces[:, 0]] % len(COLOURS)] * light[:, None], (len(mixes), 1))
    picture = np.full((SIZE, SIZE, 3), 235, np.uint8)
    picture[int(SIZE - 0.1 * SIZE / 2.1) :] = 205
    order = np.argsort(-sign * points[:, depth])
    u, v = _project(points[order], joints[0], axis).astype(int).T
    inside = (u >= 0) & (u < SIZE) & (v >= 0) & (v < SIZE)
    picture[v[inside], u[inside]] = colour[order][inside].astype(np.uint8)
    return picture


def _project(points: np.ndarray, middle: np.ndarray, axis: int) -> np.ndarray:
    scale = SIZE / 2.1
    return np.stack([(points[..., axis] - middle[axis]) * scale + SIZE / 2, SIZE - (points[..., 2] + 0.1) * scale], -1)


def _lines(joints: np.ndarray, source: dict[str, np.ndarray], view: tuple[int, int, float]) -> np.ndarray:
    """Bones of the body (24,3) in blue and of the source in red, both by their hips."""
    picture = Image.new("RGB", (SIZE, SIZE), (255, 255, 255))
    draw = ImageDraw.Draw(picture)
    lift = np.array([0, 0, 1.0 - joints[0, 2]])
    for j, parent in enumerate(SMPL_PARENTS):
        if parent >= 0:
            draw.line([tuple(p) for p in _project(joints[[parent, j]] + lift, joints[0], view[0])], (60, 90, 220), 4)
    for j, name in enumerate(SMPL_JOINT_NAMES):
        parent = SMPL_PARENTS[j]
        while parent > 0 and SMPL_JOINT_NAMES[parent] not in source:
            parent = SMPL_PARENTS[parent]
        if parent >= 0 and name in source:
            ends = np.stack([source[SMPL_JOINT_NAMES[parent]], source[name]])
            draw.line([tuple(p) for p in _project(ends + lift, joints[0], view[0])], (220, 40, 40), 2)
    return np.asarray(picture)


if __name__ == "__main__":
    main()
