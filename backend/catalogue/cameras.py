"""Camera moves: one TOML file each in ``presets/cameras``; the README there explains the entries."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar, Literal

from .reader import PRESETS, Preset


@dataclass(frozen=True)
class Shake:
    """Handheld motion: standard deviations in distances and degrees, and hertz."""

    position: float = 0.0
    rotation: float = 0.0
    frequency: float = 1.5


@dataclass(frozen=True)
class Channels:
    """Where the camera is, seen from the characters; each a list of stops in even steps.

    Attributes:
        azimuth, elevation: degrees.
        distance: in units of the closest that shows the characters.
        track: sideways, in distances.
    """

    azimuth: tuple[float, ...] = (0.0,)
    elevation: tuple[float, ...] = (0.0,)
    distance: tuple[float, ...] = (1.0,)
    track: tuple[float, ...] = (0.0,)

    def __post_init__(self) -> None:
        for entry in fields(self):
            if not getattr(self, entry.name):
                raise ValueError(f"{entry.name} is an empty list; give it a number")
        if min(self.distance) <= 0:
            raise ValueError("distance must be above 0")


@dataclass(frozen=True)
class Move(Preset):
    """One camera move.

    Attributes:
        lens: millimetres, at distance 1.
        follow: 1 where the camera travels with the characters, 0 where it stands.
        hold_size: whether the lens changes with the distance so that the characters keep their size.
    """

    FOLDER: ClassVar[Path] = PRESETS / "cameras"
    description: str = ""
    order: float = 100
    lens: float = 50
    follow: float = 1
    ease: Literal["linear", "smooth"] = "linear"
    hold_size: bool = False
    path: Channels = Channels()
    shake: Shake | None = None

    def __post_init__(self) -> None:
        if self.lens < 1:
            raise ValueError("lens must be at least 1 mm")
