"""The published descriptions with tiny networks, and shots for them."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from maquette.backend.catalogue.models import ModelSpec
from maquette.backend.shot import Clip, Keypoints, KeypointState, Media, Reference, Settings, Shot, Track
from PIL import Image

from ...builders import make_shot
from ..tiny import describe
from .networks import TABLES

CHANGES = {
    "limits.window_frames": 4,
    "limits.window_stride": 2,
    "limits.max_frames": 20,
    "limits.min_size": 64,
    "limits.max_size": 192,
    "defaults.steps": 2,
    "defaults.width": 96,
    "defaults.height": 64,
}


def tables_of(preset: str) -> dict[str, dict[str, Any]]:
    """The tiny networks of a published description."""
    return {name: table for name, table in TABLES.items() if name != "landmark_controlnet" or preset == "mofa-hybrid"}


def small_preset(folder: Path, name: str) -> ModelSpec:
    """A published description with tiny networks, pictures and windows, its weights not yet there."""
    return describe(folder, name, tables_of(name), CHANGES)


def shot_of(spec: ModelSpec, frames: int = 5, options: dict | None = None, characters: int = 1, **settings) -> Shot:
    """Boxes sway on a floor before an orbiting camera; each has a face, and there is a track."""
    shot = make_shot(frames, characters=characters, width=96, height=64, full=True)
    people = tuple(replace(person, keypoints=face_keypoints(person.points)) for person in shot.characters)
    return replace(shot, characters=people, settings=Settings(model=spec.id, options=options or {}, **settings))


def face_keypoints(points: np.ndarray) -> Keypoints:
    """Nothing but a flat face, 0.3 m high, in front of the middle of points (T,N,3), all of it visible."""
    found = np.zeros((len(points), 128, 3), np.float32)
    state = np.full((len(points), 128), KeypointState.ABSENT, np.uint8)
    middle = points.mean(axis=1, keepdims=True) + (0, -0.3, 0.4)
    found[:, 60:] = middle + face_shape()
    state[:, 60:] = KeypointState.VISIBLE
    return Keypoints(found, state)


def face_shape() -> np.ndarray:
    """68 landmarks (68,3) of a schematic face that looks along -Y, in metres about its middle."""

    def arc(n: int, x: float, z: float, width: float, height: float, start: float, stop: float) -> np.ndarray:
        turn = np.linspace(start, stop, n) * np.pi
        return np.stack([x + width * np.cos(turn), np.zeros(n), z + height * np.sin(turn)], axis=-1)

    return np.concatenate(
        [
            arc(17, 0, 0.02, 0.1, 0.15, 1, 2),
            arc(5, -0.045, 0.06, 0.03, 0.02, 1, 0),
            arc(5, 0.045, 0.06, 0.03, 0.02, 1, 0),
            np.stack([np.zeros(4), np.zeros(4), np.linspace(0.04, -0.02, 4)], axis=-1),
            arc(5, 0, -0.03, 0.02, 0.01, 1, 2),
            arc(6, -0.045, 0.03, 0.02, 0.01, 1, -2 / 3),
            arc(6, 0.045, 0.03, 0.02, 0.01, 1, -2 / 3),
            arc(12, 0, -0.08, 0.045, 0.025, 1, -5 / 6),
            arc(8, 0, -0.08, 0.03, 0.01, 1, -3 / 4),
        ]
    )


def cut_out(shot: Shot, index: int, colour: tuple[int, int, int], columns: slice) -> Reference:
    """A character's reference as a picture that is transparent but for some columns in one colour."""
    reference = shot.characters[index].reference
    assert reference is not None
    pixels = np.zeros((64, 96, 4), np.uint8)
    pixels[:, columns] = (*colour, 255)
    buffer = io.BytesIO()
    Image.fromarray(pixels, "RGBA").save(buffer, "PNG")
    return replace(reference, image=Media(buffer.getvalue(), "image/png"))


def with_person(shot: Shot, index: int = 0, **changes) -> Shot:
    """The shot with one character changed."""
    people = list(shot.characters)
    people[index] = replace(people[index], **changes)
    return replace(shot, characters=tuple(people))


def locked(shot: Shot) -> Shot:
    """The shot with its first camera throughout."""
    clip = shot.clip
    viewmats = np.repeat(clip.viewmats[:1], clip.frames, axis=0)
    return replace(shot, clip=Clip(clip.fps, clip.width, clip.height, viewmats, clip.Ks))


def track(shot: Shot, start: np.ndarray, step: np.ndarray, name: str = "Flag", visible: bool = True) -> Track:
    """A track that leaves ``start`` (3,) by ``step`` (3,) a frame."""
    frames = shot.clip.frames
    points = start + np.arange(frames)[:, None] * step
    return Track(name, points.astype(np.float32), np.full(frames, visible))
