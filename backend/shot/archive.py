"""Zip archives and the arrays in them, read with bounded work and memory: what a file says is counted, not believed."""

from __future__ import annotations

import contextlib
import errno
import warnings
import zipfile
from collections.abc import Iterator
from typing import IO, Any, BinaryIO

import numpy as np

SLACK = 128 << 20
RATIO = 100
"""An archive of n bytes unpacks to at most SLACK + RATIO n bytes. Coordinates shrink by half, masks of small files by a
thousand; bombs of any size do."""

MOST_ENTRIES = 50_000
_ENTRY_BYTES = 160
"""Of the directory, on average, for one entry."""

_MOST_HEADER = 4096
_MOST_DIMENSIONS = 8


class ArchiveError(ValueError):
    """What is wrong with an archive, in a few words without its name.

    Attributes:
        entry: the part at fault, or empty.
    """

    def __init__(self, message: str, entry: str = "") -> None:
        super().__init__(message)
        self.entry = entry


class Archive:
    """A zip archive open for reading; to be used in a ``with``.

    Args:
        source: the file; it is not closed here.
        most: bytes that may be unpacked in all.

    Attributes:
        names: of the entries.
        left: bytes that may be unpacked yet.

    Raises:
        ArchiveError: it is no archive, is damaged, or cannot be what an honest program writes.
        OSError: it cannot be read.
    """

    def __init__(self, source: BinaryIO, most: int) -> None:
        with _told():
            size = source.seek(0, 2)
            self.left = min(most, SLACK + RATIO * size)
            end: Any = zipfile._EndRecData(source)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
            if end and end[5] > MOST_ENTRIES * _ENTRY_BYTES:
                raise ArchiveError(f"has a directory of {end[5]} bytes")
            self._zip = zipfile.ZipFile(source)
        infos = self._zip.infolist()
        self._infos = {info.filename: info for info in infos}
        self.names = tuple(self._infos)
        if len(infos) > MOST_ENTRIES:
            raise ArchiveError(f"holds {len(infos)} entries; at most {MOST_ENTRIES} are read")
        if len(self._infos) < len(infos):
            raise ArchiveError("holds several entries of the same name")
        for info in infos:
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 1:
                raise ArchiveError("is compressed or encrypted in a way that is not read", info.filename)

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def read(self, name: str, most: int | None = None) -> bytes:
        """The bytes of an entry.

        Args:
            most: so many bytes of this one.

        Raises:
            ArchiveError: it is missing, damaged or too large.
        """
        info = self._info(name)
        limit = self.left if most is None else min(most, self.left)
        if info.file_size > limit:
            raise ArchiveError(f"claims {info.file_size} bytes; at most {limit} are read", name)
        with _told(name), self._zip.open(info) as stream:
            data = stream.read(info.file_size + 1)
        if len(data) != info.file_size:
            raise ArchiveError("does not have the size that it claims", name)
        self.left -= len(data)
        return data

    def header(self, name: str) -> tuple[tuple[int, ...], np.dtype]:
        """Shape and type of a .npy entry. Raises ArchiveError."""
        info = self._info(name)
        with _told(name), self._zip.open(info) as stream:
            shape, _, dtype = read_npy_header(stream)
        return shape, dtype

    def array(self, name: str) -> np.ndarray:
        """A .npy entry that holds no objects. Raises ArchiveError."""
        info = self._info(name)
        with _told(name), self._zip.open(info) as stream:
            shape, fortran, dtype = read_npy_header(stream)
            if dtype.hasobject:
                raise ArchiveError("holds objects, not numbers", name)
            count = int(np.prod(shape, dtype=object))
            size = count * dtype.itemsize
            if size > self.left or size > info.file_size:
                raise ArchiveError(f"claims shape {shape}, which does not fit the file", name)
            flat = np.empty(count, dtype)
            there = _fill(stream, flat)
        if there != size:
            raise ArchiveError("is cut short", name)
        self.left -= size
        return flat.reshape(shape, order="F" if fortran else "C")

    def _info(self, name: str) -> zipfile.ZipInfo:
        if name not in self._infos:
            raise ArchiveError("is missing", name)
        return self._infos[name]


def read_npy_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether in Fortran's order, and type of a .npy file, whose shape is one that an array can have.

    Raises:
        ArchiveError: it is damaged.
    """
    try:
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0), (3, 0)):
            raise ValueError(f"version {version} is unknown")
        reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shape, fortran, dtype = reader(stream, max_header_size=_MOST_HEADER)
    except Exception as error:
        # numpy gives the text to Python's parser, which has many ways to say no, MemoryError among them.
        raise ArchiveError(f"has no readable array header ({short(error)})") from error
    sides_fit = all(type(n) is int and 0 <= n < 1 << 40 for n in shape)
    if len(shape) > _MOST_DIMENSIONS or not sides_fit or dtype.itemsize == 0 or dtype.subdtype:
        raise ArchiveError("has an array header that no array has")
    return shape, fortran, dtype


def _fill(stream: IO[bytes], flat: np.ndarray) -> int:
    """Fill an array from a stream; returns the bytes that came."""
    if not flat.size:
        return 0
    view, done = flat.data.cast("B"), 0
    while done < len(view):
        chunk = stream.read(min(len(view) - done, 1 << 20))
        if not chunk:
            break
        view[done : done + len(chunk)] = chunk
        done += len(chunk)
    return done


def short(error: BaseException) -> str:
    """An error of a library in a few words, whatever bytes are in it."""
    return f"{type(error).__name__}: {str(error)[:120]}".rstrip(": ")


@contextlib.contextmanager
def _told(entry: str = "") -> Iterator[None]:
    """Whatever a damaged archive raises, as ArchiveError."""
    try:
        yield
    except ArchiveError as error:
        raise ArchiveError(str(error), error.entry or entry) from error
    except MemoryError:
        raise
    except OSError as error:
        # A place in the file before its beginning; anything else is the disk's.
        if error.errno not in (None, errno.EINVAL):
            raise
        raise ArchiveError(f"is damaged ({short(error)})", entry) from error
    except Exception as error:
        raise ArchiveError(f"is damaged ({short(error)})", entry) from error
