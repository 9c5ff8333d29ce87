"""The shot's cameras in the model's picture (no torch here)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...shot import Shot
from ...shot.cameras import project, scale_intrinsics
from .plan import PictureFit


@dataclass(frozen=True, eq=False)
class View:
    """What the first frames that the model makes are seen by, as long as they differ.

    Attributes:
        frames: (S,) the clip's frame behind each; the clip's own frames, but two at least.
        viewmats: (S,4,4) world to OpenCV camera; Ks: (S,3,3) pixels of the ``width`` x ``height`` picture.
        held: (N,) of the frames 1..N that the model makes, which of the S-1 later ones stands for each: beyond the clip
            the last one is held.
    """

    frames: np.ndarray
    viewmats: np.ndarray
    Ks: np.ndarray
    width: int
    height: int
    held: np.ndarray

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels (S,K,2), NaN behind the camera, and depth (S,K) of points (T,K,3) of the clip."""
        return project(points[self.frames].astype(np.float64), self.viewmats, self.Ks)


def model_view(shot: Shot, fit: PictureFit, frames: int) -> View:
    """The cameras of a shot in the model's picture, for as many frames as the model makes (two at least)."""
    clip = shot.clip
    Ks = scale_intrinsics(clip.Ks.astype(np.float64), fit.scaled[0] / clip.width, fit.scaled[1] / clip.height)
    Ks[:, :2, 2] -= fit.offset
    index = np.minimum(np.arange(max(clip.frames, 2)), clip.frames - 1)
    held = np.minimum(np.arange(frames - 1), len(index) - 2)
    return View(index, clip.viewmats.astype(np.float64)[index], Ks[index], *fit.size, held)
