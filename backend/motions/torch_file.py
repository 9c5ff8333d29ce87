"""Tensors of a torch.save file (.pt, .pth) as numpy arrays, without torch and without running its pickle."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..bodies.pickles import Maker, PickleReader, PickleRefused
from ..shot.archive import Archive, ArchiveError

MAX_ELEMENTS = 50_000_000
"""No tensor may have more."""

_STORAGES = {
    "FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", "BFloat16Storage": "bf16",
    "LongStorage": "<i8", "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "i1", "ByteStorage": "u1",
    "BoolStorage": "?",
}  # fmt: skip


class _TensorReader(PickleReader):
    """The restricted unpickler, admitting tensors besides arrays and plain containers."""

    def __init__(self, data: bytes, archive: Archive, folder: str) -> None:
        super().__init__(data)
        self.archive, self.folder = archive, folder
        self.storages: dict[tuple[str, str], np.ndarray] = {}

    def find_class(self, module: str, name: str) -> Maker:
        full = f"{module}.{name}"
        if module in ("torch", "torch.storage") and name in _STORAGES:
            return Maker(name, None)
        if full in ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor"):
            return Maker(full, _tensor)
        if full == "torch._utils._rebuild_parameter":
            return Maker(full, lambda data, *_: data)
        if full in ("torch.Size", "torch.device"):
            return Maker(full, lambda *args: args[0] if args else ())
        return super().find_class(module, name)

    def persistent_load(self, pid: Any) -> np.ndarray:
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage" or not isinstance(pid[1], Maker):
            raise PickleRefused("the file refers to data that are no tensor")
        kind, key = _STORAGES.get(pid[1].name, ""), str(pid[2])
        if (kind, key) not in self.storages:
            try:
                raw = self.archive.read(f"{self.folder}data/{key}")
            except ArchiveError as error:
                raise PickleRefused(f"the tensor data '{key[:40]}' cannot be read: the entry {error}") from None
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
    try:
        return _TensorReader(archive.read(f"{folder}data.pkl"), archive, folder).load()
    except PickleRefused:
        raise
    except RecursionError:
        raise PickleRefused("the file is nested too deeply") from None
    except Exception as error:
        raise PickleRefused(f"the file is damaged or cut short ({type(error).__name__}: {error})") from error
