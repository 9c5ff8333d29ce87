"""Published files become a model's folder, or nothing happens and the reason is said."""

from __future__ import annotations

import argparse
import json
import pickle
import shutil
import subprocess
import sys
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from maquette.backend.catalogue.models import ModelSpec, read_spec
from maquette.backend.cli import main
from maquette.backend.models.registry import status
from maquette.backend.models.weights import add as adding
from maquette.backend.models.weights.add import add
from maquette.backend.models.weights.check import check
from maquette.backend.models.weights.component import WeightsError
from maquette.backend.models.weights.missing import Missing
from safetensors.torch import load_file, save_file

from .conftest import Net, weights


def quiet(_: str) -> None:
    pass


def nothing_left(spec: ModelSpec) -> bool:
    """No half-written model and no temporary folder."""
    return (
        not spec.folder.exists() and not list(spec.folder.parent.glob("*")) and not list(spec.folder.parent.glob(".*"))
    )


def test_every_weight_arrives(spec, tree):
    said: list[str] = []
    assert add(spec, [tree], log=said.append) == ["body", "head", "vae", "tables"]
    for part in ("body", "head", "vae"):
        model = Net.from_pretrained(spec.folder / part)
        assert model.config["width"] == spec.components[part]["width"]
        for key, value in weights(spec, part).items():
            # The body's counter is not published.
            if (part, key) != ("body", "seen"):
                assert torch.equal(model.state_dict()[key], value), (part, key)
    assert np.array_equal(np.load(spec.folder / "tables" / "mean.npy"), np.arange(6))
    assert status(spec).available and check(spec, full=True) == []
    assert [path.name for path in spec.folder.parent.iterdir()] == ["paper"]
    assert any("1 keys are of no use here (optimizer.step)" in line for line in said)
    assert any(line.startswith("lora: left out") for line in said)


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float32"])
def test_precision_is_what_was_asked_for(spec, tree, kind):
    add(spec, [tree], dtype={"float16": "fp16", "bfloat16": "bf16", "float32": "fp32"}[kind], log=quiet)
    state = load_file(spec.folder / "body" / "diffusion_pytorch_model.safetensors")
    assert {str(value.dtype) for value in state.values()} == {f"torch.{kind}"}
    want = weights(spec, "body")["blocks.1.weight"].to(getattr(torch, kind))
    assert torch.equal(state["blocks.1.weight"], want)
    kept = load_file(spec.folder / "vae" / "diffusion_pytorch_model.safetensors")
    assert kept["norm.weight"].dtype == torch.float32 and kept["seen"].dtype == torch.int64


def test_large_weights_are_cut_into_shards(spec, tree):
    add(spec, [tree], log=quiet, most_bytes=200)
    folder = spec.folder / "vae"
    index = json.loads((folder / "diffusion_pytorch_model.safetensors.index.json").read_text())
    names = set(index["weight_map"].values())
    assert len(names) > 2 and not (folder / "diffusion_pytorch_model.safetensors").exists()
    assert status(spec).available
    model = Net.from_pretrained(folder)
    assert all(torch.equal(model.state_dict()[key], value) for key, value in weights(spec, "vae").items())
    (folder / sorted(names)[1]).unlink()
    assert status(spec).missing == ("vae/diffusion_pytorch_model.safetensors",)
    assert "not there; add it again with" in " ".join(check(spec))


def test_adding_twice_changes_nothing(spec, tree):
    add(spec, [tree], log=quiet)
    before = {path: path.stat().st_mtime_ns for path in spec.folder.rglob("*")}
    assert add(spec, [tree], log=quiet) == []
    assert before == {path: path.stat().st_mtime_ns for path in spec.folder.rglob("*")}
    with pytest.raises(WeightsError, match="from other files; give --force"):
        add(spec, [tree], dtype="bf16", log=quiet)
    assert "body" in add(spec, [tree], dtype="bf16", force=True, log=quiet)
    assert check(spec, full=True) == []
    assert not list(spec.folder.parent.glob(".*"))


