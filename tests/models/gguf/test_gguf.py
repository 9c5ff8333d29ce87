"""A transformer of a user's own as a GGUF file: added, kept quantised, run in every arrangement, LoRAs beside it."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import gguf
import numpy as np
import pytest
import torch
from diffusers.hooks.group_offloading import _is_group_offload_enabled
from gguf import GGMLQuantizationType as Kind
from hypothesis import example, given, settings
from hypothesis import strategies as st
from maquette.backend.catalogue.models import ModelSpec, model_spec
from maquette.backend.cli import main
from maquette.backend.models import registry
from maquette.backend.models.control.build import load_network
from maquette.backend.models.engine import Engine
from maquette.backend.models.family import EngineError
from maquette.backend.models.lora.files import entries
from maquette.backend.models.memory import footprint, placement
from maquette.backend.models.memory.arrangement import ORDER, Mode, Strategy, arrangements
from maquette.backend.models.memory.footprint import need_of, parts_of_files, parts_of_modules
from maquette.backend.models.registry import find_family, status
from maquette.backend.models.renaming import WAN_TRANSFORMER
from maquette.backend.models.weights import gguf_files
from maquette.backend.models.weights.component import WeightsError, components
from maquette.backend.models.weights.fetch import lacking
from maquette.backend.models.weights.reading import headers, weights_in
from maquette.backend.models.weights.sizes import default_plan, gpu_gigabytes
from safetensors.torch import save_file
from torch import Tensor

from ...parity.recipe import fill
from ..control.builders import (
    ANIMATE_CHANGES,
    ANIMATE_TABLES,
    CHANGES,
    TABLES,
    animated_shot,
    led_shot,
    write_small_files,
)
from ..tiny import describe

State = dict[str, Tensor]

# Blocks of 32 values are the smallest that are quantised.
_WIDER = {"attention_head_dim": 16, "text_dim": 32, "ffn_dim": 64}
WIDE = {
    "vace-14b": {
        **TABLES,
        "transformer": {**TABLES["transformer"], **_WIDER},
        "text_encoder": {**TABLES["text_encoder"], "d_model": 32},
    },
    "wan-animate-14b": {
        **ANIMATE_TABLES,
        "transformer": {**ANIMATE_TABLES["transformer"], **_WIDER, "added_kv_proj_dim": 32},
        "text_encoder": {**ANIMATE_TABLES["text_encoder"], "d_model": 32},
    },
}
MODELS = {"vace-14b": CHANGES, "wan-animate-14b": ANIMATE_CHANGES}


def wide_spec(folder: Path, name: str) -> ModelSpec:
    return describe(folder, name, WIDE[name], MODELS[name], beside=False)


def write_gguf(
    path: Path, state: Mapping[str, Tensor], kind: Callable[[str, Tensor], Kind], note_5d: bool = True
) -> Path:
    """A file as ComfyUI's users have them: quantised matrices, all else as it is."""
    writer = gguf.GGUFWriter(path, "wan")
    for key, value in state.items():
        data = value.float().numpy()
        if data.ndim > 4 and note_5d:
            writer.add_array(f"comfy.gguf.orig_shape.{key}", [int(side) for side in data.shape])
            data = data.reshape(data.shape[0], -1)
        found = kind(key, value)
        if found is Kind.F16:
            writer.add_tensor(key, data.astype(np.float16))
        elif found is Kind.F32:
            writer.add_tensor(key, data)
        else:
            packed = gguf.quants.quantize(data, found)
            writer.add_tensor(key, packed, raw_dtype=found)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def as_published(key: str, value: Tensor) -> Kind:
    """8 bits for the matrices in the blocks, which is how such files are made; half precision for the others."""
    if key.endswith("weight") and value.dim() == 2 and value.shape[1] % 32 == 0 and "motion_encoder" not in key:
        return Kind.Q8_0 if "blocks." in key else Kind.BF16
    return Kind.F32 if value.dim() < 2 or "motion_encoder" in key or "modulation" in key else Kind.F16


def authors_names(state: Mapping[str, Tensor]) -> State:
    return {f"model.diffusion_model.{WAN_TRANSFORMER.published(key)}": value for key, value in state.items()}


