"""Adversaries of the video VAE: patch discriminators on frames (2D) and on clips (3D) (ISA paper, Sec. 4.2).

The discriminators are PatchGANs (Isola et al. 2017): each number they give judges one patch. They learn by the hinge
loss and are kept smooth by spectral normalisation (Miyato et al. 2018), which needs no second derivatives. The share
that the VAE's decoder hears of them is set by the ratio of gradients at its last layer, as in VQGAN (Esser et al.
2021, Eq. 7).

Real and decoded clips reach a discriminator through the same augmentation, as the decoded ones are reconstructions of
the real ones, in one batch.

Shape letters: B batch, T frames, H W image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

_SLOPE = 0.2
"""Of the leaky rectifiers."""


class PatchDiscriminator(nn.Module):
    """Convolutions of stride 2, each with a leaky rectifier, then one number per patch.

    Args:
        dimensions: 2 judges each frame by itself, 3 judges clips: there, every layer also sees three moments, and
            every layer but the first halves time. Any number of frames will do.
        widths: channels of the layers; each halves the picture.
        channels: of the frames.
    """

    def __init__(self, dimensions: int, widths: Sequence[int] = (32, 64, 128), channels: int = 3) -> None:
        super().__init__()
        if dimensions not in (2, 3):
            raise ValueError(f"dimensions is {dimensions}; choose 2 (frames) or 3 (clips)")
        if not widths or min(widths) < 1:
            raise ValueError(f"widths is {tuple(widths)}; give one positive number per layer")
        self.dimensions = dimensions
        layers: list[nn.Module] = []
        for index, width in enumerate(widths):
            before = widths[index - 1] if index else channels
            if dimensions == 2:
                layer: nn.Module = nn.Conv2d(before, width, 4, 2, 1)
            else:
                layer = nn.Conv3d(before, width, (3, 4, 4), (1 if index == 0 else 2, 2, 2), 1)
            layers += [spectral_norm(layer), nn.LeakyReLU(_SLOPE)]
        last = nn.Conv2d(widths[-1], 1, 3, 1, 1) if dimensions == 2 else nn.Conv3d(widths[-1], 1, 3, 1, 1)
        self.layers = nn.Sequential(*layers, spectral_norm(last))

    def forward(self, x: Tensor) -> Tensor:
        """Frames (B,3,T,H,W) to judgements (B*T,1,h,w) or (B,1,t,h,w): above 0 is held real, below 0 decoded."""
        return self.layers(x.transpose(1, 2).flatten(0, 1) if self.dimensions == 2 else x)


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Inside, gradients pass through ``module`` but none reaches its weights, and its statistics stay as they are."""
    wanted = [parameter.requires_grad for parameter in module.parameters()]
    training = module.training
    module.requires_grad_(False).eval()
    try:
        yield
    finally:
        module.train(training)
        for parameter, want in zip(module.parameters(), wanted, strict=True):
            parameter.requires_grad_(want)


def fooling_loss(discriminator: nn.Module, decoded: Tensor) -> Tensor:
    """The decoder's loss against ``discriminator``: minus its mean judgement of ``decoded`` (B,3,T,H,W).

    The discriminator's weights get no gradient.
    """
    with frozen(discriminator):
        return -discriminator(decoded).float().mean()


def judging_loss(discriminator: nn.Module, real: Tensor, decoded: Tensor) -> tuple[Tensor, float]:
    """The discriminator's hinge loss.

    Args:
        real, decoded: (B,3,T,H,W); no gradient reaches them.

    Returns:
        The loss, and the share of patches judged rightly, half of them real and half decoded.
    """
    judged = discriminator(torch.cat([real, decoded]).detach()).float()
    of_real, of_decoded = judged.chunk(2)
    loss = (F.relu(1 - of_real).mean() + F.relu(1 + of_decoded).mean()) / 2
    right = ((of_real > 0).float().mean() + (of_decoded < 0).float().mean()) / 2
    return loss, float(right.detach())


def adaptive_weight(reconstruction: Tensor, fooling: Tensor, last: Tensor, limit: float) -> Tensor:
    """What to multiply ``fooling`` by so that it pulls at the weight ``last`` as hard as ``reconstruction`` does.

    Returns:
        The ratio of the gradients' norms, at most ``limit``; a number without gradient.
    """
    pulls = [torch.autograd.grad(loss, last, retain_graph=True)[0].float().norm() for loss in (reconstruction, fooling)]
    return (pulls[0] / (pulls[1] + 1e-6)).clamp(max=limit).detach()
