"""What the globals named in a pickle stand for: makers of numpy arrays and plain containers, and nothing else.

Numpy's own constructors are never called with a file's arguments: an array is rebuilt from its bytes, once its size has
been checked against them.
"""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable
from types import NoneType
from typing import Any

import numpy as np

MAX_DENSE = 16 << 20
"""No sparse matrix may have more cells than this."""


class PickleRefused(ValueError):
    """A pickle that asks for something it must not have, or that is damaged.

    Attributes:
        name: the global it asked for, such as ``os.system``; empty when the file is damaged or too large.
    """

    def __init__(self, message: str, name: str = "") -> None:
        super().__init__(message)
        self.name = name


class Blank:
    """An object whose state the file still has to give; replaced by plain data once it has."""

    def __init__(self, build: Callable[[Any], Any]) -> None:
        self.build = build
        self.slots: list[int] = []  # places in the memo that hold this object


class Maker:
    """What a global stands for: something that may be called while reading, or only be named."""

    def __init__(self, name: str, make: Callable[..., Any] | None) -> None:
        self.name = name
        self.make = make

    def __call__(self, *args: Any) -> Any:
        if self.make is None:
            raise PickleRefused(f"the pickle calls {self.name}, which is not admitted", self.name)
        return self.make(*args)


class Inline:
    """joblib's note that an array's bytes follow in the stream."""

    def __init__(self, state: dict[str, Any]) -> None:
        if not isinstance(state.get("dtype"), np.dtype):
            raise PickleRefused("a joblib array has no dtype")
        self.dtype: np.dtype = state["dtype"]
        self.shape = tuple(state.get("shape", ()))
        self.order = "F" if state.get("order") == "F" else "C"
        self.padded = state.get("numpy_array_alignment_bytes") is not None


def as_bytes(data: Any) -> bytes:
    if isinstance(data, str):  # Python 2's strings, read as Latin-1
        return data.encode("latin1")
    if isinstance(data, (bytes, bytearray)):
        return bytes(data)
    raise PickleRefused("an array's data are not bytes")


def count_cells(shape: Any) -> int:
    if not isinstance(shape, tuple) or len(shape) > 16 or not all(isinstance(s, int) and s >= 0 for s in shape):
        raise PickleRefused(f"an array has the impossible shape {shape!r:.80}")
    return math.prod(shape)


def rebuild_array(dtype: Any, shape: Any, data: Any, order: str = "C") -> np.ndarray:
    if not isinstance(dtype, np.dtype):
        raise PickleRefused("an array has no dtype")
    count = count_cells(shape)
    if dtype.hasobject:
        if not isinstance(data, list) or len(data) != count:
            raise PickleRefused(f"an array of objects of shape {shape} does not hold {count} of them")
        filled = np.empty(count, object)
        for i, item in enumerate(data):
            filled[i] = item
        return filled.reshape(shape, order="F" if order == "F" else "C")
    raw = as_bytes(data)
    if dtype.itemsize == 0 or len(raw) != count * dtype.itemsize:
        raise PickleRefused(f"an array of shape {shape} and type {dtype} does not match its {len(raw)} bytes")
    return np.frombuffer(bytearray(raw), dtype).reshape(shape, order="F" if order == "F" else "C")


