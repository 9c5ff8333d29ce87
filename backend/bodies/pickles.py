"""Read pickles without running anything they ask for.

A pickle is a program: by itself ``pickle.load`` calls whatever the file names. Here every global a file names is looked
up in a short table of inert makers that yield numpy arrays and plain containers (pickle_table.py); anything else is
refused by name.

Read besides plain pickles (protocols 0 to 5, Python 2's strings as Latin-1): files compressed with zlib or gzip,
joblib's inline arrays, chumpy's leaf, select and reshape nodes (as arrays), scipy.sparse matrices (as dense arrays).
"""

from __future__ import annotations

import io
import pickle
import zlib
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from ..shot.archive import RATIO, SLACK
from .pickle_table import TABLE, Blank, Inline, Maker, PickleRefused, check_keys, count_cells, rebuild_array

__all__ = ["MAX_BYTES", "Maker", "PickleReader", "PickleRefused", "load_pickle"]

MAX_BYTES = 2 << 30
"""No file, before or after decompression, may be larger than this."""

MOST_STEPS = 5_000_000
"""Of one pickle's program; a second or so for a million."""

_COPIES = 4
"""What is made of a pickle takes SLACK bytes, and so many times its size."""


def load_pickle(source: str | PathLike[str] | bytes, max_bytes: int = MAX_BYTES, slack: int = SLACK) -> Any:
    """Read a pickle of numpy arrays and plain containers.

    Args:
        source: path of the file, or its bytes.
        max_bytes: limit on the file's size, before and after decompression.
        slack: bytes that may be made of a pickle beyond its own size.

    Returns:
        What was pickled. ``defaultdict`` comes back as ``dict``; subclasses of arrays as arrays.

    Raises:
        PickleRefused: a global that is not admitted, or a damaged or too large file.
        OSError: the file cannot be read.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        data = bytes(source)
    else:
        path = Path(source)
        if path.stat().st_size > max_bytes:
            raise PickleRefused(f"the file is larger than {max_bytes >> 20} MiB")
        data = path.read_bytes()
    data = _decompress(data, max_bytes)
    try:
        return PickleReader(data, slack).load()
    except PickleRefused:
        raise
    except RecursionError:
        raise PickleRefused("the pickle is nested too deeply") from None
    except MemoryError:
        raise PickleRefused("the pickle asks for more memory than there is") from None
    except Exception as error:
        # A hostile or truncated stream can fail in any opcode, with any exception; all mean the same to the reader.
        detail = f"{type(error).__name__}: {error}".rstrip(": ")
        raise PickleRefused(f"the pickle is damaged or cut short ({detail})") from error


def _decompress(data: bytes, max_bytes: int) -> bytes:
    if data[:2] == b"PK":
        raise PickleRefused("this is a zip archive, not a pickle")
    # zlib's first byte, 0x78, starts no pickle; its second makes the pair a multiple of 31.
    packed = data[:2] == b"\x1f\x8b" or (data[:1] == b"\x78" and len(data) > 1 and (0x7800 + data[1]) % 31 == 0)
    if not packed:
        return data
    max_bytes = min(max_bytes, SLACK + RATIO * len(data))
    stream = zlib.decompressobj(wbits=47)  # 32 + 15: zlib or gzip, told apart by their headers
    try:
        plain = stream.decompress(data, max_bytes + 1)
    except zlib.error as error:
        raise PickleRefused(f"the compressed pickle is damaged ({error})") from error
    if len(plain) > max_bytes:
        raise PickleRefused(f"the pickle is larger than {max_bytes >> 20} MiB when decompressed")
    if not stream.eof:
        raise PickleRefused("the compressed pickle is cut short")
    return plain


# The version in C cannot have single opcodes replaced, and allocates what a file says before reading it.
_Unpickler: Any = pickle._Unpickler  # pyright: ignore[reportAttributeAccessIssue]


class _Steps(dict):
    """The opcodes, each look-up of which is a step."""

    left = MOST_STEPS

    def __getitem__(self, opcode: int) -> Any:
        self.left -= 1
        if self.left < 0:
            raise PickleRefused(f"the pickle has more than {MOST_STEPS} steps")
        return super().__getitem__(opcode)


class PickleReader(_Unpickler):
    """The standard library's unpickler in Python, with every opcode that calls or builds replaced.

    A subclass may admit more by overriding ``find_class``, which returns a ``Maker``, and ``persistent_load``.
    """

    dispatch: Any = dict(_Unpickler.dispatch)

    def __init__(self, source: bytes | io.BytesIO, slack: int = SLACK) -> None:
        self.file = io.BytesIO(source) if isinstance(source, bytes) else source
        self.size = self.file.getbuffer().nbytes
        self.left = slack + _COPIES * self.size
        self.tuple_keys = 0
        self.dispatch = _Steps(type(self).dispatch)
        super().__init__(self.file, encoding="latin1")

    def find_class(self, module: str, name: str) -> Maker:
        full = f"{module}.{name}".replace("__builtin__.", "builtins.").replace("copy_reg.", "copyreg.")
        if full not in TABLE:
            shown = f"{module}.{name}"[:120]
            raise PickleRefused(
                f"the pickle asks for {shown}; only numpy arrays and plain containers are admitted", shown
            )
        return Maker(full, TABLE[full])

    def get_extension(self, code: int) -> None:
        raise PickleRefused(f"the pickle asks for the registered extension {code}", f"extension {code}")

    def persistent_load(self, pid: Any) -> Any:
        raise PickleRefused("the pickle refers to data outside the file", "persistent id")

    def _call(self, maker: Any, args: Any) -> Any:
        if not isinstance(maker, Maker):
            raise PickleRefused("the pickle calls something that is not a function")
        return self._counted(maker(*args))

    def _counted(self, made: Any) -> Any:
        """What a call has made, whose bytes are counted: a program may copy the same thing again and again."""
        if isinstance(made, np.ndarray):
            self.left -= made.nbytes
        elif isinstance(made, (bytes, bytearray)):
            self.left -= len(made)
        elif isinstance(made, (list, tuple, dict, set, frozenset)):
            self.left -= 64 * len(made)
        if self.left < 0:
            raise PickleRefused("the pickle makes too much of itself by copies")
        return made

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._put([key, value])

    def load_setitems(self) -> None:
        self._put(self.pop_mark())

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        self._put(items)

    def _put(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise PickleRefused("the pickle puts entries into something that is no dict")
        self._check(items[::2])
        target.update(zip(items[::2], items[1::2], strict=True))

    def _check(self, keys: list[Any]) -> None:
        self.tuple_keys += check_keys(keys, self.tuple_keys)

    def load_additems(self) -> None:
        items = self.pop_mark()
        if not isinstance(self.stack[-1], set):
            raise PickleRefused("the pickle adds members to something that is no set")
        self._check(items)
        self.stack[-1].update(items)

    def load_frozenset(self) -> None:
        items = self.pop_mark()
        self._check(items)
        self.append(frozenset(items))

    def load_reduce(self) -> None:
        args = self.stack.pop()
        self.stack[-1] = self._call(self.stack[-1], args)

    def load_newobj(self) -> None:
        self.load_reduce()

    def load_newobj_ex(self) -> None:
        if self.stack.pop():
            raise PickleRefused("the pickle builds an object with keywords")
        self.load_reduce()

    def load_inst(self) -> None:
        module, name = self.readline()[:-1].decode("ascii"), self.readline()[:-1].decode("ascii")
        args = self.pop_mark()
        self.append(self._call(self.find_class(module, name), args))

    def load_obj(self) -> None:
        args = self.pop_mark()
        self.append(self._call(args.pop(0), args))

    def load_build(self) -> None:
        state = self.stack.pop()
        blank = self.stack[-1]
        if not isinstance(blank, Blank):
            raise PickleRefused("the pickle gives a state to something that has none")
        built = blank.build(state)
        if isinstance(built, Inline):
            built = self._read_inline(built)
        self.stack[-1] = self._counted(built)
        for slot in blank.slots:
            self.memo[slot] = built

    def _read_inline(self, note: Inline) -> Any:
        if note.dtype.hasobject:  # joblib writes these as a pickle within the pickle
            inner = PickleReader(self.file)
            inner.left, inner.dispatch.left = self.left, self.dispatch.left
            found = inner.load()
            self.left, self.dispatch.left = inner.left, inner.dispatch.left
            return found
        if note.padded:
            padding = self.file.read(1)
            self.file.read(padding[0] if padding else 0)
        need = count_cells(note.shape) * note.dtype.itemsize
        if need > self.size:
            raise PickleRefused(f"an array of shape {note.shape} is larger than its file")
        return rebuild_array(note.dtype, note.shape, self.file.read(need), note.order)

    def load_bytearray8(self) -> None:
        length = int.from_bytes(self.read(8), "little")
        if length > self.size:
            raise PickleRefused("the pickle is cut short")
        self.append(bytearray(self.read(length)))

    def _remember(self, slot: int) -> None:
        top = self.stack[-1]
        if isinstance(top, Blank):
            top.slots.append(slot)
        self.memo[slot] = top

    def load_put(self) -> None:
        self._remember(int(self.readline()[:-1]))

    def load_binput(self) -> None:
        self._remember(self.read(1)[0])

    def load_long_binput(self) -> None:
        self._remember(int.from_bytes(self.read(4), "little"))

    def load_memoize(self) -> None:
        self._remember(len(self.memo))

    for _opcode, _method in (
        (pickle.REDUCE, load_reduce),
        (pickle.NEWOBJ, load_newobj),
        (pickle.NEWOBJ_EX, load_newobj_ex),
        (pickle.INST, load_inst),
        (pickle.OBJ, load_obj),
        (pickle.BUILD, load_build),
        (pickle.BYTEARRAY8, load_bytearray8),
        (pickle.PUT, load_put),
        (pickle.BINPUT, load_binput),
        (pickle.LONG_BINPUT, load_long_binput),
        (pickle.MEMOIZE, load_memoize),
        (pickle.SETITEM, load_setitem),
        (pickle.SETITEMS, load_setitems),
        (pickle.DICT, load_dict),
        (pickle.ADDITEMS, load_additems),
        (pickle.FROZENSET, load_frozenset),
    ):
        dispatch[_opcode[0]] = _method
