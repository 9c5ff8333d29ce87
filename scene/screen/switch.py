"""The one switch of how a scene's chosen result is shown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import bpy

from .overlay import redraw
from .show import WAYS, load_result
from .views import remove_screens

_still = False


@contextmanager
def standing_still() -> Iterator[None]:
    """Let the switch or the choice be set without anything in the scene following it."""
    global _still
    before, _still = _still, True
    try:
        yield
    finally:
        _still = before


def set_way(scene: bpy.types.Scene, mode: str) -> None:
    """Set the switch to what the scene shows already."""
    with standing_still():
        scene.maquette.show_as = mode


def follow(scene: bpy.types.Scene) -> list[str]:
    """Show the chosen result in the way that the switch says, and in no other.

    Returns:
        Sentences for the animator.

    Raises:
        ShotError: it cannot be shown; what was shown before still is.
    """
    if _still:
        return []
    shot = scene.maquette
    if shot.show_as == "OFF" or not 0 <= shot.active_result < len(shot.results):
        take_away(scene)
        return []
    return load_result(scene, shot.results[shot.active_result], shot.show_as, placement=shot.plane_place)


def take_away(scene: bpy.types.Scene) -> None:
    """Take everything out of the scene that shows results; the files and the list stay."""
    for way in WAYS:
        remove_screens(scene, way)
    scene.maquette.beside = False
    redraw()


def mend(scene: bpy.types.Scene) -> None:
    """Set the switch of a file that showed results in several ways at once, which it cannot say any more."""
    if scene.library is None and not scene.maquette.show_as:
        set_way(scene, "OVERLAY")