def test_one_part_alone(spec, tree):
    assert add(spec, [tree], only=["vae"], log=quiet) == ["vae"]
    assert not status(spec).available
    assert add(spec, [tree], log=quiet) == ["body", "head", "tables"]
    assert check(spec) == []


def test_an_unknown_part(spec, tree):
    with pytest.raises(WeightsError, match=r"--component legs: Paper has body, head, vae, tables, lora"):
        add(spec, [tree], only=["legs"], log=quiet)


def test_an_optional_part_when_it_is_there(spec, tree):
    save_file({"a.lora_up.weight": torch.ones(2, 2)}, tree / "few_steps.safetensors")
    assert "lora" in add(spec, [tree], log=quiet)
    save_file({"a.weight": torch.ones(2, 2)}, tree / "few_steps.safetensors")
    with pytest.raises(WeightsError, match="not a LoRA"):
        add(spec, [tree], only=["lora"], force=True, log=quiet)


# -- finding ---------------------------------------------------------------------------------------------------------


def test_flat_folder(spec, tree, tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in [p for p in tree.rglob("*") if p.is_file()]:
        shutil.copy(path, flat / path.name)
    add(spec, [flat], log=quiet)
    assert check(spec) == []


def test_a_hubs_cache_and_several_folders(spec, tree, tmp_path):
    hub = tmp_path / "hub" / "models--somebody--base" / "snapshots" / "0123abc"
    hub.mkdir(parents=True)
    shutil.move(str(tree / "vae"), hub / "vae")
    with pytest.raises(Missing):
        add(spec, [tree], log=quiet)
    add(spec, [tree, tmp_path / "hub"], log=quiet)
    assert check(spec) == []


def test_a_base_models_files_do_not_pass_for_shards(spec, tree, tmp_path):
    """A repository named first has files of the same generic name at its root."""
    base = tmp_path / "base"
    base.mkdir()
    save_file({"other": torch.ones(2)}, base / "diffusion_pytorch_model.safetensors")
    add(spec, [base, tree], log=quiet)
    assert check(spec) == []


def test_two_files_that_could_be_meant(spec, tree):
    shutil.copytree(tree / "ckpt", tree / "old" / "ckpt")
    (tree / "new").mkdir()
    shutil.move(str(tree / "ckpt"), tree / "new" / "ckpt")
    with pytest.raises(WeightsError, match=r"is both in .*; give the folder that is meant as --from"):
        add(spec, [tree], log=quiet)
    add(spec, [tree / "new", tree], log=quiet)
    assert check(spec) == []


def test_a_folder_that_is_not_there(spec, tmp_path):
    with pytest.raises(WeightsError, match="--from .*nowhere: no such folder"):
        add(spec, [tmp_path / "nowhere"], log=quiet)


# -- what is missing -------------------------------------------------------------------------------------------------


def test_missing_files_are_named_with_where_they_are_published(models, spec, tree, capsys):
    shutil.rmtree(tree / "ckpt")
    (tree / "vae" / "diffusion_pytorch_model-00002-of-00002.safetensors").unlink()
    assert main(["models", "add", "paper", "--from", str(tree), "--models", str(models)]) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("Paper cannot be added: 3 files not found in ") and "nothing was written" in said[0]
    assert "body: ckpt/Paper.pth, published by somebody/paper (MIT, 1.5 GB); ask them first" in said[1]
    assert "head: ckpt/Paper.pth, published by somebody/paper (MIT, 1.5 GB)" in said[2]
    assert "model-00002-of-00002.safetensors, published by somebody/base (Community, 0.5 GB)" in said[3]
    assert "In all 2.0 GB are to be fetched" in said[4]
    assert "GB of GPU memory at full speed for 5 frames of 64 x 32" in said[5]
    assert nothing_left(spec)


# -- bad files -------------------------------------------------------------------------------------------------------


def test_another_models_checkpoint(spec, tree):
    state = {f"body.transformer_blocks.{i}.attn0.to_q.weight": torch.ones(2, 2) for i in range(9)}
    torch.save({**state, "head.norm.weight": torch.ones(4)}, tree / "ckpt" / "Paper.pth")
    with pytest.raises(WeightsError) as caught:
        add(spec, [tree], log=quiet)
    message = str(caught.value)
    assert "not the body that is wanted here; these look like keys of MTVCrafter's 7B transformer" in message
    assert "of 9 keys, 8 missing (blocks.0.bias, blocks.0.weight, blocks.1.bias, blocks.1.weight and 4 more)" in message
    assert "9 unexpected (transformer_blocks.0.attn0.to_q.weight, " in message and "and 5 more)" in message
    assert nothing_left(spec)


def test_keys_without_the_prefix(spec, tree):
    torch.save({"pose_net.conv_layers.0.weight": torch.ones(1)}, tree / "ckpt" / "Paper.pth")
    with pytest.raises(WeightsError, match=r"look like keys of MimicMotion: none of its 1 keys begins with 'body\.'"):
        add(spec, [tree], log=quiet)


def test_another_size_of_the_same_model(models, spec, tree):
    text = (models / "paper.toml").read_text().replace("[vae]\nwidth = 8", "[vae]\nwidth = 16")
    (models / "paper.toml").write_text(text)
    larger = read_spec(models / "paper.toml")
    with pytest.raises(WeightsError, match=r"6 of another shape \(blocks.0.bias: 8 instead of 16, "):
        add(larger, [tree], log=quiet)
    assert nothing_left(spec)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("vae/diffusion_pytorch_model-00001-of-00002.safetensors", "cut short|not a safetensors file"),
        ("ckpt/Paper.pth", "(cut short|not a checkpoint).* (again|itself)"),
    ],
)
def test_a_file_cut_short(spec, tree, file, said, share):
    path = tree / file
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(WeightsError, match=rf"{path.name}: ({said})"):
        add(spec, [tree], log=quiet)
    assert nothing_left(spec)


