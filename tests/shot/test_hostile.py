"""Files that no honest program writes: one short error that names the field, and bounded memory."""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from maquette.backend.shot import Shot, ShotError, archive, load_shot, save_shot

from ..builders import make_shot

STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The entries of a small shot."""
    path = tmp_path_factory.mktemp("good") / "a.shot"
    save_shot(make_shot(frames=3, points=8), path)
    with zipfile.ZipFile(path) as source:
        return {name: source.read(name) for name in source.namelist()}


def write(path: Path, entries: dict[str, bytes], method: int = STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as target:
        for name, data in entries.items():
            target.writestr(name, data)
    return path


def npz(good: bytes, **changed: bytes) -> bytes:
    """The arrays' archive with some arrays' files changed or added."""
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(good)) as source, zipfile.ZipFile(packed, "w", DEFLATED) as target:
        entries = {name: source.read(name) for name in source.namelist()}
        for name, data in {**entries, **{f"{key}.npy": data for key, data in changed.items()}}.items():
            target.writestr(name, data)
    return packed.getvalue()


def npy(shape: str, data: bytes = b"", descr: str = "'<f4'") -> bytes:
    head = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    head += b" " * ((64 - (len(head) + 11) % 64) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + data


def refused(path: Path) -> ShotError:
    with pytest.raises(ShotError) as caught:
        load_shot(path)
    text = str(caught.value)
    assert text.startswith(f"{caught.value.field}: ") and len(text) < 1100 and text.encode("utf-8")
    return caught.value


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_only_stored_and_deflated_entries_are_read(good: dict[str, bytes], tmp_path: Path, method: int):
    assert "not read" in str(refused(write(tmp_path / "a.shot", good, method)))


def test_bytes_are_counted_against_the_size_of_the_file(
    good: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    zeros = npy("(3, 5000000)", bytes(15_000_000), "'|b1'")
    path = write(tmp_path / "a.shot", {**good, "arrays.npz": npz(good["arrays.npz"], **{"clip.Ks": zeros})}, DEFLATED)
    assert path.stat().st_size < 60_000
    monkeypatch.setattr(archive, "SLACK", 1 << 20)
    assert "which does not fit the file" in str(refused(path)) and refused(path).field == "clip.Ks"
    # Packed twice, it is refused before the inner one is unpacked.
    monkeypatch.setattr(archive, "RATIO", 0)
    monkeypatch.setattr(archive, "SLACK", len(good["shot.json"]) + 1000)
    assert refused(path).field == "arrays.npz"


@pytest.mark.parametrize("name", ["zzz", "characters[0].other", "characters[x].points", "clip.Ks\u0662"])
def test_arrays_that_no_shot_has(good: dict[str, bytes], tmp_path: Path, name: str):
    arrays = npz(good["arrays.npz"], **{name: npy("(2,)", bytes(8))})
    assert "no shot has" in str(refused(write(tmp_path / "a.shot", {**good, "arrays.npz": arrays})))


@pytest.mark.parametrize(
    "array",
    [
        npy("(-1, -1)", bytes(4)), npy(f"(0, {10**30})"), npy(str((1,) * 70), bytes(4)), npy("(True, 9)", bytes(36)),
        npy("(" * 200 + ")" * 200), npy("(3,", bytes(12)), npy("(3,)", bytes(3), "'|V0'"), npy("(9,)", bytes(12)),
        npy("(3,)", bytes(12), "'|O'"), npy("(3,)", bytes(12), "('<f4', (2,))"), b"\x93NUMPY\x09\x00", b"",
    ],
)  # fmt: skip
def test_array_headers(good: dict[str, bytes], tmp_path: Path, array: bytes):
    arrays = npz(good["arrays.npz"], **{"clip.Ks": array})
    assert refused(write(tmp_path / "a.shot", {**good, "arrays.npz": arrays})).field == "clip.Ks"


def put(*keys: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(header: Any) -> None:
        for key in keys[:-1]:
            header = header[key]
        header[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (put("clip", "width", value=10**400), "clip.width"),
        (put("settings", "seed", value=10**400), "settings.seed"),
        (put("clip", "fps", value=float("inf")), "clip.fps"),
        (put("clip", "fps", value="x" * 10**6), "clip.fps"),
        (put("name", value="\ud800"), "name"),
        (put("prompt", value="\udcff"), "prompt"),
        (put("characters", 0, "name", value=["x" * 1000] * 1000), "characters[0].name"),
        (put("background", "kind", value="k" * 10**6), "background.kind"),
        (put("background", "kind", value="\ud800"), "background.kind"),
        (put("background", "media", value=["media/00000.png"] * 30_000), "background.media"),
        (put("background", "media", value=["media/../../a.png"]), "background.media[0]"),
        (put("settings", "x" * 10**6, value=1), "settings"),
        (put("settings", "options", value={"a": {"b": 1}}), "settings.options.a"),
        (put("settings", "options", value={"\ud800": 1}), "settings.options"),
        (put("version", value="9" * 10**6), "shot.json.version"),
    ],
)
def test_values(good: dict[str, bytes], tmp_path: Path, change: Any, field: str):
    header = json.loads(good["shot.json"])
    change(header)
    path = write(tmp_path / "a.shot", {**good, "shot.json": json.dumps(header).encode()}, DEFLATED)
    assert refused(path).field == field


@pytest.mark.parametrize("text", [b"[" * 200_000, b"9" * 5000, b"\xff\xfe{}", b"", b"null"])
def test_what_is_no_json(good: dict[str, bytes], tmp_path: Path, text: bytes):
    assert refused(write(tmp_path / "a.shot", {**good, "shot.json": text})).field == "shot.json"


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_names_are_not_used_twice(good: dict[str, bytes], tmp_path: Path):
    path = write(tmp_path / "a.shot", good)
    with zipfile.ZipFile(path, "a") as target:
        target.writestr("shot.json", b"{}")
    assert "several entries" in str(refused(path))


def test_a_directory_of_millions_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write(tmp_path / "a.shot", {f"{i:04d}": b"" for i in range(1000)})
    monkeypatch.setattr(archive, "MOST_ENTRIES", 100)
    assert "directory of" in str(refused(path))


@given(seed=st.integers(0, 1 << 32))
def test_any_damage_is_one_error(good: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory, seed: int):
    rng = random.Random(seed)
    path = write(tmp_path_factory.mktemp("m") / "a.shot", good, rng.choice([STORED, DEFLATED]))
    data = bytearray(path.read_bytes())
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(len(data))
        if rng.random() < 0.2:
            del data[at : at + rng.randint(1, 200)]
        else:
            data[at] = rng.randrange(256)
    path.write_bytes(data)
    try:
        shot = load_shot(path)
    except ShotError:
        return
    assert isinstance(shot, Shot) and np.isfinite(shot.clip.Ks).all()
