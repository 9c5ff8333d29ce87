"""Work beside Blender's own thread, for which captures wait."""

from __future__ import annotations

import threading

import pytest

from .builders import module


def test_results_and_errors_come_back(addon) -> None:
    aside = module(addon, "scene.aside")
    assert aside.run(divmod, 7, 2).result() == (3, 1)
    with pytest.raises(ZeroDivisionError):
        aside.run(divmod, 7, 0).result()


def test_a_capture_rests_while_a_thread_is_at_work(addon) -> None:
    aside, capturing = module(addon, "scene.aside"), module(addon, "scene.job.capturing")
    going = capturing.Capturing(lambda pace: iter([(0, 2), (1, 2)]))
    over = threading.Event()
    work = aside.run(over.wait, 60)
    assert aside.busy() and list(going.turn()) == [] and not going.over
    over.set()
    work.result()
    while aside.busy():  # for the moment that a thread takes to end
        pass
    assert list(going.turn()) == [(0, 2), (1, 2)] and going.over
