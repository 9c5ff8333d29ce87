"""Encode and decode pictures and films (imageio by Pillow and PyAV; H.264 in mp4).

Pictures and frames are (H,W,3) and (T,H,W,3) uint8 sRGB. A picture lies as it is stored, whatever its EXIF says, as in
Blender.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from fractions import Fraction
from os import PathLike
from pathlib import Path
from typing import Any

import av
import imageio.v3 as iio
import numpy as np
from av import FFmpegError, VideoStream
from imageio.core.request import InitializationError
from imageio.plugins.pillow import PillowPlugin
from imageio.plugins.pyav import PyAVPlugin
from PIL.Image import DecompressionBombError
from PIL.PngImagePlugin import PngInfo

from ..shot import Media
from .stream import StreamedFilm

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
    image = _decode(media, name)
    if image.shape[-1] == 3:
        return image
    # What is not white, as far as it covers.
    cover = np.multiply(~image[..., :3], image[..., 3:], dtype=np.uint16)
    cover += 127
    cover //= 255
    return ~cover.astype(np.uint8)


def decode_rgba(media: Media | bytes | str | PathLike[str], name: str = "picture") -> np.ndarray:
    """Decode a picture to (H,W,4) uint8, colours as they are under their transparency. Raises as ``decode_image``."""
    image = _decode(media, name)
    return image if image.shape[-1] == 4 else np.dstack([image, np.full_like(image[..., :1], 255)])


def _decode(media: Media | bytes | str | PathLike[str], name: str) -> np.ndarray:
    """(H,W,4) where the picture has transparency, else (H,W,3)."""
    with _opened(media, name, PillowPlugin, "picture", "; save it again as PNG") as picture:
        height, width = picture.properties(index=0).shape[:2]
        if height * width > MAX_PIXELS:
            raise MediaError(f"{name}: {width}x{height} is too large; at most {MAX_PIXELS} pixels")
        facts = picture.metadata(index=0)
        if facts["mode"].startswith("I;16"):
            return np.repeat((picture.read(index=0) >> 8).astype(np.uint8)[..., None], 3, axis=-1)
        transparent = facts["mode"] in ("RGBA", "LA", "PA") or "transparency" in facts
        return picture.read(index=0, mode="RGBA" if transparent else "RGB", writeable_output=False)


@contextmanager
def _opened(
    media: Media | bytes | str | PathLike[str], name: str, plugin: Any, kind: str, cure: str = ""
) -> Iterator[Any]:
    """imageio's reader of a picture or film; what goes wrong with it is told as MediaError."""
    source = media.data if isinstance(media, Media) else media if isinstance(media, bytes) else Path(media)
    try:
        with iio.imopen(source, "r", plugin=plugin) as opened:
            yield opened
    except MediaError:
        raise
    except (FFmpegError, OSError, ValueError, SyntaxError) as error:
        cause = error.__cause__
        known = isinstance(cause, (InitializationError, OSError, DecompressionBombError))
        reason = "it has no pictures" if isinstance(cause, IndexError) else cause if known else error
        raise MediaError(f"{name}: is damaged or not a {kind} ({reason}){cure}") from error


def encode_png(image: np.ndarray, metadata: Mapping[str, Any] | None = None, level: int = 6) -> Media:
    """Encode (H,W,3) or (H,W) uint8 as PNG, ``metadata`` as text chunks; ``level`` of compression from 0 to 9."""
    info = PngInfo()
    for key, value in (metadata or {}).items():
        info.add_itxt(key, value if isinstance(value, str) else json.dumps(value))
    data = iio.imwrite("<bytes>", image, extension=".png", plugin="pillow", pnginfo=info, compress_level=level)
    return Media(data, "image/png")


def encode_jpeg(image: np.ndarray, quality: int = 90) -> Media:
    """Encode (H,W,3) uint8 as JPEG."""
    return Media(iio.imwrite("<bytes>", image, extension=".jpg", plugin="pillow", quality=quality), "image/jpeg")


def decode_video(media: Media | bytes | str | PathLike[str], name: str = "film") -> tuple[np.ndarray, float]:
    """Decode a film to (T,H,W,3) uint8 and its frame rate.

    Raises:
        MediaError: damaged, without a picture stream, or larger than ``MAX_VIDEO_BYTES`` decoded.
    """
    frames: list[np.ndarray] = []
    rate = 0.0
    for frame, rate in video_frames(media, name):  # noqa: B007
        frames.append(frame)
        if len(frames) * frame.nbytes > MAX_VIDEO_BYTES:
            raise MediaError(f"{name}: is too long to hold in memory; shorten it")
    return np.stack(frames), rate


