"""OpenEXR files of 32-bit floats (by PyAV, whose FFmpeg has an encoder of its own)."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from av import CodecContext, VideoFrame
from av.video.codeccontext import VideoCodecContext


def encode_exr(image: np.ndarray) -> bytes:
    """(H,W,3) float32 as an OpenEXR file with channels R, G and B, 32 bits each, losslessly compressed (ZIP).

    Raises:
        ValueError: another shape or type.
    """
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.float32 or 0 in image.shape:
        raise ValueError(f"image: must be (H,W,3) float32, not {image.shape} {image.dtype}")
    context = CodecContext.create("exr", "w")
    assert isinstance(context, VideoCodecContext)
    context.height, context.width = image.shape[:2]
    context.pix_fmt, context.time_base = "gbrpf32le", Fraction(1)
    context.options = {"format": "float", "compression": "zip16"}
    frame = VideoFrame.from_ndarray(np.ascontiguousarray(image), format="gbrpf32le")
    return b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])
