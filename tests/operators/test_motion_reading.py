"""Reading beside Blender's thread: results, errors, progress and Esc."""

from __future__ import annotations

import importlib
import threading

import numpy as np
import pytest


@pytest.fixture
def reading(addon):
    return importlib.import_module(addon.__name__ + ".operators.motion_reading").Reading


def test_results_and_errors_come_through(reading) -> None:
    assert reading(lambda watch: (watch(0.5), 7)[1]).result() == 7
    with pytest.raises(ZeroDivisionError):
        reading(lambda watch: 1 / 0).result()


def test_progress_is_told_and_a_stop_ends_it(reading) -> None:
    told, go = threading.Event(), threading.Event()

    def work(watch):
        watch(0.25)
        told.set()
        go.wait(30)
        watch(0.5)
        return "never"

    at = reading(work)
    assert told.wait(30) and at.part == 0.25 and not at.done
    at.stop()
    go.set()
    assert at.result() is None and at.done


def test_a_fit_tells_its_progress_to_the_end(addon, tmp_path) -> None:
    motions = importlib.import_module(addon.__name__ + ".backend.motions")
    bodies = importlib.import_module(addon.__name__ + ".backend.bodies")
    body = bodies.embedded()
    walk = motions.generate_walk(0.2, 30, body=body)
    path = tmp_path / "walk.npy"
    np.save(path, body.pose(None, walk.poses, walk.trans, subset=np.arange(1)).joints)
    parts: list[float] = []
    motions.load_motion(path, body=body, watch=parts.append)
    assert parts == sorted(parts) and parts[-1] == 1.0 and len(parts) > 10