_FACE = (
    (".to_q.", ".linear1_q."), (".to_out.", ".linear2."), (".norm_q.", ".q_norm."), (".norm_k.", ".k_norm."),
    ("face_adapter.", "face_adapter.fuser_blocks."), ("conv1_local", "conv1_local.conv"), ("conv2", "conv2.conv"),
    ("conv3", "conv3.conv"), ("motion_synthesis_weight", "dec.direction.weight"), ("motion_network", "enc.fc"),
    ("conv_in.act_fn", "enc.net_app.convs.0.1"), ("conv_in", "enc.net_app.convs.0.0"),
    ("conv_out", "enc.net_app.convs.8"),
)  # fmt: skip
_RESIDUAL = {"conv1.weight": "conv1.0.weight", "conv1.act_fn.bias": "conv1.1.bias", "conv2.weight": "conv2.1.weight",
             "conv2.act_fn.bias": "conv2.2.bias", "conv_skip.weight": "skip.1.weight"}  # fmt: skip


def animate_names(state: Mapping[str, Tensor]) -> State:
    """Wan-Animate's own: the motion encoder's biases as pictures, what the face adapter attends to in one matrix."""
    made: State = {}
    for key, value in state.items():
        if not key.startswith(("motion_encoder", "face_")):
            made |= authors_names({key: value})
            continue
        if found := re.match(r"motion_encoder\.res_blocks\.(\d)\.(.+)", key):
            new = f"motion_encoder.enc.net_app.convs.{int(found[1]) + 1}.{_RESIDUAL[found[2]]}"
        else:
            new = key
            for ours, theirs in _FACE:
                new = new.replace(ours, theirs)
        if ".to_v." in new:
            continue
        if ".to_k." in new:
            new, value = new.replace(".to_k.", ".linear1_kv."), torch.cat([value, state[key.replace("to_k", "to_v")]])
        if "net_app.convs." in new and new.endswith("bias"):
            value = value.reshape(1, -1, 1, 1)
        made[f"model.diffusion_model.{new}"] = value
    made["model.diffusion_model.motion_encoder.enc.net_app.convs.1.conv2.0.kernel"] = torch.ones(4, 4)
    return made


def write_others(spec: ModelSpec, folder: Path) -> State:
    """All published files but the transformer's; returns the transformer's weights."""
    kept: State = {}
    for seed, (name, part) in enumerate(components(spec).items(), 1):
        if part.build is None:
            continue
        state = dict(fill(part.build(spec), seed).state_dict())
        if name == "transformer":
            kept = state
            continue
        (folder / name).mkdir(parents=True)
        prefix = part.prefix
        stem = "model" if name.endswith("encoder") else "diffusion_pytorch_model"
        save_file(
            {prefix + key: v.clone().contiguous() for key, v in state.items()}, folder / name / f"{stem}.safetensors"
        )
    write_small_files(folder)
    return kept


class Added:
    """A tiny VACE whose transformer is a GGUF file, added by the command line, and its weights."""

    def __init__(self, folder: Path, name: str = "vace-14b") -> None:
        self.home, self.name = folder, name
        self.spec = wide_spec(folder / "models", name)
        self.state = write_others(self.spec, folder / "tree")
        published = authors_names if name == "vace-14b" else animate_names
        self.file = write_gguf(folder / f"{name}-Q8_0.gguf", published(self.state), as_published)
        self.code = self.add("--from", str(folder / "tree"), "--from", str(self.file))

    def add(self, *words: str) -> int:
        return main(["models", "add", self.name, *words, "--models", str(self.home / "models")])

    def run(self, shot, engine: Engine | None = None) -> np.ndarray:
        return (engine or Engine(self.spec, "cpu")).generate(shot, lambda _: None, lambda: False).frames.astype(int)


@pytest.fixture(scope="module")
def added(tmp_path_factory) -> Added:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("gguf")
        patch.setenv("MAQUETTE_WEIGHTS", str(folder / "weights"))
        yield Added(folder)


def test_it_takes_the_published_file_s_place(added, capsys):
    assert added.code == 0 and status(added.spec).available
    folder = added.spec.folder / "transformer"
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json", "diffusion_pytorch_model.gguf", "diffusion_pytorch_model.gguf.json", "maquette.json"
    ]  # fmt: skip
    noted = headers(weights_in(folder))
    assert {key: entry.shape for key, entry in noted.items()} == {k: tuple(v.shape) for k, v in added.state.items()}
    command = ["models", "check", "vace-14b", "--full", "--models", str(added.home / "models")]
    assert main(command) == 0, capsys.readouterr().err
    # What is there need not be fetched, whatever it was made of.
    shutil.move(added.spec.folder / "vae", added.home / "vae")
    assert {source.component for source in lacking(added.spec)} == {"vae"}
    shutil.move(added.home / "vae", added.spec.folder / "vae")
    # Once more changes nothing; another file in its place wants to be told so.
    assert added.add("--from", str(added.file)) == 0
    other = shutil.copy(added.file, added.home / "other.gguf")
    assert added.add("--from", str(other)) == 2 and "--force" in capsys.readouterr().err


