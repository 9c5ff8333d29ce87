"""A perceptual distance whose features are analytic filters: nothing is learned, downloaded or random.

The features are a small scattering network (Bruna & Mallat 2013, "Invariant scattering convolution networks") with
the divisive normalisation of early vision (Heeger 1992); they are compared as LPIPS compares its own (Zhang et al.
2018): normalised to unit length at every place, squared differences, averaged over places and the two layers.

- Layer 1: four orientations of quadrature Morlet filters on three octaves of the luma and two of the chroma, modulus.
  All channels and octaves at a place are normalised together.
- Layer 2: the same filters on the normalised luma responses of layer 1, modulus: texture, corners, ends of lines.

It measures structure: it is blind to a uniform shift of brightness and nearly so to small displacements of fine
texture, and it counts lost or invented detail more than the same squared error spread smoothly. It is no LPIPS: its
figures are comparable to themselves only.

Where the found picture is exactly flat, the moduli have no slope: it needs a loss of the pixels beside it.

Shape letters: B batch, T frames, n = B*T pictures, H W image, c channels, o orientations.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LAYERS = 2
ORIENTATIONS = 4
OCTAVES = 3
SMALLEST = 16
"""Sides of a picture below which it is not halved any more."""

_TAPS = 7
_WAVELENGTH = 4.0
_WIDTH = 1.6
"""Extent, wavelength and standard deviation of the filters, in pixels of their octave."""

_FLOOR = 0.1
"""Amplitude (the pictures' range is 2) below which a place counts as empty: noise there is not blown up."""

_EPSILON = 1e-3

_LUMA_CHROMA = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
"""Rows: Y, Cb, Cr (ITU-R BT.601) of R, G, B."""


def morlet_bank() -> Tensor:
    """The filters (2*o,1,7,7), real and imaginary part of each orientation in turn.

    Each has no response to a constant, and amplitude 1 on a grating of amplitude 1 and its own wave.
    """
    side = torch.arange(_TAPS, dtype=torch.float64) - _TAPS // 2
    y, x = torch.meshgrid(side, side, indexing="ij")
    envelope = torch.exp(-(x.square() + y.square()) / (2 * _WIDTH**2))
    filters = []
    for index in range(ORIENTATIONS):
        angle = math.pi * index / ORIENTATIONS
        wave = torch.exp(2j * math.pi / _WAVELENGTH * (x * math.cos(angle) + y * math.sin(angle)))
        kernel = envelope * (wave - (envelope * wave).sum() / envelope.sum())
        # A real grating is half this wave and half its mirror image, to which the filter hardly answers.
        kernel = 2 * kernel / (kernel * wave.conj()).sum().abs()
        filters += [kernel.real, kernel.imag]
    return torch.stack(filters)[:, None].float()


class PerceptualLoss(nn.Module):
    """Distance of films by the features of the module's docstring, each frame by itself."""

    bank: Tensor
    colours: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("bank", morlet_bank(), persistent=False)
        self.register_buffer("colours", torch.tensor(_LUMA_CHROMA), persistent=False)

    def forward(self, found: Tensor, wanted: Tensor) -> Tensor:
        """The distance, a number from 0 (equal features) to about 1 (unrelated pictures).

        Args:
            found, wanted: (B,3,T,H,W), about [-1,1]; H and W at least 8. No gradient reaches ``wanted``.

        Raises:
            ValueError: when the two differ in shape or are too small.
        """
        return self.distance(found, self.targets(wanted))

    @torch.no_grad()
    def targets(self, wanted: Tensor) -> list[Tensor]:
        """The features of what is wanted (B,3,T,H,W), to be compared with more than once."""
        return self._checked(wanted)

    def distance(self, found: Tensor, targets: list[Tensor]) -> Tensor:
        """As calling this, with the ``targets`` of what is wanted."""
        features = self._checked(found)
        if [f.shape for f in features] != [t.shape for t in targets]:
            raise ValueError("two films of different shapes; give two alike (B,3,T,H,W)")
        differences = [(a - b).square().sum(dim=1).mean() for a, b in zip(features, targets, strict=True)]
        return torch.stack(differences).sum() / LAYERS

    def _checked(self, frames: Tensor) -> list[Tensor]:
        if frames.ndim != 5 or frames.shape[1] != 3 or min(frames.shape[-2:]) < 8:
            raise ValueError(f"a film of shape {tuple(frames.shape)}; give (B,3,T,H,W) with H and W at least 8")
        with torch.autocast(frames.device.type, enabled=False):
            return self.features(frames.float())

    def features(self, frames: Tensor) -> list[Tensor]:
        """Features of frames (B,3,T,H,W) float32: maps (n,c,h,w) of layer 1, fine to coarse, and then of layer 2."""
        pictures = frames.transpose(1, 2).flatten(0, 1)
        pictures = torch.einsum("dc,nchw->ndhw", self.colours, pictures)
        first = [self._responses(pictures[:, :1])]
        for _ in range(OCTAVES - 1):
            if min(pictures.shape[-2:]) < SMALLEST:
                break
            pictures = F.avg_pool2d(pictures, 2)
            first.append(self._responses(pictures))
        first = _normalised(first)
        return first + _normalised([self._responses(part[:, :ORIENTATIONS]) for part in first[:2]])

    def _responses(self, maps: Tensor) -> Tensor:
        """Moduli (n,c*o,H/2,W/2) of the filters' responses to each channel of maps (n,c,H,W), as smooth as to need
        no more places."""
        n, c, h, w = maps.shape
        padded = F.pad(maps.reshape(n * c, 1, h, w), (_TAPS // 2,) * 4, mode="reflect")
        waves = F.conv2d(padded, self.bank, stride=2).unflatten(1, (ORIENTATIONS, 2))
        # The small number under the root keeps the gradient finite where nothing answers.
        moduli = (waves.square().sum(dim=2) + _EPSILON**2).sqrt()
        return moduli.unflatten(0, (n, c)).flatten(1, 2)


def _normalised(scales: list[Tensor]) -> list[Tensor]:
    """Maps (n,c,h,w), fine to coarse, over the root of their energy in all channels, scales and a 3x3 neighbourhood.

    Scales are normalised together: each by itself would hide that a blurred picture lacks the finest.
    """
    finest = scales[0].shape[-2:]
    energies = [part.square().sum(dim=1, keepdim=True) for part in scales]
    energy = torch.stack([F.interpolate(e, finest) if e.shape[-2:] != finest else e for e in energies]).sum(dim=0)
    energy = F.avg_pool2d(energy, 3, 1, padding=1, count_include_pad=False)
    return [
        part / (F.adaptive_avg_pool2d(energy, (part.shape[-2], part.shape[-1])) + _FLOOR**2).sqrt()
        if part.shape[-2:] != finest
        else part / (energy + _FLOOR**2).sqrt()
        for part in scales
    ]
