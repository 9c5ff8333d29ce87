"""LoRAs in the layouts of the field, against diffusers' own converters, and from their folder into a film."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.loaders import lora_conversion_utils as theirs
from diffusers.models.transformers.transformer_ltx2 import LTX2VideoTransformer3DModel
from diffusers.models.transformers.transformer_wan_vace import WanVACETransformer3DModel
from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors
from hypothesis import given, settings
from hypothesis import strategies as st
from maquette.backend.catalogue.lora_choice import ChosenLora, format_loras, parse_loras
from maquette.backend.catalogue.loras import Recipe, list_loras, lora_path, recipe_for, recipe_of
from maquette.backend.models.control.build import load_network
from maquette.backend.models.engine import Engine
from maquette.backend.models.family import EngineError
from maquette.backend.models.lora.files import FoundLora, entries
from maquette.backend.models.lora.fuse import fuse
from maquette.backend.models.lora.keys import match
from maquette.backend.models.registry import status
from maquette.backend.models.renaming import LTX2_TRANSFORMER, WAN_TRANSFORMER
from maquette.backend.models.weights.sizes import model_entry
from safetensors.torch import save_file
from torch import Tensor

from ..control.builders import LTX_TABLES, TABLES, led_shot

State = dict[str, Tensor]

LINEAR = tuple(
    f"blocks.{i}.{name}"
    for i in range(2)
    for name in (
        *(f"{attention}.{part}" for attention in ("attn1", "attn2") for part in ("to_q", "to_k", "to_v", "to_out.0")),
        "ffn.net.0.proj",
        "ffn.net.2",
    )
)
"""What diffusers' converters look for; that of kohya wants all of it."""


@pytest.fixture(scope="module")
def transformer() -> WanVACETransformer3DModel:
    torch.manual_seed(0)
    return WanVACETransformer3DModel(**TABLES["transformer"])


def shapes_of(module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in module.state_dict().items()}


def pairs(transformer: torch.nn.Module, modules: tuple[str, ...] = LINEAR, rank: int = 2) -> State:
    """Down and up of each module, by ``MODULE.down`` and ``MODULE.up`` in diffusers' names."""
    draw = torch.Generator().manual_seed(1)
    made: State = {}
    for name in modules:
        out, into = transformer.get_submodule(name).weight.shape  # type: ignore[union-attr]
        made[f"{name}.down"] = torch.randn(rank, into, generator=draw)
        made[f"{name}.up"] = torch.randn(out, rank, generator=draw)
    return made


def written(state: State, layout: str, alpha: float | None = None) -> State:
    """The pairs in one of the layouts."""
    made: State = {}
    for key, value in state.items():
        module, _, part = key.rpartition(".")
        original = WAN_TRANSFORMER.published(module)
        stem = {
            "diffusers": f"transformer.{module}",
            "comfy": f"diffusion_model.{original}",
            "peft": f"diffusion_model.{original}",
            "kohya": f"lora_unet_{original.replace('.', '_')}",
        }[layout]
        names = ("lora_A", "lora_B") if layout in ("diffusers", "peft") else ("lora_down", "lora_up")
        made[f"{stem}.{names[part == 'up']}.weight"] = value.clone()
        if alpha is not None:
            made[f"{stem}.alpha"] = torch.tensor(alpha)
    return made


def fused(transformer: torch.nn.Module, state: State, folder: Path, metadata=None, weight: float = 1.0) -> State:
    """What is added to each weight."""
    path = folder / "some.safetensors"
    save_file(state, path, metadata)
    found = match({key: tuple(value.shape) for key, value in state.items()}, shapes_of(transformer))
    assert not found.problem("Tiny"), found
    before = {key: value.clone() for key, value in transformer.state_dict().items()}
    fuse(transformer, [FoundLora(ChosenLora("some", weight), path, found)])
    added = {key: value - before[key] for key, value in transformer.state_dict().items()}
    transformer.load_state_dict(before)
    return {key: value for key, value in added.items() if bool(value.any())}


def of_diffusers(converted: State) -> State:
    """What peft would add for a state dict of diffusers' converters, whose ranks are its alphas."""
    added: State = {}
    for key, value in converted.items():
        module = key.removeprefix("transformer.")
        if ".lora_A." in key:
            up = converted[key.replace("lora_A", "lora_B")]
            added[module.replace("lora_A.", "")] = up.float() @ value.float()
        elif module.endswith(".lora_B.bias"):
            added[module.replace("lora_B.", "")] = value.float()
    return added