def _dtype(code: Any, *_: Any) -> Blank:
    """Numpy pickles a dtype as its code, and gives the byte order as its state."""
    if isinstance(code, bytes):
        code = code.decode("latin1")
    if not isinstance(code, str) or not re.fullmatch(r"[|<>=]?(?:[biufcSU]\d{1,6}|[?bBhHiIlLqQefdgFDGO]|O\d?)", code):
        raise PickleRefused(f"an array has the type {code!r:.40}; only numbers and text are admitted")

    def build(state: Any) -> np.dtype:
        # (version, byte order, subarray, names, fields, size, alignment, ...)
        parts = list(state) if isinstance(state, tuple) else []
        if len(parts) < 7 or parts[1] not in ("<", ">", "|", "=") or any(part is not None for part in parts[2:5]):
            raise PickleRefused("an array's type has fields; only plain numbers and text are admitted")
        kind, size = np.dtype(code), parts[5]
        # Some files give the size of text in the state only.
        if kind.kind in "SU" and kind.itemsize == 0 and isinstance(size, int) and 0 < size < 1 << 24:
            kind = np.dtype(f"{kind.kind}{size // (4 if kind.kind == 'U' else 1)}")
        return kind.newbyteorder(parts[1]) if parts[1] in "<>" else kind

    return Blank(build)


def _reconstruct(*_: Any) -> Blank:
    def build(state: Any) -> np.ndarray:
        if not isinstance(state, tuple) or len(state) != 5:
            raise PickleRefused("an array's state is not numpy's")
        _version, shape, dtype, fortran, data = state
        return rebuild_array(dtype, shape, data, "F" if fortran else "C")

    return Blank(build)


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    return rebuild_array(dtype, shape, data, order)


def _scalar(dtype: Any, data: Any = None) -> Any:
    return rebuild_array(dtype, (1,), [data] if isinstance(dtype, np.dtype) and dtype.hasobject else data)[0]


def _chumpy(name: str) -> Callable[..., Blank]:
    """chumpy's nodes, in which official SMPL files keep arrays, as those arrays."""

    def build(state: Any) -> np.ndarray:
        if not isinstance(state, dict):
            raise PickleRefused(f"{name} has no state")
        if name.endswith(".Ch") and isinstance(state.get("x"), np.ndarray):
            return state["x"]
        source = state.get("a")
        if isinstance(source, np.ndarray) and name.endswith(".Select"):
            picked = source.ravel()[np.asarray(state["idxs"]).ravel().astype(np.int64)]
            return picked.reshape(state.get("preferred_shape", picked.shape))
        if isinstance(source, np.ndarray) and name.endswith(".Reshape"):
            return source.reshape(state["newshape"])
        raise PickleRefused(f"the pickle holds a computed {name}; only chumpy's stored arrays are admitted", name)

    return lambda *_: Blank(build)


def _sparse(name: str) -> Callable[..., Blank]:
    """scipy.sparse matrices in compressed or coordinate form, as dense arrays."""

    def build(state: Any) -> np.ndarray:
        shape = state.get("_shape", state.get("shape"))
        if count_cells(shape) > MAX_DENSE or len(shape) != 2:
            raise PickleRefused(f"a sparse matrix has the shape {shape}; at most {MAX_DENSE} cells are admitted")
        values = np.asarray(state["data"])
        if values.dtype.kind not in "fiub" or values.dtype.itemsize > 8:
            raise PickleRefused(f"a sparse matrix holds {values.dtype}; only numbers are admitted")
        if "coo" in name:
            row, col = state.get("row"), state.get("col")
            if row is None:
                row, col = state["coords"]
        else:
            starts, minor = np.asarray(state["indptr"]), np.asarray(state["indices"])
            by_row = "csr" in name
            if len(starts) != shape[0 if by_row else 1] + 1 or np.any(np.diff(starts) < 0) or starts[-1] != len(values):
                raise PickleRefused("a sparse matrix's index does not match its shape")
            major = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
            row, col = (major, minor) if by_row else (minor, major)
        row, col = np.asarray(row, np.int64), np.asarray(col, np.int64)
        if not len(values) == len(row) == len(col) or np.any(
            (row < 0) | (col < 0) | (row >= shape[0]) | (col >= shape[1])
        ):
            raise PickleRefused("a sparse matrix's index does not match its shape")
        dense = np.zeros(shape, values.dtype)
        np.add.at(dense, (row, col), values)
        return dense

    return lambda *_: Blank(build)


