"""Framing for MTVCrafter: its camera, the way there from any lens, and what an animator is told."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from maquette.backend.shot import cameras, framing

ROOT = Path(__file__).resolve().parents[2]
STATISTICS = framing.read_statistics()
SIZE = (512, 512)


def K_of(focal: float, width: int, height: int, shift: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    return np.array([[focal, 0, width / 2 + shift[0]], [0, focal, height / 2 + shift[1]], [0, 0, 1]])


def performance(distance: float = 1.9, frames: int = 12, speed: float = 0.012, offset: float = 0.0) -> dict:
    """The training set's mean pose before a still camera with 55 degrees, as arguments of ``framing``."""
    pose = STATISTICS.mean.astype(np.float64) / 1000
    pose = pose + np.array([offset, 0, distance - pose[0, 2]])
    steps = np.array([0.0, 0.0, 1.0]) if speed == 0 else np.array([1.0, 0.0, 0.0])
    # There and back again, so that the body stays where it is.
    drift = speed * (np.arange(frames) % 2)[:, None, None] * steps
    focal = framing.trained_focal(*SIZE)
    return {
        "joints": pose[None] + drift,
        "viewmats": np.repeat(np.eye(4)[None], frames, 0),
        "Ks": np.repeat(K_of(focal, *SIZE)[None], frames, 0),
        "width": SIZE[0],
        "height": SIZE[1],
    }


@given(
    sensor=st.tuples(st.floats(5, 70), st.floats(5, 70)),
    fit=st.sampled_from(["AUTO", "HORIZONTAL", "VERTICAL"]),
    size=st.tuples(st.integers(64, 4096), st.integers(64, 4096)),
    pixel=st.tuples(st.floats(0.5, 2), st.floats(0.5, 2)),
)
def test_the_lens_gives_55_degrees_over_the_larger_side(sensor, fit, size, pixel):
    lens = framing.trained_lens(*sensor, fit, *size, *pixel)
    K = cameras.intrinsics(lens, *sensor, fit, 0, 0, *size, *pixel)
    wide, tall = size[0] * pixel[0], size[1] * pixel[1]
    axis = 0 if wide >= tall else 1
    assert 2 * math.degrees(math.atan(size[axis] / (2 * K[axis, axis]))) == pytest.approx(55)


def test_square_pixels_give_the_models_own_focal_length():
    for size in ((1080, 604), (604, 1080), (512, 512)):
        lens = framing.trained_lens(36, 24, "AUTO", *size)
        K = cameras.intrinsics(lens, 36, 24, "AUTO", 0, 0, *size)
        assert K[0, 0] == K[1, 1] == pytest.approx(framing.trained_focal(*size))
        assert framing.picture_angle(K, *size) == pytest.approx(math.radians(55))
    assert framing.trained_lens(36, 24, "AUTO", 512, 512) == pytest.approx(34.578, abs=1e-3)


def test_joints_are_millimetres_with_y_down_before_the_camera():
    viewmats = np.repeat(cameras.look_at(np.array([0.0, -2.0, 1.0]), np.array([0.0, 0.0, 1.0]))[None], 2, 0)
    joints = np.zeros((2, 24, 3))
    joints[1, 3] = (0.25, 0.5, 1.75)
    seen = framing.camera_joints(joints, viewmats)
    assert seen.dtype == np.float32
    assert seen[0, 0] == pytest.approx((0, 1000, 2000))
    assert seen[1, 3] == pytest.approx((250, -750, 2500))


def test_nothing_changes_with_55_degrees():
    shot = performance()
    joints_mm = framing.camera_joints(shot["joints"], shot["viewmats"])
    np.testing.assert_allclose(framing.model_joints(**shot), joints_mm, atol=1e-3)


@given(
    focal=st.floats(300, 3000),
    distance=st.floats(1.0, 9.0),
    place=st.tuples(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5)),
    shift=st.tuples(st.floats(-100, 100), st.floats(-100, 100)),
)
def test_another_lens_keeps_the_pelvis_in_its_pixel_and_the_body_its_size(focal, distance, place, shift):
    width, height = 512, 512
    joints = STATISTICS.mean - STATISTICS.mean[0] + np.array([*place, distance]) * 1000
    K = K_of(focal, width, height, shift)
    ours = framing.refocused(joints[None], K[None], width, height)[0]
    trained = K_of(framing.trained_focal(width, height), width, height)

    def seen(points, intrinsics):
        return points[:, :2] / points[:, 2:] * intrinsics[0, 0] + intrinsics[:2, 2]

    np.testing.assert_allclose(seen(ours, trained)[0], seen(joints, K)[0], atol=0.05)
    # The body is neither stretched nor scaled.
    np.testing.assert_allclose(ours - ours[0], joints - joints[0], atol=0.05)
    # A flat body facing the camera has exactly the same size in both pictures.
    flat = np.where([True, True, False], joints, joints[0])
    ours = framing.refocused(flat[None], K[None], width, height)[0]
    np.testing.assert_allclose(np.ptp(seen(ours, trained), 0), np.ptp(seen(flat, K), 0), rtol=1e-3, atol=0.05)


def test_a_zoom_is_followed_frame_by_frame():
    joints = np.repeat(STATISTICS.mean[None], 3, 0)
    Ks = np.stack([K_of(f, *SIZE) for f in (400.0, 500.0, 1000.0)])
    depth = framing.refocused(joints, Ks, *SIZE)[:, 0, 2]
    assert depth * Ks[:, 0, 0] == pytest.approx(joints[0, 0, 2] * framing.trained_focal(*SIZE))


