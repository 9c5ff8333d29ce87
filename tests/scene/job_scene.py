"""A scene that is captured in a moment, and the add-on pointed at a backend of the tests."""

from __future__ import annotations

import importlib
import shutil
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

import bpy


class Bench:
    """The add-on's modules, and a scene with a cube as the performer.

    Attributes:
        jobs, folders, library, backends: the modules of ``scene/``.
        events, states: what happens to a job, and how it stands.
    """

    def __init__(self, addon: ModuleType) -> None:
        self.addon = addon
        self.jobs, self.folders, self.library, self.backends, self.readiness = (
            self.module(f"scene.{name}")
            for name in ("job.effects", "folders", "job.library", "job.backends", "job.readiness")
        )
        self.events = self.module("backend.client.events")
        self.states = self.module("backend.client.job")
        self.jobs.close()
        shutil.rmtree(self.folders.user_folder("jobs"))
        self.preferences = bpy.context.preferences.addons[addon.__name__].preferences
        self.preferences.mode = "SERVER"
        self.preferences.token = ""
        # Not the user's own videos.
        self.preferences.results_folder = str(self.folders.user_folder("videos"))
        self.preferences.local_python = ""

    def module(self, name: str) -> Any:
        return importlib.import_module(f"{self.addon.__name__}.{name}")

    @property
    def state(self) -> Any:
        return self.jobs.runner.state

    @property
    def view(self) -> Any:
        return bpy.context.window_manager.maquette

    def build(self, frames: int = 5) -> bpy.types.Scene:
        """A cube that slides past a camera."""
        scene = bpy.context.scene
        bpy.ops.mesh.primitive_cube_add(size=1.0)
        cube = bpy.context.object
        cube.name = "Performer"
        cube.maquette.is_character = True
        cube.maquette.reference_source = "NONE"
        for frame, x in ((1, -0.5), (frames, 0.5)):
            cube.location.x = x
            cube.keyframe_insert("location", frame=frame)
        bpy.ops.object.camera_add(location=(0, -8, 0), rotation=(1.5707963, 0, 0))
        scene.camera = bpy.context.object
        scene.frame_start, scene.frame_end = 1, frames
        scene.render.resolution_x = scene.render.resolution_y = 64
        scene.maquette.background = "NONE"
        scene.maquette.points = 16
        return scene

    def until(self, condition: Callable[[], Any], seconds: float = 30.0) -> None:
        """Poll, as the timer does, until something is so."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"did not happen; the job is {self.state}"
            self.jobs.poll()
            time.sleep(0.01)

    def until_phase(self, *names: str) -> None:
        self.until(lambda: self.state.phase.value in names)