@pytest.mark.parametrize(
    ("layout", "alpha", "converter"),
    [
        ("comfy", None, theirs._convert_non_diffusers_wan_lora_to_diffusers),
        ("comfy", 3.0, theirs._convert_non_diffusers_wan_lora_to_diffusers),
        ("peft", 0.5, theirs._convert_non_diffusers_wan_lora_to_diffusers),
        ("kohya", 1.0, theirs._convert_musubi_wan_lora_to_diffusers),
        ("diffusers", None, dict),
    ],
)
def test_every_layout_adds_what_diffusers_adds(transformer, tmp_path, layout, alpha, converter):
    state = written(pairs(transformer), layout, alpha)
    if layout == "comfy":
        state["diffusion_model.blocks.1.self_attn.q.diff_b"] = torch.arange(24.0)
        head = torch.randn(2, 24), torch.randn(16, 2)
        state |= {f"diffusion_model.head.head.lora_{n}.weight": v for n, v in zip(("down", "up"), head, strict=True)}
    expected = of_diffusers(converter({key: value.clone() for key, value in state.items()}))
    found = fused(transformer, state, tmp_path)
    assert set(found) == set(expected) and len(found) >= 20
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, atol=1e-5, rtol=1e-4)


def test_ltx_has_its_authors_names():
    """Every weight of LTX-2's transformer, by the names that diffusers' converter knows."""
    with torch.device("meta"):
        shapes = shapes_of(LTX2VideoTransformer3DModel(**LTX_TABLES["transformer"]))
    linear = [key.removesuffix(".weight") for key, shape in shapes.items() if len(shape) == 2 and "weight" in key]
    theirs_of = {f"diffusion_model.{LTX2_TRANSFORMER.published(module)}.lora_A.weight": module for module in linear}
    given = {key: torch.zeros(2, shapes[f"{module}.weight"][1]) for key, module in theirs_of.items()}
    converted = theirs._convert_non_diffusers_ltx2_lora_to_diffusers(given)
    assert list(converted) == [f"transformer.{module}.lora_A.weight" for module in linear]
    state = {key: tuple(value.shape) for key, value in given.items()}
    state |= {key.replace("_A", "_B"): (shapes[f"{m}.weight"][0], 2) for key, m in theirs_of.items()}
    found = match(state, shapes)
    assert not found.problem("LTX") and not found.foreign
    assert [change.parameter for change in found.changes] == [f"{module}.weight" for module in linear]
    with torch.device("meta"):
        connectors = shapes_of(LTX2TextConnectors(**LTX_TABLES["text_encoder_connectors"]))
    names = {"text_embedding_projection.video_aggregate_embed": "video_text_proj_in.weight",
             "connectors.audio_text_proj_in": "audio_text_proj_in.weight",
             "diffusion_model.video_embeddings_connector.transformer_1d_blocks.0.attn1.to_q":
             "video_connector.transformer_blocks.0.attn1.to_q.weight"}  # fmt: skip
    text = {f"{name}.lora_A.weight": (2, connectors[key][1]) for name, key in names.items()}
    text |= {f"{name}.lora_B.weight": (connectors[key][0], 2) for name, key in names.items()}
    assert [change.parameter for change in match(text, connectors).changes] == list(names.values())
    both = match({**state, **text}, connectors)
    assert len(both.changes) == 3 and len(both.foreign) == len(state) and not both.misfits
    wan = {"diffusion_model.blocks.0.self_attn.q.lora_A.weight": (2, 24)}
    assert "another model: 1 key" in match(wan, shapes).problem("LTX")


def test_what_only_comfy_s_files_change(transformer, tmp_path):
    """Whole differences: of norms, of the tables of modulation and of the patches' layer."""
    state = {
        "diffusion_model.blocks.0.norm3.diff": torch.ones(24),
        "diffusion_model.blocks.0.diff_m": torch.full((1, 6, 24), 2.0),
        "diffusion_model.head.diff_m": torch.full((1, 2, 24), 3.0),
        "diffusion_model.vace_blocks.0.before_proj.diff": torch.full((24, 24), 4.0),
        "diffusion_model.patch_embedding.diff": torch.full((24, 4, 1, 2, 2), 5.0),
    }
    found = fused(transformer, state, tmp_path, weight=0.5)
    assert {key: float(value.mean()) for key, value in found.items()} == pytest.approx(
        {
            "blocks.0.norm2.weight": 0.5,
            "blocks.0.scale_shift_table": 1.0,
            "scale_shift_table": 1.5,
            "vace_blocks.0.proj_in.weight": 2.0,
            "patch_embedding.weight": 2.5,
        },
        abs=1e-5,
    )


