"""A body's motion as files that other programs read: BVH, and AMASS .npz. Letters: T frames, J joints."""

from __future__ import annotations

from dataclasses import replace
from os import PathLike
from typing import TYPE_CHECKING

import numpy as np

from .families import PELVIS_REST, to_family
from .kinematics import axis_angle_to_matrix
from .types import BodyMotion
from .upright import turn_to_z

if TYPE_CHECKING:
    from ..bodies import BodyModel

CENTIMETRES = 100.0


def write_bvh(path: str | PathLike[str], motion: BodyMotion, body: BodyModel) -> None:
    """Write a motion of this body as BVH: Y up, centimetres, the body's rest pose as the zero pose, its joint names."""
    rest = _rest(motion, body)
    parents = [int(p) for p in body.parents]
    to_y = turn_to_z("Y").T
    local = axis_angle_to_matrix(motion.poses.astype(float))
    local[:, 0] = to_y @ local[:, 0]
    children: dict[int, list[int]] = {j: [k for k, p in enumerate(parents) if p == j] for j in range(len(parents))}
    lines, order = ["HIERARCHY"], []

    def write(joint: int, depth: int) -> None:
        order.append(joint)
        pad, parent = "\t" * depth, parents[joint]
        offset = CENTIMETRES * (rest[joint] - rest[parent]) if parent >= 0 else np.zeros(3)
        place = "" if parent >= 0 else "Xposition Yposition Zposition "
        lines.append(f"{pad}{'JOINT' if parent >= 0 else 'ROOT'} {body.joint_names[joint]}")
        lines.append(f"{pad}{{\n{pad}\tOFFSET {_numbers(offset)}")
        lines.append(f"{pad}\tCHANNELS {3 if parent >= 0 else 6} {place}Zrotation Xrotation Yrotation")
        for child in children[joint]:
            write(child, depth + 1)
        if not children[joint]:
            lines.append(f"{pad}\tEnd Site\n{pad}\t{{\n{pad}\t\tOFFSET {_numbers(0.3 * offset)}\n{pad}\t}}")
        lines.append(f"{pad}}}")

    write(0, 0)
    places = CENTIMETRES * (motion.trans + rest[0]) @ to_y.T
    rows = np.concatenate([places, _zxy(local[:, order]).reshape(motion.frames, -1)], axis=1)
    lines += ["MOTION", f"Frames: {motion.frames}", f"Frame Time: {1 / motion.fps:.9f}", *map(_numbers, rows)]
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.write("\n".join(lines) + "\n")


def write_amass(path: str | PathLike[str], motion: BodyMotion, body: BodyModel) -> None:
    """Write a motion of this body as AMASS does: Z up, metres, 156 pose numbers a frame of SMPL-H, the rate.

    The pelvis stands where this body's does; the shape goes along only where it is SMPL-H's own.
    """
    same = motion.family == "smplh" and not body.id.startswith("maquette")
    turned = motion if motion.family == "smplh" else replace(to_family(motion, "smplh"))
    pelvis = motion.trans + _rest(motion, body)[0] - PELVIS_REST["smplh"]
    betas = np.zeros(16) if motion.betas is None or not same else motion.betas.astype(float)
    with open(path, "wb") as file:
        np.savez(
            file,
            poses=turned.poses.reshape(motion.frames, -1).astype(float),
            trans=(motion.trans if same else pelvis).astype(float),
            betas=betas,
            gender=np.array(motion.gender),
            mocap_framerate=np.array(motion.fps),
            surface_model_type=np.array("smplh"),
        )


WRITERS = {".bvh": write_bvh, ".npz": write_amass}


def _rest(motion: BodyMotion, body: BodyModel) -> np.ndarray:
    shape = np.zeros(body.shapedirs.shape[2], np.float32)
    if motion.betas is not None:
        count = min(len(shape), len(motion.betas))
        shape[:count] = motion.betas[:count]
    return np.asarray(body.joints_rest(shape), float)


def _zxy(turns: np.ndarray) -> np.ndarray:
    """Angles (...,3) in degrees about z, x and y, with turn = Rz Rx Ry."""
    x = np.arcsin(np.clip(turns[..., 2, 1], -1, 1))
    z = np.arctan2(-turns[..., 0, 1], turns[..., 1, 1])
    y = np.arctan2(-turns[..., 2, 0], turns[..., 2, 2])
    return np.degrees(np.stack([z, x, y], axis=-1))


def _numbers(values: np.ndarray) -> str:
    return " ".join(f"{value:.6f}" for value in values)