def test_it_stays_quantised_and_makes_nearly_the_same_film(added, tmp_path):
    engine = Engine(added.spec, "cpu")
    film = added.run(led_shot(3), engine)
    network = engine.networks["transformer"]
    kept = {name for name, value in network.named_parameters() if gguf_files.quantised(value)}
    assert len(kept) > 25 and all(name.startswith(("blocks.", "vace_blocks.")) for name in kept)
    plain = replace(added.spec, folder=tmp_path / "plain")
    shutil.copytree(added.spec.folder, plain.folder)
    part = plain.folder / "transformer"
    for path in part.glob("*.gguf*"):
        path.unlink()
    save_file(added.state, part / "diffusion_pytorch_model.safetensors")
    whole = added.run(led_shot(3), Engine(plain, "cpu"))
    apart = np.abs(film - whole).mean()
    assert 0 < apart < 0.1 * whole.std(), "8 bits change a little"
    # Within half a step of 1 / 127 of a block's greatest value, whose own precision is half.
    name = "blocks.1.attn1.to_q.weight"
    widened = gguf_files.widened(network.get_parameter(name)).float()
    blocks = added.state[name].reshape(-1, 32)
    bound = blocks.abs().amax(1, keepdim=True).expand(-1, 32).reshape(widened.shape) / 127
    assert bool(((widened - added.state[name]).abs() <= 0.6 * bound).all())


def forward(network: torch.nn.Module) -> Tensor:
    """What a VACE transformer makes of some latents."""
    draw = torch.Generator().manual_seed(4)
    given = {
        "hidden_states": torch.randn(1, 4, 2, 4, 4, generator=draw),
        "control_hidden_states": torch.randn(1, 72, 2, 4, 4, generator=draw),
        "encoder_hidden_states": torch.randn(1, 5, 32, generator=draw),
    }
    with torch.no_grad():
        return network(**given, timestep=torch.tensor([500]), return_dict=False)[0]


ARRANGED = [s for s in ORDER if not (s.tiling or s.casting)]


def arranged(network: torch.nn.Module, strategy: Strategy) -> torch.nn.Module:
    parts = parts_of_modules({"transformer": network}, {}, tiles=False)
    placement.apply(strategy, {"transformer": network}, parts, torch.device("cpu"), torch.float32)
    return network


@pytest.mark.parametrize("strategy", ARRANGED, ids=str)
def test_every_arrangement_without_casting(added, strategy: Strategy, monkeypatch):
    monkeypatch.setattr(footprint, "SMALL", 0)
    expected = forward(load_network(added.spec, "transformer", torch.float32))
    network = arranged(load_network(added.spec, "transformer", torch.float32), strategy)
    hooks = {Mode.RESIDENT: (False, False), Mode.MODELS: (True, False)}.get(strategy.mode, (False, True))
    assert (hasattr(network, "_hf_hook"), _is_group_offload_enabled(network)) == hooks
    for _ in range(2):
        torch.testing.assert_close(forward(network), expected)


def test_its_bytes_are_counted_and_it_is_never_cast(added, monkeypatch):
    monkeypatch.setattr(footprint, "SMALL", 0)
    parts = {part.name: part for part in parts_of_files(added.spec, 2)}
    transformer, entries_ = parts["transformer"], headers(weights_in(added.spec.folder / "transformer"))
    assert transformer.weights == sum(e.held or 2 * np.prod(e.shape, dtype=int) for e in entries_.values())
    assert transformer.weights < 1.5 * sum(np.prod(e.shape, dtype=int) for e in entries_.values())
    largest = max(np.prod(e.shape, dtype=int) for e in entries_.values() if e.held)
    assert transformer.widening >= 6 * largest and transformer.saved == 0
    loaded = load_network(added.spec, "transformer", torch.bfloat16)
    (counted,) = parts_of_modules({"transformer": loaded}, {}, tiles=False)
    # Of a loaded one also its tables of positions, and what diffusers keeps in single precision.
    tables = sum(value.nbytes for value in loaded.buffers())
    assert transformer.weights <= counted.weights - tables < 1.2 * transformer.weights
    assert (counted.saved, counted.widening) == (0, transformer.widening)
    need = need_of(added.spec, default_plan(added.spec), tuple(parts.values()))
    assert not any(strategy.casting for strategy in arrangements(need, on_gpu=True))
    plain = need_of(added.spec, default_plan(added.spec), (replace(transformer, widening=0),))
    assert need.activations["denoising"] - plain.activations["denoising"] == transformer.widening
    assert gpu_gigabytes(added.spec) is not None


