"""From a shot's arrays to what conditions an ISA-DiT. Training and inference both come through here.

Shape letters: C characters, T frames, L latent frames, N points/character, H W image, h w latent.

NDC is ``backend/shot/cameras.py``'s: x right, y down, z from -1 (near) to 1 (far), planes fitted to the characters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...shot.cameras import (
    depth_planes,
    plucker,
    project,
    scale_intrinsics,
    to_camera,
    to_ndc,
)
from ..clip import normalized
from .inputs import ISAInputs
from .layers import group_frames

_CROP_MARGIN = 1.25
"""Side of the crop around a character's reference, over the extent of its points."""


def pad_frames(x: np.ndarray, frames: int, axis: int = 0) -> np.ndarray:
    """Repeat the last frame along ``axis`` until there are ``frames``; cut what is beyond."""
    index = np.minimum(np.arange(frames), x.shape[axis] - 1)
    return np.take(x, index, axis=axis)


def point_subset(available: int, wanted: int) -> np.ndarray:
    """Indices of at most ``wanted`` of ``available`` points, evenly strided so that they stay spread over the skin."""
    if available <= wanted:
        return np.arange(available)
    return np.arange(wanted) * available // wanted


def stack_points(
    characters: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], wanted: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Bring characters of any number of points to ``wanted`` each.

    Args:
        characters: per character points (T,N,3), rest points (N,3), visibility (T,N).

    Returns:
        points (C,T,wanted,3), rest points (C,wanted,3), visibility (C,T,wanted) and mask (C,wanted), False where a
        point is padding.
    """
    c, t = len(characters), characters[0][0].shape[0]
    points = np.zeros((c, t, wanted, 3), np.float32)
    rest = np.zeros((c, wanted, 3), np.float32)
    visibility = np.zeros((c, t, wanted), bool)
    mask = np.zeros((c, wanted), bool)
    for i, (p, r, v) in enumerate(characters):
        chosen = point_subset(p.shape[1], wanted)
        n = len(chosen)
        points[i, :, :n], rest[i, :n], visibility[i, :, :n], mask[i, :n] = p[:, chosen], r[chosen], v[:, chosen], True
    return points, rest, visibility, mask


def shot_origin(points: np.ndarray, viewmats: np.ndarray) -> np.ndarray:
    """The rigid motion (4,4) that puts a shot where the network expects it.

    Afterwards the characters' centre in the first frame is above the origin, the lowest point of the clip is on z = 0
    and the first camera looks along +Y (seen from above), so that moving or turning the whole set changes nothing.

    Args:
        points: (T,M,3) world, of all characters. viewmats: (T,4,4).
    """
    centre = points[0].mean(axis=0)
    forward = viewmats[0, 2, :3]
    if np.hypot(*forward[:2]) < 1e-3:  # looking straight down or up: the picture's top tells the direction
        forward = -viewmats[0, 1, :3] * np.sign(-forward[2] or 1.0)
    angle = np.pi / 2 - np.arctan2(forward[1], forward[0])
    cos, sin = np.cos(angle), np.sin(angle)
    rotation = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
    motion = np.eye(4)
    motion[:3, :3] = rotation
    motion[:3, 3] = -rotation @ np.array([centre[0], centre[1], points[..., 2].min()])
    return motion


@dataclass(frozen=True, eq=False)
class ShotGeometry:
    """Bodies and camera of one clip, without batch axis; the fields of ``ISAInputs`` of the same names."""

    points: Tensor
    rest_points: Tensor
    point_mask: Tensor
    point_visibility: Tensor
    plucker: Tensor


def shot_geometry(
    points: np.ndarray,
    rest_points: np.ndarray,
    visibility: np.ndarray | None,
    viewmats: np.ndarray,
    Ks: np.ndarray,
    width: int,
    height: int,
    latent_size: tuple[int, int],
    point_mask: np.ndarray | None = None,
) -> ShotGeometry:
    """Bodies and camera as the network takes them.

    Args:
        points: (C,T,N,3) world, T = 1+4k. rest_points: (C,N,3) metres.
        visibility: (C,T,N) bool, or None when unknown.
        viewmats: (T,4,4). Ks: (T,3,3) pixels of a ``width`` x ``height`` image; only NDC depends on that size.
        latent_size: (h, w), where the Plucker rays pass through the latent pixels' centres.
        point_mask: (C,N) bool, False for padding; None when there is none.
    """
    points = np.asarray(points, np.float64)
    viewmats = np.asarray(viewmats, np.float64)
    Ks = np.asarray(Ks, np.float64)
    c, t, n = points.shape[:3]
    mask_CTN = np.broadcast_to((np.ones((c, n), bool) if point_mask is None else point_mask)[:, None], (c, t, n))
    real_TMX = points.transpose(1, 0, 2, 3)[:, mask_CTN[:, 0]]
    if not real_TMX.size:
        real_TMX = np.zeros((t, 1, 3))
    near, far = depth_planes(real_TMX, viewmats)
    ndc = to_ndc(points, viewmats, Ks, width, height, near, far)
    in_front = to_camera(points, viewmats)[..., 2] > near / 10
    seen = np.zeros((c, t, n), np.float32) if visibility is None else np.where(visibility, 1.0, -1.0)
    h, w = latent_size
    moved = viewmats @ np.linalg.inv(shot_origin(real_TMX, viewmats))
    rays = plucker(moved, scale_intrinsics(Ks, w / width, h / height), h, w)
    return ShotGeometry(
        points=torch.from_numpy(ndc.astype(np.float32)),
        rest_points=torch.from_numpy(np.asarray(rest_points, np.float32)),
        point_mask=torch.from_numpy(mask_CTN & in_front),
        point_visibility=torch.from_numpy((seen * mask_CTN).astype(np.float32)),
        plucker=torch.from_numpy(rays),
    )


@dataclass(frozen=True, eq=False)
class ReferenceView:
    """Which part of a reference picture the network sees, and where the character's points lie in it.

    Attributes:
        box: (left, top, right, bottom) in pixels of the picture; may reach beyond it.
        points: (N,2) NDC in the box. visible: (N,) bool, inside the box and the picture, and not known to be hidden.
    """

    box: tuple[float, float, float, float]
    points: np.ndarray
    visible: np.ndarray


def reference_view(
    points: np.ndarray,
    viewmat: np.ndarray,
    K: np.ndarray,
    visibility: np.ndarray | None,
    picture_size: tuple[int, int],
    aspect: float,
) -> ReferenceView:
    """Frame a character in its reference picture: the box around its points with a margin, at the clip's aspect.

    Args:
        points: (N,3) world. viewmat: (4,4). K: (3,3) pixels of the picture.
        visibility: (N,) bool, points that the picture shows; None counts all of them.
        picture_size: (width, height) in pixels.
        aspect: width / height of the box.
    """
    width, height = picture_size
    uv, depth = project(np.asarray(points, np.float64), np.asarray(viewmat, np.float64), np.asarray(K, np.float64))
    shown = depth > 0
    if not shown.any():
        # Nothing to frame by: the whole picture, and no point in it.
        left, top, right, bottom = 0.0, 0.0, float(width), float(height)
    else:
        left, top = uv[shown].min(axis=0)
        right, bottom = uv[shown].max(axis=0)
    centre = (left + right) / 2, (top + bottom) / 2
    box_width = max((right - left) * _CROP_MARGIN, (bottom - top) * _CROP_MARGIN * aspect, 8.0)
    box_height = box_width / aspect
    left, top = centre[0] - box_width / 2, centre[1] - box_height / 2
    uv = np.where(shown[:, None], uv, left)
    ndc = np.stack([2 * (uv[:, 0] - left) / box_width - 1, 2 * (uv[:, 1] - top) / box_height - 1], axis=-1)
    inside = (uv[:, 0] >= 0) & (uv[:, 0] <= width) & (uv[:, 1] >= 0) & (uv[:, 1] <= height)
    visible = shown & inside & (np.abs(ndc) <= 1).all(axis=-1)
    if visibility is not None:
        visible &= visibility
    return ReferenceView((left, top, left + box_width, top + box_height), ndc.astype(np.float32), visible)


def crop_picture(picture: np.ndarray, box: tuple[float, float, float, float], width: int, height: int) -> Tensor:
    """The part of a picture in ``box``, resized; mid grey where the box reaches beyond the picture.

    Args:
        picture: (H,W,3) uint8.

    Returns:
        (3, height, width) in [-1, 1].
    """
    left, top, right, bottom = (round(edge) for edge in box)
    right, bottom = max(right, left + 1), max(bottom, top + 1)
    h, w = picture.shape[:2]
    x = torch.zeros(1, 3, bottom - top, right - left)
    x0, x1, y0, y1 = max(left, 0), min(right, w), max(top, 0), min(bottom, h)
    if x0 < x1 and y0 < y1:
        part = torch.from_numpy(np.array(picture[y0:y1, x0:x1])).permute(2, 0, 1).float() / 127.5 - 1
        x[0, :, y0 - top : y1 - top, x0 - left : x1 - left] = part
    return F.interpolate(x, (height, width), mode="bilinear", antialias=True, align_corners=False)[0]


def latent_known(known: np.ndarray, latent_size: tuple[int, int]) -> Tensor:
    """The carried film's ``known`` (T,H,W) in [0,1], T = 1+4k, averaged over latent pixels and frames: (L,h,w)."""
    grouped = group_frames(torch.from_numpy(np.array(known, np.float32)), 0, 4).mean(dim=1)
    return F.adaptive_avg_pool2d(grouped, latent_size)


