"""Whether a film that was made in windows shows where they meet: measured along the scene's own motion."""

from __future__ import annotations

import math

import numpy as np
import torch

from ..control.drawing import Surfaces
from ..control.fitting import squeezed
from ..control.flow import exact_flow, taken
from ..shot import Shot, ShotError
from .family import Plan
from .windows import joins, seam

VISIBLE = 2.0
"""Jumps of so many times the change elsewhere are told."""

_COMPARED = 12
"""Changes elsewhere that jumps are held against, spread over the film."""


def film_seam(shot: Shot, plan: Plan, frames: np.ndarray, rate: float, device: torch.device) -> float:
    """``windows.seam`` of a finished film (T,H,W,3) uint8 of a shot; NaN where it was made in one window, or where the
    shot holds no surfaces.

    Args:
        rate: frames a second of the model, of which the plan's windows are.
    """
    across = joins(plan.windows, len(frames), shot.clip.fps / rate)
    inside = {t for pairs in across for t in pairs}
    others = [t for t in range(len(frames) - 1) if t not in inside]
    if not inside or not others:
        return math.nan
    chosen = {others[int(i)] for i in np.linspace(0, len(others) - 1, min(_COMPARED, len(others)))}
    changes = [math.nan] * (len(frames) - 1)
    try:
        surfaces = Surfaces(squeezed(shot, frames.shape[2], frames.shape[1]), device)
    except ShotError:
        return math.nan
    for t in sorted(inside | chosen):
        flow = exact_flow(surfaces.draw(t), surfaces.draw(t + 1))
        before, after = (torch.from_numpy(frames[k]).to(device).float() for k in (t, t + 1))
        square = (taken(after, flow.pixels) - before).square().mean(dim=-1)[flow.seen]
        changes[t] = float(square.mean().sqrt()) if len(square) else math.nan
    return seam(changes, across)


def seam_note(value: float) -> str:
    """What an animator should know of it, or empty."""
    if not value > VISIBLE:
        return ""
    return (
        f"Where its windows meet the film jumps {value:.1f} times as much as elsewhere; another seed may hide it, or "
        "starting from the carried film"
    )
