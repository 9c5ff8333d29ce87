"""How near a generated film comes to the true one, pixel by pixel and body by body.

Shape letters: T frames, H W image, C characters, R body regions. Films are uint8 sRGB. Every measure takes numpy and
gives a float, NaN where there is nothing to measure.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torchmetrics.functional.image import structural_similarity_index_measure

from ..shot.cameras import project
from ..training.truth import Truth
from .silhouette import psnr

MIN_PIXELS = 12
"""Pixels of a body region below which its colour says nothing."""

MIN_POINTS = 3
"""The same for points."""

ALIKE = 5.0
"""CIE 1976 delta E between two references below which nobody could tell their wearers apart."""

_GROUP = 4
"""Frames of a latent frame."""


def ssim(generated: np.ndarray, truth: np.ndarray) -> float:
    """Structural similarity of two films (T,H,W,3), frame by frame with the usual 11-pixel Gaussian, then averaged."""
    # Float64: variances of plain areas are small differences of large squares.
    a, b = (torch.from_numpy(film).permute(0, 3, 1, 2).double() for film in (generated, truth))
    return float(structural_similarity_index_measure(a, b, data_range=255.0))  # type: ignore[arg-type]


def background_psnr(generated: np.ndarray, truth: np.ndarray, mask: np.ndarray, margin: int = 2) -> float:
    """PSNR in dB of the pixels that lie more than ``margin`` pixels from any body (mask (T,H,W) bool)."""
    grown = F.max_pool2d(torch.from_numpy(mask)[:, None].float(), 2 * margin + 1, 1, margin)[:, 0] > 0
    outside = ~grown.numpy()
    return psnr(generated, truth, outside) if outside.any() else float("nan")


def region_colours(film: np.ndarray, truth: Truth, character: int, regions: int) -> np.ndarray:
    """Mean CIELAB colour (R,3) of each region of a body over a film (T,H,W,3); NaN where it hardly shows."""
    mine = truth.character == character
    lab = to_lab(film[mine])
    region = truth.region[mine]
    colours = np.full((regions, 3), np.nan)
    for r in range(regions):
        chosen = region == r
        if np.count_nonzero(chosen) >= MIN_PIXELS:
            colours[r] = lab[chosen].mean(axis=0)
    return colours


def point_colours(
    image: np.ndarray,
    points: np.ndarray,
    visibility: np.ndarray,
    viewmat: np.ndarray,
    K: np.ndarray,
    point_regions: np.ndarray,
    regions: int,
) -> np.ndarray:
    """Mean CIELAB colour (R,3) of each region of a body in a still (H,W,3), read at its visible surface points.

    Args:
        points: (N,3) world; visibility: (N,) bool; point_regions: (N,) region of each point.
        viewmat: (4,4); K: (3,3) pixels of the still.
    """
    uv, _ = project(points[None], viewmat[None], K[None])
    height, width = image.shape[:2]
    column, row = np.floor(uv[0]).astype(int).T
    seen = visibility & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    lab = to_lab(image[row[seen], column[seen]])
    region = point_regions[seen]
    colours = np.full((regions, 3), np.nan)
    for r in range(regions):
        if np.count_nonzero(region == r) >= MIN_POINTS:
            colours[r] = np.median(lab[region == r], axis=0)
    return colours


def colour_error(generated: np.ndarray, reference: np.ndarray) -> float:
    """Mean distance (CIE 1976 delta E) between region colours (R,3), over the regions that both have."""
    both = np.isfinite(generated[:, 0]) & np.isfinite(reference[:, 0])
    return float(np.linalg.norm(generated[both] - reference[both], axis=-1).mean()) if both.any() else float("nan")


def identities_swapped(generated: Sequence[np.ndarray], references: Sequence[np.ndarray]) -> float:
    """Whether characters wear each other's looks: 1 when another assignment of references fits their colours better.

    Every way of giving the references out is tried; it is a swap when the best one gives some character a reference
    that looks different from its own. Characters of whom too little shows to compare are left aside.

    Args:
        generated, references: region colours (R,3) of C characters in the film and in their own references.

    Returns:
        1.0, 0.0, or NaN when fewer than two can be compared, or when all of them look alike.
    """
    cost = np.array([[colour_error(shown, worn) for worn in references] for shown in generated])
    apart = np.array([[colour_error(one, other) for other in references] for one in references])
    told = np.isfinite(cost) & np.isfinite(apart)
    known = [c for c in range(len(generated)) if told[c].sum() > 1 and told[c, c]]
    while known and not told[np.ix_(known, known)].all():
        # The one that can be compared with the fewest of the others goes first.
        known.remove(min(known, key=lambda c: told[c, known].sum() + told[known, c].sum()))
    differ = apart >= ALIKE
    if not any(differ[a, b] for a, b in itertools.combinations(known, 2)):
        return float("nan")
    own = sum(cost[c, c] for c in known)
    for given in itertools.permutations(known):
        moved = any(differ[c, g] for c, g in zip(known, given, strict=True) if c != g)
        if moved and sum(cost[c, g] for c, g in zip(known, given, strict=True)) < own:
            return 1.0
    return 0.0


def warp_error(film: np.ndarray, truth: Truth) -> float:
    """Unsteadiness: RMS difference in levels of 255 between each frame and the next one taken back by the true flow.

    Only pixels whose spot shows in both frames count. The true film's own value, from shading and resampling, is the
    least that can be reached.
    """
    if len(film) < 2 or not truth.flow_valid.any():
        return float("nan")
    height, width = film.shape[1:3]
    v, u = np.mgrid[0:height, 0:width] + 0.5
    target = (np.stack([u, v], axis=-1) + truth.flow) / [width / 2, height / 2] - 1
    pixels = torch.from_numpy(film).permute(0, 3, 1, 2).float()
    back = F.grid_sample(
        pixels[1:], torch.from_numpy(target).float(), mode="bilinear", padding_mode="border", align_corners=False
    )
    square = (back - pixels[:-1]).square().mean(dim=1).numpy()
    return float(np.sqrt(square[truth.flow_valid].mean()))


def place_errors(generated: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Mean squared error in levels of 255 of frames by their place (4,) in a latent frame; NaN for absent places.

    Frame 0, a latent frame of its own, is left out.
    """
    error = np.square(generated[1:].astype(np.float64) - truth[1:]).mean(axis=(1, 2, 3))
    places = np.arange(len(error)) % _GROUP
    return np.array([error[places == k].mean() if (places == k).any() else np.nan for k in range(_GROUP)])


def seam_error(generated: np.ndarray, truth: np.ndarray) -> float:
    """Last-frame bias in dB: how much worse the worst place of a latent frame is than the mean of all places."""
    errors = place_errors(generated, truth)
    if not np.isfinite(errors).all():
        return float("nan")
    return float(10 * np.log10(max(errors.max(), 1e-9) / max(errors.mean(), 1e-9)))


def to_lab(srgb: np.ndarray) -> np.ndarray:
    """sRGB uint8 (...,3) to CIELAB (...,3) under D65."""
    linear = srgb.astype(np.float64) / 255
    linear = np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    )
    xyz = linear @ to_xyz.T / [0.95047, 1.0, 1.08883]
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)


def bootstrap(values: np.ndarray, draws: int = 2000, level: float = 0.95, seed: int = 0) -> tuple[float, float, float]:
    """Mean of (n,) values, NaN left out, and the bounds of its percentile bootstrap interval."""
    found = values[np.isfinite(values)]
    if not len(found):
        return float("nan"), float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    means = found[rng.integers(0, len(found), (draws, len(found)))].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(found.mean()), float(low), float(high)