def test_what_peft_was_told_counts(transformer, tmp_path):
    """diffusers keeps alphas in the header: one of all, and those of single modules."""
    one, other = "blocks.0.attn1.to_q", "blocks.1.attn1.to_q"
    state = pairs(transformer, (one, other), rank=2)
    told = {"transformer.lora_alpha": 8, "transformer.r": 2, "transformer.alpha_pattern": {"blocks.1.attn1.to_q": 1}}
    metadata = {"format": "pt", "lora_adapter_metadata": json.dumps(told)}
    found = fused(transformer, written(state, "diffusers"), tmp_path, metadata)
    for name, factor in ((one, 4.0), (other, 0.5)):
        added = factor * state[f"{name}.up"] @ state[f"{name}.down"]
        torch.testing.assert_close(found[f"{name}.weight"], added, atol=1e-5, rtol=1e-4)


def test_what_does_not_fit_is_told_by_name_and_number(transformer):
    mine = shapes_of(transformer)
    good = {key: tuple(value.shape) for key, value in written(pairs(transformer), "comfy").items()}

    def problem(change) -> str:
        keys = dict(good)
        change(keys)
        return match(keys, mine).problem("Tiny")

    wide = {key: tuple(40 if side == 24 else side for side in shape) for key, shape in good.items()}
    assert "40 x 40 values where the model has 24 x 24, and 19 more" in problem(lambda k: k.update(wide))
    first = "diffusion_model.blocks.0.self_attn.q"
    half = problem(lambda k: k.pop(f"{first}.lora_up.weight"))
    assert half.startswith(f"1 key ({first}.lora_down.weight) without a partner")
    assert "rank 3, its partner 2" in problem(lambda k: k.update({f"{first}.lora_up.weight": (24, 3)}))
    assert "1 key (a.oft_blocks) of a kind" in problem(lambda k: k.update({"a.oft_blocks": (2, 2)}))
    others = {f"lora_unet_down_blocks_{i}.lora_{part}.weight": (4, 4) for i in range(2) for part in ("down", "up")}
    strange = match(others, mine).problem("Tiny")
    assert "another model: 4 keys (lora_unet_down_blocks_0.lora_down.weight" in strange
    both = match({**good, **others}, mine)
    assert (
        not both.problem("Tiny") and "4 keys" in both.note("mine", "Tiny") and "left out" in both.note("mine", "Tiny")
    )


@given(
    st.lists(
        st.tuples(st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=20),
                  st.floats(-4, 4)), max_size=8, unique_by=lambda item: item[0].strip(),
    )
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_a_choice_comes_back_from_its_text(items):
    chosen = tuple(ChosenLora(name.strip(), float(f"{weight:g}")) for name, weight in items if name.strip())
    assert parse_loras(format_loras(chosen)) == chosen


@pytest.mark.parametrize(
    ("text", "words"),
    [("a=nan", "NAME=WEIGHT"), ("a=9", "-4 to 4"), ("=1", "NAME=WEIGHT"), ("a\na=0.5", "a is chosen twice")],
)
def test_choices_that_are_none(text, words):
    with pytest.raises(ValueError, match=words):
        parse_loras(text)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The user's folder of LoRAs."""
    monkeypatch.setenv("MAQUETTE_WEIGHTS", str(tmp_path))
    (tmp_path / "loras" / "style").mkdir(parents=True)
    return tmp_path / "loras"


def asked(text: str, **others):
    shot = led_shot(options={"loras": text})
    return replace(shot, settings=replace(shot.settings, **others))


def test_only_what_the_folder_lists_can_be_named(folder, tiny_vace, transformer, monkeypatch):
    save_file(written(pairs(transformer), "comfy"), folder.parent / "outside.safetensors")
    save_file(written(pairs(transformer), "comfy"), folder / "style" / "Ink.safetensors")
    (folder / "style" / ".hidden.safetensors").write_bytes(b"")
    os.symlink(folder, folder / "style" / "round")
    names = list(list_loras())
    assert "style/Ink" in names and len(names) < 5 and not any("hidden" in name for name in names)
    # Each is found by its name alone, and a job walks through no folder.
    assert {name: lora_path(name) for name in names} == list_loras()
    engine = Engine(tiny_vace, "cpu")
    with monkeypatch.context() as patch:
        patch.setattr(os, "walk", lambda *_, **__: pytest.fail("walked"))
        engine.begin(asked("style/Ink=0.5"))
        assert recipe_for([ChosenLora("style/Ink")]) is None
    strange = ("style/.hidden", "style//Ink", "./style/Ink", "style\\Ink", "style/Ink\0", "", "/", "a/b/c/d/e/Ink")
    for name in strange:
        assert lora_path(name) is None, name
    for name in ("../outside", str(folder.parent / "outside"), "style/../style/Ink", "nothing"):
        with pytest.raises(EngineError, match="no LoRA") as caught:
            engine.plan(asked(name))
        assert caught.value.field == "settings.options.loras" and "style/Ink" in str(caught.value)
    assert any("With style/Ink (0.5)" in note for note in engine.plan(asked("style/Ink=0.5")).notes)


