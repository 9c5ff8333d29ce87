"""What becomes of a film when its model is done with it: its shape, a look at its seams, a larger size."""

from __future__ import annotations

import numpy as np

from .generation import Generation
from .upscale import about, upscale


def finish(run: Generation, frames: np.ndarray) -> np.ndarray:
    """The film as it is delivered, of the frames (T,h,w,3) uint8 that the family decoded; tells ``run`` of it."""
    plan = run.plan
    frames = run.family.fit(run.spec, frames, plan.width, plan.height)
    if len(plan.windows) > 1:
        # Here, because a film of one window does without.
        from .seams import film_seam, seam_note

        value = film_seam(run.spec, run.shot, plan, frames, run.device)
        if np.isfinite(value):
            run.metadata["window_seam"] = round(value, 2)
            run.notes += [note] if (note := seam_note(value)) else []
    if plan.upscale > 1:
        run.metadata["upscaled"] = {"by": plan.upscale, **about()}
        frames = upscale(frames, plan.upscale, run.device, lambda done, count: run.report("upscaling", done, count))
    return frames
