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
    make_inputs,
    reference_view,
    shot_geometry,
)
from ..models.isa.inputs import ISAInputs
from ..models.isa.layers import group_frames
from ..models.isa.vae import AutoencoderKLISA
from .clips import to_model
from .data import time_is_up
from .loop import autocast

HALF = (
    "video_latents",
    "reference_latents",
    "background_latents",
    "plucker",
    "image_embeds",
    "control_latents",
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
) -> ISAInputs:
    """Conditions of one shot of a shard, as the engine would make them of its Shot: a batch of one.

    Args:
        reference_latents: (C,16,h,w) normalised. background: (16,L,h,w) normalised.
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
    return make_inputs(geometry, references, background.float(), background.shape[0], image_embeds)


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
) -> dict[str, Tensor]:
    """All that a DiT trains on, of shots with as many characters each.

    Args:
        shots: fields of ``Sample`` by name, stacked (see ``data.FIELDS``).
        bf16: encode in bfloat16.
        image_encoder: the CLIP vision model of transformers with ``image_embed_dim``; None for those without.
        control: also encode the shots' normal maps.

    Returns:
        ``video_latents`` (B,16,L,h,w), ``cover`` (B,L,h,w) the share of each latent pixel that bodies cover, and the
        fields of ``ISAInputs``; latents normalised, float16 (see ``HALF``).

    Raises:
        ValueError: ``control`` without normal maps.
    """
    if control and "normals" not in shots:
        raise ValueError("the shots have no normal maps; make them with maps = true in [data]")
    device = next(vae.parameters()).device
    height, width = shots["video"].shape[2:4]
    video = encode_films(vae, shots["video"], bf16=bf16)
    background = encode_films(vae, shots["background"], bf16=bf16)
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
        tokens = torch.cat([clip_tokens(image_encoder, part) for part in crops])
        embeds = list(tokens.unflatten(0, (len(video), characters)))
    inputs = ISAInputs.cat([sample_inputs(shots, i, reference[i], background[i], embeds[i]) for i in range(len(video))])
    masks = torch.from_numpy(np.ascontiguousarray(shots["mask"])).float()
    factor = height // video.shape[-1]
    cover = F.avg_pool2d(group_frames(masks, 1, vae.temporal_factor).mean(dim=2), factor)
    assert cover.shape[1] == video.shape[2]
    packed = {"video_latents": video, "cover": cover.half()}
    for field in fields(inputs):
        value = getattr(inputs, field.name)
        if isinstance(value, Tensor):
            packed[field.name] = value.half() if field.name in HALF else value
    if control:
        packed["control_latents"] = encode_films(vae, shots["normals"], bf16=bf16)
    return packed


def encode_shard(
    vae: AutoencoderKLISA, path: Path, bf16: bool = True, image_encoder: Any = None, control: bool = False
) -> dict[str, Tensor]:
    """``encode_shots`` of one shard's file."""
    with np.load(path) as file:
        shots = {name: file[name] for name in file.files}
    return encode_shots(vae, shots, bf16, image_encoder, control)


def encode_data(
    vae: AutoencoderKLISA,
    paths: Sequence[Path],
    folder: Path,
    bf16: bool = True,
    image_encoder: Any = None,
    control: bool = False,
    until: float | None = None,
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
            torch.save(encode_shard(vae, path, bf16, image_encoder, control), partial)
            os.replace(partial, target)
        encoded.append(target)
    return encoded


def unpack(packed: Mapping[str, Tensor], device: torch.device | str = "cpu") -> tuple[Tensor, Tensor, ISAInputs]:
    """Video latents (B,16,L,h,w), cover (B,L,h,w) and conditions in float32 on a device, of ``encode_shots``."""
    found = {name: value.to(device) for name, value in packed.items()}
    for name in (*HALF, "cover"):
        if name in found:
            found[name] = found[name].float()
    video, cover = found.pop("video_latents"), found.pop("cover")
    return video, cover, ISAInputs(**found)
