"""Read published weights: safetensors by their headers, pickles as plain tensors only (no torch at import)."""

from __future__ import annotations

import json
import re
import struct
import sys
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .component import WeightsError, unwrap

if TYPE_CHECKING:
    from torch import Tensor

ITEMSIZE = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip
"""Bytes a value of safetensors' types."""

_MOST_HEADER = 16 << 20
"""Bytes: room for a hundred thousand tensors. The format allows more than fits some memory once it is read."""

_MOST_INDEX = 64 << 20
_MOST_SHARDS = 10_000

_SHARD = re.compile(r"(.+)-\d+-of-(\d+)(\.[a-z]+)$")

PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".tar")

_PLAIN = {"collections", "datetime", "enum", "pathlib"}
"""Modules of Python's own whose objects a training program may leave among its notes."""

_MOST_KINDS = 200
"""Kinds of objects that a file may hold beside tensors."""


@dataclass(frozen=True)
class Entry:
    """One tensor of a weights file.

    Attributes:
        dtype: safetensors' name of it, or a quantised kind of GGUF's such as ``Q4_K``.
        held: bytes of a quantised one, else 0.
    """

    dtype: str
    shape: tuple[int, ...]
    held: int = 0

    @property
    def itemsize(self) -> int:
        """Bytes a value."""
        return ITEMSIZE.get(self.dtype, 1)

    @property
    def floating(self) -> bool:
        """Whether it is cast with the model."""
        return self.dtype.startswith(("F", "BF"))

    @property
    def size(self) -> int:
        """Bytes."""
        return self.held or prod(self.shape) * self.itemsize


def header(path: Path) -> dict[str, Entry]:
    """Keys, types and shapes of a safetensors file, whose length is held against what its header promises.

    Raises:
        WeightsError: no safetensors file, or one that is cut short.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            start = stream.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            if not 2 <= length <= _MOST_HEADER:
                raise WeightsError(f"{path}: not a safetensors file; {_other_kind(path)}")
            text = stream.read(length)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error})") from error
    if len(text) < length:
        raise WeightsError(f"{path}: cut short, its header is incomplete; copy or download the file again")
    try:
        raw = json.loads(text)
        raw.pop("__metadata__", None)
        entries = {key: _entry(value) for key, value in raw.items()}
        end = max((_size(value["data_offsets"][1]) for value in raw.values()), default=0)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(f"{path}: not a safetensors file; its header cannot be read") from error
    if size < 8 + length + end:
        raise WeightsError(
            f"{path}: cut short, {size} of {8 + length + end} bytes are there; copy or download the file again"
        )
    return entries


def metadata(path: Path) -> dict[str, str]:
    """What a safetensors file says of itself in words. Raises WeightsError as ``header``."""
    header(path)
    with path.open("rb") as stream:
        said = json.loads(stream.read(struct.unpack("<Q", stream.read(8))[0])).get("__metadata__")
    return {key: value for key, value in said.items() if isinstance(value, str)} if isinstance(said, dict) else {}


def _entry(value: Any) -> Entry:
    if not isinstance(value["dtype"], str):
        raise TypeError
    return Entry(value["dtype"], tuple(_size(n) for n in value["shape"]))


def _size(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise TypeError
    return value


def _other_kind(path: Path) -> str:
    """What lies there instead, as far as the first bytes tell."""
    with path.open("rb") as stream:
        start = stream.read(200)
    if start.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, so fetch the file itself (git lfs pull)"
    if start.lstrip()[:1] == b"<":
        return "it is a web page, so download the file itself"
    return "it is empty, download it again" if not start else "copy or download it again"


def headers(paths: Iterable[Path]) -> dict[str, Entry]:
    """The headers of several files together (shards). Raises WeightsError."""
    together: dict[str, Entry] = {}
    for path in paths:
        _join(together, _noted(path) if is_gguf(path) else header(path), path)
    return together


def weights_in(folder: Path) -> list[Path]:
    """The files that hold a part's weights: one or more of safetensors, or one GGUF file in their place."""
    return sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.gguf"))


def is_gguf(path: Path) -> bool:
    """Whether a file says by its name that it is one."""
    return path.suffix.lower() == ".gguf"


def gguf_index(path: Path) -> Path:
    """What lies beside a GGUF file that was added: its tensors by the network's keys."""
    return path.with_name(f"{path.name}.json")


def _noted(path: Path) -> dict[str, Entry]:
    """The tensors of a GGUF file that was added, by the note beside it. Raises WeightsError."""
    index = gguf_index(path)
    try:
        if not path.is_file() or index.stat().st_size > _MOST_INDEX:
            raise ValueError
        noted = json.loads(index.read_text("utf-8"))
        return {
            key: Entry(kind, tuple(map(_size, shape)), 0 if kind in ITEMSIZE else _size(size))
            for key, (kind, shape, size) in noted.items()
        }
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(f"{index}: not a readable note of a GGUF file's tensors; add the file again") from error


def _join(together: dict[str, Any], more: Mapping[str, Any], path: Path) -> None:
    if twice := together.keys() & more.keys():
        raise WeightsError(f"{path}: {min(twice)} is in another file of its folder as well; leave one version there")
    together.update(more)


