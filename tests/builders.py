"""Small valid objects to start a test from."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace

import numpy as np
from maquette.backend.shot import (
    Background,
    BodyPose,
    Character,
    Clay,
    Clip,
    Keypoints,
    Media,
    Mesh,
    Reference,
    Settings,
    Shot,
    Track,
)
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
    full: bool = False,
) -> Shot:
    """A valid shot: point clouds of a person's size that sway in front of an orbiting camera.

    With ``full`` it also has what only some models take: keypoints, meshes (a box a person, a floor), a track, clay,
    two references a person, and a quality.
    """
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
    shot = Shot(
        clip=Clip(24.0, width, height, viewmats, np.repeat(K[None], frames, axis=0)),
        characters=tuple(people),
        background=background or Background("still", (png(),)),
        prompt="a person",
        settings=Settings(model=model, seed=7),
        name="test",
    )
    return add_geometry(shot, rng) if full else shot


def make_keypoints(points: np.ndarray, rng: np.random.Generator) -> Keypoints:
    """Keypoints (T,128) at some of the surface points (T,N,3), each in a random state."""
    chosen = points[:, rng.integers(0, points.shape[1], 128)]
    state = rng.integers(0, 4, chosen.shape[:2]).astype(np.uint8)
    return Keypoints(np.where(state[..., None] > 0, chosen, 0).astype(np.float32), state)


def add_geometry(shot: Shot, rng: np.random.Generator) -> Shot:
    """The shot with keypoints, meshes and a track."""
    people, meshes = [], []
    for i, person in enumerate(shot.characters):
        looks = person.reference
        if looks is not None:
            looks = replace(looks, keypoints=make_keypoints(looks.points[None], rng))
        box = np.array([[x, y, z] for x in (-0.25, 0.25) for y in (-0.15, 0.15) for z in (-0.85, 0.85)])
        corners = (person.points.mean(axis=1, keepdims=True) + box).astype(np.float32)
        further = ()
        if looks is not None:
            looks = replace(looks, vertices=corners[0], clay=png(8, 6, (128, 128, 128)))
            further = (replace(looks, image=png(6, 8), vertices=corners[-1], clay=None),)
        people.append(
            replace(
                person,
                keypoints=make_keypoints(person.points, rng),
                reference=looks,
                further_references=further,
            )
        )
        meshes.append(Mesh(person.name, i, corners, BOX_TRIANGLES))
    floor = np.array([[[-5, -5, 0], [5, -5, 0], [5, 5, 0], [-5, 5, 0]]], np.float32)
    meshes.append(Mesh("Floor", -1, floor, np.array([[0, 1, 2], [0, 2, 3]], np.int32)))
    spot = shot.characters[0].points[:, 0]
    track = Track("Empty", np.ascontiguousarray(spot), np.ones(len(spot), np.bool_))
    return replace(
        shot,
        characters=tuple(people),
        meshes=tuple(meshes),
        tracks=(track,),
        clay=Clay((png(8, 6, (120, 120, 120)),), surroundings=True),
        settings=replace(shot.settings, quality="standard"),
    )


BOX_TRIANGLES = np.array(
    [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4]]
    + [[1, 5, 7], [1, 7, 3]],
    np.int32,
)
"""Of a box whose corners are listed by x, then y, then z."""
