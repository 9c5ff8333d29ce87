"""The whole picture that an image-to-video model starts from (no torch here).

A reference that Blender rendered shows its character alone on transparent ground; what stands behind it in the picture
is then the shot's background. A reference that the animator chose is taken as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from ..media import background_frames, decode_rgba
from ..shot import Reference, Shot
from .family import EngineError, media_errors

_SAME_PIXELS = 0.5
"""How far two cameras may put a spot apart, in pixels of the picture, and still count as one camera."""

_SAME_PLACE = 0.02
"""Metres that a body may be elsewhere and still count as at the same moment."""

_PLAIN = 128
"""Grey behind a cut-out when the shot has no background."""


@dataclass(frozen=True, eq=False)
class StartPicture:
    """A picture and the camera that sees the scene so.

    Attributes:
        rgb: (H,W,3) uint8.
        viewmat: (4,4) float32, world to OpenCV camera.
        K: (3,3) float32, pixels of ``rgb``.
        cut_out: whether it was rendered without its surroundings.
        notes: sentences for the animator.
    """

    rgb: np.ndarray
    viewmat: np.ndarray
    K: np.ndarray
    cut_out: bool = False
    notes: tuple[str, ...] = ()


def reference_picture(shot: Shot, indices: Sequence[int] | int = 0) -> StartPicture:
    """The reference picture of some characters as one whole picture.

    Cut-outs are laid over the shot's background (its first frame), the further character first; without a background
    over plain grey. The background is as the shot's first camera sees it: a note says so when the reference was taken
    by another.

    Args:
        indices: characters to show; the first one's reference camera counts. Characters after the first are
            added only when their references are cut-outs.

    Raises:
        EngineError: no reference, a damaged picture, or cut-outs that were taken by different cameras.
    """
    chosen = [indices] if isinstance(indices, int) else list(indices)
    parts = [(i, *_decode(shot, i)) for i in chosen]
    first, reference, rgba = parts[0]
    name = shot.characters[first].name
    height, width = rgba.shape[:2]
    if rgba[..., 3].min() == 255:
        return StartPicture(rgba[..., :3].copy(), reference.viewmat, reference.K)
    for i, other, pixels in parts[1:]:
        if pixels[..., 3].min() == 255 or not same_view(reference, rgba.shape, other, pixels.shape):
            raise EngineError(
                f"characters[{i}].reference",
                f"{shot.characters[i].name} and {name} must be rendered by one camera to stand in one picture; set "
                "both references to Render at the same frame",
            )
    notes = []
    behind = background_frames(shot, width, height, count=1)
    if behind is None:
        canvas = np.full((height, width, 3), _PLAIN, np.uint8)
        notes.append(f"The reference of {name} has no background: it stands on plain grey")
    else:
        canvas = behind[0]
        if not is_first_view(shot, reference, rgba.shape):
            notes.append(
                f"The reference of {name} was taken by another camera than the shot's first frame, so its background "
                "may not fit; set the reference frame to the shot's first frame"
            )
    for _, _, pixels in sorted(parts, key=lambda part: -_distance(part[1])):
        if pixels.shape != rgba.shape:
            pixels = np.asarray(Image.fromarray(pixels, "RGBA").resize((width, height), Image.Resampling.LANCZOS))
        alpha = pixels[..., 3:].astype(np.float32) / 255
        canvas = np.rint(pixels[..., :3] * alpha + canvas * (1 - alpha)).astype(np.uint8)
    return StartPicture(canvas, reference.viewmat, reference.K, True, tuple(notes))


def first_picture(shot: Shot) -> np.ndarray | None:
    """The shot's first frame (H,W,3) uint8 as its references show it, at the clip's size, with the hair and clothes
    that the bodies' surfaces lack.

    Returns:
        None where the references were not all taken at that moment by that camera, or do not make one whole picture.

    Raises:
        EngineError: a damaged picture.
    """
    clip, people = shot.clip, shot.characters
    for index, person in enumerate(people):
        if person.reference is None or not moved(person.reference, person.points[0], clip.viewmats[0]) <= _SAME_PLACE:
            return None
        reference, pixels = _decode(shot, index)
        # One that is not cut out has its own surroundings, and shows nobody else.
        whole = len(people) == 1 if pixels[..., 3].min() == 255 else shot.background.kind != "none"
        if not whole or not is_first_view(shot, reference, pixels.shape):
            return None
    if not people:
        return None
    try:
        found = reference_picture(shot, range(len(people)))
    except EngineError:
        # Two cameras, each a little beside the shot's.
        return None
    fitted = ImageOps.fit(Image.fromarray(found.rgb), (clip.width, clip.height), Image.Resampling.LANCZOS)
    return np.asarray(fitted)


def is_first_view(shot: Shot, reference: Reference, shape: tuple[int, ...]) -> bool:
    """Whether a reference picture of ``shape`` (H,W,...) was taken by the camera of the shot's first frame.

    The sizes may differ, and the picture may show more or less at its sides when it lies centred.
    """
    clip = shot.clip
    scale = np.array([shape[1] / clip.width, shape[0] / clip.height, 1.0])
    K = clip.Ks[0] * scale[:, None]
    return _same_camera(reference.viewmat, reference.K, clip.viewmats[0], K, shape)


def moved(reference: Reference, points: np.ndarray, viewmat: np.ndarray) -> float:
    """Metres that a spot of the body at most lies elsewhere, to the reference's camera, than in (N,3) world to another
    camera; NaN where they are not the same spots."""
    if reference.points.shape != points.shape:
        return float("nan")

    def seen(spots: np.ndarray, camera: np.ndarray) -> np.ndarray:
        return spots @ camera[:3, :3].T + camera[:3, 3]

    return float(np.linalg.norm(seen(reference.points, reference.viewmat) - seen(points, viewmat), axis=-1).max())


def same_view(a: Reference, shape_a: tuple[int, ...], b: Reference, shape_b: tuple[int, ...]) -> bool:
    """Whether two reference pictures of shapes (H,W,...) were taken by one camera."""
    scale = np.array([shape_a[1] / shape_b[1], shape_a[0] / shape_b[0], 1.0])
    return _same_camera(a.viewmat, a.K, b.viewmat, b.K * scale[:, None], shape_a)


def _same_camera(
    viewmat_a: np.ndarray, K_a: np.ndarray, viewmat_b: np.ndarray, K_b: np.ndarray, shape: tuple[int, ...]
) -> bool:
    """Whether both put the corners and the middle of the picture, at 1 and 10 metres, in the same pixels."""
    height, width = shape[:2]
    pixels = np.array([[x, y, 1.0] for x in (0, width / 2, width) for y in (0, height / 2, height)])
    rays = pixels @ np.linalg.inv(K_a.astype(np.float64)).T
    camera = np.concatenate([rays, 10 * rays])
    world = (camera - viewmat_a[:3, 3]) @ viewmat_a[:3, :3].astype(np.float64)
    seen = world @ viewmat_b[:3, :3].astype(np.float64).T + viewmat_b[:3, 3]
    if (seen[:, 2] <= 0).any():
        return False
    projected = seen @ K_b.astype(np.float64).T
    apart = projected[:, :2] / projected[:, 2:] - np.concatenate([pixels, pixels])[:, :2]
    return bool(np.abs(apart).max() <= _SAME_PIXELS * max(1.0, max(width, height) / 512))


def _decode(shot: Shot, index: int) -> tuple[Reference, np.ndarray]:
    """A character's reference and its picture (H,W,4) uint8."""
    character = shot.characters[index]
    field = f"characters[{index}].reference"
    if character.reference is None:
        raise EngineError(field, f"{character.name} has no reference picture; set its reference to Render or Picture")
    with media_errors():
        return character.reference, decode_rgba(character.reference.image, f"{field}.image")


def _distance(reference: Reference) -> float:
    """Metres from the reference's camera to the middle of the character."""
    middle = reference.points.mean(axis=0)
    return float(reference.viewmat[2, :3] @ middle + reference.viewmat[2, 3])