def open_video(path: str | PathLike[str], name: str = "film") -> tuple[StreamedFilm, float]:
    """A film of which a frame at a time is decoded, and its frame rate. Raises as ``video_frames``, when it is gone
    through also."""
    frame, rate = next(video_frames(path, name))
    with av.open(str(path)) as film:
        count = sum(packet.size > 0 for packet in film.demux(video=0))
    return StreamedFilm((count, *frame.shape), lambda: (frame for frame, _ in video_frames(path, name))), rate  # type: ignore[arg-type]


def video_frames(media: Media | bytes | str | PathLike[str], name: str = "film") -> Iterator[tuple[np.ndarray, float]]:
    """Decode a film frame by frame: each (H,W,3) uint8, and the film's frame rate.

    Raises:
        MediaError: damaged, or without a picture stream.
    """
    with _opened(media, name, PyAVPlugin, "film") as film:
        height, width = film.properties(index=0).shape[:2]
        if height * width > MAX_PIXELS:
            raise MediaError(f"{name}: frames are too large; at most {MAX_PIXELS} pixels")
        rate = float(_stream(film).average_rate or _stream(film).guessed_rate or 24)
        frame = None
        for frame in film.iter(thread_type="FRAME"):
            yield frame, rate
        if frame is None:
            raise MediaError(f"{name}: holds no frame")


def _stream(film: PyAVPlugin) -> VideoStream:
    """What imageio has no words for: a film's average rate, and the encoder's quality and colour tags."""
    assert film._video_stream is not None
    return film._video_stream


def write_mp4(
    path: str | PathLike[str],
    frames: np.ndarray | StreamedFilm,
    fps: float,
    metadata: Mapping[str, Any] | None = None,
    on_frame: Callable[[int], None] | None = None,
) -> None:
    """Write (T,H,W,3) uint8 as ``mp4_writer`` does.

    Raises:
        ValueError: other frames, or a rate that is not above 0.
        OSError: it cannot be written, a full disk for instance; nothing is left behind.
    """
    if len(frames.shape) != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or 0 in frames.shape:
        raise ValueError(f"frames: must be (T,H,W,3) uint8, not {frames.shape} {frames.dtype}")
    with mp4_writer(path, frames.shape[2], frames.shape[1], fps, metadata) as write:
        for i, frame in enumerate(frames):
            write(frame)
            if on_frame is not None:
                on_frame(i)


@contextmanager
def _whole(path: str | PathLike[str], ending: str) -> Iterator[Path]:
    """Where a film is written, beside its own name, which it gets when it is complete; nothing is left of another."""
    path = Path(path)
    part = path.with_name(f".{path.name}.part.{ending}")
    try:
        yield part
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@contextmanager
def _closing(film: PyAVPlugin) -> Iterator[PyAVPlugin]:
    """Close what is written, once: on a full disk imageio tries again when its object goes, and prints a traceback."""
    try:
        yield film
        film.close()
    except BaseException:
        film._video_stream = None
        with suppress(FFmpegError, OSError):
            film.close()
        raise


@contextmanager
def mp4_writer(
    path: str | PathLike[str],
    width: int,
    height: int,
    fps: float,
    metadata: Mapping[str, Any] | None = None,
    crf: int = 14,
) -> Iterator[Callable[[np.ndarray], None]]:
    """A function that takes the frames (H,W,3) uint8 of an H.264 film, one after another.

    The film is yuv420p, BT.709, fast start; odd sizes are padded by one pixel. ``metadata`` goes as JSON into the
    comment tag, where players and ``read_mp4_metadata`` find it. The file appears under its name only when complete.

    Args:
        crf: x264's constant rate factor: at 14 no loss is seen, at 4 hardly any is measured.

    Raises:
        ValueError: a rate that is not above 0. OSError: it cannot be written; nothing is left behind.
    """
    rate = Fraction(fps).limit_denominator(1001)
    if rate <= 0:
        raise ValueError(f"fps: {fps} frames per second cannot be written; give a rate above 0")
    odd = [(0, height % 2), (0, width % 2), (0, 0)]
    metadata = dict(metadata or {})
    tags = {key: metadata[key] for key in ("title", "artist") if isinstance(metadata.get(key), str)}
    with (
        _whole(path, "mp4") as part,
        _closing(iio.imopen(part, "w", plugin=PyAVPlugin, container="mp4", options={"movflags": "+faststart"})) as film,
    ):
        film.container_metadata.update(tags, comment=json.dumps(metadata, default=str))
        film.init_video_stream("libx264", fps=float(rate), pixel_format="yuv420p")
        stream = _stream(film)
        stream.height, stream.width = height + height % 2, width + width % 2
        stream.options = {"crf": str(crf), "preset": "medium", "colorprim": "bt709", "colormatrix": "bt709"}
        for tag in ("colorspace", "color_primaries", "color_trc", "color_range"):
            setattr(stream.codec_context, tag, 1)  # BT.709, narrow range
        film.set_video_filter([("scale", "out_color_matrix=bt709:out_range=tv"), ("format", "yuv420p")])
        yield lambda frame: film.write_frame(np.pad(frame, odd, mode="edge"))


