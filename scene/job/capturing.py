"""A job's capture: made in turns with the window that shows how far it is, or known from before."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Generator, Iterator

import bpy

from ...backend.shot import Shot
from .. import aside
from ..capture import memory
from ..capture import shot as capture
from ..capture.pace import LONGEST_SLICE, Pace
from ..capture.wants import Wants
from ..fingerprint import Print
from . import presence

Steps = Generator[tuple[int, int], None, None]
_BEFORE, _AFTER = (0, 0), (1, 1)
"""Yielded while it is not yet known whether there are steps, and once there are no more."""


def captured(
    scene: bpy.types.Scene, wants: Wants, notices: list[str], pace: Pace, part: range | None = None
) -> Generator[tuple[int, int], None, Shot]:
    """A scene's shot as ``capture_steps`` makes it; without a step where it is known from before."""
    began = memory.changes()
    found = yield from _printed(scene, pace, _BEFORE)
    key = memory.key_of(found, scene, wants, part) if memory.changes() == began else None
    shot = memory.find(key, notices)
    if shot is not None:
        if part is None:
            presence.note(scene, shot)
        return capture.with_settings(shot, scene, wants)
    told: list[str] = []
    recall = None if key is None else memory.Recall(found)
    shot = yield from capture.capture_steps(scene, notices=told, wants=wants, part=part, pace=pace, recall=recall)
    notices += told
    if part is None:
        presence.note(scene, shot)
    if recall is not None and key is not None and memory.changes() == began:
        found = yield from _printed(scene, pace, _AFTER)
        if memory.key_of(found, scene, wants, part) == key and memory.changes() == began:
            memory.keep(key, shot, told)
            memory.keep_pictures(recall.made)
    return shot


def _printed(scene: bpy.types.Scene, pace: Pace, progress: tuple[int, int]) -> Generator[tuple[int, int], None, Print]:
    steps = memory.printed(scene)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value
        pace.breathe()
        if pace.pausing:
            yield progress


class Capturing:
    """One capture under way.

    Attributes:
        over: whether its last step is behind it.
    """

    def __init__(self, steps: Callable[[Pace], Steps], longest: float = LONGEST_SLICE) -> None:
        """
        Args:
            steps: makes the capture's steps, at the pace that it is given.
            longest: see ``Pace``.
        """
        self.over = False
        self._pace = Pace(not bpy.app.background, longest)
        self._steps = steps(self._pace)

    def turn(self) -> Iterator[tuple[int, int]]:
        """The steps until it is the window's turn, or all of them where none waits; each with their number.

        None while a thread is at work, see ``aside``.
        """
        if aside.busy():
            return
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
