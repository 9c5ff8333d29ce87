"""Take a .shot file from a multipart request: straight to disk, never more than allowed, nothing left on failure."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from anyio import to_thread
from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from ..wire import SHOT_FIELD, Code
from .errors import ApiError

_BLOCK = 1 << 20
_DRAIN_BYTES = 64 << 20
_DRAIN_SECONDS = 5.0
_MULTIPART_SLACK = 64 << 10
_LEAST_RATE = 2048
"""Bytes a second, on average once ``stall`` seconds have passed."""
_MOST_PARTS = 64


async def receive_shot(request: Request, path: Path, limit: int, stall: float) -> None:
    """Write the file field ``shot`` of the request to ``path``.

    Args:
        limit: bytes of the file at most.
        stall: seconds that the sender may pause, and after which it must have kept a least rate.

    Raises:
        ApiError: the request holds no such file, is too large, is malformed or stops coming.
        ClientDisconnect: the sender is gone.
        OSError: it cannot be written.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary or len(boundary) > 200:
        message = "A shot is sent as multipart/form-data with the file field 'shot'."
        raise ApiError(Code.BAD_REQUEST, message, SHOT_FIELD)
    message = f"The shot is larger than the {limit >> 20} MiB that this backend takes."
    too_large = ApiError(Code.TOO_LARGE, message, SHOT_FIELD)
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit + _MULTIPART_SLACK:
        raise too_large
    sink = _Sink()
    parser = MultipartParser(boundary, sink.callbacks())
    stream = request.stream().__aiter__()
    received = written = 0
    began = time.monotonic()
    try:
        with open(path, "wb") as file:
            while True:
                try:
                    chunk = await asyncio.wait_for(anext(stream), stall)
                except StopAsyncIteration:
                    break
                except TimeoutError:
                    raise ApiError(
                        Code.BAD_REQUEST, f"The upload stood still for {stall:g} s. Send it again.", status=408
                    ) from None
                received += len(chunk)
                seconds = time.monotonic() - began
                if seconds > stall and received < _LEAST_RATE * seconds:
                    message = f"The upload is slower than {_LEAST_RATE} bytes a second. Send it again."
                    raise ApiError(Code.BAD_REQUEST, message, status=408)
                parser.write(chunk)
                if written + len(sink.data) > limit or received > limit + _MULTIPART_SLACK:
                    raise too_large
                if len(sink.data) >= _BLOCK:
                    written += len(sink.data)
                    await to_thread.run_sync(file.write, sink.take())
            written += len(sink.data)
            file.write(sink.take())
        parser.finalize()
        if not sink.found:
            raise ApiError(Code.INVALID_SHOT, "The upload holds no file field 'shot'.", SHOT_FIELD)
        if not sink.complete:
            raise ApiError(Code.INVALID_SHOT, "The upload ends before its end mark. Send the shot again.", SHOT_FIELD)
    except FormParserError as error:
        path.unlink(missing_ok=True)
        raise ApiError(Code.BAD_REQUEST, f"The upload is not well-formed multipart/form-data ({error}).") from error
    except BaseException:
        path.unlink(missing_ok=True)
        raise


async def drain(request: Request) -> None:
    """Read on for a while after a refusal: a sender that is still sending would not hear it otherwise."""
    left = _DRAIN_BYTES

    async def read() -> None:
        nonlocal left
        async for chunk in request.stream():
            left -= len(chunk)
            if left < 0:
                return

    try:
        await asyncio.wait_for(read(), _DRAIN_SECONDS)
    except (TimeoutError, ClientDisconnect, RuntimeError):
        # RuntimeError: the body has been read already.
        pass


class _Sink:
    """Collects what the parser finds in the part called ``shot``."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.found = False
        self.complete = False
        self._key = bytearray()
        self._value = bytearray()
        self._wanted = False
        self._disposition = b""
        self._parts = 0

    def callbacks(self) -> Any:
        """For MultipartParser."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._key.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._header,
            "on_headers_finished": self._headers,
            "on_part_data": self._data,
            "on_end": self._end,
        }

    def take(self) -> bytes:
        """What has come since the last call."""
        data = bytes(self.data)
        self.data.clear()
        return data

    def _begin(self) -> None:
        self._wanted, self._disposition = False, b""
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise ApiError(Code.BAD_REQUEST, f"The upload has more than {_MOST_PARTS} parts.")

    def _header(self) -> None:
        if bytes(self._key).lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._key.clear()
        self._value.clear()

    def _headers(self) -> None:
        _, options = parse_options_header(self._disposition)
        if options.get(b"name") == SHOT_FIELD.encode():
            if self.found:
                raise ApiError(Code.INVALID_SHOT, "The upload holds several files 'shot'; send one a job.", SHOT_FIELD)
            self._wanted = self.found = True

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._wanted:
            self.data.extend(data[start:end])

    def _end(self) -> None:
        self.complete = True