def lora(folder: Path, state: State) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(state, folder / "mine.safetensors")
    return folder / "mine.safetensors"


def with_lora(weight: float):
    shot = led_shot(3, options={"loras": f"mine={weight}"})
    return replace(shot, settings=replace(shot.settings, model="vace-14b"))


def test_a_lora_runs_beside_it_as_exactly_as_in_whole_weights(added, monkeypatch):
    draw = torch.Generator().manual_seed(2)
    name = "blocks.0.attn1.to_q"
    down, up = torch.randn(2, 32, generator=draw), torch.randn(32, 2, generator=draw)
    pair = {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up, f"{name}.alpha": torch.tensor(4.0)}
    lora(added.home / "weights" / "loras", pair)
    assert [entry.reason for entry in entries(added.spec)] == [""]
    monkeypatch.setattr(footprint, "SMALL", 0)
    shot = with_lora(0.5)
    networks = find_family(added.spec).networks(added.spec, shot, torch.float32)
    expected = forward(networks["transformer"].load())
    assert (expected - forward(load_network(added.spec, "transformer", torch.float32))).abs().max() > 1e-3
    for strategy in ARRANGED:
        torch.testing.assert_close(forward(arranged(networks["transformer"].load(), strategy)), expected)
    engine = Engine(added.spec, "cpu")
    assert added.run(shot, engine).std() > 1
    layer = engine.networks["transformer"].get_submodule(name)
    x = torch.randn(3, 32, generator=draw).to(layer.compute_dtype)
    weight = gguf_files.widened(layer.weight).float() + 0.5 * (4.0 / 2) * up @ down
    expected = x.float() @ weight.T + layer.bias.float()
    torch.testing.assert_close(layer(x).float(), expected, atol=0.1, rtol=0.03)
    assert (layer(x).float() - expected).norm() < 0.01 * expected.norm()


@pytest.mark.parametrize("kind", ["lokr", "dora", "difference"])
def test_other_kinds_are_refused_by_name(added, kind):
    name = "blocks.0.attn1.to_q"
    pair = {f"{name}.lora_A.weight": torch.ones(2, 32), f"{name}.lora_B.weight": torch.ones(32, 2)}
    state = {
        "lokr": {f"{name}.lokr_w1": torch.ones(4, 4), f"{name}.lokr_w2": torch.ones(8, 8)},
        "dora": {**pair, f"{name}.dora_scale": torch.ones(32, 1)},
        "difference": {f"{name}.diff": torch.ones(32, 32)},
    }[kind]
    lora(added.home / "weights" / "loras", state)
    with pytest.raises(EngineError, match=r"1 key \(blocks.0.attn1.to_q.* that are quantised here \(GGUF\)"):
        Engine(added.spec, "cpu").plan(with_lora(1.0))
    assert "quantised here" in entries(added.spec)[0].reason
    # Of weights that are not quantised everything can be added.
    lora(added.home / "weights" / "loras", {"proj_out.diff_b": torch.ones(16)})
    assert any("With mine" in note for note in Engine(added.spec, "cpu").plan(with_lora(1.0)).notes)


def test_wan_animate_s_own_names_too(tmp_path, monkeypatch):
    """Its face adapter's keys and values lie in one matrix there, which is split while it is quantised."""
    monkeypatch.setenv("MAQUETTE_WEIGHTS", str(tmp_path / "weights"))
    animate = Added(tmp_path, "wan-animate-14b")
    assert animate.code == 0 and status(animate.spec).available
    network = load_network(animate.spec, "transformer", torch.float32)
    kept = {name for name, value in network.named_parameters() if gguf_files.quantised(value)}
    assert {"face_adapter.0.to_k.weight", "face_adapter.1.to_v.weight", "blocks.0.attn2.add_k_proj.weight"} <= kept
    for name, value in network.state_dict().items():
        found = gguf_files.widened(value).float() if name in kept else value.float()
        bound = 0.02 * float(animate.state[name].abs().max()) + 1e-6
        assert float((found - animate.state[name]).abs().max()) < bound, name
    assert animate.run(animated_shot(2, face="none")).std() > 1


