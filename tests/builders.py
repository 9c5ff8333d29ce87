"""Small valid objects to start a test from."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from maquette.backend.shot import Background, BodyPose, Character, Clip, Media, Reference, Settings, Shot
from maquette.backend.shot.cameras import intrinsics, look_at


def png(width: int = 8, height: int = 6, color: tuple[int, int, int] = (200, 120, 40)) -> Media:
    """A plain PNG made without any library, so that it also works in Blender's interpreter."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + bytes(color) * width) * height
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return Media(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""),
        "image/png",
    )


def make_shot(
    frames: int = 5,
    points: int = 32,
    characters: int = 1,
    *,
    width: int = 128,
    height: int = 128,
    seed: int = 0,
    model: str = "isa-nano",
    background: Background | None = None,
    reference: Media | None = None,
) -> Shot:
    """A valid shot: point clouds of a person's size that sway in front of an orbiting camera."""
    rng = np.random.default_rng(seed)
    K = intrinsics(50, 36, 24, "AUTO", 0, 0, width, height).astype(np.float32)
    angles = np.linspace(0, 0.5, frames)
    eyes = np.stack([4 * np.sin(angles), -4 * np.cos(angles), np.full(frames, 1.2)], axis=-1)
    viewmats = np.stack([look_at(eye, np.array([0, 0, 0.9])) for eye in eyes]).astype(np.float32)
    people = []
    for i in range(characters):
        rest = (rng.uniform(-1, 1, (points, 3)) * (0.3, 0.85, 0.15)).astype(np.float32)
        world = np.stack([rest[:, 0] + 0.8 * i, -rest[:, 2], rest[:, 1] + 0.9], axis=-1)
        sway = np.stack([0.1 * np.sin(angles * 8), 0 * angles, 0 * angles], axis=-1)
        moving = (world[None] + sway[:, None]).astype(np.float32)
        people.append(
            Character(
                name=f"Body {i + 1}",
                points=moving,
                rest_points=rest,
                visibility=rng.random((frames, points)) < 0.6,
                joints=rng.normal(size=(frames, 24, 3)).astype(np.float32),
                body=BodyPose(
                    body="maquette_neutral",
                    betas=np.zeros(10, np.float32),
                    poses=np.zeros((frames, 24, 3), np.float32),
                    trans=np.zeros((frames, 3), np.float32),
                ),
                reference=Reference(
                    reference or png(width, height), moving[0], viewmats[0], K, np.ones(points, np.bool_)
                ),
            )
        )
    return Shot(
        clip=Clip(24.0, width, height, viewmats, np.repeat(K[None], frames, axis=0)),
        characters=tuple(people),
        background=background or Background("still", (png(),)),
        prompt="a person",
        settings=Settings(model=model, seed=7),
        name="test",
    )