def make_inputs(
    geometry: ShotGeometry,
    references: Sequence[tuple[Tensor, np.ndarray | Tensor, np.ndarray | Tensor] | None],
    background_latents: Tensor | None,
    latent_channels: int = 16,
    image_embeds: Tensor | None = None,
    carried: tuple[Tensor, Tensor] | None = None,
) -> ISAInputs:
    """Put one clip's conditions together, as a batch of one; ``ISAInputs.cat`` joins clips of equal shape.

    Args:
        geometry: of ``shot_geometry``.
        references: per character normalised latents (16,h,w), points (N,2) NDC and visibility (N,) of its picture,
            padded to the geometry's N; None where it has no reference.
        background_latents: (16,L,h,w) normalised, or None.
        image_embeds: (C,R,image_embed_dim) or None.
        carried: normalised latents (16,L,h,w) of the carried film and ``latent_known``, or None.
    """
    c, t, n = geometry.points.shape[:3]
    h, w = geometry.plucker.shape[-2:]
    frames = 1 + (t - 1) // 4
    latents = torch.zeros(c, latent_channels, h, w)
    where = torch.zeros(c, n, 2)
    visible = torch.zeros(c, n, dtype=torch.bool)
    for i, reference in enumerate(references):
        if reference is not None:
            latents[i] = reference[0]
            where[i], visible[i] = torch.as_tensor(reference[1]), torch.as_tensor(reference[2])
    has_background = background_latents is not None
    if background_latents is None:
        background_latents = torch.zeros(latent_channels, frames, h, w)
    has_carried = carried is not None
    if carried is None:
        carried = torch.zeros_like(background_latents), torch.zeros(frames, h, w)
    return ISAInputs(
        points=geometry.points[None],
        rest_points=geometry.rest_points[None],
        point_mask=geometry.point_mask[None],
        point_visibility=geometry.point_visibility[None],
        reference_latents=latents[None],
        reference_points=where[None],
        reference_visibility=visible[None],
        reference_present=torch.tensor([[reference is not None for reference in references]]),
        plucker=geometry.plucker[None],
        camera_present=torch.ones(1, dtype=torch.bool),
        background_latents=background_latents[None].float(),
        background_present=torch.tensor([has_background]),
        carried_latents=carried[0][None].float(),
        known=carried[1][None].float(),
        carried_present=torch.tensor([has_carried]),
        image_embeds=None if image_embeds is None else image_embeds[None],
    )


