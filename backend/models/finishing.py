"""What becomes of a film when its model is done with it: its shape, a look at its seams, a larger size."""

from __future__ import annotations

import numpy as np

from ..media import StreamedFilm
from .generation import Generation
from .upscale import about, upscale


def finish(run: Generation, frames: np.ndarray | StreamedFilm) -> np.ndarray | StreamedFilm:
    """The film as it is delivered, of the frames (T,h,w,3) uint8 that the family decoded; tells ``run`` of it."""
    plan = run.plan
    if not isinstance(frames, StreamedFilm):
        frames = run.family.fit(run.spec, frames[: plan.frames], plan.width, plan.height)
    if len(plan.windows) > 1 and not isinstance(frames, StreamedFilm):
        # Here, because a film of one window does without.
        from .seams import film_seam, seam_note

        rate = run.metadata.get("fps", run.shot.clip.fps)
        value = film_seam(run.shot, plan, frames, rate, run.device)
        if np.isfinite(value):
            run.metadata["window_seam"] = round(value, 2)
            run.notes += [note] if (note := seam_note(value)) else []
    if plan.upscale > 1:
        run.metadata["upscaled"] = {"by": plan.upscale, **about()}
        frames = upscale(frames, plan.upscale, run.device, lambda done, count: run.report("upscaling", done, count))
    return frames
