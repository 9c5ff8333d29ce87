"""Measures that a trained network takes: LPIPS and the Fréchet video distance. The networks are the user's files.

Shape letters: B films or frames, T frames, H W image, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics.functional.image.lpips import NetLinLayer, ScalingLayer

CHANNELS = (64, 192, 384, 256, 256)
"""Of AlexNet's five convolutions."""

_LEAST_SIDE = 31
"""Pixels below which nothing is left of a picture after AlexNet's second pooling."""

LEAST_FRAMES = 10
"""Of a film whose features are taken: of fewer nothing is left after I3D's halvings in time."""

_FRAMES_AT_ONCE = 32


def alexnet_features() -> nn.Sequential:
    """AlexNet's convolutions as torchvision numbers them: ``0.weight`` ... ``10.bias``.

    After Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014.
    """
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(),
    )


class LPIPS(nn.Module):
    """Learned perceptual distance, version 0.1 with AlexNet.

    Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", 2018, Eq. 1: at each of five
    layers the squared difference of the features, normalised over channels, weighted per channel and averaged over the
    picture; the layers are added.

    Args:
        features: AlexNet's convolutions with their trained weights.
        heads: the state of the five weightings, ``lin0.model.1.weight`` (1,D,1,1) and so on, as torchmetrics ships it.
    """

    def __init__(self, features: nn.Sequential, heads: dict[str, Tensor]) -> None:
        super().__init__()
        self.features = features
        self.scaling = ScalingLayer()
        self.heads = nn.ModuleList(NetLinLayer(channels, use_dropout=True) for channels in CHANNELS)
        for k, head in enumerate(self.heads):
            head.load_state_dict({"model.1.weight": heads[f"lin{k}.model.1.weight"]})
        self.requires_grad_(False).eval()

    def _layers(self, pictures: Tensor) -> list[Tensor]:
        """Features after each ReLU, each normalised over channels."""
        found, x = [], self.scaling(pictures)
        for layer in self.features:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                found.append(x / torch.sqrt(1e-8 + x.square().sum(dim=1, keepdim=True)))
        return found

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Distances (B,) of pictures (B,3,H,W) in [-1, 1]."""
        pairs = zip(self.heads, self._layers(a), self._layers(b), strict=True)
        layers = [head((x - y).square()).mean(dim=(1, 2, 3)) for head, x, y in pairs]
        return torch.stack(layers).sum(dim=0)

    @torch.no_grad()
    def films(self, generated: np.ndarray, truth: np.ndarray) -> float:
        """Mean distance of the frames of two films (T,H,W,3) uint8, at their own size; NaN below 31 pixels."""
        if min(generated.shape[1:3]) < _LEAST_SIDE:
            return float("nan")
        device = next(self.parameters()).device
        total = 0.0
        for start in range(0, len(generated), _FRAMES_AT_ONCE):
            a, b = (
                torch.from_numpy(film[start : start + _FRAMES_AT_ONCE]).to(device).permute(0, 3, 1, 2) / 127.5 - 1
                for film in (generated, truth)
            )
            total += float(self(a, b).sum())
        return total / len(generated)


class VideoFeatures:
    """What I3D, trained on Kinetics-400, makes of films.

    Carreira and Zisserman, "Quo Vadis, Action Recognition?", 2017, as Unterthiner et al., "Towards Accurate Generative
    Models of Video", 2018, use it: the scores of the 400 actions before the softmax.

    Args:
        network: ``network(x, rescale, resize, return_features)`` with x (B,3,T,H,W); with ``rescale`` x is in [0, 255].
    """

    def __init__(self, network: Any, device: torch.device | str = "cpu") -> None:
        self._network = network.eval().to(device)
        self._device = device

    @torch.no_grad()
    def __call__(self, film: np.ndarray) -> np.ndarray | None:
        """Features (D,) float64 of a film (T,H,W,3) uint8; None of one too short for the network."""
        if len(film) < LEAST_FRAMES:
            return None
        x = torch.from_numpy(np.ascontiguousarray(film)).to(self._device).permute(3, 0, 1, 2)[None].float()
        features = self._network(x, rescale=True, resize=True, return_features=True)
        return features.flatten().double().cpu().numpy()


def frechet_distance(a: Sequence[np.ndarray] | np.ndarray, b: Sequence[np.ndarray] | np.ndarray) -> float:
    """Fréchet distance between the Gaussians of two sets of features (n,D) and (m,D).

    ``|mean a - mean b|^2 + tr(A + B - 2 (A B)^(1/2))`` with sample covariances A, B (Dowson and Landau, "The Fréchet
    distance between multivariate normal distributions", 1982). The root's trace is the nuclear norm of the product of
    the centred sets, which holds for fewer films than features too, where a matrix root of A B is ill-conditioned.
    NaN with fewer than two films of either.
    """
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if len(first) < 2 or len(second) < 2:
        return float("nan")
    x = (first - first.mean(axis=0)) / np.sqrt(len(first) - 1)
    y = (second - second.mean(axis=0)) / np.sqrt(len(second) - 1)
    between = np.linalg.norm(first.mean(axis=0) - second.mean(axis=0)) ** 2
    root = np.linalg.svd(x @ y.T, compute_uv=False).sum()
    return float(max(between + np.square(x).sum() + np.square(y).sum() - 2 * root, 0.0))
