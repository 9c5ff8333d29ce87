"""From a shot to what MTVCrafter's pipelines take: the motion in millimetres, the reference picture at their size.

Shape letters: T frames, H W picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...media import resize_frames
from ...shot import Shot
from ...shot.framing import model_joints
from ..family import EngineError, Plan
from ..start_picture import reference_picture

_FADE = 1 / 32
"""Of a picture's side: over so much at its edge it goes over into what stands beside it."""

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


def shot_inputs(shot: Shot, plan: Plan) -> ShotInputs:
    """What the models see of a shot that ``plan.make_plan`` accepted.

    Raises:
        EngineError: no reference or joints, or a damaged picture.
    """
    character, clip = shot.characters[0], shot.clip
    if character.joints is None:
        raise EngineError("characters[0].joints", f"{character.name} has no joints; use a rigged body")
    picture = reference_picture(shot, 0)
    width, height = plan.model_size
    reference = resize_frames(picture.rgb[None], width, height)[0]
    high, wide = picture.rgb.shape[:2]
    shapes = (width / height, wide / high)
    lost = 1 - min(shapes) / max(shapes)
    notes = list(picture.notes)
    if lost >= _MUCH_CUT:
        notes.append(
            f"The reference of {character.name} is {wide} x {high} and the model's picture {plan.model_size[0]} x "
            f"{plan.model_size[1]}: {lost:.0%} of it was cut off at the edges; use a reference of the clip's shape"
        )
    joints = model_joints(character.joints, clip.viewmats, clip.Ks, clip.width, clip.height)
    return ShotInputs(hold_last(joints, plan.model_frames), reference, tuple(notes))


def onto_frames(frames: np.ndarray, around: np.ndarray) -> np.ndarray:
    """Lay frames (T,h,w,3) uint8 in the middle of others (T,H,W,3); they fade at the edges beyond which those go on."""
    _, high, wide, _ = frames.shape
    top, left = ((whole - side) // 2 for whole, side in zip(around.shape[1:3], (high, wide), strict=True))
    rows, columns = _fading(high, top > 0), _fading(wide, left > 0)
    weight = (rows[:, None] * columns)[None, ..., None]
    place = np.s_[:, top : top + high, left : left + wide]
    laid = around.copy()
    for i, frame in enumerate(frames):
        beneath = around[i][place[1:]].astype(np.float32)
        laid[i][place[1:]] = np.round(beneath + (frame.astype(np.float32) - beneath) * weight[0])
    return laid


def _fading(side: int, fades: bool) -> np.ndarray:
    """(side,) weights in (0,1]: below 1 within ``_FADE`` of both ends, where these fade."""
    to_the_end = np.minimum(np.arange(side), np.arange(side)[::-1]) + 1
    fade = max(1, round(_FADE * side))
    return np.minimum(1, to_the_end / (fade + 1)).astype(np.float32) if fades else np.ones(side, np.float32)


def onto_canvas(frames: np.ndarray, width: int, height: int) -> np.ndarray:
    """Lay frames (T,h,w,3) uint8 of the result's own height or width in the middle of black (T,height,width,3)."""
    _, high, wide, _ = frames.shape
    canvas = np.zeros((len(frames), height, width, 3), np.uint8)
    top, left = (height - high) // 2, (width - wide) // 2
    canvas[:, top : top + high, left : left + wide] = frames
    return canvas
