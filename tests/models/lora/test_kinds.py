"""LoHa, LoKr and DoRA: each added as its authors' programs add it, whose arithmetic is written out here."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers.models.transformers.transformer_wan_vace import WanVACETransformer3DModel
from maquette.backend.catalogue.lora_choice import ChosenLora
from maquette.backend.models.lora.files import FoundLora
from maquette.backend.models.lora.fuse import fuse
from maquette.backend.models.lora.keys import match
from safetensors.torch import save_file
from torch import Tensor

from ..control.builders import TABLES
from .test_lora import fused, shapes_of

State = dict[str, Tensor]

LAYER = "blocks.1.ffn.net.0.proj"
FILE = "lycoris_blocks_1_ffn_net_0_proj"
"""The same in kohya's and LyCORIS's way of naming."""
OUT, IN = 24, 24


@pytest.fixture(scope="module")
def transformer() -> WanVACETransformer3DModel:
    torch.manual_seed(0)
    return WanVACETransformer3DModel(**{**TABLES["transformer"], "ffn_dim": 36})


@pytest.fixture
def draw():
    generator = torch.Generator().manual_seed(7)
    return lambda *shape: torch.randn(*shape, generator=generator)


def added(transformer: torch.nn.Module, state: State, folder: Path, weight: float = 1.0, layer: str = LAYER) -> Tensor:
    """What a file adds to its only weight."""
    found = fused(transformer, state, folder, weight=weight)
    assert set(found) == {f"{layer}.weight"}
    return found[f"{layer}.weight"]


def near(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)


def test_loha(transformer, draw, tmp_path):
    """LyCORIS' and peft's: ((w1_a @ w1_b) * (w2_a @ w2_b)) * alpha / rank."""
    out, rank = 36, 3
    parts = {"w1_a": draw(out, rank), "w1_b": draw(rank, IN), "w2_a": draw(out, rank), "w2_b": draw(rank, IN)}
    state = {f"{FILE}.hada_{name}": value for name, value in parts.items()}
    whole = (parts["w1_a"] @ parts["w1_b"]) * (parts["w2_a"] @ parts["w2_b"])
    near(added(transformer, state, tmp_path), whole)
    near(added(transformer, {**state, f"{FILE}.alpha": torch.tensor(2.0)}, tmp_path, 0.5), 0.5 * whole * 2 / rank)
    peft = {f"base_model.model.{LAYER}.hada_{name}": value for name, value in parts.items()}
    near(added(transformer, peft, tmp_path), whole)


@pytest.mark.parametrize(("first", "second"), [(True, True), (True, False), (False, True), (False, False)])
def test_lokr(transformer, draw, tmp_path, first, second):
    """kron(w1, w2) * alpha / rank, the factors whole or products; two whole ones have no rank to divide by."""
    rank = 2
    w1_a, w1_b, w2_a, w2_b = draw(4, rank), draw(rank, 3), draw(9, rank), draw(rank, 8)
    w1, w2 = (draw(4, 3) if first else w1_a @ w1_b), (draw(9, 8) if second else w2_a @ w2_b)
    state = {f"{FILE}.alpha": torch.tensor(3.0)}
    state |= {f"{FILE}.lokr_w1": w1} if first else {f"{FILE}.lokr_w1_a": w1_a, f"{FILE}.lokr_w1_b": w1_b}
    state |= {f"{FILE}.lokr_w2": w2} if second else {f"{FILE}.lokr_w2_a": w2_a, f"{FILE}.lokr_w2_b": w2_b}
    # Kronecker's product, value by value: row 9 i + k and column 8 j + l hold w1[i, j] w2[k, l].
    expected = torch.einsum("ij,kl->ikjl", w1, w2).reshape(36, IN)
    near(added(transformer, state, tmp_path), expected * (1.0 if first and second else 3.0 / rank))


def test_kernels_are_flattened_as_their_sides_lie(transformer, draw, tmp_path):
    """A LoKr of the patches' layer, 24 x 4 x 1 x 2 x 2, its second factor with the kernel's sides."""
    w1, w2 = draw(4, 2), draw(6, 2, 1, 2, 2)
    state = {"diffusion_model.patch_embedding.lokr_w1": w1, "diffusion_model.patch_embedding.lokr_w2": w2}
    expected = torch.einsum("ij,kltyx->ikjltyx", w1, w2).reshape(24, 4, 1, 2, 2)
    near(added(transformer, state, tmp_path, layer="patch_embedding"), expected)


@pytest.mark.parametrize("layout", ["peft", "rows", "columns"])
def test_dora(transformer, draw, tmp_path, layout):
    """peft: magnitude / |W + s B A| * (W + s B A), a row each; LyCORIS also has a length for each column."""
    down, up, rank = draw(2, IN), draw(36, 2), 2
    base = transformer.get_submodule(LAYER).weight.detach()
    merged = base + up @ down * (4.0 / rank)
    magnitude = draw(1, IN).abs() if layout == "columns" else draw(36, 1).abs()
    length = merged.norm(dim=0, keepdim=True) if layout == "columns" else merged.norm(dim=1, keepdim=True)
    expected = magnitude / length * merged - base
    key = f"transformer.{LAYER}"
    named = (
        {f"{key}.lora_magnitude_vector": magnitude.reshape(36)}
        if layout == "peft"
        else {f"{key}.dora_scale": magnitude}
    )
    state = {f"{key}.lora_A.weight": down, f"{key}.lora_B.weight": up, f"{key}.alpha": torch.tensor(4.0), **named}
    near(added(transformer, state, tmp_path), expected)
    # Half of it is half way there.
    near(added(transformer, state, tmp_path, 0.5), 0.5 * expected)


def test_a_dora_is_measured_at_the_model_itself_whatever_else_is_added(transformer, draw, tmp_path):
    state = {f"{LAYER}.lora_A.weight": draw(2, IN), f"{LAYER}.lora_B.weight": draw(36, 2)}
    files = {"plain": state, "dora": {**{key: 0.3 * value for key, value in state.items()}}}
    files["dora"][f"{LAYER}.dora_scale"] = draw(36, 1).abs()
    alone = {name: added(transformer, each, tmp_path) for name, each in files.items()}
    found = []
    for name, each in files.items():
        path = tmp_path / f"{name}.safetensors"
        save_file(each, path)
        held = match({key: tuple(value.shape) for key, value in each.items()}, shapes_of(transformer))
        found.append(FoundLora(ChosenLora(name), path, held))
    before = {key: value.clone() for key, value in transformer.state_dict().items()}
    for order in (found, found[::-1]):
        fuse(transformer, order)
        near(transformer.get_submodule(LAYER).weight - before[f"{LAYER}.weight"], alone["plain"] + alone["dora"])
        transformer.load_state_dict(before)


def test_what_does_not_fit_or_is_not_whole_is_told_by_name(transformer):
    mine = shapes_of(transformer)

    def problem(**shapes: tuple[int, ...]) -> str:
        return match({f"{LAYER}.{name}": shape for name, shape in shapes.items()}, mine).problem("Tiny")

    loha = {"hada_w1_a": (36, 3), "hada_w1_b": (3, 24), "hada_w2_a": (36, 3), "hada_w2_b": (3, 24)}
    assert not problem(**loha)
    assert "hada_w1_a has rank 3, its partner 4" in problem(**{**loha, "hada_w1_b": (4, 24)})
    assert "its partner for 36 x 20" in problem(**{**loha, "hada_w2_b": (3, 20)})
    assert "3 keys" in problem(**{k: v for k, v in loha.items() if k != "hada_w1_b"})
    assert f"1 key ({LAYER}.hada_t1) of a kind that is not read" in problem(**loha, hada_t1=(3, 3, 1, 1))
    assert f"1 key ({LAYER}.lokr_t2) of a kind" in problem(lokr_w1=(4, 3), lokr_t2=(2, 2, 3, 3))
    assert "35 x 24 values where the model has 36 x 24" in problem(lokr_w1=(5, 3), lokr_w2=(7, 8))
    assert "holds a single number" in problem(lokr_w1=(), lokr_w2=(36, 24))
    pair = {"lora_A.weight": (2, 24), "lora_B.weight": (36, 2)}
    assert "dora_scale is for 35 rows or columns" in problem(**pair, dora_scale=(35, 1))
    assert f"1 key ({LAYER}.dora_scale) without a partner" in problem(dora_scale=(36, 1))
