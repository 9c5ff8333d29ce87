"""Shots encoded once: what the DiT trains on, as the engine would make it of each Shot.

Shape letters: B shots, C characters, T frames, L latent frames, N points per character, H W image, h w latent.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.isa.conditions import (
    ReferenceView,
    clip_tokens,
    crop_picture,
    latent_known,
    make_inputs,
    reference_view,
    shot_geometry,
)
from ..models.isa.inputs import ISAInputs
from ..models.isa.layers import group_frames
from ..models.isa.vae import AutoencoderKLISA
from .clips import to_model
from .data import time_is_up
from .launch import autocast

HALF = (
    "video_latents",
    "reference_latents",
    "background_latents",
    "plucker",
    "image_embeds",
    "control_latents",
    "carried_latents",
    "known",
    "target",
)
"""What is kept in float16."""

_PICTURES = 16
"""Reference pictures encoded at once."""


def encode_films(vae: AutoencoderKLISA, films: np.ndarray, batch: int = 8, bf16: bool = True) -> Tensor:
    """Normalised latents (B,16,L,h,w) float16 of films (B,T,H,W,3) uint8."""
    device = next(vae.parameters()).device
    parts = []
    with torch.no_grad(), autocast(device, bf16):
        for start in range(0, len(films), batch):
            x = to_model(films[start : start + batch]).to(device)
            mean = vae.encode(x, return_dict=False)[0].mode().float()
            parts.append(vae.normalize(mean).half().cpu())
    return torch.cat(parts)


def sample_inputs(
    shard: Mapping[str, np.ndarray],
    index: int,
    reference_latents: Tensor,
    background: Tensor,
    image_embeds: Tensor | None = None,
    carried: Tensor | None = None,
) -> ISAInputs:
    """Conditions of one shot of a shard, as the engine would make them of its Shot: a batch of one.

    Args:
        reference_latents: (C,16,h,w) normalised. background, carried: (16,L,h,w) normalised.
        image_embeds: (C,R,image_embed_dim) CLIP tokens of the references, for models that take them.
    """
    height, width = shard["video"].shape[2:4]
    geometry = shot_geometry(
        shard["points"][index],
        shard["rest_points"][index],
        shard["visibility"][index],
        shard["viewmats"][index],
        shard["Ks"][index],
        width,
        height,
        (background.shape[-2], background.shape[-1]),
    )
    references = []
    for c in range(len(shard["points"][index])):
        view = _reference_view(shard, index, c)
        references.append((reference_latents[c].float(), view.points, view.visible))
    film = None
    if carried is not None:
        known = shard["known"][index].astype(np.float32) / 255
        film = carried.float(), latent_known(known, (carried.shape[-2], carried.shape[-1]))
    return make_inputs(geometry, references, background.float(), background.shape[0], image_embeds, film)


def _reference_view(shard: Mapping[str, np.ndarray], index: int, c: int) -> ReferenceView:
    height, width = shard["video"].shape[2:4]
    return reference_view(
        shard["ref_points"][index, c],
        shard["ref_viewmat"][index, c],
        shard["ref_K"][index, c],
        shard["ref_visibility"][index, c],
        (width, height),
        width / height,
    )


def encode_shots(
    vae: AutoencoderKLISA,
    shots: Mapping[str, np.ndarray],
    bf16: bool = True,
    image_encoder: Any = None,
    control: bool = False,
    pixels: bool = False,
) -> dict[str, Tensor]:
    """All that a DiT trains on, of shots of one size with as many characters each.

    Args:
        shots: fields of ``Sample`` by name, stacked (see ``data.FIELDS``).
        bf16: encode in bfloat16.
        image_encoder: the CLIP vision model of transformers with ``image_embed_dim``; None for those without.
        control: also encode the shots' normal maps.
        pixels: also keep what the VAE's decoder has to give for the true film to come out (see ``difference_target``).

    Returns:
        ``video_latents`` (B,16,L,h,w), ``cover`` (B,L,h,w) the share of each latent pixel that bodies cover, and the
        fields of ``ISAInputs``; latents normalised, float16 (see ``HALF``). Where shots have no carried film, as it was
        made without, there is none in the conditions.

    Raises:
        ValueError: ``control`` without normal maps, or ``pixels`` without the carried film.
    """
    if pixels and "carried" not in shots:
        raise ValueError("the shots have no carried film; make them with carried = true in [data]")
    if control and "normals" not in shots:
        raise ValueError("the shots have no normal maps; make them with maps = true in [data]")
    device = next(vae.parameters()).device
    height, width = shots["video"].shape[2:4]
    video = encode_films(vae, shots["video"], bf16=bf16)
    background = encode_films(vae, shots["background"], bf16=bf16)
    carried: list[Tensor | None] = [None] * len(video)
    if "carried" in shots:
        carried = list(encode_films(vae, shots["carried"], bf16=bf16))
    characters = shots["points"].shape[1]
    crops = torch.stack(
        [
            crop_picture(shots["ref_image"][i, c], _reference_view(shots, i, c).box, width, height)
            for i in range(len(video))
            for c in range(characters)
        ]
    ).split(_PICTURES)
    with torch.no_grad(), autocast(device, bf16):
        parts = [
            vae.normalize(vae.encode(part[:, :, None].to(device), return_dict=False)[0].mode().float())
            for part in crops
        ]
    reference = torch.cat(parts)[:, :, 0].cpu().unflatten(0, (len(video), characters))
    embeds: list[Tensor | None] = [None] * len(video)
    if image_encoder is not None:
        tokens = torch.cat([clip_tokens(image_encoder, part, device, image_encoder.dtype) for part in crops])
        embeds = list(tokens.unflatten(0, (len(video), characters)))
    inputs = ISAInputs.cat(
        [sample_inputs(shots, i, reference[i], background[i], embeds[i], carried[i]) for i in range(len(video))]
    )
    masks = torch.from_numpy(np.ascontiguousarray(shots["mask"])).float()
    factor = height // video.shape[-2]
    cover = F.avg_pool2d(group_frames(masks, 1, vae.temporal_factor).mean(dim=2), factor)
    assert cover.shape[1] == video.shape[2]
    packed = {"video_latents": video, "cover": cover.half()}
    for field in fields(inputs):
        value = getattr(inputs, field.name)
        if isinstance(value, Tensor):
            packed[field.name] = value.half() if field.name in HALF else value
    if control:
        packed["control_latents"] = encode_films(vae, shots["normals"], bf16=bf16)
    if pixels:
        packed |= difference_target(vae, shots, packed["carried_latents"], packed["cover"].float())
    return packed


def difference_target(
    vae: AutoencoderKLISA, shots: Mapping[str, np.ndarray], carried: Tensor, cover: Tensor
) -> dict[str, Tensor]:
    """What decoding has to give where only the difference from the carried film is decoded.

    The film that comes out is carried + D(z) - D(E(carried)), so D(z) has to be D(E(carried)) + true - carried.

    Args:
        carried: (B,16,L,h,w) normalised latents of the carried film. cover: (B,L,h,w).

    Returns:
        ``target`` (B,3,T,H,W) float16, what D(z) has to be; and ``gap`` (B,2), the mean squared difference of true and
        carried film: as it is, and weighted by cover. White is 1, black -1.
    """
    device = next(vae.parameters()).device
    targets, gaps = [], []
    with torch.no_grad():
        for i, z in enumerate(carried.split(1)):
            gap = to_model(shots["video"][i : i + 1]) - to_model(shots["carried"][i : i + 1])
            decoded = vae.decode(vae.denormalize(z.to(device).float()), return_dict=False)[0].float().cpu()
            targets.append((decoded + gap).half())
            square = gap.square().mean(dim=1)
            gaps.append(torch.stack([square.mean(), (square * spread_cover(cover[i : i + 1], square.shape)).mean()]))
    return {"target": torch.cat(targets), "gap": torch.stack(gaps)}


def spread_cover(cover: Tensor, shape: Sequence[int]) -> Tensor:
    """Cover (B,L,h,w) of latent pixels for each pixel of films (B,T,H,W): ``shape``."""
    frames = cover[:, (torch.arange(shape[1], device=cover.device) + 3) // 4]
    return F.interpolate(frames, tuple(shape[2:]))


def encode_data(
    vae: AutoencoderKLISA,
    paths: Sequence[Path],
    folder: Path,
    bf16: bool = True,
    image_encoder: Any = None,
    control: bool = False,
    until: float | None = None,
    pixels: bool = False,
) -> list[Path]:
    """Encode the shards that are not yet in ``folder``.

    Args:
        until: begin no shard after this ``time.time()``.

    Returns:
        The encoded files in order; those that there was no time for are not there.
    """
    from tqdm import tqdm

    folder.mkdir(parents=True, exist_ok=True)
    encoded = []
    for path in tqdm(paths, desc="encoding", unit="shard"):
        target = folder / (path.stem + ".pt")
        if not target.exists() and not time_is_up(until):
            partial = target.with_suffix(".partial")
            with np.load(path) as file:
                shots = {name: file[name] for name in file.files}
            torch.save(encode_shots(vae, shots, bf16, image_encoder, control, pixels), partial)
            os.replace(partial, target)
        encoded.append(target)
    return encoded


def unpack(packed: Mapping[str, Tensor], device: torch.device | str = "cpu") -> tuple[Tensor, Tensor, ISAInputs]:
    """Video latents (B,16,L,h,w), cover (B,L,h,w) and conditions in float32 on a device, of ``encode_shots``."""
    found = {name: value.to(device) for name, value in packed.items() if name not in ("target", "gap")}
    for name in (*HALF, "cover"):
        if name in found:
            found[name] = found[name].float()
    video, cover = found.pop("video_latents"), found.pop("cover")
    return video, cover, ISAInputs(**found)
