"""``maquette inspect``: what a .shot file holds, as JSON and as a picture."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .shot import (
    BODY_KEYPOINTS,
    FACE_KEYPOINTS,
    FORMAT_VERSION,
    LEFT_HAND_KEYPOINTS,
    RIGHT_HAND_KEYPOINTS,
    Keypoints,
    KeypointState,
    Reference,
    Shot,
    load_shot,
)
from .shot.cameras import camera_centers, depth_planes, project

_PALETTE = ((255, 170, 60), (80, 200, 255), (255, 110, 170), (140, 230, 110), (200, 160, 255), (250, 240, 110))
_TRACKS = (255, 60, 60)
_CARRIED_SIDE = 512
_HIDDEN = 0.35
"""Brightness of a point that the camera does not see."""
_PARTS = {
    "body": BODY_KEYPOINTS,
    "left_hand": LEFT_HAND_KEYPOINTS,
    "right_hand": RIGHT_HAND_KEYPOINTS,
    "face": FACE_KEYPOINTS,
}


def summarize(shot: Shot) -> dict[str, Any]:
    """Facts of a shot that fit on one screen; everything is a plain JSON value."""
    clip = shot.clip
    points = np.concatenate([c.points for c in shot.characters], axis=1)
    near, far = depth_planes(points, clip.viewmats)
    centers = camera_centers(clip.viewmats)
    characters = []
    for character in shot.characters:
        uv, depth = project(character.points, clip.viewmats, clip.Ks)
        inside = (depth > 0) & (uv > 0).all(-1) & (uv < (clip.width, clip.height)).all(-1)
        characters.append(
            {
                "name": character.name,
                "points": int(character.points.shape[1]),
                "in_frame": round(float(inside.mean()), 4),
                "visible": round(float(character.visibility.mean()), 4),
                "bounds_min": [round(float(x), 4) for x in character.points.min((0, 1))],
                "bounds_max": [round(float(x), 4) for x in character.points.max((0, 1))],
                "joints": character.joints is not None,
                "body": character.body.body if character.body else None,
                "keypoints": _keypoint_facts(character.keypoints),
                "reference": _reference_facts(character.reference),
                "further_references": [_reference_facts(further) for further in character.further_references],
            }
        )
    settings = shot.settings
    options = dict(settings.options)
    return {
        "format_version": FORMAT_VERSION,
        "name": shot.name,
        "frames": clip.frames,
        "fps": clip.fps,
        "seconds": round(clip.frames / clip.fps, 3),
        "width": clip.width,
        "height": clip.height,
        "camera": {
            "moves": bool(np.abs(clip.viewmats - clip.viewmats[0]).max() > 1e-5),
            "zooms": bool(np.abs(clip.Ks - clip.Ks[0]).max() > 1e-3),
            "focal_px": [round(float(clip.Ks[i, 0, 0]), 2) for i in (0, -1)],
            "path_m": round(float(np.linalg.norm(np.diff(centers, axis=0), axis=-1).sum()), 4),
        },
        "near": round(near, 4),
        "far": round(far, 4),
        "characters": characters,
        "background": {
            "kind": shot.background.kind,
            "media": len(shot.background.media),
            "bytes": sum(len(m.data) for m in shot.background.media),
        },
        "meshes": [
            {
                "name": mesh.name,
                "character": mesh.character if mesh.character >= 0 else None,
                "vertices": int(mesh.vertices.shape[1]),
                "triangles": len(mesh.triangles),
                "moves": len(mesh.vertices) > 1,
            }
            for mesh in shot.meshes
        ],
        "tracks": [{"name": track.name, "visible": round(float(track.visibility.mean()), 4)} for track in shot.tracks],
        "clay": None if shot.clay is None else {"media": len(shot.clay.media), "surroundings": shot.clay.surroundings},
        "prompt": shot.prompt,
        "settings": {**{name: getattr(settings, name) for name in settings.__dataclass_fields__}, "options": options},
    }


def _keypoint_facts(keypoints: Keypoints | None) -> dict[str, Any] | None:
    """How many keypoints of each part the body has, and which share of all is in each state."""
    if keypoints is None:
        return None
    has = (keypoints.state != KeypointState.ABSENT).any(axis=0)
    facts: dict[str, Any] = {name: int(has[part].sum()) for name, part in _PARTS.items()}
    for state in (KeypointState.HIDDEN, KeypointState.SELF_OCCLUDED, KeypointState.VISIBLE):
        share = float((keypoints.state[:, has] == state).mean()) if has.any() else 0.0
        facts[state.name.lower()] = round(share, 4)
    return facts


def _reference_facts(reference: Reference | None) -> dict[str, Any] | None:
    if reference is None:
        return None
    return {
        "mime": reference.image.mime,
        "bytes": len(reference.image.data),
        "focal_px": round(float(reference.K[0, 0]), 2),
        "vertices": None if reference.vertices is None else len(reference.vertices),
        "clay": reference.clay is not None,
    }


def draw_points(frames: np.ndarray, shot: Shot, times: np.ndarray | None = None, what: str = "points") -> np.ndarray:
    """Draw points over frames (F,H,W,3) of any size; hidden points are dark.

    Args:
        times: (F,) the frame of the shot that each picture shows; by default they are the shot's own frames.
        what: ``points`` of every character's surface, or ``keypoints`` and tracks.
    """
    result = frames.copy()
    height, width = frames.shape[1:3]
    clip = shot.clip
    scale = np.array([width / clip.width, height / clip.height])
    radius = max(0, round(min(width, height) / 256))
    for points, seen, color in _clouds(shot, what):
        uv, depth = project(points, clip.viewmats, clip.Ks)
        for i_frame, t in enumerate(range(clip.frames) if times is None else times):
            # Far points first, so that near ones lie on top.
            for n in np.argsort(-depth[t]):
                if depth[t, n] <= 0:
                    continue
                x, y = np.floor(uv[t, n] * scale).astype(int)
                if 0 <= x < width and 0 <= y < height:
                    ink = color * (1.0 if seen[t, n] else _HIDDEN)
                    result[i_frame, max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1] = ink
    return result


def _clouds(shot: Shot, what: str) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Points (T,N,3), whether each is seen (T,N), and a colour: of each character, or of all tracks."""
    for i, character in enumerate(shot.characters):
        color = np.array(_PALETTE[i % len(_PALETTE)])
        if what == "points":
            yield character.points, character.visibility, color
        elif character.keypoints is not None:
            present = (character.keypoints.state != KeypointState.ABSENT).any(axis=0)
            seen = character.keypoints.state[:, present] == KeypointState.VISIBLE
            yield character.keypoints.points[:, present], seen, color
    if what == "keypoints" and shot.tracks:
        points = np.stack([track.points for track in shot.tracks], axis=1)
        yield points, np.stack([track.visibility for track in shot.tracks], axis=1), np.array(_TRACKS)


