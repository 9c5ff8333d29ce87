"""Relight carried colours: the film's clay over the reference's, or over a light guessed from the picture.

Shape letters: T frames, H W film, h w picture, P pixels, V vertices, F triangles.

Clay is the bodies in mid grey. Colour is albedo times light; so the colours are multiplied by the ratio of the film's
clay to the reference's. All in sRGB, whose power law keeps products.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .rasterise import rasterise, vertex_normals
from .spread import square_sum

_FLOOR = 4.0
"""Levels of 255 added to both clays: near black their ratio says nothing."""
_BOUNDS = (0.3, 3.0)
_OFF = 0.02
"""Metres off the skin from which something counts as cloth or hair altogether."""
_MATERIALS = 12
"""Steps of either chromaticity: pixels that share both are taken for one material."""
_EXPLAINED = 0.2
"""Share of the brightness within materials that a guessed light must explain to be believed."""
_BRIGHTEST, _CLAY = 0.95, 0.575
"""Quantile of a clothed body's pixels, and what clay would be of it in the same light: the best fit to 150 synthetic
pictures of dressed people and of bare bodies."""
_FEWEST = 200
"""Pixels of a picture that a light can be guessed from."""


def relight(
    colours: Tensor,
    film: Tensor,
    carried: Tensor,
    lit: Tensor,
    cover: Tensor,
    worn: Tensor | None = None,
    reach: int = 1,
) -> Tensor:
    """Bring colours carried from a reference into the film's light.

    Args:
        colours: (T,H,W,3) 0..255. film, carried: (T,H,W,3) clay of the film, and of the reference carried likewise.
        lit: (T,H,W) in [0,1], the share of each pixel whose reference's light is known.
        cover: (T,H,W) in [0,1], the share that bodies cover.
        worn: (T,H,W) metres that what shows stands off the skin. Clay shows the light of the skin below, whose folds
            are not those of the cloth: over cloth it is averaged over ``reach`` pixels to all sides.

    Returns:
        (T,H,W,3), not bounded above.
    """
    # Along the outline the clay is mixed with what lies behind it.
    weight = torch.where(cover >= 0.999, 1.0, 1e-3 * cover)
    weight = weight * (lit > 0.02)
    ratio = _ratio(film, carried, weight, 1)
    if worn is not None:
        off = (worn / _OFF).clamp(0, 1)[..., None]
        ratio = ratio ** (1 - off) * _ratio(film, carried, weight, reach) ** off
    return colours * (1 + lit[..., None] * (ratio - 1))


def _ratio(film: Tensor, carried: Tensor, weight: Tensor, reach: int) -> Tensor:
    """Clay of the film over that of the reference (T,H,W,3), both averaged."""
    low, high = _BOUNDS
    return ((_mean(film, weight, reach) + _FLOOR) / (_mean(carried, weight, reach) + _FLOOR)).clamp(low, high)


def _mean(values: Tensor, weight: Tensor, reach: int) -> Tensor:
    """Weighted mean of (T,H,W,3) over ``reach`` pixels to all sides."""
    stacked = torch.cat([values * weight[..., None], weight[..., None]], dim=-1).permute(0, 3, 1, 2)
    total = square_sum(stacked.contiguous(), reach)
    return (total[:, :3] / total[:, 3:].clamp(min=1e-9)).permute(0, 2, 3, 1)


def guess_clay(
    colours: Tensor, inside: Tensor, vertices: Tensor, faces: Tensor, viewmat: Tensor, K: Tensor, grey: Tensor
) -> Tensor:
    """What clay would look like in a picture of unknown light.

    Its brightness is taken to lie halfway between that of the film's clay and what the brightest cloth or skin in the
    picture makes likely: exposure cannot be told from albedo, but little is as bright as white cloth in bright light.
    Its shading is a low-order light fitted over the exact normals: brightness within one material is explained by the
    nine spherical harmonics up to the second order, as irradiance is (Ramamoorthi and Hanrahan 2001). Where the fit is
    poor, the light is taken to be even.

    Args:
        colours: (3,h,w) 0..255; inside: (h,w) bool, pixels of the body.
        vertices: (V,3), faces: (F,3), viewmat: (4,4), K: (3,3) of the picture.
        grey: (3,) mean colour of the film's clay.

    Returns:
        (3,h,w) neutral greys 0..255.
    """
    height, width = inside.shape
    clay = torch.full((3, height * width), float(grey.mean()), device=colours.device)
    if not inside.any():
        return clay.view(3, height, width)
    brightest = colours[:, inside].mean(dim=0).quantile(_BRIGHTEST)
    clay = ((clay + _FLOOR) * _CLAY * (brightest + _FLOOR)).sqrt() - _FLOOR
    raster = rasterise(vertices[None], faces, viewmat[None], K[None], height, width, cull=False)
    normals = raster.interpolate(vertex_normals(vertices[None], faces), faces)
    facing = F.normalize(normals @ viewmat[:3, :3].T, dim=-1)
    facing = torch.where(facing[:, 2:] > 0, -facing, facing)
    rgb = colours.flatten(1).T[raster.index]
    level = rgb.mean(dim=1)
    chosen = inside.flatten()[raster.index] & (level > 12) & (rgb.amax(dim=1) < 250)
    if int(chosen.sum()) < _FEWEST:
        return clay.view(3, height, width)
    log = torch.log(level[chosen] / 255)
    share = rgb[chosen] / rgb[chosen].sum(dim=1, keepdim=True)
    material = (share[:, :2] * _MATERIALS).long().clamp(0, _MATERIALS - 1)
    material = material[:, 0] * _MATERIALS + material[:, 1]
    basis = _harmonics(facing)
    design = _within(basis[chosen], material)
    target = _within(log[:, None], material)
    ridge = 1e-3 * len(target) * torch.eye(design.shape[1], device=design.device)
    weights = torch.linalg.solve(design.T @ design + ridge, design.T @ target)
    left = (target - design @ weights).square().sum() / target.square().sum().clamp(min=1e-9)
    if float(1 - left) < _EXPLAINED:
        return clay.view(3, height, width)
    shading = (basis @ weights)[:, 0]
    shading = torch.exp(shading - shading[chosen].mean()).clamp(0.4, 2.0)
    clay[:, raster.index] *= shading
    return clay.view(3, height, width).clamp(0, 255)


def _harmonics(n: Tensor) -> Tensor:
    """Real spherical harmonics of the first and second order (P,8) of unit vectors (P,3), but for their scale."""
    x, y, z = n.unbind(dim=-1)
    return torch.stack([x, y, z, x * y, y * z, x * z, x * x - y * y, 3 * z * z - 1], dim=-1)


def _within(values: Tensor, group: Tensor) -> Tensor:
    """Values (P,D) less the mean of their group (P,)."""
    size = int(group.max()) + 1
    count = torch.zeros(size, 1, device=values.device).index_add_(0, group, torch.ones_like(values[:, :1]))
    total = torch.zeros(size, values.shape[1], device=values.device).index_add_(0, group, values)
    return values - (total / count.clamp(min=1))[group]
