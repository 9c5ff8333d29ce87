"""Stopping what has no stop of its own: the reading of weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch.overrides import TorchFunctionMode


class interruptible(TorchFunctionMode):
    """A context in which every operation on tensors first calls ``check``, which may raise: reading weights can be
    stopped between any two of them. It leaves torch's default dtype as it was: diffusers makes a network in another one
    and, when stopped there, does not set it back, and all that is computed afterwards would fail or lose precision."""

    def __init__(self, check: Callable[[], None]) -> None:
        super().__init__()
        self._check = check

    def __enter__(self) -> Self:
        self._dtype = torch.get_default_dtype()
        super().__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        torch.set_default_dtype(self._dtype)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._check()
        return func(*args, **(kwargs or {}))