class Shout:
    def __reduce__(self):
        return print, ("RUN BY A PICKLE",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_with_code_is_not_run(spec, tree, capsys, zipped):
    torch.save(
        {"state_dict": weights(spec, "head"), "more": Shout()},
        tree / "ckpt" / "Paper.pth",
        _use_new_zipfile_serialization=zipped,
    )
    with pytest.raises(WeightsError, match=r"asks to run \S*print while it is read, so it is refused"):
        add(spec, [tree], log=quiet)
    assert "RUN BY" not in capsys.readouterr().out
    assert nothing_left(spec)


@pytest.mark.parametrize("zipped", [True, False])
def test_what_training_programs_keep_beside_the_weights(spec, tree, zipped):
    """As DeepSpeed and the usual scripts write it: values of many kinds, none of them a program."""
    path = tree / "ckpt" / "Paper.pth"
    state = torch.load(path, weights_only=True)["state_dict"]
    beside = {
        "module": OrderedDict(state), "optimizer": None, "lr_scheduler": {"last_epoch": 3, "base_lrs": [2e-4]},
        "sparse_tensor_module_names": set(), "skipped_steps": 0, "ds_version": "0.14.0", "loss": np.float64(0.25),
        "param_shapes": [OrderedDict((key, value.shape) for key, value in state.items())], "dtype": torch.bfloat16,
        "args": argparse.Namespace(lr=1e-4, name="run"), "steps": np.int64(7),
    }  # fmt: skip
    torch.save(beside, path, _use_new_zipfile_serialization=zipped)
    add(spec, [tree], log=quiet)
    assert check(spec) == []


def test_other_things_in_its_place(spec, tree):
    path = tree / "ckpt" / "Paper.pth"
    for content, words in [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"", "it is empty"),
        (pickle.dumps([1, 2]), "not a checkpoint|not a state dict"),
    ]:
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=words):
            add(spec, [tree], log=quiet)
    torch.save([torch.ones(1)], path)
    with pytest.raises(WeightsError, match="holds a list, not a state dict"):
        add(spec, [tree], log=quiet)
    torch.save({"epoch": 3}, path)
    with pytest.raises(WeightsError, match="holds no tensors"):
        add(spec, [tree], log=quiet)


