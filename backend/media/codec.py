"""Encode and decode pictures (Pillow) and films (PyAV: H.264 in mp4).

Pictures and frames are (H,W,3) and (T,H,W,3) uint8 sRGB.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from os import PathLike
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image, PngImagePlugin

from ..shot import Media

MAX_PIXELS = 64_000_000
"""A picture or a frame larger than this is refused before it is decoded."""

MAX_VIDEO_BYTES = 8 << 30
"""Decoded size of a film."""


class MediaError(ValueError):
    """A picture or film that cannot be decoded; the message says which and why."""


def decode_image(media: Media | bytes | str | PathLike[str], name: str = "picture") -> np.ndarray:
    """Decode a picture to (H,W,3) uint8; transparency is laid over white.

    Raises:
        MediaError: damaged, of an unknown kind, or larger than ``MAX_PIXELS``.
    """
    with _opened(media, name) as image:
        if _transparent(image):
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image)
        return _as_rgb(image)


def decode_rgba(media: Media | bytes | str | PathLike[str], name: str = "picture") -> np.ndarray:
    """Decode a picture to (H,W,4) uint8, colours as they are under their transparency. Raises as ``decode_image``."""
    with _opened(media, name) as image:
        if _transparent(image):
            return np.asarray(image.convert("RGBA"))
        rgb = _as_rgb(image)
    return np.concatenate([rgb, np.full_like(rgb[..., :1], 255)], axis=-1)


@contextmanager
def _opened(media: Media | bytes | str | PathLike[str], name: str) -> Iterator[Image.Image]:
    source = (
        io.BytesIO(media.data if isinstance(media, Media) else media) if isinstance(media, (Media, bytes)) else media
    )
    try:
        with Image.open(source) as image:
            if image.width * image.height > MAX_PIXELS:
                raise MediaError(f"{name}: {image.width}x{image.height} is too large; at most {MAX_PIXELS} pixels")
            yield image
    except MediaError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise MediaError(f"{name}: is damaged or not a picture ({error}); save it again as PNG") from error


def _transparent(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info


def _as_rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I;16"):
        return np.repeat((np.asarray(image) >> 8).astype(np.uint8)[..., None], 3, axis=-1)
    return np.asarray(image.convert("RGB"))


def encode_png(image: np.ndarray, metadata: Mapping[str, Any] | None = None, level: int = 6) -> Media:
    """Encode (H,W,3) or (H,W) uint8 as PNG, ``metadata`` as text chunks; ``level`` 1 (quick) to 9 (small)."""
    info = PngImagePlugin.PngInfo()
    for key, value in (metadata or {}).items():
        info.add_itxt(key, value if isinstance(value, str) else json.dumps(value))
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG", pnginfo=info, compress_level=level)
    return Media(stream.getvalue(), "image/png")


def encode_jpeg(image: np.ndarray, quality: int = 90) -> Media:
    """Encode (H,W,3) uint8 as JPEG."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=quality)
    return Media(stream.getvalue(), "image/jpeg")


def decode_video(
    media: Media | bytes | str | PathLike[str], max_frames: int | None = None, name: str = "film"
) -> tuple[np.ndarray, float]:
    """Decode a film to (T,H,W,3) uint8 and its frame rate.

    Args:
        max_frames: stop after this many.

    Raises:
        MediaError: damaged, without a picture stream, or larger than ``MAX_VIDEO_BYTES`` decoded.
    """
    if isinstance(media, Media):
        media = media.data
    source = io.BytesIO(media) if isinstance(media, bytes) else os.fspath(media)
    frames: list[np.ndarray] = []
    try:
        with av.open(source, "r") as container:
            if not container.streams.video:
                raise MediaError(f"{name}: has no pictures in it")
            stream = container.streams.video[0]
            size = stream.codec_context.width * stream.codec_context.height
            if size > MAX_PIXELS:
                raise MediaError(f"{name}: frames are too large; at most {MAX_PIXELS} pixels")
            rate = stream.average_rate or stream.guessed_rate
            stream.thread_type = "AUTO"
            for frame in container.decode(stream):
                frames.append(frame.to_ndarray(format="rgb24"))
                if max_frames is not None and len(frames) >= max_frames:
                    break
                if len(frames) * size * 3 > MAX_VIDEO_BYTES:
                    raise MediaError(f"{name}: is too long to hold in memory; shorten it")
    except (av.FFmpegError, OSError, ValueError) as error:
        if isinstance(error, MediaError):
            raise
        raise MediaError(f"{name}: is damaged or not a film ({error})") from error
    if not frames:
        raise MediaError(f"{name}: holds no frame")
    return np.stack(frames), float(rate or 24)


def write_mp4(
    path: str | PathLike[str],
    frames: np.ndarray,
    fps: float,
    metadata: Mapping[str, Any] | None = None,
    crf: int = 14,
    on_frame: Callable[[int], None] | None = None,
) -> None:
    """Write (T,H,W,3) uint8 as H.264 (yuv420p, BT.709, fast start); odd sizes are padded by one pixel.

    ``metadata`` goes as JSON into the comment tag, where players and ``read_mp4_metadata`` find it. The file
    appears under its name only when complete.

    Raises:
        OSError: it cannot be written, a full disk for instance; nothing is left behind.
    """
    frames = np.asarray(frames)
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or 0 in frames.shape:
        raise ValueError(f"frames: must be (T,H,W,3) uint8, not {frames.shape} {frames.dtype}")
    pad = [(0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)]
    frames = np.pad(frames, pad, mode="edge")
    path = Path(path)
    part = path.with_name(f".{path.name}.part.mp4")
    try:
        with av.open(str(part), "w", format="mp4", options={"movflags": "+faststart"}) as container:
            for key, value in (metadata or {}).items():
                if key in ("title", "artist") and isinstance(value, str):
                    container.metadata[key] = value
            container.metadata["comment"] = json.dumps(dict(metadata or {}), default=str)
            stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt = "yuv420p"
            stream.options = {"crf": str(crf), "preset": "medium", "colorprim": "bt709", "colormatrix": "bt709"}
            context = stream.codec_context
            context.colorspace = 1
            context.color_primaries = 1
            context.color_trc = 1
            context.color_range = 1
            for i, array in enumerate(frames):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(array), format="rgb24")
                frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
                for packet in stream.encode(frame):
                    container.mux(packet)
                if on_frame is not None:
                    on_frame(i)
            for packet in stream.encode():
                container.mux(packet)
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def read_mp4_metadata(path: str | PathLike[str]) -> dict[str, Any]:
    """What ``write_mp4`` stored with the film; empty when there is nothing of ours."""
    with av.open(os.fspath(path), "r") as container:
        try:
            value = json.loads(container.metadata.get("comment", "{}"))
        except ValueError:
            return {}
    return value if isinstance(value, dict) else {}


def write_png_sequence(
    folder: str | PathLike[str], frames: Iterable[np.ndarray], metadata: Mapping[str, Any] | None = None, start: int = 1
) -> list[Path]:
    """Write frames as ``folder/00001.png`` and on; returns the paths."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for i, frame in enumerate(frames, start):
        path = folder / f"{i:05d}.png"
        path.write_bytes(encode_png(np.asarray(frame), metadata).data)
        paths.append(path)
    return paths
