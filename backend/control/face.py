"""The face film: a character's head close up in every frame, from exactly where it is (torch and numpy).

Models that are led by a face (Wan-Animate) were trained on the face cut out of the film that drives them. Here the same
cut is drawn anew: sharp however small the face is in the picture, and whole where the picture cuts it off.

Shape letters: T frames, S pixels of a side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from ..raster.carry import Carrier
from ..shot import FACE_KEYPOINTS, SMPL_JOINT_NAMES, Background, Character, Clip, KeypointState, Shot
from ..shot.cameras import project

FACE_SIDE = 512
"""Pixels of a side that Wan-Animate's authors cut faces to."""

_LARGER = 1.3**0.5
"""How much longer a cut's sides are than those of the box around the face's keypoints."""
_ABOVE = 0.75
"""Share of what is added to the height that is added above."""
_HEAD, _NECK = (SMPL_JOINT_NAMES.index(name) for name in ("head", "neck"))
_REACH = 0.9
"""Half a head's height, in distances from neck to head, in bodies whose face is not known; its middle is half a
distance above the joint."""
_LEAST = 0.5
"""Pixels of a box's side below which there is no face."""


def face_boxes(character: Character, clip: Clip) -> np.ndarray:
    """Where a character's face is: left, top, right, bottom (T,4) in pixels of the clip, also beyond its picture; NaN
    where it is behind the camera, or the character has no head that is known.

    The box of the 68 keypoints, grown as Wan-Animate's authors grow it; without keypoints that of the head's joint.
    """
    boxes = np.full((clip.frames, 4), np.nan)
    viewmats, Ks = clip.viewmats.astype(np.float64), clip.Ks.astype(np.float64)
    if character.joints is not None:
        head, neck = (character.joints[:, joint].astype(np.float64) for joint in (_HEAD, _NECK))
        length = np.linalg.norm(head - neck, axis=-1)
        uv, depth = project(head[:, None] + (head - neck)[:, None] / 2, viewmats, Ks)
        focal = np.stack([Ks[:, 0, 0], Ks[:, 1, 1]], axis=-1)
        half = _REACH * length[:, None] * focal / np.where(depth > 0, depth, np.nan)
        boxes = np.concatenate([uv[:, 0] - half, uv[:, 0] + half], axis=-1)
    if character.keypoints is not None:
        there = (character.keypoints.state[:, FACE_KEYPOINTS] != KeypointState.ABSENT).all(axis=1)
        uv, _ = project(character.keypoints.points[:, FACE_KEYPOINTS].astype(np.float64), viewmats, Ks)
        low, high = uv.min(axis=1), uv.max(axis=1)
        grown = (high - low) * (_LARGER - 1)
        exact = np.stack(
            [
                low[:, 0] - grown[:, 0] / 2,
                low[:, 1] - grown[:, 1] * _ABOVE,
                high[:, 0] + grown[:, 0] / 2,
                high[:, 1] + grown[:, 1] * (1 - _ABOVE),
            ],
            axis=-1,
        )
        boxes = np.where(there[:, None], exact, boxes)
    small = (boxes[:, 2:] - boxes[:, :2]).min(axis=1) < _LEAST
    return np.where(small[:, None], np.nan, boxes)


def face_film(
    shot: Shot,
    side: int,
    index: int = 0,
    device: torch.device | str = "cpu",
    tell: Callable[[int, int], None] = lambda done, frames: None,
) -> np.ndarray:
    """A character's face with its looks (T,S,S,3) uint8, squeezed to squares, on grey; black where it has none.

    Args:
        side: S.
        index: of the character.
        tell: called with frames done and their number; may raise to stop.

    Raises:
        MediaError: a picture of the looks is damaged.
    """
    clip = shot.clip
    boxes = face_boxes(shot.characters[index], clip)
    there = np.isfinite(boxes[:, 0])
    if not there.any():
        return np.zeros((clip.frames, side, side, 3), np.uint8)
    boxes = np.where(there[:, None], boxes, boxes[there][0])
    Ks = clip.Ks.astype(np.float64)
    Ks[:, :2, 2] -= boxes[:, :2]
    Ks[:, :2] *= (side / (boxes[:, 2:] - boxes[:, :2]))[..., None]
    # Background and clay are pictures of the whole frame.
    close = replace(shot, clip=Clip(clip.fps, side, side, clip.viewmats, Ks.astype(np.float32)))
    carrier = Carrier(replace(close, background=Background(), clay=None), side, side, device)
    (film,) = carrier.maps("frames", on_frames=tell)
    film[~there] = 0
    return film
