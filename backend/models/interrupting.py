"""Stopping what has no stop of its own: the reading of weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.overrides import TorchFunctionMode


class interruptible(TorchFunctionMode):
    """A context in which every operation on tensors first calls ``check``, which may raise: reading weights can be
    stopped between any two of them."""

    def __init__(self, check: Callable[[], None]) -> None:
        super().__init__()
        self._check = check

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._check()
        return func(*args, **(kwargs or {}))
