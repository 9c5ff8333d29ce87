"""Uploads that never end, and forms that are made to cost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest
from maquette.backend.server import upload
from maquette.backend.server.errors import ApiError
from maquette.backend.server.upload import receive_shot

HEAD = b'--b\r\nContent-Disposition: form-data; name="shot"\r\n\r\n'


class Request:
    """A request whose body comes in pieces, each after a wait."""

    headers = {"content-type": "multipart/form-data; boundary=b"}

    def __init__(self, pieces: Iterable[bytes], wait: float = 0.0) -> None:
        self.pieces, self.wait = pieces, wait

    async def stream(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            await asyncio.sleep(self.wait)
            yield piece


def receive(tmp_path: Path, pieces: Iterable[bytes], wait: float = 0.0, stall: float = 20.0) -> bytes:
    request: Any = Request(pieces, wait)
    asyncio.run(receive_shot(request, tmp_path / "a", 1 << 20, stall))
    return (tmp_path / "a").read_bytes()


def refused(tmp_path: Path, pieces: Iterable[bytes], wait: float = 0.0, stall: float = 20.0) -> ApiError:
    with pytest.raises(ApiError) as caught:
        receive(tmp_path, pieces, wait, stall)
    assert not (tmp_path / "a").exists()
    return caught.value


def test_a_shot_arrives(tmp_path: Path):
    assert receive(tmp_path, [HEAD, b"ab", b"c", b"\r\n--b--\r\n"]) == b"abc"


def test_a_trickle_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert refused(tmp_path, [HEAD, *[b"x"] * 10_000], 0.02, 0.3).status == 408
    monkeypatch.setattr(upload, "_LEAST_RATE", 1)
    assert receive(tmp_path, [HEAD, *[b"x"] * 30, b"\r\n--b--\r\n"], 0.02, 0.3) == b"x" * 30


def test_a_form_of_many_parts(tmp_path: Path):
    part = b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n1\r\n'
    error = refused(tmp_path, [part * 10_000])
    assert error.status == 400 and "64 parts" in str(error)


@pytest.mark.parametrize("header", [b"X: " + b"a" * 100_000, b"X" * 100_000 + b": a"])
def test_a_part_with_long_headers(tmp_path: Path, header: bytes):
    assert "not well-formed" in str(refused(tmp_path, [b"--b\r\n" + header + b"\r\n\r\nx\r\n--b--\r\n"]))
