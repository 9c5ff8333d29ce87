"""The carried film: what exact geometry and light give before any network runs.

Shape letters: T frames, H W image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from ..shot import Shot

NOBODY = -1
"""In ``CarriedFilm.character``, where no body shows."""


@dataclass(frozen=True, eq=False)
class CarriedFilm:
    """The references laid onto the moving bodies, over the background; and what each pixel shows.

    Attributes:
        frames: (T,H,W,3) uint8 sRGB.
        known: (T,H,W) float32 in [0,1], how far a body's colour is carried from a reference (1) or guessed (0); 0 where
            no body shows.
        character: (T,H,W) int8, index of the character that shows, or ``NOBODY``.
        normal: (T,H,W,3) float32, unit normals in the OpenCV camera's frame; 0 where no body shows.
        depth: (T,H,W) float32 metres along the optical axis of the bodies; infinite where none shows.
        canonical: (T,H,W,3) float32 metres, the spot on the rest pose (Y up, pelvis at the origin); 0 where no body.
        notes: sentences for the animator.
    """

    frames: np.ndarray
    known: np.ndarray
    character: np.ndarray
    normal: np.ndarray
    depth: np.ndarray
    canonical: np.ndarray
    notes: tuple[str, ...] = ()


def carry_shot(
    shot: Shot,
    width: int,
    height: int,
    device: torch.device | str = "cpu",
    on_frames: Callable[[int, int], None] | None = None,
) -> CarriedFilm:
    """The carried film of a shot at ``width`` x ``height`` pixels.

    Args:
        on_frames: called with the frames done and their number; may raise to stop.

    Raises:
        MediaError: a picture or film of the shot is damaged.
    """
    raise NotImplementedError
