"""One line about the shot, for the panel."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """Something that is there, or that is missing, with its cure.

    Attributes:
        kind: CHARACTER, CAMERA, MOTION, BACKGROUND, MODEL, COMPARE, FRAMING, UPSCALE or BACKEND.
        level: OK, WARNING (the shot can be made, but perhaps not as meant) or ERROR (it cannot).
        message: what is missing and what to do; for OK what is there.
        target: name of the object concerned, or id of the model.
        cure: what ``maquette.cure`` does about it at a press; empty where the animator has to choose.
    """

    kind: str
    level: str
    message: str
    target: str = ""
    cure: str = ""
