"""Tensors as numpy arrays, without torch and without running a pickle: of torch.save files (.pt, .pth) and pickles.

torch.save writes a zip archive, its data beside the pickle; before torch 1.6, and for tensors within other pickles, one
stream: three pickles that say so, the object's, the list of its storages' keys, and for each their count and data.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np

from ..bodies.pickles import Maker, PickleReader, PickleRefused
from ..shot.archive import Archive, ArchiveError

STREAM = 0x1950A86A20F9469CFC6C
"""The number that a stream begins with."""
MAX_ELEMENTS = 50_000_000
"""No tensor may have more."""

_STORAGES = {
    "FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", "BFloat16Storage": "bf16",
    "LongStorage": "<i8", "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "i1", "ByteStorage": "u1",
    "BoolStorage": "?",
}  # fmt: skip


class _TensorReader(PickleReader):
    """The restricted unpickler, admitting tensors besides arrays and plain containers.

    Args:
        data: the pickle.
        raw: the bytes of a storage, by its key and the size of its data; raises PickleRefused where it is not there.
    """

    def __init__(self, data: bytes | io.BytesIO, raw: Callable[[str, int], bytes | bytearray] | None = None) -> None:
        super().__init__(data)
        self.raw = raw
        self.storages: dict[tuple[str, str], np.ndarray] = {}

    def find_class(self, module: str, name: str) -> Maker:
        full = f"{module}.{name}"
        if module in ("torch", "torch.storage") and name in _STORAGES:
            return Maker(name, None)
        if full in ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor"):
            return Maker(full, _tensor)
        if full in ("torch._utils._rebuild_parameter", "torch._tensor._rebuild_from_type_v2"):
            return Maker(full, lambda data, *_: data)
        if full == "torch.storage._load_from_bytes" and self.raw is None:
            return Maker(full, _read_stream)
        if full in ("torch.Size", "torch.device"):
            return Maker(full, lambda *args: args[0] if args else ())
        return super().find_class(module, name)

    def persistent_load(self, pid: Any) -> np.ndarray:
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage" or not isinstance(pid[1], Maker):
            raise PickleRefused("the file refers to data that are no tensor")
        kind, key = _STORAGES.get(pid[1].name, ""), str(pid[2])
        if self.raw is None or not kind or not isinstance(pid[4], int):
            raise PickleRefused("the file refers to data that are not in it")
        if (kind, key) not in self.storages:
            raw = self.raw(key, pid[4] * (2 if kind == "bf16" else np.dtype(kind).itemsize))
            self.storages[kind, key] = (
                (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
                if kind == "bf16"
                else np.frombuffer(raw, kind)
            )
        return self.storages[kind, key]


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> np.ndarray:
    whole = (size, stride)
    if not isinstance(storage, np.ndarray) or not all(isinstance(t, tuple) and len(t) <= 8 for t in whole):
        raise PickleRefused("a tensor is malformed")
    if not all(isinstance(v, int) and v >= 0 for v in (offset, *size, *stride)) or len(size) != len(stride):
        raise PickleRefused("a tensor is malformed")
    if 0 in size:
        return np.zeros(size, storage.dtype)
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    if last >= len(storage) or int(np.prod(size, dtype=object)) > MAX_ELEMENTS:
        raise PickleRefused(f"a tensor of shape {size} is larger than its data")
    # A view: an expanded tensor repeats its data without taking memory.
    steps = tuple(s * storage.itemsize for s in stride)
    return np.lib.stride_tricks.as_strided(storage[offset:], size, steps, writeable=False)


def read_torch(archive: Archive, folder: str) -> Any:
    """What torch.save wrote into a zip archive under ``folder`` (ends in a slash, or empty).

    Raises:
        PickleRefused: anything but tensors, arrays and plain containers, or a damaged file.
    """

    def raw(key: str, _: int) -> bytes:
        try:
            return archive.read(f"{folder}data/{key}")
        except ArchiveError as error:
            raise PickleRefused(f"the tensor data '{key[:40]}' cannot be read: the entry {error}") from None

    return _guarded(lambda: _TensorReader(archive.read(f"{folder}data.pkl"), raw).load())


def read_pickle(data: bytes) -> Any:
    """What a pickle holds, in which tensors may be, or a torch.save stream. Raises PickleRefused as ``read_torch``."""
    if data.startswith(pickle.dumps(STREAM, protocol=2)):
        return _guarded(lambda: _read_stream(data))
    return _guarded(lambda: _TensorReader(data).load())


def _guarded(load: Callable[[], Any]) -> Any:
    try:
        return load()
    except PickleRefused:
        raise
    except RecursionError:
        raise PickleRefused("the file is nested too deeply") from None
    except Exception as error:
        raise PickleRefused(f"the file is damaged or cut short ({type(error).__name__}: {error})") from error


def _read_stream(data: bytes) -> Any:
    """What a torch.save stream holds. Its data come last, so that the object is read once for their sizes before."""
    stream = io.BytesIO(data)
    magic, *_ = [PickleReader(stream).load() for _ in range(3)]
    if magic != STREAM:
        raise PickleRefused("the tensors within are in no known form")
    start = stream.tell()
    sizes: dict[str, int] = {}

    def blank(key: str, size: int) -> bytes:
        sizes[key] = size
        if not 0 <= sum(sizes.values()) <= len(data):
            raise PickleRefused("its tensors are larger than the file, which is damaged or cut short")
        return bytes(size)

    _TensorReader(stream, blank).load()
    found: dict[str, bytes] = {}
    for key in PickleReader(stream).load():
        stream.read(8)  # the count once more
        found[key] = stream.read(sizes[key])
        if len(found[key]) != sizes[key]:
            raise PickleRefused("the file is cut short")
    stream.seek(start)
    return _TensorReader(stream, lambda key, _: found[key]).load()