MOST_TUPLE_KEYS = 2000
"""Of one pickle's dicts and sets."""


def check_keys(keys: Iterable[Any], before: int = 0) -> int:
    """Whether they can be put into a dict or set without its search for a place taking for ever.

    Python's hashes of text are random, those of small numbers differ; those of tuples and of large whole numbers can be
    chosen to be all the same.

    Args:
        before: tuples of the pickle among keys so far.

    Returns:
        Tuples among these.
    """
    tuples = 0
    for key in keys:
        if isinstance(key, tuple):
            tuples += 1
        elif not isinstance(key, (str, bytes, float, bool, NoneType, np.generic)) and not (
            isinstance(key, int) and abs(key) < 1 << 60
        ):
            raise PickleRefused(f"a {type(key).__name__} is no name for a value")
    if before + tuples > MOST_TUPLE_KEYS:
        raise PickleRefused(f"dicts and sets hold more than {MOST_TUPLE_KEYS} tuples as names")
    return tuples


def _keyed(kind: Callable[..., Any]) -> Callable[..., Any]:
    """A maker of dicts or sets."""

    def make(*args: Any) -> Any:
        if len(args) > 1 or not all(isinstance(a, (dict, set, frozenset, list, tuple)) for a in args):
            raise PickleRefused("a dict or set is made of something else")
        for entries in args:
            if isinstance(entries, (list, tuple)):
                check_keys(entries if kind in (set, frozenset) else (entry[0] for entry in entries))
        return kind(*args)

    return make


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    """How Python 3 writes bytes in protocol 2."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise PickleRefused("_codecs.encode is admitted for Latin-1 only", "_codecs.encode")
    return text.encode("latin1")


def _reconstructor(maker: Any, *_: Any) -> Any:
    """How protocols 0 and 1 write any object."""
    if not isinstance(maker, Maker):
        raise PickleRefused("the pickle rebuilds an object that is not admitted")
    return maker()


def _admitted() -> dict[str, Callable[..., Any] | None]:
    table: dict[str, Callable[..., Any] | None] = {
        "numpy.dtype": _dtype,
        "numpy.ndarray": None,
        "_codecs.encode": _encode,
        "collections.OrderedDict": _keyed(OrderedDict),
        # The factory of a defaultdict would be a call in waiting; the entries are all that is kept.
        "collections.defaultdict": lambda factory=None, *rest: _keyed(dict)(*rest),
        "copyreg._reconstructor": _reconstructor,
        "joblib.numpy_pickle.NumpyArrayWrapper": lambda: Blank(Inline),
    }
    for core in ("numpy.core", "numpy._core"):
        table[f"{core}.multiarray._reconstruct"] = _reconstruct
        table[f"{core}.multiarray.scalar"] = _scalar
        table[f"{core}.numeric._frombuffer"] = _from_buffer
    # Named but not called: the factories of defaultdicts and the base of reconstructed objects.
    table.update({f"builtins.{name}": None for name in ("int", "float", "str", "bool", "object")})
    table.update({f"builtins.{t.__name__}": t for t in (list, tuple, complex)})
    table.update({f"builtins.{t.__name__}": _keyed(t) for t in (dict, set, frozenset)})
    table["builtins.bytes"] = lambda data=b"", *_: as_bytes(data)
    table["builtins.bytearray"] = lambda data=b"", *_: bytearray(as_bytes(data))
    for kind in ("csc", "csr", "coo"):
        for module in (f"scipy.sparse.{kind}", f"scipy.sparse._{kind}"):
            for shape in ("matrix", "array"):
                table[f"{module}.{kind}_{shape}"] = _sparse(kind)
    for node in ("ch.Ch", "reordering.Select", "reordering.Reshape"):
        table[f"chumpy.{node}"] = _chumpy(f"chumpy.{node}")
    table["chumpy.Ch"] = _chumpy("chumpy.Ch")
    return table


TABLE = _admitted()
