"""Read a stream of server-sent events (WHATWG HTML, section 9.2)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

MAX_EVENT_BYTES = 1 << 20


def read_events(chunks: Iterable[bytes]) -> Iterator[tuple[str, Any]]:
    """Events as (name, data), data parsed as JSON; comments, retry hints and events of other content are skipped.

    It ends where an event is larger than ``MAX_EVENT_BYTES``.

    Args:
        chunks: bytes as they arrive, split anywhere.
    """
    buffer = b""
    name, data, size = "message", [], 0
    for chunk in chunks:
        buffer += chunk
        # A carriage return at the very end may be the first half of a line end.
        held = b"\r" if buffer.endswith(b"\r") else b""
        lines = buffer[: len(buffer) - len(held)].replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        buffer = lines.pop() + held
        if len(buffer) > MAX_EVENT_BYTES:
            return
        for line in lines:
            if line:
                key, _, value = line.partition(b":")
                text = value.removeprefix(b" ").decode("utf-8", "replace")
                if key == b"event":
                    name = text
                elif key == b"data":
                    data.append(text)
                    size += len(line)
                    if size > MAX_EVENT_BYTES:
                        return
                continue
            if data:
                try:
                    yield name, json.loads("\n".join(data))
                except (ValueError, RecursionError):
                    pass
            name, data, size = "message", [], 0
