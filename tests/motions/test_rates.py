"""Frames per second, wherever and however a file tells them."""

from __future__ import annotations

import numpy as np
import pytest
from maquette.backend.motions.rates import exact_rate, find_rate

NTSC = 60000 / 1001


@pytest.mark.parametrize(
    ("data", "fps"),
    [
        ({"stageii_debug_details": {"mocap_frame_rate": 59.94}}, NTSC),
        ({"info": {"video": {"avg_fps": 23.976}}}, 24000 / 1001),
        ({"streams": [{"fps": 25}]}, 25),
        *[({key: 59.94}, NTSC) for key in ("fps", "FPS", "frames_per_second", "sample_rate", "capture_rate", "Hz",
                                           "freq", "frame-rate", "fps_out", "frames/sec", "mocap_frequency", "rate")],
        *[({"fps": value}, NTSC) for value in ("59.94", b"59.94 fps", "60000/1001", np.array([60000, 1001]),
                                              np.full(9, 59.94), np.float32(59.94), np.array("59,94"))],
        ({"fps": np.float32(23.98)}, 24000 / 1001),
        ({"fps": 23.97}, 24000 / 1001),
        ({"mocap_framerate": np.array(119.99999)}, 120),
        *[({"fps": value}, value) for value in (12.5, 29.5, 119.99, 30.5, 0.5)],
        ({"fps": 30, "mocap_framerate": 120}, 120),
        ({"render_fps": 12, "video_fps": 24, "fps": 60}, 60),
        ({"audio_sampling_rate": 48000, "sampling_rate_audio": 8000, "fps": 25}, 25),
        *[({"cfg": {"fps": bad}, "track": {"fps": 50}}, 50)
          for bad in ("auto", [30, 60], float("nan"), 0, -5, True, 1e9)],
        ({"frame_time": 0.0333667}, 30000 / 1001),
        ({"dt": 1 / 60}, 60),
        ({"timestep": 8.333}, 120),
        ({"timestamps": np.arange(40) / 50}, 50),
        ({"times": np.arange(40) * 16.667}, 60),
        ({"time": np.arange(40)}, None),
        ({"mocap_time_length": 40 / 60}, 60),
        ({"learning_rate": 1e-3, "name": "walk"}, None),
    ],
)  # fmt: skip
def test_a_rate_anywhere_is_found_and_exact(data: dict, fps: float | None) -> None:
    found, dataset = find_rate(data, frames=40)
    assert found == (None if fps is None else pytest.approx(fps, rel=1e-9))
    assert dataset == any("mocap_f" in key for record in (data, *data.values()) if isinstance(record, dict)
                          for key in record)  # fmt: skip


@pytest.mark.parametrize("fps", [12, 15, 24, 25, 30, 50, 60, 90, 100, 120, 144, 200, 240])
@pytest.mark.parametrize("digits", [4, 5, 6, 7, 8])
def test_short_frame_times_give_usual_rates(fps: int, digits: int) -> None:
    written = round(1 / fps, digits)
    assert exact_rate(1 / written, 0.5 * 10.0**-digits / written**2) == fps
