"""An adapter's residuals in diffusers' stock spatio-temporal UNet, added as often as MOFA-Video adds them.

Shape letters: S frames of a batch in one axis, C channels, h w latent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel
from torch import Tensor, nn

from .flow_controlnet_layers import Residuals


def multiplicities(layers_per_block: Sequence[int]) -> list[int]:
    """How often the residual of each skip connection counts: 4 4 4 4 3 3 3 2 2 2 1 1 for SVD.

    MOFA-Video's UNet adds the list to all skip connections so far after every block of the encoder, so that an early
    one receives its residual once per block that follows. The adapters were trained with that.

    Args:
        layers_per_block: of the encoder. Each block but the last ends with a downsampling, a skip connection as well;
            the first convolution's output counts with block 0.
    """
    blocks = len(layers_per_block)
    counts = [blocks]
    for index, layers in enumerate(layers_per_block):
        counts += [blocks - index] * (layers + (index < blocks - 1))
    return counts


def blend(face: Residuals, rest: Residuals, mask_S1HW: Tensor) -> Residuals:
    """``face`` where the mask is 1 and ``rest`` where it is 0, at every residual's size (nearest)."""

    def at(first: Tensor, second: Tensor) -> Tensor:
        mask = nn.functional.interpolate(mask_S1HW.to(first.dtype), size=first.shape[-2:], mode="nearest")
        return first * mask + second * (1 - mask)

    return Residuals(
        tuple(at(first, second) for first, second in zip(face.down, rest.down, strict=True)), at(face.mid, rest.mid)
    )


@contextmanager
def adding(unet: UNetSpatioTemporalConditionModel, residuals: Residuals) -> Iterator[None]:
    """While open, ``unet`` adds ``residuals``: to its skip connections as often as ``multiplicities`` says, and once
    to the output of its middle block.

    The skip connections do not enter the encoder again, so that adding where the decoder takes them is the same.

    Raises:
        ValueError: another number of residuals than the UNet has skip connections.
    """
    layers = unet.config["layers_per_block"]
    blocks: list[Any] = list(unet.down_blocks)
    counts = multiplicities([layers] * len(blocks) if isinstance(layers, int) else layers)
    if len(counts) != len(residuals.down):
        raise ValueError(f"residuals: {len(residuals.down)}, but the UNet has {len(counts)} skip connections")
    left = [residual * count for residual, count in zip(residuals.down, counts, strict=True)]

    def before_up(
        _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        skips: tuple[Tensor, ...] = kwargs["res_hidden_states_tuple"]
        taken = left[-len(skips) :]
        del left[-len(skips) :]
        summed = tuple(skip + residual for skip, residual in zip(skips, taken, strict=True))
        return args, {**kwargs, "res_hidden_states_tuple": summed}

    def after_mid(_: nn.Module, __: tuple[Any, ...], output: Tensor) -> Tensor:
        return output + residuals.mid

    hooks = [block.register_forward_pre_hook(before_up, with_kwargs=True) for block in unet.up_blocks]
    hooks.append(unet.mid_block.register_forward_hook(after_mid))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def predict(
    unet: UNetSpatioTemporalConditionModel,
    sample: Tensor,
    timestep: Tensor | float,
    encoder_hidden_states: Tensor,
    added_time_ids: Tensor,
    residuals: Residuals | None,
) -> Tensor:
    """The UNet's prediction (B,T,4,h,w) with an adapter's residuals, or without any."""
    arguments = (sample, timestep, encoder_hidden_states, added_time_ids)
    if residuals is None:
        return unet(*arguments, return_dict=False)[0]
    dtype: torch.dtype = sample.dtype
    cast = Residuals(tuple(x.to(dtype) for x in residuals.down), residuals.mid.to(dtype))
    with adding(unet, cast):
        return unet(*arguments, return_dict=False)[0]