def test_z_scores_of_the_mean_are_zero_and_of_one_deviation_one():
    assert not framing.z_scores(STATISTICS.mean[None]).any()
    np.testing.assert_allclose(framing.z_scores((STATISTICS.mean + STATISTICS.std)[None]), 1, atol=1e-5)


def test_a_shot_like_the_training_set_needs_no_warning():
    report = framing.framing(**performance())
    assert report.warnings() == ()
    assert report.outside == 0 and report.off_picture == 0 and report.behind == 0
    assert report.distance == report.model_distance == pytest.approx(1.9)
    assert report.speed == pytest.approx(12, abs=0.1)
    assert report.angle == pytest.approx(55)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"distance": 6.0}, ("6.0 m", "closer", "1.8 to 2.1 m")),
        ({"distance": 0.5}, ("0.5 m", "back", "1.8 to 2.1 m")),
        ({"offset": 1.0}, ("standard deviations", "sideways", "in the middle")),
        ({"offset": 1.0}, ("outside the picture", "frame the whole body")),
        ({"speed": 0.2}, ("200 mm per frame", "raise the frame rate about 5.4 times")),
        ({"speed": 0.001}, ("hardly moves", "lower the frame rate")),
        ({"distance": -0.1}, ("behind the camera", "move the camera back")),
    ],
)
def test_what_is_wrong_comes_with_its_cure(changed, said):
    warnings = framing.framing(**performance(**changed)).warnings("Ada")
    assert any(all(part in sentence for part in said) for sentence in warnings), warnings
    assert all(sentence.startswith("Ada") or "of Ada" in sentence for sentence in warnings)
    assert sum("1.8 to 2.1 m" in sentence for sentence in warnings) <= 1


def test_another_lens_is_named_and_its_distance_converted():
    shot = performance(distance=3.8)
    shot["Ks"] = shot["Ks"] * np.array([[2.0], [2.0], [1.0]])
    shot["Ks"][:, 0, 2] = shot["Ks"][:, 1, 2] = 256
    report = framing.framing(**shot)
    assert report.distance == pytest.approx(3.8) and report.model_distance == pytest.approx(1.9)
    (sentence,) = report.warnings()
    assert "29 degrees" in sentence and "55-degree camera helper" in sentence


def test_worst_joint_and_its_axis_are_named():
    shot = performance()
    shot["joints"] = shot["joints"].copy()
    shot["joints"][5, 20, 1] -= 3.0
    report = framing.framing(**shot)
    assert (report.worst_joint, report.worst_axis) == ("left_wrist", 1)
    assert report.worst_score == pytest.approx(float((0.001 - 3000) / STATISTICS.std[20, 1]), abs=0.05)


def test_one_frame_has_no_speed():
    report = framing.framing(**performance(frames=1))
    assert report.speed == report.busy_speed == 0
    assert report.warnings() == ()


def test_statistics_ship_with_source_and_licence():
    path = ROOT / "presets" / "models" / "mtvcrafter" / "motion_statistics.json"
    table = json.loads(path.read_text("utf-8"))
    assert table["license"] == "Apache-2.0" and "MTVCrafter" in table["source"]
    assert STATISTICS.mean[0] == pytest.approx((0.77, 202.14, 1821.56), abs=0.01)


@pytest.mark.parametrize(
    ("mean", "std", "named"),
    [
        (np.zeros((23, 3)), np.ones((24, 3)), "mean"),
        (np.zeros((24, 3)), np.zeros((24, 3)), "std"),
        (np.full((24, 3), np.nan), np.ones((24, 3)), "mean"),
    ],
)
def test_wrong_statistics_are_refused(mean, std, named):
    with pytest.raises(ValueError, match=named):
        framing.MotionStatistics(mean, std)


def test_a_tokenizers_configuration_brings_its_own_statistics(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"mean_mm": np.ones((24, 3)).tolist(), "std_mm": np.full((24, 3), 2.0).tolist()}))
    assert (framing.read_statistics(path).std == 2).all()
    other = tmp_path / "published.json"
    other.write_text(json.dumps({"mean_mm": None, "std_mm": None}))
    assert framing.read_statistics(other) is STATISTICS


CLIPS = ROOT.parent / "shared" / "parity" / "smpl_joints_from_mtv"


@pytest.mark.skipif(not CLIPS.is_dir(), reason=f"no published clips at {CLIPS}")
def test_the_published_clips_are_at_home():
    off_picture = []
    for clip in json.loads((CLIPS / "index.json").read_text("utf-8"))["clips"]:
        joints = np.load(CLIPS / clip["file"]) / 1000
        width, height = clip["video_width"], clip["video_height"]
        report = framing.framing(
            joints,
            np.repeat(np.eye(4)[None], len(joints), 0),
            np.repeat(K_of(framing.trained_focal(width, height), width, height)[None], len(joints), 0),
            width,
            height,
        )
        off_picture.append(report.off_picture)
        assert abs(report.worst_score) < 3.2 and report.outside < 0.001
        assert 3.5 < report.speed < 37.5
        spoken = report.warnings()
        assert all("outside the picture" in sentence for sentence in spoken), spoken
    # The first clip shows half a body; the others all of it.
    assert off_picture[0] == pytest.approx(0.38, abs=0.01)
    assert max(off_picture[1:]) < 0.006
    np.testing.assert_array_equal(np.load(CLIPS / "mean.npy"), STATISTICS.mean)
    np.testing.assert_array_equal(np.load(CLIPS / "std.npy"), STATISTICS.std)