def missing_shards(paths: Iterable[Path]) -> list[Path]:
    """Files that belong to ``paths`` by their numbers or by an index beside them, and that are not there.

    Raises:
        WeightsError: an index that cannot be read.
    """
    paths = list(paths)
    missing = []
    for path in paths:
        if found := _SHARD.match(path.name):
            stem, count, ending = found.groups()
            if int(count[:9]) > _MOST_SHARDS:
                raise WeightsError(
                    f"{path}: its name tells of {count} files; give it the name that it was published by"
                )
            names = (f"{stem}-{i:0{len(count)}d}-of-{count}{ending}" for i in range(1, int(count) + 1))
            missing += [path.with_name(name) for name in names]
    for folder in dict.fromkeys(path.parent for path in paths):
        for index in sorted(folder.glob("*.safetensors.index.json")):
            stem = index.name.removesuffix(".safetensors.index.json")
            if not any(path.name.startswith(stem) for path in paths if path.parent == folder):
                continue
            try:
                if index.stat().st_size > _MOST_INDEX:
                    raise ValueError
                names = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
                if not all(isinstance(name, str) and Path(name).name == name for name in names):
                    raise ValueError
            except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                raise WeightsError(f"{index}: not a readable index of shards; copy or download it again") from error
            missing += [folder / name for name in sorted(names)]
    return [path for path in dict.fromkeys(missing) if not path.is_file()]


def read_state(paths: Iterable[Path], tell: Callable[[str], None] = lambda _: None) -> dict[str, Tensor]:
    """The tensors of one or several files together, mapped into memory rather than read where the format allows it.

    Args:
        tell: given a sentence about what else a file holds and was not read.

    Raises:
        WeightsError: a file that is cut short, is no checkpoint, or holds code.
    """
    state: dict[str, Tensor] = {}
    for path in paths:
        pickled = path.suffix.lower() in PICKLES
        _join(state, _read_pickle(path, tell) if pickled else _read_safetensors(path), path)
    return state


def _read_safetensors(path: Path) -> Mapping[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    header(path)
    try:
        with safe_open(str(path), framework="pt", device="cpu") as stream:
            return {key: stream.get_tensor(key) for key in stream.keys()}  # noqa: SIM118
    except (SafetensorError, OverflowError) as error:
        raise WeightsError(f"{path}: damaged ({str(error)[:200]}); copy or download the file again") from error


def _read_pickle(path: Path, tell: Callable[[str], None]) -> Mapping[str, Tensor]:
    """A ``torch.save`` file, of which nothing but tensors and plain containers is accepted.

    Objects of other programs (DeepSpeed's loss scaler) become empty ones: nothing of theirs is imported or run.
    """
    import pickle
    import zipfile

    import torch

    inert: dict[str, type] = {}
    try:
        while True:
            known = [*_harmless(), *((kind, name) for name, kind in inert.items())]
            try:
                with torch.serialization.safe_globals(known):
                    loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
                break
            except pickle.UnpicklingError as error:
                name = _unsafe_name(error)
                if name in inert or not _is_a_note(name) or len(inert) == _MOST_KINDS:
                    raise
                inert[name] = type("Inert", (_Inert,), {})
    except pickle.UnpicklingError as error:
        if wanted := _unsafe_name(error):
            raise WeightsError(
                f"{path}: asks to run {wanted} while it is read, so it is refused: a pickle can run any program. Take "
                "a file with tensors alone (safetensors, where its authors publish one)"
            ) from error
        raise WeightsError(f"{path}: {_broken(path)}") from error
    except MemoryError:
        raise
    except Exception as error:
        # A damaged file makes torch's unpickler fail in any opcode, with any exception.
        raise WeightsError(f"{path}: {_broken(path)}") from error
    if not isinstance(loaded, Mapping):
        what = next((name for name, kind in inert.items() if type(loaded) is kind), type(loaded).__name__)
        raise WeightsError(f"{path}: holds a {what}, not a state dict; take another file")
    if inert:
        tell(f"{path.name}: only its tensors were read, and nothing of {', '.join(sorted(inert))}")
    state = unwrap(loaded)
    return {key: value for key, value in state.items() if isinstance(key, str) and isinstance(value, torch.Tensor)}


class _Inert:
    """In the place of an object of another program: takes what that would, and keeps and does nothing."""

    def __new__(cls, *arguments: Any, **named: Any) -> _Inert:
        return super().__new__(cls)

    def __init__(self, *arguments: Any, **named: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def _is_a_note(name: str) -> bool:
    """Whether an object may be left out: it is no tensor, and asks for nothing that Python itself could do."""
    module, _, inner = name.partition(".")
    # Pickles go by the names that Python 2 had.
    module = IMPORT_MAPPING.get(module, NAME_MAPPING.get((module, inner), (module,))[0])
    return bool(inner) and module != "torch" and (module in _PLAIN or module not in sys.stdlib_module_names)


def _harmless() -> list[Any]:
    """What training programs keep beside the weights and that holds values alone: their arguments, numpy's numbers."""
    import argparse

    import numpy as np

    numbers = [np.dtype, *(type(np.dtype(name)) for name in ("float64", "float32", "int64", "int32", "bool"))]
    scalar: Any = np.float64(0).__reduce__()[0]
    # Under both names that numpy has had for it.
    return [argparse.Namespace, scalar, (scalar, "numpy.core.multiarray.scalar"), *numbers]


def _unsafe_name(error: Exception) -> str:
    """The function or class that ``weights_only`` refused, or empty."""
    found = re.search(r"(?:GLOBAL|class|function) `?([\w.]+)", str(error))
    return found[1] if found else ""


def _broken(path: Path) -> str:
    with path.open("rb") as stream:
        start = stream.read(2)
    if start == b"PK":
        return "cut short or damaged; copy or download the file again"
    return f"not a checkpoint that torch reads; {_other_kind(path)}"
