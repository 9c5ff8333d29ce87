"""The forward splat against a loop over pixels, and motion on coarser grids."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from maquette.backend.models.mofa.splat import PixelMotion, splat
from torch import Tensor

from .networks import noise


def by_loop(features: Tensor, flow: Tensor, metric: Tensor | None = None) -> Tensor:
    """One source pixel after another, in double precision."""
    B, C, h, w = features.shape
    total, weights = torch.zeros(B, C, h, w).double(), torch.zeros(B, 1, h, w).double()
    for b in range(B):
        for row in range(h):
            for column in range(w):
                x, y = column + float(flow[b, 0, row, column]), row + float(flow[b, 1, row, column])
                if not (math.isfinite(x) and math.isfinite(y)):
                    continue
                for j in (math.floor(y), math.floor(y) + 1):
                    for i in (math.floor(x), math.floor(x) + 1):
                        if 0 <= i < w and 0 <= j < h:
                            weight = (1 - abs(x - i)) * (1 - abs(y - j))
                            weight *= 1.0 if metric is None else math.exp(float(metric[b, 0, row, column]))
                            total[b, :, j, i] += weight * features[b, :, row, column].double()
                            weights[b, :, j, i] += weight
    return total / (weights + 1e-7)


numbers = st.one_of(
    st.floats(-6, 6, width=32), st.integers(-5, 5).map(float), st.sampled_from([math.nan, math.inf, -math.inf, 1e30])
)


@given(st.lists(numbers, min_size=24, max_size=24))
def test_a_loop_gives_the_same(values):
    flow = torch.tensor(values, dtype=torch.float32).view(1, 2, 3, 4)
    features = noise(1, 3, 3, 4)
    average, weight = splat(features, flow)
    expected = by_loop(features, flow)
    # Below this weight the epsilon in the division, not the arithmetic, makes the difference between precisions.
    sure = (weight > 1e-3).expand_as(average)
    assert torch.allclose(average.double()[sure], expected[sure], atol=1e-4)
    assert (average[(weight == 0).expand_as(average)] == 0).all()
    assert average.isfinite().all()


@given(st.lists(st.floats(-3, 3, width=32), min_size=24, max_size=24), st.integers(0, 5))
def test_importance_is_a_softmax(values, seed):
    flow = torch.tensor(values, dtype=torch.float32).view(1, 2, 3, 4)
    features, metric = noise(1, 3, 3, 4, seed=seed), noise(1, 1, 3, 4, seed=seed + 10)
    average, weight = splat(features, flow, metric)
    sure = (weight > 1e-3).expand_as(average)
    assert torch.allclose(average.double()[sure], by_loop(features, flow, metric)[sure], atol=1e-3)


def test_extreme_importance_neither_leaves_holes_nor_overflows():
    features = torch.arange(4.0).view(1, 1, 1, 4)
    flow = torch.zeros(1, 2, 1, 4)
    flow[0, 0, 0] = torch.tensor([0.0, -1.0, 0.0, 0.0])  # 0 and 1 meet at 0
    metric = torch.tensor([1e4, -1e4, -1e30, 1e4]).view(1, 1, 1, 4)
    average, _ = splat(features, flow, metric)
    assert average.flatten().tolist() == pytest.approx([0.0, 0.0, 2.0, 3.0], abs=1e-5)


def test_nothing_moves_without_flow():
    features = noise(2, 3, 5, 6)
    average, weight = splat(features, torch.zeros(2, 2, 5, 6))
    assert torch.allclose(average, features, atol=1e-6) and (weight == 1).all()


def test_half_precision_is_summed_in_single():
    features = torch.full((1, 1, 1, 64), 0.1).half()
    flow = torch.zeros(1, 2, 1, 64)
    flow[0, 0, 0] = -torch.arange(64.0)  # all meet at 0
    average, weight = splat(features, flow)
    assert average.dtype == torch.float16 and weight.dtype == torch.float32
    assert float(average[0, 0, 0, 0]) == float(features[0, 0, 0, 0])


def test_the_top_left_pixel_stands_for_its_block():
    """As published; a block's mean would be another number."""
    flow = noise(1, 2, 2, 16, 16)
    coarse = PixelMotion(flow).reduced(8, parity=True).flow
    assert torch.equal(coarse, flow[..., ::8, ::8] / 8)
    assert not torch.allclose(coarse, PixelMotion(flow).reduced(8, parity=False).flow)


def test_a_block_is_the_mean_of_what_can_be_seen():
    flow = noise(1, 1, 2, 8, 8)
    seen = flow.clone()
    seen[..., :4, :] = torch.nan
    depth = torch.ones(1, 1, 8, 8)
    depth[..., :4, :] = 9
    coarse = PixelMotion(seen, depth).reduced(8, parity=False)
    assert torch.allclose(coarse.flow.flatten(), flow[0, 0, :, 4:].mean((1, 2)) / 8)
    assert coarse.depth is not None and float(coarse.depth) == 1
    assert PixelMotion(torch.full_like(flow, torch.nan)).reduced(8, parity=False).flow.isnan().all()


def test_a_block_follows_the_body_that_most_of_it_shows():
    flow, labels = torch.zeros(1, 1, 2, 8, 8), torch.zeros(1, 8, 8, dtype=torch.int32)
    flow[0, 0, 0, :, :3] = 80.0  # a limb that covers three columns of eight
    labels[0, :, :3] = 7
    assert float(PixelMotion(flow, None, labels).reduced(8, parity=False).flow[0, 0, 0]) == 0
    labels[0, :, 3:] = 7
    assert float(PixelMotion(flow, None, labels).reduced(8, parity=False).flow[0, 0, 0]) == 80 * 3 / 8 / 8


@pytest.mark.parametrize("parity", [True, False])
def test_the_nearer_surface_hides_the_farther(parity):
    """Published: the two are mixed."""
    features = torch.tensor([1.0, 5.0]).view(1, 1, 1, 2)
    flow = torch.zeros(1, 1, 2, 1, 2)
    flow[0, 0, 0, 0, 1] = -1.0
    depth = torch.tensor([4.0, 2.0]).view(1, 1, 1, 2)
    value = float(PixelMotion(flow, depth).carry(features, parity)[0, 1, 0, 0, 0])
    assert value == pytest.approx(3.0 if parity else 5.0, abs=1e-3)


def test_frame_0_stays():
    features = noise(2, 3, 4, 4)
    carried = PixelMotion(noise(2, 5, 2, 4, 4)).carry(features, parity=True)
    assert carried.shape == (2, 6, 3, 4, 4) and torch.equal(carried[:, 0], features)
    assert not torch.allclose(carried[:, 1], features)


def test_frames_of_a_window():
    motion = PixelMotion(noise(1, 5, 2, 4, 4), noise(1, 5, 4, 4), torch.zeros(1, 4, 4))
    part = motion.select([0, 2, 5])
    assert part.frames == 3 and torch.equal(part.flow, motion.flow[:, [1, 4]])
    assert part.depth is not None and motion.depth is not None and torch.equal(part.depth, motion.depth[:, [1, 4]])
    assert part.labels is motion.labels
