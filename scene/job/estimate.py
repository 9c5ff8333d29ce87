"""What a press of Generate will make, and how long that took last time: said before anything is sent."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import bpy

from ...backend.catalogue.quality import list_quality
from ...backend.catalogue.sizes import Size, shot_size
from ...backend.client import state as s
from ...backend.shot import ShotError
from .. import folders
from ..camera.matrices import render_size
from ..camera.timeline import shot_frames
from ..capture.shot import UPSCALES
from . import backends, models, options
from .model_checks import compared

_FILE = "seconds.json"
_ROUGH_CAPTURE = 0.7
"""Seconds a frame on a two-core computer without a GPU; so is the following."""
_ROUGH_CARRY = 1e-6
"""Seconds a frame's pixel: of the carried film, which is all that the embedded model's one step takes."""
_LEAST_CAPTURE = 0.3
"""Seconds below which nothing was captured: the shot was known from before."""


def expected(scene: bpy.types.Scene) -> str:
    """Frames, size and the time of the scene's video, in words; empty where unknown.

    Before it has been measured the time of a carried film, with at most one step of a network, is told roughly; a
    longer run of a network depends on the backend's device too much to be told at all.
    """
    model = models.find(scene.maquette.model)
    try:
        count, clip = len(shot_frames(scene)), render_size(scene.render)
    except ShotError:
        return ""
    frames = "1 frame" if count == 1 else f"{count} frames"
    size = _size(model, clip, scene)
    if size is None:
        return frames
    known = _read(model.id, scene)
    level = list_quality().get(scene.maquette.quality)
    factor = 1 if level is not None and level.carried else UPSCALES[scene.maquette.upscale]
    size = size[0] * factor, size[1] * factor
    words = f"{frames}, {size[0]} x {size[1]}"
    if compared(scene) or scene.maquette.seeds > 1:
        return words
    about = "about"
    if not known.get("make"):
        known, about = _rough(model, scene) if factor == 1 else {}, "roughly"
        if not known:
            return words
    seconds = known.get("capture", 0.0) * count + known["make"] * count * size[0] * size[1]
    return f"{words}, {about} {duration(seconds)}"


def _rough(model: models.Model, scene: bpy.types.Scene) -> dict[str, float]:
    """Times of a video like none that was measured; what was tells how fast this computer captures. Empty: unknown."""
    level = list_quality().get(scene.maquette.quality)
    if level is None:
        return {}
    steps = scene.maquette.steps or int(model.defaults.get("steps", 0)) * level.steps
    if steps > 1 and not level.carried:
        return {}
    measured = [found["capture"] for found in _all().values() if isinstance(found, dict) and found.get("capture")]
    capture = sum(measured) / len(measured) if measured else _ROUGH_CAPTURE
    return {"capture": capture, "make": _ROUGH_CARRY}


def duration(seconds: float) -> str:
    """Seconds in words as short as a panel needs: ``8 s``, ``2 min 5 s``, ``1 h 20 min``."""
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes < 10 and rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


@dataclass
class Stopwatch:
    """Measures one job: seconds of its capture and of its making, without those in a queue or until a backend starts.

    Attributes:
        key: whose times these are; empty for a job that is not measured.
        clip: width and height that the scene renders.
    """

    key: str = ""
    clip: Size = (0, 0)
    capture: float = 0.0
    make: float = 0.0
    _size: tuple[int, int, int] = field(default=(0, 0, 0))

    @classmethod
    def of(cls, scene: bpy.types.Scene) -> Stopwatch:
        """For the job that begins now."""
        if compared(scene) or scene.maquette.seeds > 1:
            return cls()
        return cls(_key(scene.maquette.model, scene), render_size(scene.render))

    def passed(self, seconds: float, state: s.JobState, starting: bool) -> None:
        """Some time has gone by. ``starting``: the backend is awaited."""
        if state.phase is s.Phase.CAPTURING:
            self.capture += seconds
        elif state.phase in s.WITH_BACKEND and state.phase is not s.Phase.QUEUED and not starting:
            self.make += seconds
        if state.told is not None and state.told.plan is not None:
            plan = state.told.plan
            self._size = (plan.width, plan.height, plan.frames)

    def keep(self) -> None:
        """The video is here: the next estimate goes by this one."""
        width, height, frames = self._size
        if not self.key or not frames:
            return
        kept = _all()
        capture = self.capture / frames
        if self.capture < _LEAST_CAPTURE:
            capture = kept.get(self.key, {}).get("capture", capture)
        kept[self.key] = {
            "clip": list(self.clip),
            "size": [width, height],
            "capture": capture,
            "make": self.make / (frames * width * height),
        }
        try:
            (folders.user_folder("models") / _FILE).write_text(json.dumps(kept), "utf-8")
        except OSError:
            return  # only the estimate is the poorer for it
        _cache.clear()


_cache: list[dict[str, Any]] = []


def _all() -> dict[str, Any]:
    """Everything that was measured on this computer, read once."""
    if not _cache:
        try:
            found = json.loads((folders.user_folder("models") / _FILE).read_text("utf-8"))
        except (OSError, ValueError):
            found = {}
        _cache.append(found if isinstance(found, dict) else {})
    return _cache[0]


def _read(model: str, scene: bpy.types.Scene) -> dict[str, Any]:
    found = _all().get(_key(model, scene))
    return found if isinstance(found, dict) else {}


def _key(model: str, scene: bpy.types.Scene) -> str:
    shot = scene.maquette
    words = [backends.name(), model, shot.quality, str(shot.steps), shot.background, shot.render_engine]
    loras = options.lora_entry(scene, model)
    words += [] if loras is None else map(str, options.loras(loras))
    return " ".join(words if shot.upscale == "OFF" else [*words, shot.upscale])


def _size(model: models.Model, clip: Size, scene: bpy.types.Scene) -> Size | None:
    default = model.defaults
    chosen = {name: each.default for name, each in model.options.items()} | options.chosen(scene, model.id)
    try:
        return shot_size(model.limits, (int(default["width"]), int(default["height"])), clip, chosen)[0]
    except (KeyError, ValueError, ZeroDivisionError):
        return None
