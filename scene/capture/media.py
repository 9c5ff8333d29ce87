"""Pictures and films of the user's as the bytes that a Shot carries."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np

from ...backend.shot import Media, ShotError

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"


@dataclass(frozen=True)
class Film:
    """What Blender says of a film.

    Attributes:
        path: absolute.
        fps: frames per second.
        frames: how many.
        width, height: pixels.
    """

    path: Path
    fps: float
    frames: int
    width: int
    height: int


def resolve(path: str, field: str, what: str) -> Path:
    """The absolute path of a file that the animator chose, relative to the .blend where it starts with ``//``.

    Raises:
        ShotError: on ``field``: empty, missing, a folder, or unreadable.
    """
    if not path.strip():
        raise ShotError(field, f"no {what} is chosen; choose a file")
    found = Path(bpy.path.abspath(path)).expanduser()
    if path.startswith("//") and not bpy.data.filepath:
        raise ShotError(
            field, f"'{path}' is relative to a .blend that is not saved yet; save it or choose the file again"
        )
    if found.is_dir():
        raise ShotError(field, f"'{found}' is a folder; choose a {what}")
    if not found.exists():
        raise ShotError(field, f"'{found}' does not exist; choose the {what} again")
    if not os.access(found, os.R_OK) or not found.is_file():
        raise ShotError(field, f"'{found}' cannot be read; check its permissions")
    return found


def read_bytes(path: Path, field: str, count: int = -1) -> bytes:
    """A whole file, or its first ``count`` bytes. Raises ShotError when it cannot be read or is empty."""
    try:
        with path.open("rb") as stream:
            data = stream.read(count)
    except OSError as error:
        raise ShotError(field, f"'{path}' cannot be read ({error.strerror or error})") from error
    if not data:
        raise ShotError(field, f"'{path}' is empty; write or download it again")
    return data


def picture_from_file(path: Path, field: str) -> Media:
    """A picture file as PNG or JPEG bytes. Raises ShotError when Blender cannot read it either."""
    read_bytes(path, field)
    with loaded(path) as image:
        return picture_from_image(image, field)[0]


@contextmanager
def loaded(path: Path) -> Iterator[bpy.types.Image]:
    """A picture file as an image datablock, for a while. Raises RuntimeError when Blender cannot read it."""
    image = bpy.data.images.load(str(path))
    try:
        yield image
    finally:
        bpy.data.images.remove(image)


def picture_from_image(image: bpy.types.Image, field: str) -> tuple[Media, int, int]:
    """An image datablock as PNG or JPEG, with its width and height in pixels.

    PNG and JPEG files travel as they are; everything else (painted, generated, EXR, TIFF ...) is encoded as PNG.

    Raises:
        ShotError: on ``field``: a film, a render result, or without readable pixels.
    """
    if image.source not in ("FILE", "GENERATED"):
        kind = {"MOVIE": "a film", "SEQUENCE": "an image sequence", "VIEWER": "a render result"}.get(
            image.source, "a tiled image"
        )
        raise ShotError(field, f"'{image.name}' is {kind}; choose a still picture")
    path = Path(bpy.path.abspath(image.filepath, library=image.library)) if image.filepath else None
    width, height = image.size
    if width == 0 or height == 0:
        where = f"'{path}'" if path is not None else f"'{image.name}'"
        raise ShotError(field, f"{where} is missing, damaged or not a picture; choose another file")
    data = b""
    if image.source == "FILE" and not image.is_dirty:
        if image.packed_file is not None:
            data = bytes(image.packed_file.data)
        elif path is not None and path.is_file():
            data = path.read_bytes()
    if data.startswith(_PNG):
        return Media(data, "image/png"), width, height
    if data.startswith(_JPEG):
        return Media(data, "image/jpeg"), width, height
    return Media(encode_png(pixels(image)), "image/png"), width, height


def pixels(image: bpy.types.Image) -> np.ndarray:
    """(H,W,4) uint8 sRGB, first row at the top."""
    width, height = image.size
    flat = np.empty(width * height * image.channels, dtype=np.float32)
    image.pixels.foreach_get(flat)
    values = flat.reshape(height, width, image.channels)[::-1]
    if image.channels < 3:
        values = np.concatenate([np.repeat(values[..., :1], 3, axis=-1), values[..., 1:]], axis=-1)
    colour, alpha = values[..., :3], values[..., 3:]
    if image.is_float:
        linear = np.clip(colour, 0, 1)
        colour = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    if not alpha.size:
        alpha = np.ones_like(colour[..., :1])
    return (np.clip(np.concatenate([colour, alpha], axis=-1), 0, 1) * 255 + 0.5).astype(np.uint8)


def encode_png(image: np.ndarray) -> bytes:
    """PNG of (H,W,3) or (H,W,4) uint8 (Blender's Python has no image library, and its own needs a scene)."""
    height, width, channels = image.shape
    rows = np.zeros((height, 1 + width * channels), dtype=np.uint8)
    rows[:, 1:] = image.reshape(height, -1)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, {3: 2, 4: 6}[channels], 0, 0, 0)
    return _PNG + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows.tobytes(), 6)) + chunk(b"IEND", b"")


def probe_film(path: Path, field: str) -> Film:
    """Rate, length and size of a film, read by Blender.

    Raises:
        ShotError: on ``field``: not a film, or one that was not written to its end.
    """
    read_bytes(path, field, 16)
    problem = incomplete_mp4(path)
    if problem:
        raise ShotError(field, f"'{path}' {problem}; write or download it again")
    clip = None
    try:
        clip = bpy.data.movieclips.load(str(path))
        fps, frames, (width, height) = clip.fps, clip.frame_duration, clip.size
    except RuntimeError:
        fps, frames, width, height = 0.0, 0, 0, 0
    finally:
        if clip is not None:
            bpy.data.movieclips.remove(clip)
    if not (fps > 0 and frames > 0 and width > 0 and height > 0) or clip_is_picture(path):
        raise ShotError(field, f"'{path}' is not a film that Blender can play, or is damaged; use an mp4 (H.264)")
    return Film(path, float(fps), int(frames), int(width), int(height))


def clip_is_picture(path: Path) -> bool:
    """Whether Blender would take the file for a still picture."""
    with path.open("rb") as stream:
        head = stream.read(16)
    return head.startswith((_PNG, _JPEG, b"GIF8", b"BM", b"II*\0", b"MM\0*", b"v/1\x01"))


def is_mp4(head: bytes) -> bool:
    """Whether a file that starts so is an mp4 or mov."""
    return head[4:8] == b"ftyp"


def incomplete_mp4(path: Path) -> str:
    """What an mp4 lacks, as the end of a sentence; empty when it is whole or no mp4.

    An mp4 is a row of boxes that each say how long they are; the index is in ``moov``, the pictures in ``mdat``.
    """
    size = path.stat().st_size
    kinds = []
    with path.open("rb") as stream:
        if not is_mp4(stream.read(16)):
            return ""
        place = 0
        while place + 8 <= size:
            stream.seek(place)
            header = stream.read(16)
            length, kind = struct.unpack(">I4s", header[:8])
            if length == 1 and len(header) == 16:
                length = struct.unpack(">Q", header[8:])[0]
            elif length == 0:
                length = size - place
            if length < 8:
                return "is damaged"
            kinds.append(kind)
            place += length
    if place != size or b"moov" not in kinds or not {b"mdat", b"moof"}.intersection(kinds):
        return "stops before its end"
    return ""
