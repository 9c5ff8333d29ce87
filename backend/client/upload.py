"""The body of an upload, read from its file while it is sent."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from typing import BinaryIO

from ..wire import SHOT_FIELD

_CHUNK = 256 * 1024


class UploadBody:
    """multipart/form-data with one file in the field ``shot``, as requests takes it for ``data``.

    Args:
        stream: the file, open for reading.
        name: told to the backend as the file's name.
        on_bytes: called with (bytes sent, bytes in all) from time to time; what it raises ends the upload.
    """

    def __init__(self, stream: BinaryIO, name: str, on_bytes: Callable[[int, int], None] | None) -> None:
        boundary = secrets.token_hex(16)
        name = name.replace('"', "_").replace("\r", "_").replace("\n", "_")
        self.content_type = f"multipart/form-data; boundary={boundary}"
        self._head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{SHOT_FIELD}"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode()
        self._tail = f"\r\n--{boundary}--\r\n".encode()
        self._stream = stream
        self._size = os.fstat(stream.fileno()).st_size
        self._sent = 0
        self._on_bytes = on_bytes
        self._parts = self._walk()

    def __len__(self) -> int:
        return len(self._head) + self._size + len(self._tail)

    def __iter__(self) -> Iterator[bytes]:
        return self._parts

    def read(self, _size: int = -1) -> bytes:
        """The next piece; empty at the end."""
        return next(self._parts, b"")

    def _walk(self) -> Iterator[bytes]:
        yield self._head
        while chunk := self._stream.read(_CHUNK):
            self._sent += len(chunk)
            yield chunk
            if self._on_bytes:
                self._on_bytes(self._sent, self._size)
        yield self._tail
