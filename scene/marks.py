"""Marks on what Maquette puts into a scene."""

from __future__ import annotations

import bpy

TAG = "maquette_result"
"""Custom property on everything that shows a result: the job's id, or the video's path."""


def is_screen(obj: bpy.types.Object) -> bool:
    """Whether an object shows a result, and so is no part of the scene that is filmed."""
    return TAG in obj
