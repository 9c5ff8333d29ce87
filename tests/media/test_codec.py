from __future__ import annotations

import io
import wave
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from maquette.backend import media
from maquette.backend.shot import Background, Media
from PIL import Image

from ..builders import make_shot, png


def ramp(frames: int = 9, height: int = 48, width: int = 64) -> np.ndarray:
    """Frames whose grey tells their number."""
    values = np.linspace(20, 235, frames).astype(np.uint8)
    return np.broadcast_to(values[:, None, None, None], (frames, height, width, 3)).copy()


@given(height=st.integers(1, 40), width=st.integers(1, 40), seed=st.integers(0, 99))
def test_png_is_lossless(height, width, seed):
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    assert np.array_equal(media.decode_image(media.encode_png(image)), image)


def test_transparency_lies_over_white():
    stream = io.BytesIO()
    Image.new("RGBA", (2, 2), (255, 0, 0, 0)).save(stream, "PNG")
    assert (media.decode_image(stream.getvalue()) == 255).all()


def test_half_transparency_lets_half_of_the_white_through():
    stream = io.BytesIO()
    Image.new("RGBA", (2, 2), (255, 0, 100, 128)).save(stream, "PNG")
    assert (media.decode_image(stream.getvalue()) == (255, 127, 177)).all()
    assert (media.decode_rgba(stream.getvalue()) == (255, 0, 100, 128)).all()


def test_a_picture_lies_as_it_is_stored():
    stream, tags = io.BytesIO(), Image.Exif()
    tags[0x112] = 6  # "turn me to the right"
    Image.new("RGB", (8, 4)).save(stream, "JPEG", exif=tags)
    assert media.decode_image(stream.getvalue()).shape == (4, 8, 3)


def test_a_picture_too_large_is_refused_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr("maquette.backend.media.codec.MAX_PIXELS", 40)
    with pytest.raises(media.MediaError, match=r"portrait: 8x6 is too large; at most 40 pixels"):
        media.decode_image(png(8, 6), "portrait")


def test_sixteen_bit_grey_keeps_its_brightness():
    stream = io.BytesIO()
    Image.fromarray(np.full((2, 2), 0x8000, np.uint16)).save(stream, "PNG")
    assert (media.decode_image(stream.getvalue()) == 128).all()


@pytest.mark.parametrize("data", [b"", b"hello", png().data[:40]])
def test_a_damaged_picture_is_named(data):
    with pytest.raises(media.MediaError, match="portrait: is damaged or not a picture"):
        media.decode_image(data, "portrait")


def test_film_keeps_frames_rate_and_metadata(tmp_path):
    frames = ramp()
    path = tmp_path / "a.mp4"
    media.write_mp4(path, frames, 23.976, {"seed": 5, "model": "isa-nano"})
    decoded, fps = media.decode_video(path)
    assert decoded.shape == frames.shape and fps == pytest.approx(23.976, abs=1e-3)
    assert np.abs(decoded.astype(int) - frames).max() <= 4
    assert media.read_mp4_metadata(path) == {"seed": 5, "model": "isa-nano"}
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_primaries, context.color_trc, context.color_range) == (1, 1, 1, 1)


def test_colours_survive_the_film(tmp_path):
    colors = np.array([[220, 40, 40], [40, 200, 60], [50, 70, 220], [240, 240, 240], [12, 12, 12]], np.uint8)
    frames = np.broadcast_to(colors[:, None, None], (5, 32, 32, 3)).copy()
    media.write_mp4(tmp_path / "a.mp4", frames, 24)
    decoded, _ = media.decode_video(tmp_path / "a.mp4")
    assert np.abs(decoded.astype(int) - frames).max() <= 6


def test_odd_sizes_are_padded_not_refused(tmp_path):
    media.write_mp4(tmp_path / "a.mp4", ramp(3, 33, 31), 24)
    assert media.decode_video(tmp_path / "a.mp4")[0].shape == (3, 34, 32, 3)


def test_a_failed_film_leaves_nothing(tmp_path):
    def stop(_):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        media.write_mp4(tmp_path / "a.mp4", ramp(), 24, on_frame=stop)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("data", [b"", b"no film", b"\0\0\0\x18ftypmp42" + bytes(64)])
def test_a_damaged_film_is_named(data):
    with pytest.raises(media.MediaError, match="plate: "):
        media.decode_video(data, name="plate")


def test_sound_alone_is_no_film():
    stream = io.BytesIO()
    with wave.open(stream, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(8000))
    with pytest.raises(media.MediaError, match="plate: .*it has no pictures"):
        media.decode_video(stream.getvalue(), name="plate")


