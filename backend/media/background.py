"""The background of a Shot as frames at the size that a model works at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..shot import Media, Shot
from .codec import decode_image, video_frames
from .sheet import resize_frames


def background_frames(
    shot: Shot, width: int, height: int, count: int | None = None, start: int = 0
) -> np.ndarray | None:
    """Frames (T,H,W,3) uint8 behind the characters, or None without a background.

    A picture or film is scaled to cover the clip's frame and cropped in the middle; the frame is then squeezed to
    ``width`` x ``height`` where that has another shape. A film plays from the first frame of the shot at its own rate
    against the clip's; one that is too short holds its last frame.

    Args:
        count: only so many frames, from ``start`` on.

    Raises:
        MediaError: a picture or film is damaged.
    """
    frames = shot.clip.frames
    part = range(start, frames if count is None else min(start + count, frames))
    return next(background_parts(shot, width, height, [part]))


def background_parts(shot: Shot, width: int, height: int, parts: Sequence[range]) -> Iterator[np.ndarray | None]:
    """``background_frames`` of parts of the shot that follow each other, of which none but the last is kept."""
    background, clip = shot.background, shot.clip
    aspect = clip.width / clip.height
    if background.kind == "none":
        yield from (None for _ in parts)
    elif background.kind == "still":
        still = resize_frames(decode_image(background.media[0], "background.media[0]")[None], width, height, aspect)
        yield from (np.repeat(still, len(part), axis=0) for part in parts)
    elif len(background.media) == 1 and background.media[0].is_video:
        film = _Playing(background.media[0], clip.fps)
        for part in parts:
            yield resize_frames(np.stack([film.at(frame) for frame in part]), width, height, aspect)
    else:
        for part in parts:
            pictures = (decode_image(background.media[i], f"background.media[{i}]") for i in part)
            yield np.concatenate([resize_frames(picture[None], width, height, aspect) for picture in pictures])


class _Playing:
    """A film of which one frame is held, and later ones are asked for."""

    def __init__(self, media: Media, fps: float) -> None:
        self._frames, self._fps = video_frames(media, "background.media[0]"), fps
        self._shown, self._number = next(self._frames), 0

    def at(self, frame: int) -> np.ndarray:
        """What it shows at a frame of the clip."""
        wanted = int(np.floor(frame * (self._shown[1] / self._fps) + 1e-6))
        while self._number < wanted:
            self._shown, self._number = next(self._frames, self._shown), self._number + 1
        return self._shown[0]
