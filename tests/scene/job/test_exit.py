"""Blender ends while a job is under way: at once, in order, and no process of ours is left."""

from __future__ import annotations

import subprocess
import sys

import pytest
from maquette.backend.client.process import is_alive

from ...conftest import ROOT
from ...fake_backend import fake_backend

RUNNING = [{"status": "in_progress", "stage": "denoising", "step": 1, "steps": 30, "progress": 3, "eta_seconds": 29.0}]

_EXIT = """
import os, sys, tempfile
sys.path.insert(0, {root!r})
import bpy
parent = tempfile.mkdtemp()
os.symlink({root!r}, parent + "/maquette")
bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
bpy.context.preferences.extensions.repos.new(name="Dev", module="dev", custom_directory=parent)
bpy.ops.preferences.addon_enable(module="bl_ext.dev.maquette")
import importlib
from tests.scene.job_scene import Bench
bench = Bench(importlib.import_module("bl_ext.dev.maquette"))
handlers = bench.module("scene.job.handlers")
bpy.app.timers.register(handlers._tick, persistent=True)  # as in a window
bench.preferences.address = {address!r}
bench.jobs.generate(bench.build(frames=30))
if {phase!r} == "running":
    bench.until_phase("running")
    print("worker", bench.jobs.runner._follower._process.pid, flush=True)
else:
    next(bench.jobs.runner._capture.turn())
print("leaving", flush=True)
"""


@pytest.mark.parametrize("phase", ["running", "capturing"])
def test_blender_ends_with_a_job_under_way(phase: str) -> None:
    with fake_backend() as backend:
        backend.script = RUNNING
        code = _EXIT.format(root=str(ROOT), address=backend.address, phase=phase)
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert "leaving" in ended.stdout and ended.returncode == 0, ended.stdout + ended.stderr
    if phase == "running":
        pid = int(ended.stdout.split("worker ")[1].split()[0])
        assert not is_alive(pid)
