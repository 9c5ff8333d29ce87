"""Weight files that are damaged or hostile: one message that names the file and a cure."""

from __future__ import annotations

import json
import os
import pickle
import random
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from maquette.backend.models.weights.component import WeightsError, unwrap
from maquette.backend.models.weights.reading import header, missing_shards, read_state
from safetensors.torch import save_file

from .families import pretended

STATE = {"a.weight": torch.arange(12.0).reshape(3, 4), "b": torch.ones(5, dtype=torch.float16)}


def refused(path: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        read_state([path])
    text = str(caught.value)
    assert text.startswith(str(path)) and len(text) < 600
    return text


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("good")
    save_file(STATE, folder / "a.safetensors")
    torch.save({"state_dict": STATE, "epoch": 3}, folder / "a.pt")
    torch.save(STATE, folder / "a.pth", _use_new_zipfile_serialization=False)
    return {path.suffix: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@settings(max_examples=60)
@given(seed=st.integers(0, 1 << 32), suffix=st.sampled_from([".safetensors", ".pt", ".pth"]))
def test_any_damage_is_one_error(
    good: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory, seed: int, suffix: str
):
    rng, data = random.Random(seed), bytearray(good[suffix])
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(data) // rng.choice([1, 8]))
        if rng.random() < 0.2:
            del data[at : at + rng.randint(1, 100)]
        else:
            data[at] = rng.randrange(256)
    path = tmp_path_factory.mktemp("m") / f"a{suffix}"
    path.write_bytes(data)
    try:
        assert all(isinstance(value, torch.Tensor) for value in read_state([path]).values())
    except WeightsError as error:
        assert str(error).startswith(str(path))


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2.5], "data_offsets": [0, 4]}, {"dtype": 3, "shape": [1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}, {"dtype": "F32", "shape": [1], "data_offsets": [0]},
        {"dtype": "F32", "shape": [1], "data_offsets": [0, "4"]}, {"dtype": "F32"}, [], 7,
    ],
)  # fmt: skip
def test_headers(tmp_path: Path, entry: object):
    text = json.dumps({"a": entry}).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(64))
    with pytest.raises(WeightsError, match="header cannot be read"):
        header(path)


def test_a_header_that_is_too_deep_or_too_large(tmp_path: Path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", 200_000) + b"[" * 200_000)
    assert "header cannot be read" in refused(path)
    path.write_bytes(struct.pack("<Q", 1 << 30) + b"{}")
    assert "not a safetensors file" in refused(path)


def test_a_pickle_that_holds_itself(tmp_path: Path):
    state: dict = {"a": 1}
    state["state_dict"] = state
    assert unwrap(state) is state
    (tmp_path / "a.pt").write_bytes(pickle.dumps(state, 2))
    assert "not a checkpoint" in refused(tmp_path / "a.pt")


def test_shards(tmp_path: Path):
    path = tmp_path / "a-00001-of-999999999999.safetensors"
    with pytest.raises(WeightsError, match="999999999999 files"):
        missing_shards([path])
    path = tmp_path / "b.safetensors"
    for names in ('{"x": 3}', '{"x": "../secret"}', "[" * 100_000):
        (tmp_path / "b.safetensors.index.json").write_text(f'{{"weight_map": {names}}}')
        with pytest.raises(WeightsError, match="not a readable index"):
            missing_shards([path])


@pytest.mark.parametrize("zipped", [True, False])
def test_what_a_training_program_left_is_not_read(tmp_path: Path, zipped: bool):
    path = tmp_path / "a.pt"
    with pretended("deepspeed.runtime.fp16.loss_scaler", "LossScaler") as scaler, pretended("own.config", "Run") as run:
        notes = {"optimizer": {"scaler": scaler(), "seen": [scaler()]}, "args": run(), "where": Path("a"), "at": None}
        torch.save({"module": STATE, **notes}, path, _use_new_zipfile_serialization=zipped)
    told: list[str] = []
    found = read_state([path], told.append)
    assert found.keys() == STATE.keys() and all(torch.equal(found[key], value) for key, value in STATE.items())
    (said,) = told
    assert (
        "only its tensors" in said
        and "deepspeed.runtime.fp16.loss_scaler.LossScaler" in said
        and "own.config.Run" in said
    )
    assert "deepspeed" not in sys.modules and "own" not in sys.modules


class Call:
    """Asks for a function while it is read."""

    def __init__(self, function: Callable, *arguments: object) -> None:
        self._asked = function, arguments

    def __reduce__(self):
        return self._asked


@pytest.mark.parametrize("function", [eval, os.system, subprocess.getoutput, torch.load], ids=str)
def test_what_would_do_something_is_refused(tmp_path: Path, function: Callable):
    path = tmp_path / "a.pt"
    torch.save({"module": STATE, "hook": Call(function, "1")}, path)
    assert "asks to run" in refused(path)


def test_an_object_in_place_of_a_state_dict_is_named(tmp_path: Path):
    with pretended("own.config", "Net") as net:
        torch.save(net(), tmp_path / "a.pt")
    assert "holds a own.config.Net, not a state dict" in refused(tmp_path / "a.pt")
