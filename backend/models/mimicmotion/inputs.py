"""From a Shot to MimicMotion's inputs: one picture, and where the body lies in it and in every frame (no torch).

Shape letters: T frames, H W image.

All is mapped without distortion: the map of a frame shows the clip's picture and, where the model's aspect differs, a
little beyond its edges, which the finished video is cut back to; the reference is scaled to cover the model's picture
and cut.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from ...control.keypoints import Pose2D, project_pose
from ...media import decode_image
from ...shot import BODY_KEYPOINTS, Keypoints, Shot
from ...shot.cameras import project, to_camera
from ..family import EngineError, media_errors
from .keypoints import character_keypoints, reference_keypoints

Box = tuple[float, float, float, float]
"""Left, top, width, height in pixels."""

_HEAD_ROOM = 0.08
"""Share of the crop's height left above a body that is taller than the crop."""


@dataclass(frozen=True, eq=False)
class Poses:
    """A character's poses.

    Attributes:
        reference: of the reference picture, one frame, in fractions of ``box``.
        driving: of the clip's T frames, in fractions of the model's picture.
        box: what of the reference picture the model sees.
        scale: how much larger the character is in the clip's first frame than in ``box``.
        notes: sentences for the animator.
    """

    reference: Pose2D
    driving: Pose2D
    box: Box
    scale: float
    notes: tuple[str, ...]


def read_poses(shot: Shot, index: int, model_size: tuple[int, int]) -> Poses:
    """The poses of a character for a model's picture of (width, height).

    Raises:
        EngineError: no reference, a damaged one, one that does not show the character, or nothing to draw a pose from.
    """
    character, clip, field = shot.characters[index], shot.clip, f"characters[{index}]"
    keypoints, notes = character_keypoints(character, field)
    still, more = reference_keypoints(character, keypoints, field)
    reference = character.reference
    assert reference is not None  # or reference_keypoints had raised
    with media_errors():
        picture = decode_image(reference.image, f"{field}.reference.image")
    aspect = model_size[0] / model_size[1]
    shown = _containing((clip.width, clip.height), aspect)
    driving = project_pose(keypoints, clip.viewmats, clip.Ks, shown)
    box = crop_box((picture.shape[1], picture.shape[0]), aspect, _extent(still, reference.viewmat, reference.K))
    pose = project_pose(still, reference.viewmat[None], reference.K[None], box)
    if pose.drawn.sum() < 2:
        raise EngineError(
            f"{field}.reference",
            f"the reference picture shows nothing of {character.name}'s body; frame the character in it, or set the "
            "reference to Render",
        )
    scale = _pixels_a_metre(character.points[0], clip.viewmats[0], clip.Ks[0]) / shown[3]
    scale /= _pixels_a_metre(reference.points, reference.viewmat, reference.K) / box[3]
    return Poses(pose, driving, box, float(scale), (*notes, *more))


def crop_picture(picture: np.ndarray, box: Box, width: int, height: int) -> np.ndarray:
    """What lies in ``box`` of (H,W,3) uint8, at ``width`` x ``height``."""
    left, top, across, down = box
    image = Image.fromarray(picture)
    size, edges = (width, height), (left, top, left + across, top + down)
    return np.array(image.resize(size, Image.Resampling.LANCZOS, box=edges))


def crop_box(size: tuple[int, int], aspect: float, extent: tuple[np.ndarray, np.ndarray] | None) -> Box:
    """The largest box of ``aspect`` (width / height) within a picture of ``size``, around the body.

    Along the side that is cut, the box is centred on the body when the body fits, and else keeps the head.

    Args:
        extent: least and greatest pixel (2,) of the body, or None for a box in the middle.
    """
    across, down = min(size[0], size[1] * aspect), min(size[1], size[0] / aspect)
    room = np.array([size[0] - across, size[1] - down])
    corner = room / 2
    if extent is not None:
        least, greatest = extent
        corner = (least + greatest) / 2 - np.array([across, down]) / 2
        if greatest[1] - least[1] > (1 - 2 * _HEAD_ROOM) * down:
            corner[1] = least[1] - _HEAD_ROOM * down
        corner = np.clip(corner, 0, room)
    return float(corner[0]), float(corner[1]), float(across), float(down)


def _containing(size: tuple[int, int], aspect: float) -> Box:
    """The least box of ``aspect`` around a picture of ``size``, centred; its corner may be negative."""
    across, down = max(size[0], size[1] * aspect), max(size[1], size[0] / aspect)
    return (size[0] - across) / 2, (size[1] - down) / 2, across, down


def _extent(keypoints: Keypoints, viewmat: np.ndarray, K: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Least and greatest pixel of the body's keypoints in the reference picture, or None when none is in front."""
    present = keypoints.state[0, BODY_KEYPOINTS] > 0
    uv, _ = project(keypoints.points[0, BODY_KEYPOINTS][present].astype(np.float64), viewmat, K)
    uv = uv[np.isfinite(uv).all(axis=1)]
    return (uv.min(axis=0), uv.max(axis=0)) if len(uv) else None


def _pixels_a_metre(points: np.ndarray, viewmat: np.ndarray, K: np.ndarray) -> float:
    """Size in the picture of a metre at the middle of the points (N,3)."""
    depth = float(to_camera(points.astype(np.float64), viewmat)[..., 2].mean())
    return float(K[1, 1]) / max(depth, 1e-3)
