"""Films that are drawn or read a few frames at a time, so that they are never all in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class StreamedFilm:
    """A film that is made anew whenever it is gone through, frame by frame.

    Attributes:
        shape: (T, H, W, 3).
        begin: gives its frames (H,W,3) uint8, one after the other; raises what making them does.
    """

    shape: tuple[int, int, int, int]
    begin: Callable[[], Iterator[np.ndarray]]
    dtype = np.dtype(np.uint8)

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[np.ndarray]:
        return self.begin()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.stack(list(self)).astype(dtype or self.dtype, copy=False)


class InTurn(Generic[T]):
    """What is made frame by frame, in order; a frame that is not the next begins anew.

    Args:
        begin: makes it from a frame on.
    """

    def __init__(self, begin: Callable[[int], Iterator[T]]) -> None:
        self._begin, self._at = begin, -1
        self._made: Iterator[T] = iter(())

    def __getitem__(self, frame: int) -> T:
        if frame != self._at:
            if frame != self._at + 1 or frame == 0:
                self._made = self._begin(frame)
            self._value, self._at = next(self._made), frame
        return self._value
