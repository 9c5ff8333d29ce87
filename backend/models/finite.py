"""Numbers that stop being finite end a generation where they do: a film of them would be black."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .family import NotFinite


def check(value: Any, name: str, when: str) -> None:
    """Raise NotFinite unless all floating-point tensors in ``value`` are finite."""
    for tensor in _tensors(value):
        if not bool(torch.isfinite(tensor).all()):
            raise NotFinite(name, when)


def watch(networks: Mapping[str, nn.Module], when: Callable[[], str]) -> None:
    """Check what networks give from now on: by their ``forward``, and by a VAE's ``encode`` and ``decode``.

    Args:
        when: says in words where the generation is.
    """
    for name, network in networks.items():
        network.register_forward_hook(lambda _, __, given, name=name: check(given, f"The network {name}", when()))
        for method in ("encode", "decode"):
            if method in dir(type(network)):
                setattr(network, method, _checked(getattr(network, method), f"The network {name}", when))


def _checked(method: Callable[..., Any], name: str, when: Callable[[], str]) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        given = method(*arguments, **named)
        check(given, name, when())
        return given

    return call


def _tensors(value: Any) -> Iterator[Tensor]:
    """Floating-point tensors in a network's output: itself, or what tuples, mappings and distributions hold."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _tensors(part)
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _tensors(part)
    elif isinstance(parameters := getattr(value, "parameters", None), Tensor):
        yield parameters
