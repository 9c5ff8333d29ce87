"""What ``check``, ``remove`` and ``list`` say of a model's folder, on the command line."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys

import pytest
import torch
from maquette.backend.catalogue.models import read_spec
from maquette.backend.cli import main
from maquette.backend.models.registry import status
from maquette.backend.models.weights.add import add
from maquette.backend.models.weights.check import check
from safetensors.torch import load_file, save_file


@pytest.fixture
def run(models, capsys):
    """A command on the folder of models: (exit code, stdout, stderr)."""

    def run(*words: str) -> tuple[int, str, str]:
        code = main(["models", *words, "--models", str(models)])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def added(spec, tree):
    add(spec, [tree], log=lambda _: None)
    return spec


def damage(path, change) -> None:
    state = load_file(path)
    change(state)
    save_file(state, path)


def test_a_whole_model(run, added):
    code, out, err = run("check", "paper", "--full")
    assert (code, err) == (0, "") and "Paper can run" in out and "vae: right" in out


def test_a_model_that_was_not_added(run, spec):
    code, _, err = run("check", "paper")
    assert code == 1
    assert "body/config.json" in err and "maquette models add paper --from DIR" in err


def test_the_embedded_model_is_right(run):
    assert run("check", "isa-nano")[0] == 0


def overwrite(path, key: str, value: float) -> None:
    """Set the first value of a float32 tensor, and nothing else of the file."""
    data = bytearray(path.read_bytes())
    length = struct.unpack("<Q", data[:8])[0]
    start = 8 + length + json.loads(data[8 : 8 + length])[key]["data_offsets"][0]
    data[start : start + 4] = struct.pack("<f", value)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop("blocks.0.weight"), r"1 of 7 keys missing (blocks.0.weight)"),
        (lambda state: state.update(more=torch.ones(1)), "1 of 7 keys unexpected (more)"),
        (lambda state: state.update({"norm.bias": torch.ones(3)}), "norm.bias: 3 instead of 8"),
    ],
)
def test_damage(run, added, change, words):
    damage(added.folder / "vae" / "diffusion_pytorch_model.safetensors", change)
    code, _, err = run("check", "paper")
    assert code == 1 and words in err
    assert "maquette models add paper --from DIR --component vae --force" in err


def test_a_file_cut_short(run, added):
    path = added.folder / "body" / "diffusion_pytorch_model.safetensors"
    os.truncate(path, path.stat().st_size - 8)
    code, _, err = run("check", "paper")
    assert code == 1 and "cut short" in err and err.count("\n") == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite(run, added, value):
    overwrite(added.folder / "vae" / "diffusion_pytorch_model.safetensors", "norm.bias", value)
    code, _, err = run("check", "paper")
    assert code == 1 and "norm.bias holds values that are not finite" in err


def test_a_change_of_one_value_shows_in_full(run, added):
    overwrite(added.folder / "head" / "diffusion_pytorch_model.safetensors", "norm.bias", 0.25)
    assert run("check", "paper")[0] == 0
    code, _, err = run("check", "paper", "--full")
    assert code == 1 and "changed since it was added" in err


def test_a_small_file_that_is_gone(run, added):
    (added.folder / "body" / "config.json").unlink()
    assert "body/config.json" in run("check", "paper")[2]


def test_remove_shows_first(run, added):
    code, out, _ = run("remove", "paper")
    assert code == 0 and "vae/config.json" in out and "give --yes" in out
    assert check(added) == []
    code, out, _ = run("remove", "paper", "--yes")
    assert code == 0 and "deleted" in out
    assert not added.folder.exists() and list(added.folder.parent.iterdir()) == []
    code, _, err = run("remove", "paper", "--yes")
    assert code == 2 and "nothing to remove" in err


def test_weights_beside_the_description_stay(run, models, added):
    shutil.copytree(added.folder, models / "paper")
    beside = read_spec(models / "paper.toml")
    assert beside.folder == models / "paper" and status(beside).available
    code, _, err = run("remove", "paper", "--yes")
    assert code == 2 and "came with the description" in err
    assert status(beside).available
    code, _, err = run("remove", "isa-nano", "--yes")
    assert code == 2 and "came with the description of ISA Nano" in err


def test_list_says_what_a_model_lacks_and_needs(run, spec, tree):
    _, out, _ = run("list")
    block = out[out.index("paper  ") :]
    assert "Paper cannot run: its weights are not here" in block and "models add paper --from DIR" in block
    assert "2.0 GB to fetch" in block and "licence MIT" in block and "max_frames 10" in block
    assert "An estimated 4 GB of GPU memory at full speed for 5 frames of 64 x 32" in block
    add(spec, [tree], only=["vae"], log=lambda _: None)
    entry = next(model for model in json.loads(run("list", "--json")[1]) if model["id"] == "paper")
    assert entry["available"] is False and entry["missing"] == [
        "body/config.json", "body/diffusion_pytorch_model.safetensors", "head/diffusion_pytorch_model.safetensors",
        "tables/mean.npy",
    ]  # fmt: skip
    assert "4 of its 5 files are not here" in entry["reason"]
    assert [source["repository"] for source in entry["sources"]] == [
        "somebody/paper",
        "somebody/base",
        "somebody/paper",
    ]
    add(spec, [tree], log=lambda _: None)
    entry = next(model for model in json.loads(run("list", "--json")[1]) if model["id"] == "paper")
    assert entry["available"] and entry["reason"] == "" and entry["missing"] == []
    assert entry["memory"]["gpu_gb"] >= 1.8


def test_a_model_that_takes_no_published_weights(run, tmp_path):
    code, _, err = run("add", "isa-nano", "--from", str(tmp_path))
    assert code == 2 and "takes no published weights" in err


def test_an_unknown_model(run, tmp_path):
    code, _, err = run("add", "nobody", "--from", str(tmp_path))
    assert code == 2 and "no model 'nobody'; choose one of isa-nano" in err


def test_add_on_the_command_line(run, spec, tree, tmp_path):
    code, out, _ = run("add", "paper", "--from", str(tree), "--to", str(tmp_path / "b" / "paper"), "--dtype", "fp16")
    assert code == 0 and "MAQUETTE_WEIGHTS" in out and not spec.folder.exists()
    code, out, _ = run("add", "paper", "--from", str(tree))
    assert code == 0 and f"Paper is in {spec.folder}" in out and status(spec).available
    code, out, _ = run("add", "paper", "--from", str(tree))
    assert code == 0 and "nothing was written" in out


@pytest.mark.parametrize("words", [["models", "list"], ["models", "list", "--json"], ["models", "add", "--help"]])
def test_what_needs_no_torch_does_not_wait_for_it(words):
    code = f"""
import sys
from maquette.backend.cli import main
try:
    main({words!r})
except SystemExit:
    pass
assert "torch" not in sys.modules and "diffusers" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
