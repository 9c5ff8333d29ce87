"""From a shot to what MTVCrafter's pipelines take: the motion in millimetres, the reference picture at their size.

Shape letters: T frames, H W picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from ...shot import Shot
from ...shot.framing import model_joints
from ..engine import EngineError, Plan
from ..pictures import reference_picture

_MUCH_CUT = 0.2
"""Share of the reference picture whose loss is worth a word."""


@dataclass(frozen=True, eq=False)
class ShotInputs:
    """One character's shot.

    Attributes:
        joints: (T,24,3) float32 millimetres in the 55-degree camera, T the plan's ``model_frames``.
        reference: (H,W,3) uint8 at the plan's ``model_size``.
        notes: sentences for the animator.
    """

    joints: np.ndarray
    reference: np.ndarray
    notes: tuple[str, ...] = ()


def hold_last(frames: np.ndarray, count: int) -> np.ndarray:
    """The first ``count`` of (T,...), the last one repeated where there are fewer."""
    return frames[np.minimum(np.arange(count), len(frames) - 1)]


def cover(picture: np.ndarray, width: int, height: int) -> tuple[np.ndarray, float]:
    """Resize a picture (H,W,3) uint8 until it covers the size, in its own proportions, and cut off what juts out.

    Returns:
        (height, width, 3) uint8, the middle; and the share of the picture that was cut off.
    """
    high, wide = picture.shape[:2]
    scale = max(width / wide, height / high)
    box_width, box_height = width / scale, height / scale
    left, top = (wide - box_width) / 2, (high - box_height) / 2
    resized = Image.fromarray(picture).resize(
        (width, height), Image.Resampling.LANCZOS, box=(left, top, left + box_width, top + box_height)
    )
    return np.asarray(resized), 1 - box_width * box_height / (wide * high)


def shot_inputs(shot: Shot, plan: Plan) -> ShotInputs:
    """What the models see of a shot that ``plan.make_plan`` accepted.

    Raises:
        EngineError: no reference or joints, or a damaged picture.
    """
    character, clip = shot.characters[0], shot.clip
    if character.joints is None:
        raise EngineError("characters[0].joints", f"{character.name} has no joints; use a rigged body")
    picture = reference_picture(shot, 0)
    reference, lost = cover(picture.rgb, *plan.model_size)
    notes = list(picture.notes)
    if lost >= _MUCH_CUT:
        high, wide = picture.rgb.shape[:2]
        notes.append(
            f"The reference of {character.name} is {wide} x {high} and the model's picture {plan.model_size[0]} x "
            f"{plan.model_size[1]}: {lost:.0%} of it was cut off at the edges; use a reference of the clip's shape"
        )
    joints = model_joints(character.joints, clip.viewmats, clip.Ks, clip.width, clip.height)
    return ShotInputs(hold_last(joints, plan.model_frames), reference, tuple(notes))


def onto_canvas(frames: np.ndarray, width: int, height: int) -> np.ndarray:
    """Lay frames (T,h,w,3) uint8 of the result's own height or width in the middle of black (T,height,width,3)."""
    _, high, wide, _ = frames.shape
    canvas = np.zeros((len(frames), height, width, 3), np.uint8)
    top, left = (height - high) // 2, (width - wide) // 2
    canvas[:, top : top + high, left : left + wide] = frames
    return canvas
