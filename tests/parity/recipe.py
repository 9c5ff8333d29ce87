"""Weights that are a function of their key, their shape and a seed, as the parity fixtures use them."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import numpy as np
import torch

M = TypeVar("M", bound=torch.nn.Module)


def recipe(key: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """The float32 values of one tensor, before any factor that a fixture states."""
    generator = np.random.default_rng(zlib.crc32(key.encode()) + 1000 * seed)
    values = np.asarray(generator.standard_normal(tuple(shape), dtype=np.float32))
    one = np.float32
    if key.endswith("running_var"):
        return one(1) + one(0.1) * np.abs(values)
    if values.ndim == 1 and key.endswith("weight"):
        return one(1) + one(0.1) * values
    if key.endswith(("running_mean", "bias")):
        scale = 0.05
    elif key.endswith("codebook"):
        scale = 0.3
    else:
        scale = 1.0 / np.sqrt(int(np.prod(shape[1:])) if len(shape) > 1 else 1)
    values *= one(scale)  # in place: some are large
    return values


def factor_of(key: str, factors: Iterable[Mapping[str, Any]]) -> np.float32:
    """What a fixture multiplies a key's values by: entries ``starts_with``, ``ends_with``, ``factor``, or ``key``."""
    product = np.float32(1)
    for rule in factors:
        exact = rule.get("key")
        if exact == key or (
            exact is None and key.startswith(rule.get("starts_with", "")) and key.endswith(rule.get("ends_with", ""))
        ):
            product *= np.float32(rule["factor"])
    return product


def recipe_state(
    shapes: Mapping[str, tuple[int, ...]], seed: int, factors: Iterable[Mapping[str, Any]] = ()
) -> dict[str, torch.Tensor]:
    """A state dict in the published names: every key of ``shapes`` by the recipe, times its factor."""
    return {key: _tensor(key, shape, seed, factors) for key, shape in shapes.items()}


def _tensor(key: str, shape: tuple[int, ...], seed: int, factors: Iterable[Mapping[str, Any]]) -> torch.Tensor:
    values = recipe(key, shape, seed)
    values *= factor_of(key, factors)
    return torch.from_numpy(values)


def fill(
    module: M,
    seed: int,
    factors: Iterable[Mapping[str, Any]] = (),
    published: Callable[[str], str] = lambda key: key,
) -> M:
    """Fill floating-point parameters and persistent buffers in place; integer buffers keep their values.

    Args:
        factors: as in a sidecar's ``weights.*.factors``.
        published: gives a key of ``module`` its published name.
    """
    with torch.no_grad():
        for key, tensor in module.state_dict(keep_vars=True).items():
            if tensor.is_floating_point():
                tensor.copy_(_tensor(published(key), tuple(tensor.shape), seed, factors))
    return module.eval()
