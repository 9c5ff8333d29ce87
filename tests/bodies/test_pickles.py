"""The restricted unpickler: what it reads as it was, and that it runs nothing else."""

from __future__ import annotations

import collections
import gzip
import os
import pickle
import shutil
import struct
import sys
import types
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from maquette.backend.bodies import pickles
from maquette.backend.bodies.pickles import PickleRefused, load_pickle


def _sample() -> dict[str, Any]:
    grid = np.arange(6, dtype=np.float32).reshape(2, 3)
    return {
        "grid": grid,
        "again": [grid, (grid, None, True)],
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big endian": np.arange(3, dtype=">i4"),
        "scalar": np.float64(2.5),
        "text": np.array(["ab", "c"]),
        "objects": np.array([grid, "x", None], dtype=object),
        "empty": np.zeros((0, 3)),
        "ordered": collections.OrderedDict(a=1, b=grid),
        "default": collections.defaultdict(list, {1: [2]}),
        "plain": [1, -(2**80), 1.5, "é", b"\x00\xff", bytearray(b"ab"), {1, 2}, frozenset({3}), 1j],
    }


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        if a.dtype.hasobject:
            return a.shape == b.shape and all(_equal(x, y) for x, y in zip(a.ravel(), b.ravel(), strict=True))
        # numpy turns some arrays to the machine's byte order while reading
        return a.dtype.newbyteorder("=") == b.dtype.newbyteorder("=") and a.shape == b.shape and bool(np.all(a == b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_equal(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(_equal, a, b))
    return type(a) is type(b) and a == b


@pytest.mark.parametrize("protocol", range(6))
def test_reads_what_the_standard_unpickler_reads(protocol: int) -> None:
    data = pickle.dumps(_sample(), protocol)
    read, wanted = load_pickle(data), pickle.loads(data)
    assert wanted.pop("default") == read.pop("default") == {1: [2]}
    assert _equal(wanted, read)
    assert read["again"][0] is read["grid"] is read["again"][1][0]


@given(
    npst.arrays(st.sampled_from(["f4", "f8", "i2", "u1", ">f8", "?", "c8"]), npst.array_shapes(min_dims=0, min_side=0)),
    st.integers(0, 5),
)
def test_any_array_comes_back(array: np.ndarray, protocol: int) -> None:
    read = load_pickle(pickle.dumps([array, array.T], protocol))
    assert np.array_equal(read[0], array, equal_nan=True) and read[0].dtype == array.dtype
    assert np.array_equal(read[1], array.T, equal_nan=True)


@pytest.mark.parametrize("pack", [zlib.compress, gzip.compress])
def test_reads_compressed_files(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / "motion.pkl"
    path.write_bytes(pack(pickle.dumps(_sample())))
    assert np.array_equal(load_pickle(path)["grid"], _sample()["grid"])
    with pytest.raises(PickleRefused, match="cut short|damaged"):
        load_pickle(path.read_bytes()[:-30])


def test_a_small_file_cannot_unfold_without_bound() -> None:
    with pytest.raises(PickleRefused, match="larger than 1 MiB"):
        load_pickle(zlib.compress(pickle.dumps(bytes(3 << 20))), max_bytes=1 << 20)
    with pytest.raises(PickleRefused, match="larger than 0 MiB"):
        load_pickle(zlib.compress(bytes(1000)), max_bytes=10)


class _Python2(pickle._Pickler):  # pyright: ignore[reportAttributeAccessIssue]
    """Writes bytes as Python 2 wrote its strings."""

    dispatch = dict(pickle._Pickler.dispatch)  # pyright: ignore[reportAttributeAccessIssue]

    def save_bytes(self, value: bytes) -> None:
        self.write(pickle.BINSTRING + struct.pack("<i", len(value)) + value)
        self.memoize(value)

    dispatch[bytes] = save_bytes


def test_reads_the_strings_of_python_2(tmp_path: Path) -> None:
    path = tmp_path / "old.pkl"
    with path.open("wb") as file:
        _Python2(file, 2).dump({b"pose": np.arange(5.0), b"name": b"caf\xe9"})
    read = load_pickle(path)
    assert read["name"] == "café"
    assert np.array_equal(read["pose"], np.arange(5.0))


class _Foreign:
    """Makes objects that pickle as instances of classes of packages that are not installed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.patch = monkeypatch

    def __call__(self, module: str, name: str, state: dict[str, Any]) -> Any:
        kind = type(name, (), {"__module__": module})
        fake = types.ModuleType(module)
        setattr(fake, name, kind)
        self.patch.setitem(sys.modules, module, fake)
        for end in (i for i, letter in enumerate(module) if letter == "."):  # pickle imports the packages above it
            if module[:end] not in sys.modules:
                self.patch.setitem(sys.modules, module[:end], types.ModuleType(module[:end]))
        made = kind()
        made.__dict__.update(state)
        return made


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch) -> _Foreign:
    return _Foreign(monkeypatch)


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
def test_chumpy_arrays_are_read_as_arrays(foreign: _Foreign, protocol: int) -> None:
    whole = np.arange(24.0).reshape(2, 3, 4)
    leaf = foreign("chumpy.ch", "Ch", {"x": whole, "_dirty_vars": {"x"}, "_itr": None})
    picked = foreign(
        "chumpy.reordering", "Select",
        {"a": leaf, "idxs": np.arange(24).reshape(2, 3, 4)[:, :, :2].ravel(), "preferred_shape": (2, 3, 2)},
    )  # fmt: skip
    read = load_pickle(pickle.dumps({"x": leaf, "shapedirs": picked}, protocol))
    assert np.array_equal(read["x"], whole)
    assert np.array_equal(read["shapedirs"], whole[:, :, :2])


def test_computed_chumpy_nodes_are_refused(foreign: _Foreign) -> None:
    sums = foreign("chumpy.ch_ops", "add", {"a": np.ones(3), "b": np.ones(3)})
    with pytest.raises(PickleRefused) as refusal:
        load_pickle(pickle.dumps(sums, 2))
    assert refusal.value.name == "chumpy.ch_ops.add"


@pytest.mark.parametrize("module", ["scipy.sparse.csc", "scipy.sparse._csc"])
def test_sparse_matrices_are_read_dense(foreign: _Foreign, module: str) -> None:
    state = {
        "_shape": (2, 4), "indptr": np.array([0, 1, 1, 3, 3], np.int32), "indices": np.array([1, 0, 1], np.int32),
        "data": np.array([5.0, 6, 7]), "format": "csc", "maxprint": 50,
    }  # fmt: skip
    read = load_pickle(pickle.dumps(foreign(module, "csc_matrix", state), 2))
    assert np.array_equal(read, [[0, 0, 6, 0], [5, 0, 7, 0]])
    for wrong in ({"_shape": (1 << 20, 1 << 20)}, {"indices": np.array([1, 0, 9])}, {"indptr": np.array([0, 3])}):
        with pytest.raises(PickleRefused, match="sparse"):
            load_pickle(pickle.dumps(foreign(module, "csc_matrix", {**state, **wrong}), 2))


@pytest.mark.parametrize("kind", ["csc_matrix", "csr_matrix", "coo_matrix", "csr_array", "coo_array"])
def test_real_sparse_matrices(kind: str) -> None:
    sparse = pytest.importorskip("scipy.sparse", reason="Blender's environment has no scipy")
    dense = np.random.default_rng(0).random((5, 7)).round()
    assert np.array_equal(load_pickle(pickle.dumps(getattr(sparse, kind)(dense))), dense)


def test_joblib_arrays_inline(foreign: _Foreign) -> None:
    """joblib writes an array's bytes into the stream after a wrapper object's BUILD."""
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    note = {"subclass": np.ndarray, "shape": (3, 4), "order": "C", "dtype": array.dtype, "allow_mmap": False,
            "numpy_array_alignment_bytes": 16}  # fmt: skip
    wrapper = foreign("joblib.numpy_pickle", "NumpyArrayWrapper", note)
    pickled = pickle.dumps(wrapper, 2)
    assert pickled.endswith(b"b.")  # BUILD, STOP
    for padded in (True, False):
        if padded:
            stream = pickled[:-1] + b"\x03\xff\xff\xff" + array.tobytes() + b"."
        else:
            bare = foreign("joblib.numpy_pickle", "NumpyArrayWrapper", {**note, "numpy_array_alignment_bytes": None})
            stream = pickle.dumps(bare, 2)[:-1] + array.tobytes() + b"."
        assert np.array_equal(load_pickle(stream), array)
        assert np.array_equal(load_pickle(zlib.compress(stream)), array)
        with pytest.raises(PickleRefused):
            load_pickle(stream[:-9])
    huge = foreign("joblib.numpy_pickle", "NumpyArrayWrapper", {**note, "shape": (1 << 40,)})
    with pytest.raises(PickleRefused, match="larger than its file"):
        load_pickle(pickle.dumps(huge, 2))


class _Call:
    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    ("function", "args", "name"),
    [
        (os.system, ("touch {}",), f"{os.system.__module__}.system".removeprefix("_")),
        (eval, ("open('{}', 'w')",), "builtins.eval"),
        (shutil.copy, (__file__, "{}"), "shutil.copy"),
        (getattr, ([], "append"), "builtins.getattr"),
        (np.load, ("{}",), "numpy.load"),
        (np.fromfile, ("{}",), "numpy"),
        (pickle.loads, (b"N.",), "pickle.loads"),
        (__import__, ("os",), "builtins.__import__"),
        (bool, ("1",), "builtins.bool"),
        (np.ndarray, ((1 << 40,),), "numpy.ndarray"),
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_other_globals_are_refused_by_name(
    function: Callable[..., Any], args: tuple[Any, ...], name: str, protocol: int, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    args = tuple(a.format(trace) if isinstance(a, str) else a for a in args)
    with pytest.raises(PickleRefused) as refusal:
        load_pickle(pickle.dumps({"deep": [_Call(function, *args)]}, protocol))
    shown = refusal.value.name.replace("__builtin__", "builtins").removeprefix("_")
    assert shown.startswith(name) and refusal.value.name in str(refusal.value)
    assert not trace.exists()


@pytest.mark.parametrize(
    "stream",
    [
        b"\x80\x04cnumpy\nndarray\n}b.",  # a state given to a global itself
        b"\x80\x04cnumpy\nndarray\nN}(\x8c\x04makeNu\x86b.",
        b"\x80\x02]\x85R.",  # a call of a list
        b"\x80\x02]]\x81.",  # NEWOBJ of a list
        b"\x80\x02\x82\x01.",  # the extension registry
        b"\x80\x02K\x01Q.",  # a persistent id
        b"cos\nsystem\n(S'echo'\ntR.",
        b"(S'echo'\nios\nsystem\n.",  # INST
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04echo\x85R.",  # STACK_GLOBAL
        b"\x80\x04\x8c\x08builtins\x8c\x10list.__class__.x\x93.",  # a dotted name
        b"cmaquette.backend.bodies.pickle_table\nTABLE\n.",
        b"",
        b".",
        b"PK\x03\x04 a zip",
        b"hello, I am a text file",
    ],
)
def test_odd_streams_are_refused(stream: bytes) -> None:
    with pytest.raises(PickleRefused):
        load_pickle(stream)


@pytest.mark.parametrize(
    "stream",
    [
        b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"ab.",  # BYTEARRAY8
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"ab.",  # BINBYTES8
        b"\x80\x04\x8d" + struct.pack("<Q", 1 << 40) + b"ab.",  # BINUNICODE8
        b"\x80\x04\x95" + struct.pack("<Q", 1 << 40) + b"N.",  # FRAME
        b"\x80\x02\x8b" + struct.pack("<i", (1 << 31) - 1) + b"ab.",  # LONG4
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n\x8a\x06\x00\x00\x00\x00\x00\x10\x85C\x01b\x87R.",
    ],
)
def test_sizes_are_not_believed(stream: bytes) -> None:
    import tracemalloc

    tracemalloc.start()
    try:
        load_pickle(stream)
    except PickleRefused:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 10 << 20


def test_array_states_are_checked() -> None:
    good = pickle.dumps(np.arange(4, dtype="<i4"), 2)
    assert good.count(b"K\x04\x85") == 1  # the shape (4,)
    with pytest.raises(PickleRefused, match="does not match its 16 bytes"):
        load_pickle(good.replace(b"K\x04\x85", b"K\x05\x85"))
    fields = np.zeros(2, dtype=[("x", "f4"), ("y", "O")])
    with pytest.raises(PickleRefused, match="numbers and text"):
        load_pickle(pickle.dumps(fields))


def test_deep_nesting_is_harmless() -> None:
    depth = 50_000
    data = b"\x80\x04" + b"]" * depth + b"a" * (depth - 1) + b"."
    assert isinstance(load_pickle(data), list)
    tuples = b"\x80\x04N" + b"\x85" * depth + b"."
    assert isinstance(load_pickle(tuples), tuple)


def test_every_truncation_is_refused() -> None:
    data = pickle.dumps({"poses": np.arange(6.0), "name": "walk", "more": [1, {2: 3.5}]}, 4)
    for end in range(len(data)):
        with pytest.raises(PickleRefused):
            load_pickle(data[:end])


@settings(max_examples=300)
@given(st.data(), st.integers(0, 5))
def test_damage_gives_data_or_a_refusal(data: st.DataObject, protocol: int) -> None:
    stream = bytearray(pickle.dumps(_sample(), protocol))
    for _ in range(data.draw(st.integers(1, 4))):
        stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
    try:
        load_pickle(bytes(stream))
    except PickleRefused:
        pass


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_noise_gives_data_or_a_refusal(noise: bytes) -> None:
    try:
        load_pickle(b"\x80\x04" + noise)
    except PickleRefused:
        pass


def text(value: str) -> bytes:
    return b"\x8c" + bytes([len(value)]) + value.encode()


def named(module: str, name: str) -> bytes:
    return text(module) + text(name) + b"\x93"


def whole(value: int) -> bytes:
    data = value.to_bytes((value.bit_length() + 8) // 8, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


_HEAD = b"\x80\x04"
_SAME_HASH = [whole(((1 << 61) - 1) * (i + 1)) for i in range(3000)]
_HOSTILE = {
    "copies of a list": _HEAD + b"(" + b"N" * 50_000 + b"l\x940" + named("builtins", "list") + b"\x940("
    + b"h\x01h\x00\x85R" * 100 + b"t.",
    "copies of bytes": _HEAD + b"B" + struct.pack("<I", 1 << 20) + bytes(1 << 20) + b"\x940"
    + named("builtins", "bytearray") + b"\x940(" + b"h\x01h\x00\x85R" * 200 + b"t.",
    "keys of one hash": _HEAD + b"}(" + b"N".join(_SAME_HASH) + b"Nu.",
    "members of one hash": _HEAD + b"\x8f(" + b"".join(_SAME_HASH) + b"\x90.",
    "frozen members of one hash": _HEAD + b"(" + b"".join(_SAME_HASH) + b"\x91.",
    "a dict made of pairs": _HEAD + named("builtins", "dict") + b"(" + b"".join(k + b"N\x86" for k in _SAME_HASH)
    + b"l\x85R.",
    "a set made of a list": _HEAD + named("builtins", "set") + b"(" + b"".join(_SAME_HASH) + b"l\x85R.",
    "tuples as keys": _HEAD + b"}(" + b"".join(whole(i) + b"\x85N" for i in range(2100)) + b"u.",
    "a packed bomb": zlib.compress(pickle.dumps(bytes(160 << 20), 4), 9),
    "a deep tuple": _HEAD + b")" + b"\x85" * 300_000 + b"a.",
}  # fmt: skip


@pytest.mark.parametrize("what", _HOSTILE)
def test_work_and_memory_are_bounded(what: str):
    with pytest.raises(PickleRefused) as caught:
        load_pickle(_HOSTILE[what])
    assert len(str(caught.value)) < 300


def test_steps_are_counted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pickles, "MOST_STEPS", 1000)
    monkeypatch.setattr(pickles._Steps, "left", 1000)
    assert load_pickle(pickle.dumps([None] * 500)) == [None] * 500
    with pytest.raises(PickleRefused, match="more than 1000 steps"):
        load_pickle(pickle.dumps([None] * 1500))


def test_ordinary_keys_are_admitted():
    found = {"a": 1, b"b": 2, 3: 4, -5: 6, 1.5: 7, None: 8, True: 9, ("a", 1): 10}
    assert load_pickle(pickle.dumps([found, set(found), frozenset(found)])) == [found, set(found), frozenset(found)]
