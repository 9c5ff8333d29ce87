"""The discriminators: shapes, what they learn, and that their and the decoder's gradients stay apart."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from maquette.backend.training.adversary import (
    PatchDiscriminator,
    adaptive_weight,
    fooling_loss,
    frozen,
    judging_loss,
)
from torch import nn

WIDTHS = (8, 16)


def judge(dimensions: int) -> PatchDiscriminator:
    torch.manual_seed(0)
    return PatchDiscriminator(dimensions, WIDTHS)


def clips(count: int = 2, frames: int = 5, size: int = 16) -> torch.Tensor:
    return torch.rand(count, 3, frames, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1


@settings(max_examples=12)
@given(dimensions=st.sampled_from([2, 3]), frames=st.integers(1, 9), size=st.sampled_from([8, 16, 24]))
def test_one_number_per_patch(dimensions: int, frames: int, size: int) -> None:
    judged = judge(dimensions)(clips(2, frames, size))
    assert judged.shape[-2:] == (size // 4, size // 4)
    assert judged.shape[0] == (2 * frames if dimensions == 2 else 2)


def test_frames_are_judged_alone_and_clips_as_clips() -> None:
    x = clips(1)
    changed = x.clone()
    changed[:, :, 2] = 0
    frames, whole = judge(2).eval(), judge(3).eval()
    same = (frames(x) == frames(changed)).flatten(1).all(dim=1)
    assert same.tolist() == [True, True, False, True, True]
    # The order of the frames is all that tells these two apart.
    torch.testing.assert_close(frames(x).mean(), frames(x.flip(2)).mean())
    assert not torch.allclose(whole(x).mean(), whole(x.flip(2)).mean(), rtol=1e-3)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_gradients_stay_with_their_player(dimensions: int) -> None:
    discriminator = judge(dimensions)
    decoded = clips().requires_grad_()
    before = {name: value.clone() for name, value in discriminator.state_dict().items()}
    fooling_loss(discriminator, decoded).backward()
    assert decoded.grad is not None
    assert decoded.grad.abs().sum() > 0
    assert all(p.grad is None and p.requires_grad for p in discriminator.parameters())
    assert discriminator.training
    assert all(torch.equal(value, before[name]) for name, value in discriminator.state_dict().items())
    decoded.grad = None
    judging_loss(discriminator, clips(), decoded)[0].backward()
    assert decoded.grad is None
    assert all(p.grad is not None for p in discriminator.parameters())


def test_frozen_gives_back_what_was_even_after_an_error() -> None:
    layer = nn.Linear(2, 2)
    layer.bias.requires_grad_(False)
    with pytest.raises(RuntimeError), frozen(layer):
        raise RuntimeError
    assert layer.weight.requires_grad
    assert not layer.bias.requires_grad
    assert layer.training


def test_weights_are_bounded() -> None:
    discriminator = judge(2)
    with torch.no_grad():
        for parameter in discriminator.parameters():
            parameter.mul_(50)
        for _ in range(30):
            discriminator(clips())
    layer = discriminator.eval().layers[0]
    assert isinstance(layer, nn.Conv2d)
    norm = torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)
    assert float(norm) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_it_learns_to_tell_blurred_from_sharp(dimensions: int) -> None:
    discriminator = judge(dimensions)
    optimizer = torch.optim.AdamW(discriminator.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(5)
    rights, losses = [], []
    for _ in range(40):
        real = torch.rand(4, 3, 3, 16, 16, generator=generator) * 2 - 1
        made = nn.functional.avg_pool3d(real, (1, 3, 3), 1, (0, 1, 1)) * 3
        loss, right = judging_loss(discriminator, real, made)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rights.append(float(right))
        losses.append(float(loss.detach()))
    assert sum(rights[-5:]) / 5 > 0.9
    assert losses[-1] < 0.7 * losses[0]
    # Then a sharp clip fools it better than a blurred one.
    assert float(fooling_loss(discriminator, real)) < float(fooling_loss(discriminator, made))


def test_adaptive_weight_is_the_ratio_of_the_gradients() -> None:
    last = torch.tensor([3.0, 4.0], requires_grad=True)
    weight = adaptive_weight((last * 2).sum(), last.sum() / 2, last, 100)
    assert float(weight) == pytest.approx(4, rel=1e-4)
    assert not weight.requires_grad
    assert last.grad is None
    assert float(adaptive_weight(last.sum(), last.sum() * 1e-9, last, 100)) == 100


def test_bad_sizes_are_named() -> None:
    with pytest.raises(ValueError, match="dimensions is 4"):
        PatchDiscriminator(4)
    with pytest.raises(ValueError, match="widths"):
        PatchDiscriminator(2, ())