def random_drops(
    batch: int,
    generator: torch.Generator | None = None,
    unconditional: float = 0.1,
    points: float = 0.02,
    reference: float = 0.08,
    camera: float = 0.05,
    background: float = 0.1,
    carried: float = 0.1,
) -> dict[str, Tensor]:
    """Which conditions to withhold from each clip in training, as arguments of ``ISAInputs.drop``.

    Args:
        unconditional: probability that a clip loses points and reference together: the unconditional half of guidance
            at inference.
        points, reference, camera, background, carried: probability that it loses each by itself, so that shots
            without one of them work.

    Returns:
        bool tensors (batch,) by name.
    """
    u = torch.rand(6, batch, generator=generator)
    both = u[0] < unconditional
    return {
        "points": both | (u[1] < points),
        "reference": both | (u[2] < reference),
        "camera": u[3] < camera,
        "background": u[4] < background,
        "carried": u[5] < carried,
    }


def keep_points(inputs: ISAInputs, counts: Tensor) -> ISAInputs:
    """The same clips with fewer points, masked as padding is: ``point_subset`` of each character.

    Args:
        counts: (B,) long, points that each character of a clip keeps; N or more keeps all.
    """
    n = inputs.points.shape[3]
    index = torch.arange(n, device=inputs.points.device)
    counts = counts[:, None].clamp(max=n)
    # Point i is kept where i = j n // count for some j: where the next larger multiple of n / count is still i.
    kept = (((index * counts + n - 1) // n) * n) // counts == index
    return replace(inputs, point_mask=inputs.point_mask & kept[:, None, None])


def clip_tokens(encoder: Any, crops: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """CLIP's tokens of reference pictures, as transformers with ``image_embed_dim`` take them.

    Args:
        encoder: ``transformers.CLIPVisionModel`` (see ``build.load_image_encoder``).
        crops: (B,3,H,W) in [-1, 1], of ``crop_picture``.
        device, dtype: what the encoder computes on and in.

    Returns:
        (B,R,image_embed_dim) float32 on the CPU.
    """
    side = encoder.config.image_size
    pictures = F.interpolate(crops.float(), (side, side), mode="bicubic", antialias=True, align_corners=False)
    with torch.no_grad():
        return encoder(normalized(pictures.clamp(-1, 1)).to(device, dtype)).last_hidden_state.float().cpu()
