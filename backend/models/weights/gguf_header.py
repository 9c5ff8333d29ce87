"""The head of a GGUF file, walked through before anything believes its numbers (no torch here).

The format's own reader trusts every length that a file tells, and would count to it for hours.
"""

from __future__ import annotations

import struct
from pathlib import Path

_MOST = 64 << 20
"""Bytes of a head: notes and names of tensors, and the vocabularies of other programs' models."""
_MOST_VALUES = 1_000_000
"""Of a list of notes."""
_MOST_SIDES = 8

_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of a value by its kind; 8 is a text and 9 a list."""


class _Head:
    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def skip(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._data):
            raise ValueError(f"it ends within its head, at byte {len(self._data)}")
        found, self._at = self._data[self._at : end], end
        return found

    def number(self, size: int) -> int:
        return int.from_bytes(self.skip(size), "little")

    def text(self) -> None:
        self.skip(self.number(8))

    def value(self, kind: int, listed: bool = False) -> None:
        if kind == 8:
            self.text()
        elif kind == 9 and not listed:
            inner, count = self.number(4), self.number(8)
            if count > _MOST_VALUES:
                raise ValueError(f"a note of {count} values")
            for _ in range(count):
                self.value(inner, listed=True)
        elif kind in _SIZES:
            self.skip(_SIZES[kind])
        else:
            raise ValueError(f"a note of the kind {kind}")


def check_header(path: Path) -> None:
    """Raise ValueError where a file is no GGUF file, or its head tells of more than there is; OSError."""
    with path.open("rb") as stream:
        head = _Head(stream.read(_MOST))
    magic, version = struct.unpack("<4sI", head.skip(8))
    if magic != b"GGUF" or version not in (2, 3):
        raise ValueError("its first bytes are not those of one" if magic != b"GGUF" else f"version {version}")
    tensors, notes = head.number(8), head.number(8)
    for _ in range(notes):
        head.text()
        head.value(head.number(4))
    for _ in range(tensors):
        head.text()
        sides = head.number(4)
        if sides > _MOST_SIDES:
            raise ValueError(f"a tensor of {sides} dimensions")
        head.skip(8 * sides + 4 + 8)
