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
from torch import Tensor

from ..control.flow import taken
from ..models.windows import seam
from ..shot.cameras import project
from ..worlds.truth import Truth
from .silhouette import psnr

MIN_PIXELS = 12
"""Pixels of a body region below which its colour says nothing."""

MIN_POINTS = 3
"""The same for points."""

ALIKE = 5.0
"""CIE 1976 delta E between two references below which nobody could tell their wearers apart."""

_GROUP = 4
"""Frames of a latent frame."""

_STILL = 0.05
"""Mean change in levels of 255 below which a film stands still."""


def ssim(generated: np.ndarray, truth: np.ndarray) -> float:
    """Structural similarity of two films (T,H,W,3), frame by frame with the usual 11-pixel Gaussian, then averaged."""
    reach = torch.arange(11, dtype=torch.float64) - 5
    weights = torch.softmax(-(reach**2) / (2 * 1.5**2), 0).tolist()

    def blurred(image: Tensor) -> Tensor:
        """(3,H,W) without 5 pixels at each side: one direction after the other, many times as fast as a square."""
        for axis in (1, 2):
            kept = image.shape[axis] - 10
            image = sum(image.narrow(axis, k, kept) * weight for k, weight in enumerate(weights))  # type: ignore
        return image

    low, high = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    found = []
    for pair in zip(generated, truth, strict=True):
        # Float64: variances of plain areas are small differences of large squares.
        a, b = (
            F.pad(torch.from_numpy(frame.astype(np.float64)).permute(2, 0, 1), (5, 5, 5, 5), mode="reflect")
            for frame in pair
        )
        mean_a, mean_b = blurred(a), blurred(b)
        variances = blurred(a * a) - mean_a**2 + blurred(b * b) - mean_b**2
        shared = blurred(a * b) - mean_a * mean_b
        likeness = (2 * mean_a * mean_b + low) * (2 * shared + high)
        found.append((likeness / ((mean_a**2 + mean_b**2 + low) * (variances + high))).mean())
    return float(torch.stack(found).mean())


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


def seen_colours(
    image: np.ndarray, points: np.ndarray, visibility: np.ndarray, viewmat: np.ndarray, K: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """CIELAB colours (P,3) of a still (H,W,3) at those of a body's surface points that it shows, and which (N,) bool.

    Args:
        points: (N,3) world; visibility: (N,) bool.
        viewmat: (4,4); K: (3,3) pixels of the still.
    """
    uv, _ = project(points[None], viewmat[None], K[None])
    height, width = image.shape[:2]
    column, row = np.floor(uv[0]).astype(int).T
    seen = visibility & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    return to_lab(image[row[seen], column[seen]]), seen


def by_region(colours: np.ndarray, region: np.ndarray, regions: int) -> np.ndarray:
    """Median colour (R,3) of each body region, of ``colours`` (P,3) of points in ``region`` (P,); NaN of too few."""
    found = np.full((regions, 3), np.nan)
    for r in range(regions):
        if np.count_nonzero(region == r) >= MIN_POINTS:
            found[r] = np.median(colours[region == r], axis=0)
    return found


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


def mean_colour(film: np.ndarray, truth: Truth, character: int) -> np.ndarray:
    """Mean CIELAB colour (3,) of a body over a film (T,H,W,3); NaN where it hardly shows."""
    mine = film[truth.character == character]
    return to_lab(mine).mean(axis=0) if len(mine) >= MIN_PIXELS else np.full(3, np.nan)


def nearer_another(shown: np.ndarray, true: np.ndarray, references: np.ndarray) -> float:
    """Share of bodies whose mean colour is nearer to another's reference than to its own.

    A body is judged where some other reference differs visibly from its own, and where the true film tells them apart:
    there it is nearer to its own. Only references that differ visibly from a body's own count as another's.

    Args:
        shown, true, references: mean colours (C,3) in CIELAB of the bodies in the film, in the true film and in their
            references.

    Returns:
        0 to 1, NaN where no body can be judged.
    """
    apart = np.linalg.norm(references[:, None] - references[None], axis=-1) >= ALIKE
    wrong = []
    for c, others in enumerate(apart):
        found, best = (np.linalg.norm(references - colours[c], axis=-1) for colours in (shown, true))
        if others.any() and best[c] < best[others].min() and np.isfinite(found[c]):
            wrong.append(found[others].min() < found[c])
    return float(np.mean(wrong)) if wrong else float("nan")


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


def window_seam(film: np.ndarray, truth: Truth, across: Sequence[range]) -> float:
    """``windows.seam`` of a film (T,H,W,3) uint8 along the true flow; NaN for films of one window."""
    return seam([_along(film, truth, t) for t in range(len(film) - 1)], across) if across else float("nan")


def _along(film: np.ndarray, truth: Truth, t: int) -> float:
    """RMS difference of frame t to the next one taken back by the true flow; NaN where no spot shows in both."""
    seen = truth.flow_valid[t]
    pair, flow = torch.from_numpy(film[t : t + 2]).float(), torch.from_numpy(truth.flow[t])
    square = (taken(pair[1], flow) - pair[0]).square().mean(dim=-1).numpy()[seen]
    return float(np.sqrt(square.mean())) if len(square) else float("nan")


def judder(film: np.ndarray, truth: np.ndarray) -> float:
    """Jumps where a latent frame ends: change of the picture there over change within latent frames, against the truth.

    Frames 0 | 1-4 | 5-8 | ... are one latent frame each. The mean change between neighbouring frames across their
    borders, over that between the others, is divided by the same ratio of the true film; so 1 is as steady as the
    truth, whatever moves in it.

    Args:
        film, truth: (T,H,W,3) uint8.

    Returns:
        NaN for films of fewer than three frames, and where the true film stands still.
    """
    if len(film) < 3:
        return float("nan")
    borders = np.arange(len(film) - 1) % _GROUP == 0
    ratios = []
    for each in (film, truth):
        frames = each.astype(np.float32)
        change = np.abs(frames[1:] - frames[:-1]).mean(axis=(1, 2, 3))
        if each is truth and min(change[borders].mean(), change[~borders].mean()) < _STILL:
            return float("nan")
        ratios.append(change[borders].mean() / max(change[~borders].mean(), 1e-6))
    return float(ratios[0] / ratios[1])


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
