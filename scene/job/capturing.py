"""A job's capture: made in turns with the window that shows how far it is, or known from before."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Generator, Iterator

import bpy

from ...backend.shot import Shot
from ..capture import memory
from ..capture import shot as capture
from ..capture.pace import Pace
from ..capture.wants import Wants
from . import presence

Steps = Generator[tuple[int, int], None, None]


def captured(
    scene: bpy.types.Scene, wants: Wants, notices: list[str], pace: Pace
) -> Generator[tuple[int, int], None, Shot]:
    """A scene's shot as ``capture_steps`` makes it; without a step where it is known from before."""
    key = memory.key_of(scene, wants)
    shot = memory.find(key, notices)
    if shot is not None:
        presence.note(scene, shot)
        return capture.with_settings(shot, scene, wants)
    before = memory.changes()
    found: list[str] = []
    shot = yield from capture.capture_steps(scene, notices=found, wants=wants, pace=pace)
    notices += found
    presence.note(scene, shot)
    if key is not None and memory.changes() == before and memory.key_of(scene, wants) == key:
        memory.keep(key, shot, found)
    return shot


class Capturing:
    """One capture under way.

    Attributes:
        over: whether its last step is behind it.
    """

    def __init__(self, steps: Callable[[Pace], Steps]) -> None:
        """
        Args:
            steps: makes the capture's steps, at the pace that it is given.
        """
        self.over = False
        self._pace = Pace(windowed=not bpy.app.background)
        self._steps = steps(self._pace)

    def turn(self) -> Iterator[tuple[int, int]]:
        """The steps until it is the window's turn, or all of them where none waits; each with their number."""
        self._pace.begin()
        for progress in self._steps:
            yield progress
            if self._pace.pausing:
                return
        self.over = True

    @property
    def seconds_left(self) -> float | None:
        """Until its end, as far as that can be told."""
        return self._pace.left

    def close(self) -> None:
        """Stop, and leave the scene as it was found."""
        try:
            self._steps.close()
        except Exception as error:
            print(f"Maquette: the scene could not be put back after the capture: {error}")

    def abandon(self) -> None:
        """Leave it as it is, for Blender's data may be gone.

        Left to be collected, a half-done capture would try to put a scene back that exists no more.
        """
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._steps))