@contextmanager
def lossless_writer(
    path: str | PathLike[str], width: int, height: int, fps: float
) -> Iterator[Callable[[np.ndarray], None]]:
    """A function that takes the frames (H,W,3) uint8 of a film that is to be worked on, one after another.

    H.264 in RGB without any loss. The file appears under its name only when complete.

    Raises:
        OSError: it cannot be written; nothing is left behind.
    """
    with (
        _whole(path, "mp4") as part,
        av.open(str(part), "w", format="mp4") as film,
    ):
        stream = film.add_stream("libx264rgb", rate=Fraction(fps).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = width, height, "rgb24"
        stream.options = {"qp": "0", "preset": "ultrafast"}

        def write(frame: np.ndarray) -> None:
            film.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24")))

        yield write
        film.mux(stream.encode())


@contextmanager
def alpha_writer(
    path: str | PathLike[str], width: int, height: int, fps: float
) -> Iterator[Callable[[np.ndarray], None]]:
    """A function that takes the frames (H,W,4) uint8, straight alpha, of a ProRes 4444 film, one after another.

    BT.709, alpha at 16 bits; odd sizes are padded by one pixel. The file appears under its name only when complete.

    Raises:
        OSError: it cannot be written; nothing is left behind.
    """
    odd = [(0, height % 2), (0, width % 2), (0, 0)]
    with (
        _whole(path, "mov") as part,
        av.open(str(part), "w", format="mov") as film,
    ):
        stream = film.add_stream("prores_ks", rate=Fraction(fps).limit_denominator(1001))
        stream.width, stream.height = width + width % 2, height + height % 2
        stream.pix_fmt = "yuva444p10le"
        stream.options = {"profile": "4444", "alpha_bits": "16", "vendor": "apl0"}
        for tag in ("colorspace", "color_primaries", "color_trc", "color_range"):
            setattr(stream.codec_context, tag, 1)  # BT.709, narrow range

        def write(frame: np.ndarray) -> None:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.pad(frame, odd, mode="edge")), "rgba")
            picture = picture.reformat(
                format="yuva444p10le", dst_colorspace="ITU709", src_color_range="JPEG", dst_color_range="MPEG"
            )
            film.mux(stream.encode(picture))

        yield write
        film.mux(stream.encode())


@contextmanager
def raw_writer(path: str | PathLike[str], shape: tuple[int, ...]) -> Iterator[Callable[[np.ndarray], Any]]:
    """A function that takes the frames of a film of a shape (T,H,W,3) uint8, one after another, for numpy's .npy file.

    Raises:
        OSError: it cannot be written; nothing is left behind.
    """
    with _whole(path, "npy") as part, part.open("wb") as file:
        about = {"descr": "|u1", "fortran_order": False, "shape": tuple(map(int, shape))}
        np.lib.format.write_array_header_1_0(file, about)
        yield lambda frame: file.write(np.ascontiguousarray(frame).data)


def read_mp4_metadata(path: str | PathLike[str]) -> dict[str, Any]:
    """What ``write_mp4`` stored with the film; empty when there is nothing of ours."""
    try:
        value = json.loads(iio.immeta(path, plugin="pyav").get("comment", "{}"))
    except json.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def write_png_sequence(
    folder: str | PathLike[str], frames: Iterable[np.ndarray], metadata: Mapping[str, Any] | None = None
) -> list[Path]:
    """Write frames as ``folder/00001.png`` and on; returns the paths."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for i, frame in enumerate(frames, 1):
        path = folder / f"{i:05d}.png"
        path.write_bytes(encode_png(np.asarray(frame), metadata).data)
        paths.append(path)
    return paths