def test_damaged_values(spec, tree):
    path = tree / "vae" / "diffusion_pytorch_model-00001-of-00002.safetensors"
    state = load_file(path)
    key = "blocks.1.bias"
    state[key][1] = float("nan")
    save_file(state, path)
    with pytest.raises(WeightsError, match=f"{key} holds values that are not finite"):
        add(spec, [tree], log=quiet)
    assert nothing_left(spec)


def test_values_beyond_the_precision(spec, tree):
    state = torch.load(tree / "ckpt" / "Paper.pth", weights_only=True)
    state["state_dict"]["body.layer_0_b"][0] = 1e6
    torch.save(state, tree / "ckpt" / "Paper.pth")
    with pytest.raises(WeightsError, match="blocks.0.bias holds values beyond float16; use --dtype bf16"):
        add(spec, [tree], dtype="fp16", log=quiet)
    assert nothing_left(spec)
    add(spec, [tree], dtype="bf16", log=quiet)


def test_the_same_key_in_two_files(spec, tree):
    shutil.copy(
        tree / "vae" / "diffusion_pytorch_model-00001-of-00002.safetensors",
        tree / "vae" / "diffusion_pytorch_model.fp16.safetensors",
    )
    with pytest.raises(WeightsError, match="in another file of its folder as well; leave one version there"):
        add(spec, [tree], log=quiet)


def test_no_room(spec, tree, monkeypatch):
    usage = shutil.disk_usage(tree)
    monkeypatch.setattr(adding.shutil, "disk_usage", lambda _: usage._replace(free=100))
    with pytest.raises(WeightsError, match=r"are needed and 0\.0 GB are free; make room"):
        add(spec, [tree], log=quiet)
    assert nothing_left(spec)


def test_a_disk_that_fills_up_leaves_what_was_there(spec, tree, monkeypatch):
    add(spec, [tree], log=quiet)
    calls = []

    def full(*arguments, **_):
        calls.append(arguments)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(adding, "write_weights", full)
    with pytest.raises(OSError, match="No space"):
        add(spec, [tree], force=True, log=quiet)
    assert calls and check(spec, full=True) == []
    assert [path.name for path in spec.folder.parent.iterdir()] == ["paper"]


def test_what_a_killed_process_left_is_cleared(spec, tree):
    left = spec.folder.parent / ".paper.adding-999999999"
    left.mkdir(parents=True)
    add(spec, [tree], log=quiet)
    assert not left.exists()


def test_memory_stays_below_the_size_of_the_weights(tmp_path):
    """Tensors are mapped and written one by one: 240 MB are rewritten in a fraction of that."""
    code = """
import sys, torch
from pathlib import Path
from safetensors.torch import save_file
from maquette.backend.models.weights.reading import read_state
from maquette.backend.models.weights.writing import write_weights
folder = Path(sys.argv[1])
for i in range(4):
    save_file({f"w{i}": torch.ones(15_000_000)}, folder / f"a-{i}.safetensors")
def held():
    return int(Path("/proc/self/status").read_text().split("RssAnon:")[1].split()[0])
before, peak = held(), []
(folder / "out").mkdir()
files = write_weights(read_state(sorted(folder.glob("a-*"))), folder / "out", "model", torch.bfloat16, 65_000_000,
                      on_bytes=lambda _: peak.append(held()))
print(len(files), sum((folder / "out" / name).stat().st_size for name in files), max(peak) - before)
"""
    if not Path("/proc/self/status").exists():
        pytest.skip("measured by /proc, which only Linux has")
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    files, size, kilobytes = map(int, done.stdout.split())
    assert files == 2 and size >= 120_000_000
    assert kilobytes < 120_000


def test_replace_keeps_working_with_another_folder(spec, tree, tmp_path):
    elsewhere = replace(spec, folder=tmp_path / "disk2" / "paper")
    add(elsewhere, [tree], log=quiet)
    assert check(elsewhere) == [] and not spec.folder.exists()