def test_a_telephones_film_has_its_average_rate(tmp_path):
    """Frames 8 to 42 ms apart: what the container suggests is 120 a second."""
    times = np.cumsum(np.tile([8, 33, 34, 33, 42], 6))
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"crf": "30"})
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for time in times.tolist():
            frame = av.VideoFrame(32, 32, "yuv420p")
            frame.pts, frame.time_base = time, stream.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    frames, fps = media.decode_video(tmp_path / "a.mp4")
    assert len(frames) == 30 and fps == pytest.approx(30 * 1000 / 900, rel=0.05)


@pytest.mark.parametrize("fps", [0, -24])
def test_a_film_needs_a_rate(tmp_path, fps):
    with pytest.raises(ValueError, match="fps: .* above 0"):
        media.write_mp4(tmp_path / "a.mp4", ramp(), fps)
    assert not list(tmp_path.iterdir())


def test_png_sequence_is_numbered_and_carries_metadata(tmp_path):
    paths = media.write_png_sequence(tmp_path / "frames", ramp(3), {"seed": 4})
    assert [p.name for p in paths] == ["00001.png", "00002.png", "00003.png"]
    assert Image.open(paths[0]).text["seed"] == "4"


def test_background_none():
    assert media.background_frames(make_shot(background=Background()), 32, 32) is None


def test_background_still_covers_the_frame():
    frames = media.background_frames(make_shot(4, background=Background("still", (png(8, 6, (9, 99, 199)),))), 32, 16)
    assert frames is not None and frames.shape == (4, 16, 32, 3) and (frames == (9, 99, 199)).all()


def test_background_film_plays_at_its_own_rate_and_holds_its_end(tmp_path):
    media.write_mp4(tmp_path / "a.mp4", ramp(6), 48)
    film = Media((tmp_path / "a.mp4").read_bytes(), "video/mp4")
    frames = media.background_frames(make_shot(5, background=Background("video", (film,))), 64, 48)
    assert frames is not None
    # The clip runs at 24: every second frame, then the last one again.
    expected = np.linspace(20, 235, 6)[[0, 2, 4, 5, 5]]
    assert np.abs(frames.mean((1, 2, 3)) - expected).max() < 4


def test_background_pictures_follow_the_frames():
    pictures = tuple(png(8, 8, (i * 60,) * 3) for i in range(3))
    frames = media.background_frames(make_shot(3, background=Background("video", pictures)), 16, 16)
    assert frames is not None and frames[:, 0, 0, 0].tolist() == [0, 60, 120]


def test_sheet_picks_first_and_last():
    sheet = media.contact_sheet([("grey", ramp(9)), ("grey again", ramp(4))], columns=3, tile_height=48)
    assert sheet.shape[2] == 3
    tile = sheet[4 + 18 : 4 + 18 + 48]
    assert tile[24, 4 + 32].mean() == 20 and tile[24, -4 - 32].mean() == 235


def test_overlay_draws_only_the_outline():
    frames, masks = np.zeros((1, 20, 20, 3), np.uint8), np.zeros((1, 20, 20), bool)
    masks[0, 5:15, 5:15] = True
    drawn = media.overlay(frames, masks, (255, 0, 0))
    assert (drawn[0, 5, 5:15] == (255, 0, 0)).all() and not drawn[0, 8, 8].any() and not drawn[0, 2].any()


@pytest.mark.parametrize("size", [(100, 40), (40, 100), (60, 60), (30, 20)])
@pytest.mark.parametrize("target", [(32, 32), (48, 16), (16, 64)])
def test_resizing_keeps_proportions_and_squeezing_keeps_everything(size, target):
    """A disc in the middle stays a disc, wherever it still fits; squeezed it covers the same share."""
    wide, high = size
    y, x = np.mgrid[:high, :wide] + 0.5
    radius = min(size) / 4
    disc = ((np.hypot(x - wide / 2, y - high / 2) < radius)[..., None] * np.full(3, 255)).astype(np.uint8)[None]
    picture = media.resize_frames(disc, *target)[0]
    assert picture.shape == (target[1], target[0], 3)
    scale = max(target[0] / wide, target[1] / high)
    if radius * scale < min(target) / 2:
        filled = (picture[..., 0] > 127).sum()
        assert filled == pytest.approx(np.pi * (radius * scale) ** 2, rel=0.15)
    squeezed = media.squeeze_frames(disc, *target)[0]
    assert (squeezed[..., 0] / 255).mean() == pytest.approx((disc[..., 0] / 255).mean(), rel=0.1)


def test_a_background_covers_the_clip_and_is_then_squeezed_with_it():
    stripes = np.zeros((20, 80, 3), np.uint8)
    stripes[:, 30:50] = 255
    shot = make_shot(3, width=32, height=32, background=Background("still", (media.encode_png(stripes),)))
    frames = media.background_frames(shot, 64, 16)
    # The clip shows the middle square of the picture, all of it white.
    assert frames.shape == (3, 16, 64, 3) and frames[..., 2:-2, :].min() > 200
    assert media.background_frames(shot, 64, 16, count=1).shape[0] == 1