def shot_sheet(shot: Shot, columns: int = 8, tile_height: int = 256) -> np.ndarray:
    """Contact sheet (H,W,3) of the points over the background, and of each character's reference."""
    from .media.background import background_frames
    from .media.codec import decode_image
    from .media.sheet import contact_sheet

    clip = shot.clip
    width = max(1, round(tile_height * clip.width / clip.height))
    picks = np.linspace(0, clip.frames - 1, min(columns, clip.frames)).round().astype(int)
    behind = background_frames(shot, width, tile_height)
    canvas = behind if behind is not None else np.full((clip.frames, tile_height, width, 3), 48, np.uint8)
    rows = [(f"{shot.name}: points over the background", draw_points(canvas[picks], shot, picks))]
    if shot.tracks or any(character.keypoints is not None for character in shot.characters):
        drawn = draw_points(canvas[picks], shot, picks, "keypoints")
        rows.append((f"{shot.name}: keypoints and tracks", drawn))
    for character in shot.characters:
        if character.reference is None:
            continue
        image = decode_image(character.reference.image, f"reference of {character.name}")
        drawn = image.copy()
        uv, depth = project(character.reference.points, character.reference.viewmat, character.reference.K)
        seen = character.reference.visibility
        for n in np.flatnonzero((depth > 0) & np.isfinite(uv).all(-1)):
            x, y = np.floor(uv[n]).astype(int)
            if 0 <= x < image.shape[1] and 0 <= y < image.shape[0]:
                drawn[y, x] = _PALETTE[0] if seen is None or seen[n] else (90, 60, 20)
        scale = tile_height / image.shape[0]
        size = (max(1, round(image.shape[1] * scale)), tile_height)
        pair = [np.asarray(Image.fromarray(x).resize(size)) for x in (image, drawn)]
        pad = max(0, width - size[0])
        tiles = np.stack([np.pad(x, ((0, 0), (0, pad), (0, 0)))[:, :width] for x in pair])
        rows.append((f"{character.name}: reference, with its points", tiles))
    return contact_sheet(rows, columns=columns, tile_height=tile_height)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``maquette inspect``."""
    parser.description = __doc__
    parser.add_argument("file", type=Path, metavar="FILE", help="the .shot file")
    parser.add_argument(
        "--sheet", type=Path, metavar="OUT.png", help="write a contact sheet of the points over the frames"
    )
    parser.add_argument(
        "--carry",
        type=Path,
        metavar="OUT.mp4",
        help="write the carried film: the references laid onto the moving bodies, without a network",
    )
    parser.set_defaults(run=run_inspect)


def run_inspect(args: argparse.Namespace) -> int:
    """Print the summary; write sheet and carried film when asked. Raises ShotError, MediaError or OSError."""
    shot = load_shot(args.file)
    print(json.dumps(summarize(shot), indent=2, ensure_ascii=False))
    if args.sheet:
        from .media.codec import encode_png

        args.sheet.write_bytes(encode_png(shot_sheet(shot)).data)
    if args.carry:
        write_carried(shot, args.carry)
    return 0


def write_carried(shot: Shot, path: Path) -> None:
    """Write a shot's carried film, its short side at most ``_CARRIED_SIDE`` pixels long; notes go to stderr."""
    from .media.codec import mp4_writer
    from .raster.carry import Carrier

    scale = min(1.0, _CARRIED_SIDE / min(shot.clip.width, shot.clip.height))
    width, height = (max(2, 2 * round(side * scale / 2)) for side in (shot.clip.width, shot.clip.height))
    film = Carrier(shot, width, height)
    for note in film.notes:
        print(f"Note: {note}", file=sys.stderr)
    about = {"generator": "Maquette", "title": shot.name, "quality": "draft"}
    with mp4_writer(path, width, height, shot.clip.fps, about) as write:
        for frame in film.frames():
            write(frame)