@pytest.mark.parametrize("name", MODELS)
def test_every_name_at_the_published_size(name):
    """On the meta device: more blocks, and more layers of the motion encoder, than the tiny ones have."""
    network = components(model_spec(name))["transformer"].module(model_spec(name))
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    file = (authors_names if name == "vace-14b" else animate_names)(network.state_dict())
    found = {key: tuple(value.shape) for key, value in gguf_files.named(file, network).items()}
    assert {key: shape for key, shape in found.items() if not key.endswith(".kernel")} == shapes


def test_what_cannot_be_added_says_why(added, tmp_path, monkeypatch, capsys):
    def said(*words: str) -> str:
        assert added.add("--force", *words) in (1, 2)
        return capsys.readouterr().err

    assert "no such file" in said("--from", str(tmp_path / "none.gguf"))
    assert "give one GGUF file" in said("--from", str(added.file), "--from", str(added.file))
    assert "leave --component out" in said("--from", str(added.file), "--component", "vae")
    (tmp_path / "page.gguf").write_text("<html>Not found</html>")
    assert "not a GGUF file, or cut short (its first bytes" in said("--from", str(tmp_path / "page.gguf"))
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(added.file.read_bytes()[:-2000])
    assert "not a GGUF file, or cut short" in said("--from", str(cut))
    few = dict(list(authors_names(added.state).items())[:40])
    lacking = write_gguf(tmp_path / "few.gguf", few, as_published)
    assert "not the transformer that is wanted here" in said("--from", str(lacking))
    narrow = {
        key: value[:16] if key.endswith(".vace_blocks.0.ffn.0.bias") else value
        for key, value in authors_names(added.state).items()
    }
    told = said("--from", str(write_gguf(tmp_path / "narrow.gguf", narrow, as_published)))
    assert "1 of another shape (vace_blocks.0.ffn.net.0.proj.bias: 16 instead of 64)" in told
    real = gguf_files.importlib.util.find_spec
    for where, name in ((gguf_files.importlib.util, "find_spec"), (registry, "find_spec")):
        monkeypatch.setattr(where, name, lambda module: None if module == "gguf" else real(module))
    found = status(added.spec)
    assert not found.available and "its transformer is a GGUF file" in found.reason and "install gguf'" in found.reason
    assert "install the package gguf on this computer: pip install 'maquette[gguf]'" in said("--from", str(added.file))
    with pytest.raises(EngineError, match="install the package gguf .* run: maquette models check vace-14b"):
        load_network(added.spec, "transformer", torch.float32)


@given(at=st.integers(0, 9_000), value=st.sampled_from([0, 1, 127, 255]), end=st.none() | st.integers(0, 20_000))
@settings(max_examples=60)
@example(at=20, value=255, end=None)  # so many notes, or tensors, that to count them would take for ever
@example(at=12, value=255, end=None)
def test_a_damaged_file_is_a_damaged_file(added, tmp_path_factory, at, value, end):
    """Whatever byte is another, and wherever it ends: its tensors are read, or it is refused in words."""
    data = bytearray(added.file.read_bytes())
    data[at] = value
    path = tmp_path_factory.getbasetemp() / "damaged.gguf"
    path.write_bytes(data[:end])
    with contextlib.suppress(WeightsError):
        gguf_files.tensors(path)


def test_classes_without_such_files_are_named(added):
    network = SimpleNamespace(state_dict=lambda: {}, config={})
    with pytest.raises(WeightsError, match="diffusers reads no GGUF files of a SimpleNamespace"):
        gguf_files.named({}, network)


def test_a_note_that_is_gone_is_told(added, tmp_path):
    folder = tmp_path / "transformer"
    shutil.copytree(added.spec.folder / "transformer", folder)
    for spoil in (lambda path: path.write_text(json.dumps({"a": [1]})), Path.unlink):
        spoil(folder / "diffusion_pytorch_model.gguf.json")
        with pytest.raises(WeightsError, match="not a readable note .* add the file again"):
            headers(weights_in(folder))