def test_from_the_folder_into_a_film(folder, tiny_vace, transformer):
    strong = {key: 0.5 * value for key, value in written(pairs(transformer), "comfy").items()}
    save_file(strong, folder / "lightx2v_rank2.safetensors")
    save_file(written(pairs(transformer), "kohya", 0.1), folder / "ink.safetensors")
    engine = Engine(tiny_vace, "cpu")

    def run(shot):
        return engine.generate(shot, lambda _: None, lambda: False)

    fast = run(asked("ink=1\nlightx2v_rank2=0.8"))
    assert fast.metadata["steps"] == 4
    assert (fast.metadata["guidance"], fast.metadata["flow_shift"]) == (1.0, 5.0)
    assert fast.metadata["options"]["loras"] == "ink=1\nlightx2v_rank2=0.8"
    assert "lightx2v_rank2 is made for 4 steps, guidance 1, shift 5, which were taken" in fast.notes
    # The same engine without them is the model as it was.
    plain = run(asked("", steps=4, guidance=1.0))
    assert np.abs(plain.frames.astype(int) - fast.frames).max() > 2
    weights = load_network(tiny_vace, "transformer", engine.dtype).state_dict()
    kept = engine.networks["transformer"].state_dict()
    assert all(torch.equal(kept[key], value) for key, value in weights.items())
    own = engine.plan(asked("lightx2v_rank2", steps=20))
    assert any("the shot's own steps 20 stayed" in note for note in own.notes)
    assert engine.begin(asked("lightx2v_rank2", steps=20)).steps == 20
    assert engine.begin(asked("lightx2v_rank2", quality="standard")).steps == 4


def test_a_backend_tells_which_fit_and_what_they_want(folder, tiny_vace, transformer):
    save_file(written(pairs(transformer), "comfy"), folder / "Wan_FusioniX.safetensors")
    save_file({"lora_unet_down.lora_down.weight": torch.ones(2, 2)}, folder / "other.safetensors")
    (folder / "broken.safetensors").write_bytes(b"no tensors")
    save_file(written(pairs(transformer), "comfy"), folder / "mine.safetensors")
    (folder / "mine.toml").write_text("steps = 6\nshift = 7.5\n")
    told = {entry.name: entry for entry in model_entry(status(tiny_vace)).loras}
    assert told == {entry.name: entry for entry in entries(tiny_vace)} and len(told) == 4
    fusion, mine = told["Wan_FusioniX"], told["mine"]
    assert (fusion.reason, fusion.steps, fusion.guidance, fusion.shift) == ("", 8, 1.0, 2.0)
    assert (mine.reason, mine.steps, mine.guidance, mine.shift) == ("", 6, None, 7.5)
    assert "another model" in told["other"].reason and "not a safetensors file" in told["broken"].reason
    (folder / "mine.toml").write_text("stepz = 6\n")
    with pytest.raises(EngineError, match=r"mine\.toml: stepz"):
        Engine(tiny_vace, "cpu").plan(asked("mine"))


def test_recipes_are_known_by_the_names_that_files_have():
    known = {
        "Wan21_CausVid_bidirect2_T2V_1_3B_lora_rank32": 9,
        "wan2.1_t2v_14b_lora_rank64_lightx2v_4step": 4,
        "sub/Wan2.1_T2V_14B_FusionX_LoRA": 8,
        "Wan21_AccVid_T2V_14B_lora_rank32_fp16": 10,
        "ltx-2.3-22b-distilled-1.1_lora-dynamic_fro09_avg_rank_111_bf16": 8,
    }
    found = {name: recipe_of(name) for name in known}
    assert {name: recipe.steps for name, recipe in found.items() if recipe} == known
    assert recipe_of("causvid/ink") is None
    with pytest.raises(ValueError, match="sigmas must be as many as steps"):
        Recipe("some", "Some", steps=2, sigmas=(1.0, 0.5, 0.2))
