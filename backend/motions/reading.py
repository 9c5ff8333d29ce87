"""A motion file's bytes to plain data. What a file is, its content says; the extension is only for people."""

from __future__ import annotations

import io
import re
from math import prod
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from ..bodies.pickles import PickleRefused, load_pickle
from ..shot.archive import SLACK, Archive, ArchiveError, read_npy_header
from .torch_file import read_torch
from .types import MotionError

EXTENSIONS = (".bvh", ".npz", ".npy", ".pkl", ".pt", ".pth")
"""What motion files are usually called; for file browsers."""
MAX_BYTES = 1 << 30
"""No motion file, before or after decompression, may be larger."""


def read_data(path: str | PathLike[str]) -> tuple[str, Any]:
    """Read a file without running anything it holds.

    Returns:
        ``("bvh", text)``, ``("array", (..) array)`` for .npy, or ``("record", data)`` for what .npz, .pkl and .pt hold:
        arrays and plain containers.

    Raises:
        MotionError: field ``file``, with what is wrong and what to do.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if path.is_dir():
            raise MotionError("file", f"'{path.name}' is a folder; choose a file in it")
        if size > MAX_BYTES:
            raise MotionError("file", f"'{path.name}' has {size >> 20} MB; at most {MAX_BYTES >> 20} are read")
        data = path.read_bytes()
    except FileNotFoundError:
        raise MotionError("file", f"'{path}' does not exist; choose the file again") from None
    except OSError as error:
        raise MotionError("file", f"'{path}' cannot be read ({error.strerror or error})") from error
    return read_bytes(data, path.name)


def read_bytes(data: bytes, name: str) -> tuple[str, Any]:
    """As ``read_data``, from the file's bytes; ``name`` is for messages."""
    if not data.strip(b"\0 \r\n\t"):
        raise MotionError("file", f"'{name}' is empty")
    head = data[:64].lstrip(b"\xef\xbb\xbf \r\n\t")
    try:
        text = _text(data)
        if re.search(r"^\s*HIERARCHY\b", text[:4096], re.MULTILINE | re.IGNORECASE):
            return "bvh", text
        if data[:4] == b"PK\x03\x04":
            return "record", _read_zip(data, name)
        if data[:6] == b"\x93NUMPY":
            array = _read_npy(data, name)
            return ("record", array.tolist()) if array.dtype.hasobject else ("array", array)
        if _looks_pickled(data):
            return "record", load_pickle(data, MAX_BYTES)
    except PickleRefused as error:
        raise MotionError("file", f"'{name}' was refused: {error}") from error
    raise MotionError("file", f"'{name}' {_guess(head)}. Motions are {', '.join(EXTENSIONS)} files")


def _text(data: bytes) -> str:
    """The file as text, in UTF-8 or in UTF-16 with or without its mark; "" where it is binary."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", errors="replace")
    for start, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        if len(data) > 16 and not any(data[start:64:2]) and all(data[1 - start : 64 : 2]):
            return data.decode(encoding, errors="replace")
    if b"\0" in data[:4096]:
        return ""
    return data.decode("utf-8-sig", errors="replace") if re.search(rb"(?i)HIERARCHY", data[:4096]) else ""


def _guess(head: bytes) -> str:
    if head[:18] == b"Kaydara FBX Binary" or head[:5] == b"; FBX":
        return "is FBX: import it with Blender and export its armature as BVH"
    if head[:4] == b"glTF":
        return "is glTF: import it with Blender and export its armature as BVH"
    if head[:1] in (b"{", b"["):
        return "looks like JSON, which holds no motion known here"
    return "holds no motion known here"


def _looks_pickled(data: bytes) -> bool:
    """Protocols 2 to 5, zlib or gzip, and the first opcodes that protocols 0 and 1 begin a container with."""
    if data[:1] == b"\x80" and data[1:2] and 2 <= data[1] <= 5:
        return True
    if data[:2] == b"\x1f\x8b" or (data[:1] == b"\x78" and len(data) > 1 and (0x7800 + data[1]) % 31 == 0):
        return True
    return data[:2] in (b"(d", b"(l", b"}q", b"]q", b"cn") and data.rstrip().endswith(b".")


def _read_zip(data: bytes, name: str) -> Any:
    try:
        with Archive(io.BytesIO(data), MAX_BYTES) as archive:
            pickles = [entry for entry in archive.names if entry.split("/")[-1] == "data.pkl"]
            if pickles:
                return read_torch(archive, pickles[0][: -len("data.pkl")])
            arrays = [entry for entry in archive.names if entry.endswith(".npy")]
            if not arrays:
                raise MotionError(
                    "file", f"'{name}' is a zip archive without arrays; unpack it and choose a file in it"
                )
            # Together, their pickled ones may make no more of themselves than one alone.
            slack = SLACK // len(arrays)
            found = {entry[:-4]: _read_npy(archive.read(entry), f"{name}:{entry}", slack) for entry in arrays}
    except ArchiveError as error:
        part = f"; {error.entry}" if error.entry else ""
        raise MotionError(
            "file", f"'{name}' is a damaged or truncated archive ({error}{part}). Copy it again"
        ) from error
    return {key: _unwrapped(value) for key, value in found.items()}


def _unwrapped(array: np.ndarray) -> Any:
    """Objects that numpy wrapped into an array of no dimension."""
    return array.item() if array.ndim == 0 and array.dtype.kind in "OSU" else array


def _read_npy(data: bytes, name: str, slack: int = SLACK) -> np.ndarray:
    """One .npy; arrays of objects are read by the restricted unpickler."""
    stream = io.BytesIO(data)
    try:
        shape, fortran, dtype = read_npy_header(stream)
    except ArchiveError as error:
        raise MotionError("file", f"'{name}' is a damaged .npy ({error})") from error
    rest = data[stream.tell() :]
    if dtype.hasobject:
        found = load_pickle(rest, MAX_BYTES, slack)
        if not isinstance(found, np.ndarray):
            raise MotionError("file", f"'{name}' is a damaged .npy (its objects are no array)")
        return found
    need = prod(shape) * dtype.itemsize
    if need != len(rest):
        raise MotionError(
            "file", f"'{name}' is truncated: shape {shape} needs {need} bytes, {len(rest)} are there. Copy it again"
        )
    return np.frombuffer(rest, dtype).reshape(shape, order="F" if fortran else "C")
