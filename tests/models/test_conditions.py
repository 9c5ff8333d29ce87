"""A shot's arrays as the network takes them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from maquette.backend.models.frames import frames_to_tensor, tensor_to_frames
from maquette.backend.models.isa.conditions import (
    crop_picture,
    pad_frames,
    point_subset,
    random_drops,
    reference_view,
    shot_geometry,
    stack_points,
)
from maquette.backend.models.isa.plan import snap_frames
from maquette.backend.shot.cameras import look_at


def scene(turn: float = 0.0, shift: tuple[float, float, float] = (0.0, 0.0, 0.0), frames: int = 5):
    """A cloud and a circling camera, as a whole turned about Z and moved."""
    rng = np.random.default_rng(0)
    cos, sin = np.cos(turn), np.sin(turn)
    motion = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    points = rng.uniform(-0.5, 0.5, (1, frames, 12, 3)) + [0, 0, 1]
    eyes = [np.array([4 * np.sin(a), -4 * np.cos(a), 1.5]) for a in np.linspace(0, 0.6, frames)]
    target = motion @ np.array([0, 0, 1.0]) + shift
    viewmats = np.stack([look_at(motion @ eye + shift, target) for eye in eyes])
    Ks = np.repeat(np.array([[[80.0, 0, 32], [0, 80.0, 32], [0, 0, 1]]]), frames, 0)
    return points @ motion.T + shift, rng.uniform(-1, 1, (1, 12, 3)), viewmats, Ks


@settings(max_examples=12)
@given(turn=st.floats(-3, 3), x=st.floats(-20, 20), z=st.floats(-5, 5))
def test_moving_and_turning_the_set_changes_nothing(turn, x, z):
    points, rest, viewmats, Ks = scene()
    still = shot_geometry(points, rest, None, viewmats, Ks, 64, 64, (4, 4))
    points, rest, viewmats, Ks = scene(turn, (x, -x, z))
    moved = shot_geometry(points, rest, None, viewmats, Ks, 64, 64, (4, 4))
    assert torch.allclose(still.points, moved.points, atol=1e-4)
    assert torch.allclose(still.plucker, moved.plucker, atol=1e-4)


def test_ndc_visibility_and_masks():
    points, rest, viewmats, Ks = scene()
    points[0, 2, 0] = [0, -40, 1]  # behind the camera
    seen = np.zeros(points.shape[:3], bool)
    seen[..., :6] = True
    mask = np.ones((1, 12), bool)
    mask[:, -1] = False
    geometry = shot_geometry(points, rest, seen, viewmats, Ks, 64, 64, (4, 6), mask)
    assert geometry.plucker.shape == (5, 6, 4, 6)
    assert not geometry.point_mask[0, 2, 0] and geometry.point_mask[0, 1, 0]
    assert not geometry.point_mask[..., -1].any()
    assert geometry.point_visibility[0, 0].tolist() == [1.0] * 6 + [-1.0] * 5 + [0.0]
    inside = geometry.points[0, [0, 1, 3, 4], :-1]
    assert inside.abs().max() <= 1.0
    assert geometry.points.isfinite().all()


def test_unknown_visibility_is_zero():
    points, rest, viewmats, Ks = scene()
    assert not shot_geometry(points, rest, None, viewmats, Ks, 64, 64, (4, 4)).point_visibility.any()


@given(frames=st.integers(1, 300))
def test_frames_are_snapped_up(frames):
    snapped = snap_frames(frames)
    assert snapped % 4 == 1 and frames <= snapped < frames + 4


def test_padding_repeats_the_last_frame():
    assert pad_frames(np.arange(3), 5).tolist() == [0, 1, 2, 2, 2]
    assert pad_frames(np.arange(5), 3).tolist() == [0, 1, 2]


@given(available=st.integers(1, 3000), wanted=st.integers(1, 1024))
def test_point_subsets_are_even(available, wanted):
    index = point_subset(available, wanted)
    assert len(index) == min(available, wanted) == len(set(index.tolist()))
    assert index.max() < available
    if len(index) > 1:
        steps = np.diff(index)
        assert steps.min() >= 1 and steps.max() - steps.min() <= 1


def test_characters_of_different_detail_are_padded():
    rng = np.random.default_rng(0)
    people = [(rng.random((3, n, 3)), rng.random((n, 3)), np.ones((3, n), bool)) for n in (5, 40)]
    points, _, visibility, mask = stack_points(people, 16)
    assert points.shape == (2, 3, 16, 3)
    assert mask.sum(1).tolist() == [5, 16]
    assert np.allclose(points[0, :, :5], people[0][0])
    assert not visibility[0, :, 5:].any()


@pytest.mark.parametrize("aspect", [1.0, 1.78])
def test_the_crop_and_the_points_in_it_agree(aspect):
    """A white square around one point of the picture lands where that point's NDC says."""
    points, _, viewmats, Ks = scene()
    view = reference_view(points[0, 0], viewmats[0], Ks[0], None, (64, 64), aspect)
    left, top, right, bottom = view.box
    assert (right - left) / (bottom - top) == pytest.approx(aspect)
    assert view.visible.all() and np.abs(view.points).max() <= 0.81
    x = left + (view.points[3, 0] + 1) / 2 * (right - left)
    y = top + (view.points[3, 1] + 1) / 2 * (bottom - top)
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[int(y) - 1 : int(y) + 2, int(x) - 1 : int(x) + 2] = 255
    width, height = round(64 * aspect), 64
    crop = crop_picture(picture, view.box, width, height)[0]
    crop = (crop - crop.min()) * (crop > 0.1)
    rows, columns = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    u, v = (columns * crop).sum() / crop.sum(), (rows * crop).sum() / crop.sum()
    assert abs(2 * u / width - 1 - view.points[3, 0]) < 0.09
    assert abs(2 * v / height - 1 - view.points[3, 1]) < 0.09


def test_a_box_beyond_the_picture_is_grey_there():
    crop = crop_picture(np.full((10, 10, 3), 255, np.uint8), (-10, 0, 10, 10), 20, 10)
    assert torch.allclose(crop[:, :, :9], torch.zeros(3, 10, 9), atol=1e-6)
    assert torch.allclose(crop[:, :, 11:], torch.ones(3, 10, 9), atol=1e-6)


def test_a_reference_that_shows_no_point_is_taken_whole():
    points, _, viewmats, Ks = scene()
    view = reference_view(points[0, 0] + [0, -60, 0], viewmats[0], Ks[0], None, (80, 64), 1.25)
    assert not view.visible.any() and np.isfinite(view.points).all()


def test_frames_and_tensors_are_inverse():
    frames = np.random.default_rng(0).integers(0, 256, (3, 4, 6, 3), dtype=np.uint8)
    assert np.array_equal(tensor_to_frames(frames_to_tensor(frames)), frames)


def test_dropout_keeps_most_and_drops_the_unconditional_pair_together():
    drops = random_drops(20000, torch.Generator().manual_seed(0))
    both = (drops["points"] & drops["reference"]).float().mean()
    assert 0.08 < both < 0.13
    assert all(0.02 < drops[name].float().mean() < 0.2 for name in drops)
