"""A shot's camera as files that other programs read: JSON with OpenCV's matrices, and COLMAP's text model.

Both keep the Shot's frames of reference: world is right-handed, Z up, metres; the camera looks along z with x right and
y down; K is in pixels, and the centre of the top left pixel is at (0.5, 0.5), as in COLMAP.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np

from .types import Clip, ShotError

JSON_FORMAT, JSON_VERSION = "maquette-cameras", 1


def write_camera_json(
    path: str | PathLike[str],
    clip: Clip,
    name: str = "camera",
    frames: Sequence[int] | None = None,
    images: Sequence[str] | None = None,
) -> None:
    """Write a clip's cameras as JSON; ``docs/cameras.md`` says what each field means.

    Args:
        path: of the file.
        clip: viewmats (T,4,4) and Ks (T,3,3).
        name: of the camera.
        frames: T frame numbers; from 1 on by default.
        images: T file names of the pictures; numbered as Blender numbers them by default.

    Raises:
        ShotError: not one number and one name a frame.
        OSError: the file cannot be written.
    """
    frames, images = _labels(clip, frames, images)
    viewmats, Ks = _floats(clip.viewmats).tolist(), _floats(clip.Ks).tolist()
    views = [
        {"frame": frame, "time": k / clip.fps, "image": images[k], "viewmat": viewmats[k], "K": Ks[k]}
        for k, frame in enumerate(frames)
    ]
    head = {
        "format": JSON_FORMAT,
        "version": JSON_VERSION,
        "name": name,
        "world": "right-handed, Z up, metres",
        "camera": "x right, y down, z forward",
        "pixel_center": [0.5, 0.5],
        "distortion": [0.0] * 5,
        "width": clip.width,
        "height": clip.height,
        "fps": clip.fps,
    }
    rows = ",\n".join("  " + json.dumps(view, allow_nan=False) for view in views)
    start = json.dumps(head, indent=1, ensure_ascii=False, allow_nan=False)[:-2]
    Path(path).write_text(f'{start},\n "frames": [\n{rows}\n ]\n}}\n', encoding="utf-8")


def write_colmap(
    folder: str | PathLike[str], clip: Clip, frames: Sequence[int] | None = None, images: Sequence[str] | None = None
) -> None:
    """Write a clip's cameras as COLMAP's sparse text model: cameras.txt, images.txt and a points3D.txt without points.

    A camera of model PINHOLE stands for all frames of one K; a zoom makes a camera a frame.

    Args:
        folder: made where it is missing; files of these names in it are replaced.
        clip, frames, images: see ``write_camera_json``; an image's id is its place in the clip, from 1.

    Raises:
        ShotError, OSError: see ``write_camera_json``.
    """
    frames, images = _labels(clip, frames, images)
    ids: dict[tuple[float, ...], int] = {}
    rows = []
    for k, (image, view, K) in enumerate(zip(images, _floats(clip.viewmats), _floats(clip.Ks), strict=True), 1):
        lens = (K[0, 0], K[1, 1], K[0, 2], K[1, 2])
        camera = ids.setdefault(lens, len(ids) + 1)
        # Its second line lists the picture's keypoints, of which there are none.
        rows.append(f"{k} {_numbers(_quaternion(view[:3, :3]))} {_numbers(view[:3, 3])} {camera} {image}\n\n")
    cameras = [f"{i} PINHOLE {clip.width} {clip.height} {_numbers(lens)}\n" for lens, i in ids.items()]
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "cameras.txt": ("# CAMERA_ID, MODEL, WIDTH, HEIGHT, FX, FY, CX, CY", cameras),
        "images.txt": ("# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME; then the image's points", rows),
        "points3D.txt": ("# POINT3D_ID, X, Y, Z, R, G, B, ERROR, TRACK[]", []),
    }
    for name, (head, lines) in files.items():
        (folder / name).write_text(f"{head}\n{''.join(lines)}", encoding="utf-8")


def _labels(
    clip: Clip, frames: Sequence[int] | None, images: Sequence[str] | None
) -> tuple[Sequence[int], Sequence[str]]:
    """A number and a file name for every frame."""
    frames = range(1, clip.frames + 1) if frames is None else frames
    images = [f"{frame:04d}.png" for frame in frames] if images is None else images
    if not len(frames) == len(images) == clip.frames:
        raise ShotError("frames", f"{len(frames)} numbers and {len(images)} names for {clip.frames} cameras")
    if any(not name or set(name) & set(" \t\r\n") for name in images):
        raise ShotError("images", "a picture's name is empty or holds spaces, which COLMAP cannot read; rename it")
    return frames, images


def _floats(matrices: np.ndarray) -> np.ndarray:
    return np.asarray(matrices, dtype=np.float64)


def _numbers(values: Sequence[float] | np.ndarray) -> str:
    return " ".join(repr(float(value)) for value in values)


def _quaternion(rotation: np.ndarray) -> np.ndarray:
    """(4,) w x y z with w >= 0 of a rotation matrix (3,3): the largest eigenvector of Bar-Itzhack's matrix (2000)."""
    (a, b, c), (d, e, f), (g, h, i) = rotation
    upper = np.array(
        [[a + e + i, 0, 0, 0], [h - f, a - e - i, 0, 0], [c - g, b + d, e - a - i, 0], [d - b, c + g, f + h, i - a - e]]
    )
    quaternion = np.linalg.eigh(upper, UPLO="L")[1][:, -1]
    return quaternion * np.where(quaternion[0] < 0, -1.0, 1.0)
