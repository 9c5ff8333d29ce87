"""The perceptual distance: structure counts, brightness does not; smooth, and cheap to trust."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from maquette.backend.training.perceptual import ORIENTATIONS, PerceptualLoss, morlet_bank
from torch import Tensor

LOSS = PerceptualLoss()


def scene(seed: int = 0, size: int = 48, frames: int = 2) -> Tensor:
    """Coloured discs and stripes with sharp edges, (1,3,T,H,W)."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    picture = 0.15 * torch.sin(x * 0.8 + y * 0.3).expand(3, frames, size, size).clone()
    for _ in range(5):
        (cx, cy, r), colour = torch.rand(3, generator=generator) * size, torch.rand(3, 1, generator=generator) - 0.5
        inside = (x - cx).square() + (y - cy).square() < (r / 3 + 2).square()
        picture[:, :, inside] = colour[..., None].expand(3, frames, int(inside.sum()))
    return picture[None]


def blurred(frames: Tensor, deviation: float) -> Tensor:
    taps = torch.exp(-torch.arange(-8.0, 9).square() / (2 * deviation**2))
    taps = taps / taps.sum()
    rows = F.pad(frames.flatten(0, 2)[:, None], (8, 8, 8, 8), mode="reflect")
    rows = F.conv2d(F.conv2d(rows, taps[None, None, None]), taps[None, None, :, None])
    return rows.view_as(frames)


def test_filters_see_their_own_wave_and_no_brightness() -> None:
    bank = morlet_bank()
    assert bank.sum(dim=(1, 2, 3)).abs().max() < 1e-6
    x = torch.arange(32.0)
    for index in range(ORIENTATIONS):
        angle = math.pi * index / ORIENTATIONS
        wave = torch.cos(2 * math.pi / 4 * (x[None] * math.cos(angle) + x[:, None] * math.sin(angle)) + 0.3)
        answers = LOSS._responses(wave[None, None])[0, :, 8, 8]
        assert int(answers.argmax()) == index
        assert float(answers[index]) == pytest.approx(1, abs=0.05)


@settings(max_examples=12)
@given(seed=st.integers(0, 1000), size=st.sampled_from([8, 12, 20, 32]), frames=st.integers(1, 3))
def test_a_distance(seed: int, size: int, frames: int) -> None:
    a, b = scene(seed, size, frames), scene(seed + 1, size, frames)
    assert float(LOSS(a, a)) == 0
    there, back = float(LOSS(a, b)), float(LOSS(b, a))
    assert 0 <= there < 2
    assert there == pytest.approx(back, rel=1e-4, abs=1e-6)
    # A negative has the same structure as its positive.
    assert float(LOSS(-a, -b)) == pytest.approx(there, rel=1e-4, abs=1e-6)


def test_blur_counts_more_than_equal_error_in_brightness() -> None:
    x = scene()
    before = 0.0
    for deviation in (0.6, 1.0, 1.6, 2.5):
        soft = blurred(x, deviation)
        error = (soft - x).square().mean().sqrt()
        found = float(LOSS(soft, x))
        assert found > 1.3 * before
        assert found > 20 * float(LOSS(x + error, x))
        before = found


def test_lost_and_invented_detail_counts_more_than_a_smooth_error() -> None:
    x = scene()
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(x.shape, generator=generator)
    smooth = blurred(noise, 6.0)
    for error in (noise, smooth):
        error *= 0.05 / error.square().mean().sqrt()
    assert float(LOSS(x + noise, x)) > 2 * float(LOSS(x + smooth, x))
    # Another scene is farther away than the same with some noise.
    assert float(LOSS(scene(9), x)) > float(LOSS(x + noise, x))


def test_gradient_is_finite_and_leads_to_the_picture() -> None:
    x = scene(size=24, frames=1)
    for start in (x, torch.zeros_like(x), blurred(x, 1.5)):
        found = start.clone().requires_grad_()
        LOSS(found, x).backward()
        assert found.grad is not None
        assert torch.isfinite(found.grad).all()
        if start is x:
            assert not found.grad.any()
    soft = blurred(x, 1.5)
    found = soft.clone().requires_grad_()
    optimizer = torch.optim.Adam([found], lr=0.03)
    for _ in range(20):
        optimizer.zero_grad()
        LOSS(found, x).backward()
        optimizer.step()
    assert float(LOSS(found.detach(), x)) < 0.3 * float(LOSS(soft, x))


def test_each_frame_is_by_itself_and_films_may_be_compared_twice() -> None:
    x = torch.cat([scene(0, frames=1), scene(1, frames=1)], dim=2)
    y = blurred(x, 1.0)
    apart = [float(LOSS(y[:, :, i : i + 1], x[:, :, i : i + 1])) for i in range(2)]
    assert float(LOSS(y, x)) == pytest.approx(sum(apart) / 2, rel=1e-4)
    assert float(LOSS.distance(y, LOSS.targets(x))) == float(LOSS(y, x))


def test_nothing_is_learned_kept_or_random() -> None:
    assert not list(LOSS.parameters())
    assert not LOSS.state_dict()
    assert torch.equal(PerceptualLoss().bank, LOSS.bank)


@pytest.mark.parametrize("shape", [(1, 3, 2, 48, 40), (1, 3, 48, 48), (1, 3, 1, 4, 48), (1, 1, 2, 48, 48)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(B,3,T,H,W\)"):
        LOSS(torch.zeros(shape), scene())
