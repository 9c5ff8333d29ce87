"""Dense flow from points: bins, sizes, and how points are given."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from maquette.backend.models.mofa.cmp import MotionPropagation
from torch import Tensor

from .networks import network, noise, tiny_spec


@pytest.fixture
def net(tmp_path) -> MotionPropagation:
    return network(tiny_spec(tmp_path, hybrid=False), "cmp")


@pytest.fixture
def given_sparse(net, monkeypatch) -> list[tuple[Tensor, Tensor, Tensor]]:
    """What the network is asked for; it answers 3 px and 4 px around where something is known."""
    calls: list[tuple[Tensor, Tensor, Tensor]] = []

    def forward(picture: Tensor, sparse: Tensor, mask: Tensor) -> Tensor:
        calls.append((picture, sparse, mask))
        return F.max_pool2d(mask, 3, 1, 1) * torch.tensor([3.0, 4.0])[:, None, None]

    monkeypatch.setattr(net, "forward", forward)
    return calls


def test_flow_is_what_the_bins_expect(net, monkeypatch):
    """Bins divide -50..50 evenly and stand for their centres, x first; enlarging does not change values."""
    logits = torch.full((1, 18, 32, 32), -1e4)
    logits[:, 0] = 0
    logits[:, 9 + 8] = 0
    monkeypatch.setattr(net, "bin_logits", lambda *_: logits)
    flow = net(torch.zeros(1, 3, 64, 64), torch.zeros(1, 2, 64, 64), torch.zeros(1, 1, 64, 64))
    assert flow.shape == (1, 2, 64, 64)
    assert torch.allclose(flow[0, 0], torch.tensor(-50 + 50 / 9)) and torch.allclose(
        flow[0, 1], torch.tensor(50 - 50 / 9)
    )
    logits[:, 8] = 0
    assert torch.allclose(
        net(*map(torch.zeros, ((1, 3, 64, 64), (1, 2, 64, 64), (1, 1, 64, 64))))[0, 0], torch.tensor(0.0)
    )


def test_corners_stay_corners_when_flow_is_enlarged(net, monkeypatch):
    logits = noise(1, 18, 32, 32)
    monkeypatch.setattr(net, "bin_logits", lambda *_: logits)
    flow = net(torch.zeros(1, 3, 64, 64), torch.zeros(1, 2, 64, 64), torch.zeros(1, 1, 64, 64))
    centres = torch.arange(9) * 100 / 9 + 50 / 9 - 50
    corner = (logits[0, :9, -1, -1].softmax(0) * centres).sum()
    assert torch.allclose(flow[0, 0, -1, -1], corner, atol=1e-4)


def test_the_network_knows_displacement_and_place(net):
    picture, sparse, mask = noise(1, 3, 64, 64).sigmoid(), torch.zeros(1, 2, 64, 64), torch.zeros(1, 1, 64, 64)
    nothing = net(picture, sparse, mask)
    mask[0, 0, 20:30, 20:30] = 1
    still = net(picture, sparse, mask)
    sparse[0, 0, 20:30, 20:30] = 30
    moving = net(picture, sparse, mask)
    assert not torch.allclose(nothing, still, atol=1e-3) and not torch.allclose(still, moving, atol=1e-3)
    assert torch.equal(moving, net(picture, sparse, mask.repeat(1, 2, 1, 1)))
    assert float(moving.abs().max()) < 50


def test_pictures_are_mapped_to_minus_one_to_one(net, monkeypatch):
    seen: list[Tensor] = []
    net.image_encoder.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    picture = torch.zeros(1, 3, 64, 64)
    picture[..., 32:] = 1
    net(picture, torch.zeros(1, 2, 64, 64), torch.zeros(1, 1, 64, 64))
    assert seen[0].unique().tolist() == [-1, 1]


def test_points_of_any_picture_go_to_the_square_and_back(net, given_sparse):
    points = torch.tensor([[64.5, 16.5], [10.2, 3.9]])
    displacements = torch.tensor([[[10.0, -6.0], [0.0, 0.0]], [[-7.0, 3.0], [2.0, 1.0]]])
    flow = net.propagate(torch.rand(1, 3, 32, 128), points, displacements)
    assert flow.shape == (1, 2, 2, 32, 128)
    (picture, sparse, mask), (_, second, _) = given_sparse
    assert picture.shape == (1, 3, 64, 64) and int(mask.sum()) == 2
    # 128 x 32 becomes 64 x 64: x is halved, y doubled, and whole pixels remain.
    assert sparse[0, :, 33, 32].tolist() == [5, -12] and second[0, :, 33, 32].tolist() == [-3, 6]
    assert second[0, :, 7, 5].tolist() == [1, 2]
    assert flow[0, 0, :, 16, 64].tolist() == [6, 2] and flow[0, 0, :, 20, 100].tolist() == [0, 0]


def test_fractions_are_kept_without_parity(net, given_sparse):
    points, displacements = torch.tensor([[64.5, 16.5]]), torch.tensor([[[-7.0, 3.25]]])
    net.propagate(torch.rand(1, 3, 32, 128), points, displacements, parity=False)
    assert given_sparse[0][1][0, :, 33, 32].tolist() == [-3.5, 6.5]


def test_points_that_cannot_be_seen_are_left_out(net, given_sparse):
    points = torch.tensor([[5.0, 5.0], [-1.0, 5.0], [64.0, 5.0], [9.0, 9.0]])
    displacements = torch.full((1, 4, 2), 2.0)
    displacements[0, 3] = torch.nan
    net.propagate(torch.rand(1, 3, 64, 64), points, displacements)
    assert given_sparse[0][2].nonzero().tolist() == [[0, 0, 5, 5]]


def test_the_later_of_two_points_in_a_pixel_counts(net, given_sparse):
    points = torch.tensor([[5.2, 5.2], [5.8, 5.8]])
    net.propagate(torch.rand(1, 3, 64, 64), points, torch.tensor([[[2.0, 2.0], [8.0, 8.0]]]))
    assert given_sparse[0][1][0, :, 5, 5].tolist() == [8, 8]
