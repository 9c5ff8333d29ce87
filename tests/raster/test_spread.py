from __future__ import annotations

import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from maquette.backend.raster.spread import spread, square_sum


@given(reach=st.integers(1, 4), height=st.integers(1, 9), width=st.integers(1, 9), seed=st.integers(0, 99))
def test_square_sum_is_a_convolution_with_ones(reach, height, width, seed):
    x = torch.randn(2, 1, height, width, generator=torch.Generator().manual_seed(seed))
    side = 2 * reach + 1
    expected = F.conv2d(x, torch.ones(1, 1, side, side), padding=reach)
    assert torch.allclose(square_sum(x, reach), expected, atol=1e-4)


def test_known_values_stay_and_travel_as_far_as_asked():
    values, known = torch.zeros(1, 2, 1, 20), torch.zeros(1, 1, 1, 20, dtype=torch.bool)
    values[..., :3] = torch.tensor([5.0, -2.0]).view(1, 2, 1, 1)
    values[..., 3:] = 99
    known[..., :3] = True
    found, now = spread(values, known, 6)
    assert now[0, 0, 0, :9].all() and not now[0, 0, 0, -8:].any()
    assert torch.allclose(found[:, :, :, :9], torch.tensor([5.0, -2.0]).view(1, 2, 1, 1).expand(1, 2, 1, 9))
    assert (found[..., ~now[0, 0, 0]] == 0).all()
