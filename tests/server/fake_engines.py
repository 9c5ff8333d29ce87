"""Engines that take no time, for tests of the server around them.

What they do is written in the shot's prompt as ``key=value`` words: ``wait`` seconds a step, ``hold`` = a file
whose removal the second step waits for, ``fail`` = oom | engine | nan | odd | exit | full, ``stubborn`` = 1: no cancel.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from maquette.backend.catalogue.models import ModelDefaults, ModelSpec
from maquette.backend.models.family import Cancelled, EngineError, NotFinite, Plan, Progress, Result
from maquette.backend.models.registry import ModelStatus


def status(name: str, missing: tuple[str, ...] = ()) -> ModelStatus:
    spec = ModelSpec(
        id=name, label=name.title(), description="Makes grey frames", license="CC0-1.0", engine="fake",
        inputs={"characters": "required"}, limits={"max_frames": 40}, files=missing, folder=Path("weights"),
        defaults=ModelDefaults(steps=4, guidance=1.0, width=48, height=32, frames=5),
    )  # fmt: skip
    return ModelStatus(spec, not missing, missing)


def told(shot: Any) -> dict[str, str]:
    return dict(word.split("=", 1) for word in shot.prompt.split() if "=" in word)


def note(line: str) -> None:
    """One line into the file that the test reads."""
    if path := os.environ.get("FAKE_LOG"):
        with open(path, "a", encoding="utf-8") as stream:
            stream.write(line + "\n")


class FakeEngine:
    def generate(self, shot: Any, on_progress: Any, cancelled: Any) -> Result:
        orders = told(shot)
        steps = shot.settings.steps or 4
        note(f"begin {shot.name} {os.getpid()}")
        on_progress(Progress("encoding", 0, 0))
        for step in range(1, steps + 1):
            if cancelled() and "stubborn" not in orders:
                note(f"stopped {shot.name} {step - 1}")
                raise Cancelled
            time.sleep(float(orders.get("wait", 0)))
            note(f"step {shot.name} {step}")
            if step == 2:
                self._fail(orders.get("fail", ""))
                while "hold" in orders and os.path.exists(orders["hold"]):
                    time.sleep(0.01)
            picture = np.full((16, 24, 3), 10 * step, np.uint8)
            on_progress(Progress("denoising", step, steps, picture))
        on_progress(Progress("decoding", 1, 1))
        ramp = np.arange(shot.clip.frames, dtype=np.uint8)[:, None, None, None] * 5
        frames = np.broadcast_to(ramp, (shot.clip.frames, 32, 48, 3)).copy()
        return Result(frames, shot.clip.fps, ("made of grey",), {"steps": steps})

    def _fail(self, how: str) -> None:
        if how == "oom":
            raise MemoryError
        if how == "engine":
            raise EngineError("characters[0].points", "are too few for this engine; sample more.")
        if how == "nan":
            raise NotFinite("The network unet", "at step 2 of 3")
        if how == "odd":
            raise ZeroDivisionError("by zero")
        if how == "exit":
            os._exit(7)
        if how == "full":
            raise OSError(errno.ENOSPC, "No space left on device")


class FakeEngines:
    def __init__(self, folders: tuple[Path, ...]) -> None:
        pass

    def models(self) -> list[ModelStatus]:
        return [status("isa-nano"), status("isa-small", ("vae.safetensors",))]

    def plan(self, shot: Any) -> Plan:
        if shot.clip.frames > 40:
            raise EngineError("clip", f"has {shot.clip.frames} frames; this engine makes at most 40, shorten the clip.")
        return Plan(48, 32, shot.clip.frames, ((0, shot.clip.frames),), ("size snapped to 48 x 32",))

    def load(self, model_id: str, device: str | None) -> FakeEngine:
        note(f"load {model_id}")
        return FakeEngine()

    def device(self, wanted: str | None) -> str:
        return wanted or "fake"

    def warm_up(self, device: str | None) -> Iterator[None]:
        for piece in (1, 2):
            note(f"warm {piece}")
            yield


def lines(path: Path) -> list[str]:
    """What the engines have noted so far."""
    return path.read_text("utf-8").splitlines() if path.exists() else []
