"""Pictures and films: decode what a Shot carries, write what a model makes, draw sheets to look at."""

from .background import background_frames, background_parts
from .codec import (
    MediaError,
    alpha_writer,
    decode_image,
    decode_rgba,
    decode_video,
    encode_jpeg,
    encode_png,
    lossless_writer,
    mp4_writer,
    open_video,
    raw_writer,
    read_mp4_metadata,
    video_frames,
    write_mp4,
    write_png_sequence,
)
from .exr import encode_exr
from .sheet import contact_sheet, overlay, resize_frames, squeeze_frames
from .stream import InTurn, StreamedFilm
