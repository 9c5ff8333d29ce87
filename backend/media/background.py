"""The background of a Shot as frames at the size that a model works at."""

from __future__ import annotations

import numpy as np

from ..shot import Shot
from .codec import decode_image, decode_video
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
    background, clip = shot.background, shot.clip
    stop = clip.frames if count is None else min(start + count, clip.frames)
    aspect = clip.width / clip.height
    if background.kind == "none":
        return None
    if background.kind == "still":
        still = resize_frames(decode_image(background.media[0], "background.media[0]")[None], width, height, aspect)
        return np.repeat(still, stop - start, axis=0)
    if len(background.media) == 1 and background.media[0].is_video:
        film, rate = decode_video(background.media[0], name="background.media[0]")
        index = np.floor(np.arange(start, stop) * (rate / clip.fps) + 1e-6).astype(int)
        return resize_frames(film[np.minimum(index, len(film) - 1)], width, height, aspect)
    return np.concatenate(
        [
            resize_frames(decode_image(media, f"background.media[{i}]")[None], width, height, aspect)
            for i, media in enumerate(background.media[start:stop], start)
        ]
    )
