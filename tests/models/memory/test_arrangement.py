"""How a model is spread: decided within what is free, and carried out by diffusers' switches without other results."""

from __future__ import annotations

import copy
import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.hooks.group_offloading import _is_group_offload_enabled
from diffusers.models.autoencoders.autoencoder_kl_cogvideox import AutoencoderKLCogVideoX
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.transformers.cogvideox_transformer_3d import CogVideoXTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel
from hypothesis import given
from hypothesis import strategies as st
from maquette.backend.catalogue.models import ModelDefaults, ModelOption, ModelSpec, model_spec
from maquette.backend.models import registry
from maquette.backend.models.family import EngineError, Plan
from maquette.backend.models.loading import load_part
from maquette.backend.models.memory import arrangement as memory
from maquette.backend.models.memory import footprint, placement
from maquette.backend.models.memory.arrangement import CPU_ORDER, MARGIN, ORDER, DoesNotFit, Mode, Strategy
from maquette.backend.models.memory.footprint import GB, STAGES, Free, Need, NetworkFootprint
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

CPU = torch.device("cpu")


def spec(table: dict[str, float] | None = None, **limits: int) -> ModelSpec:
    return ModelSpec(
        id="tiny", label="Tiny", description="", license="MIT", engine="tiny", inputs={}, limits=limits, files=(),
        defaults=ModelDefaults(2, 1.0, 640, 360, 20), folder=Path("nowhere"), memory=table or {},
    )  # fmt: skip


def plan(width: int = 640, height: int = 360, frames: int = 20, windows: tuple[tuple[int, int], ...] = ()) -> Plan:
    return Plan(width, height, frames, windows or ((0, frames),), (), (width, height), frames)


# -- the decision ----------------------------------------------------------------------------------------------------

sizes = st.integers(0, 60 * GB)


@st.composite
def parts(draw: st.DrawFn, name: str) -> NetworkFootprint:
    weights = draw(sizes)
    stages = footprint.stages_of(name)
    block = draw(st.integers(0, weights))
    return NetworkFootprint(
        name=name,
        weights=weights,
        saved=draw(st.integers(0, weights * 3 // 4)),
        block=block,
        layer=draw(st.integers(0, block)),
        stages=stages,
        tiles=name.startswith("vae") and draw(st.booleans()),
    )


@st.composite
def needs(draw: st.DrawFn) -> Need:
    names = draw(st.lists(st.sampled_from(["vae", "image_encoder", "text_encoder", "unet", "adapter"]), unique=True))
    activations = {stage: draw(sizes) for stage in STAGES}
    tiled = {stage: draw(st.integers(0, size)) for stage, size in activations.items()}
    return Need(
        parts=tuple(draw(parts(name)) for name in names),
        base=draw(st.integers(0, GB)),
        activations=activations,
        tiled=draw(st.sampled_from([tiled, {}])),
    )


frees = st.builds(Free, ram=st.integers(0, 256 * GB), gpu=st.none() | st.integers(0, 192 * GB))


@given(needs(), frees)
def test_what_is_chosen_stays_within_what_is_free(need: Need, free: Free):
    on_gpu = free.gpu is not None
    order = ORDER if on_gpu else CPU_ORDER
    try:
        chosen = memory.decide(need, free)
    except DoesNotFit:
        # Nothing at all would have fitted.
        for strategy in memory.arrangements(need, on_gpu):
            taken = memory.estimate(need, strategy, on_gpu)
            assert taken.ram > free.ram * (1 - MARGIN) or taken.gpu > (free.gpu or 0) * (1 - MARGIN)
        return
    taken = memory.estimate(need, chosen, on_gpu)
    assert taken.ram <= free.ram and taken.gpu <= (free.gpu or 0)
    # Every faster arrangement that makes a difference would not have fitted.
    for faster in order[: order.index(chosen)]:
        if faster in memory.arrangements(need, on_gpu):
            assert not memory.estimate(need, faster, on_gpu).fits(free)


@given(needs(), frees, st.integers(0, 50 * GB))
def test_more_memory_is_never_slower(need: Need, free: Free, more: int):
    order = ORDER if free.gpu is not None else CPU_ORDER
    try:
        before = order.index(memory.decide(need, free))
    except DoesNotFit:
        before = len(order)
    larger = replace(free, ram=free.ram + more, gpu=None if free.gpu is None else free.gpu + more)
    try:
        after = order.index(memory.decide(need, larger))
    except DoesNotFit:
        after = len(order)
    assert after <= before


@given(needs())
def test_an_estimate_counts_each_running_part(need: Need):
    """Whatever runs is on the GPU with its activations at that time, at least by the layer."""
    for strategy in ORDER:
        activations = need.tiled if strategy.tiling else need.activations
        taken = memory.estimate(need, strategy, on_gpu=True)
        for part in need.parts:
            for stage in part.stages:
                assert taken.gpu >= min(part.layer, part.weights - part.saved) + activations.get(stage, 0)


def test_a_model_of_17_billion_weights_on_common_gpus():
    """The published 17B, its umT5 and CLIP encoders at two bytes: what each GPU gets."""
    transformer = NetworkFootprint("transformer", 35 * GB, saved=17 * GB, block=3 * GB, layer=GB // 2)
    need = Need(
        parts=(
            transformer,
            NetworkFootprint("text_encoder", 11 * GB, block=11 * GB, layer=4 * GB, stages=("encoding",)),
            NetworkFootprint("image_encoder", 13 * GB // 10, block=GB, layer=GB // 10, stages=("encoding",)),
            NetworkFootprint("vae", GB // 4, stages=("encoding", "decoding"), tiles=True),
        ),
        base=GB // 2,
        activations={"encoding": 2 * GB, "denoising": 3 * GB, "decoding": 6 * GB},
        tiled={"encoding": GB, "denoising": 3 * GB, "decoding": 2 * GB},
    )
    ram = 96 * GB
    assert memory.decide(need, Free(ram, 80 * GB)) == Strategy(Mode.RESIDENT)
    assert memory.decide(need, Free(ram, 48 * GB)) == Strategy(Mode.MODELS)
    assert memory.decide(need, Free(ram, 24 * GB)) == Strategy(Mode.BLOCKS)
    assert memory.decide(need, Free(ram, 8 * GB)).mode is Mode.BLOCKS
    assert memory.decide(need, Free(ram, 6 * GB)) == Strategy(Mode.LAYERS, tiling=True)
    with pytest.raises(DoesNotFit):
        memory.decide(need, Free(ram, 4 * GB))
    with pytest.raises(DoesNotFit):
        memory.decide(need, Free(32 * GB, 80 * GB))
    with pytest.raises(DoesNotFit):
        memory.decide(need, Free(48 * GB))
    assert memory.decide(need, Free(64 * GB)) == Strategy()


def test_the_table_of_a_model_scales_with_picture_and_frames():
    table = {"denoising_gb": 1.0, "denoising_gb_per_mpf": 0.5, "decoding_gb_per_mpf": 2.0, "decoding_frames": 8,
             "encoding_gb_per_mpf": 2.0, "encoding_frames": 1, "base_gb": 0.25, "tile_megapixels": 0.1}  # fmt: skip
    need = footprint.need_of(spec(table), plan(1000, 500, 100, ((0, 40), (30, 70), (60, 100))), ())
    assert need.base == GB // 4
    assert need.activations == {"encoding": GB, "denoising": 11 * GB, "decoding": 8 * GB}
    assert need.tiled == {"encoding": 0.2 * GB, "denoising": 11 * GB, "decoding": 1.6 * GB}
    wide = footprint.need_of(spec(table), plan(1000, 500, 40), (), itemsize=4)
    assert wide.activations["denoising"] == 22 * GB


# -- the refusal -----------------------------------------------------------------------------------------------------

TABLE = {"denoising_gb_per_mpf": 0.5, "base_gb": 0.5}
UNET = (NetworkFootprint("unet", 3 * GB, saved=GB, block=GB, layer=GB // 10),)


def refusal(
    gpu: float | None, ram: float = 64, parts: tuple[NetworkFootprint, ...] = UNET, **limits: int
) -> EngineError:
    free = Free(int(ram * GB), None if gpu is None else int(gpu * GB), "Small GPU")
    with pytest.raises(EngineError) as caught:
        memory.check_fits(spec(TABLE, **limits), plan(1000, 1000, 40), free, parts)
    return caught.value


def test_advice_that_is_followed_helps():
    error = refusal(8)
    assert error.field == "clip"
    message = str(error)
    assert "Tiny would take about 20.6 GB of GPU memory" in message and "Small GPU has 8.0 GB free" in message
    assert "40 frames of 1000 x 1000" in message and "use a GPU with 24 GB" in message
    frames = int(message.split("shorten the range to ")[1].split()[0])
    sides = [int(word) for word in message.split("generate at about ")[1].split(" pixels")[0].split(" x ")]
    free = Free(64 * GB, 8 * GB)
    memory.check_fits(spec(TABLE), plan(1000, 1000, frames), free, UNET)
    memory.check_fits(spec(TABLE), plan(sides[0], sides[1], 40), free, UNET)
    with pytest.raises(EngineError):
        memory.check_fits(spec(TABLE), plan(1000, 1000, frames + 1), free, UNET)
    memory.check_fits(spec(TABLE), plan(1000, 1000, 40), Free(64 * GB, 24 * GB), UNET)


def test_advice_keeps_to_the_models_limits():
    assert refusal(8, min_frames=20).field == "settings.width"
    error = refusal(8, min_frames=20, min_size=900)
    assert error.field == "settings.model" and "shorten" not in str(error) and "pixels" not in str(error)


def test_advice_names_a_shorter_window_where_there_is_that_choice():
    """MimicMotion's window; the overlap of 6 leaves 8 frames at the least."""
    choice = ModelOption("int", 40, "Window", min=4, max=128)
    options = {"window": choice, "overlap": ModelOption("int", 6, "Overlap")}
    tiny = replace(spec(TABLE), options=options)
    with pytest.raises(EngineError) as caught:
        memory.check_fits(tiny, plan(1000, 1000, 40), Free(64 * GB, 8 * GB), UNET)
    assert caught.value.field == "settings.options.window"
    window = int(str(caught.value).split("set Window to ")[1].split(",")[0])
    starts = range(0, 40, window)
    windows = tuple((start, start + window) for start in starts)
    memory.check_fits(tiny, plan(1000, 1000, 40, windows), Free(64 * GB, 8 * GB), UNET)
    longer = tuple((start, start + window + 1) for start in starts)
    with pytest.raises(EngineError):
        memory.check_fits(tiny, plan(1000, 1000, 40, longer), Free(64 * GB, 8 * GB), UNET)
    with pytest.raises(EngineError) as caught:
        memory.check_fits(tiny, plan(1000, 1000, 40), Free(64 * GB, 4 * GB), UNET)
    assert "set Window" not in str(caught.value)


def test_advice_leaves_out_what_saves_nothing():
    """A model that always works on 40 frames of its own size."""
    fixed = replace(spec({**TABLE, "least_frames": 40, "fixed_picture": 1}))
    with pytest.raises(EngineError) as caught:
        memory.check_fits(fixed, plan(1000, 1000, 40), Free(64 * GB, 8 * GB), UNET)
    assert caught.value.field == "settings.model"
    assert "shorten" not in str(caught.value) and "pixels" not in str(caught.value)


def test_fewer_frames_are_decoded_at_once_before_a_job_is_refused():
    table = {"base_gb": 0.5, "decoding_gb_per_mpf": 2.0, "decoding_frames": 8}
    adaptive = spec({**table, "decoding_frames_least": 1})
    with pytest.raises(EngineError):
        memory.check_fits(spec(table), plan(1000, 1000), Free(64 * GB, 8 * GB), UNET)
    assert memory.check_fits(adaptive, plan(1000, 1000), Free(64 * GB, 8 * GB), UNET) == Strategy()
    # As long as some arrangement leaves room for all of them, that one is taken.
    assert memory.check_fits(adaptive, plan(1000, 1000), Free(64 * GB, 18 * GB), UNET).mode is Mode.MODELS
    resident = Strategy()
    for gigabytes, kept in ((24, True), (18, False), (8, True), (4, False)):
        free = Free(64 * GB, gigabytes * GB)
        assert memory.still_fits(adaptive, plan(1000, 1000), free, UNET, 2, resident) is kept
    placed = placement.Placement(resident, CPU, (), True, adaptive, {}, UNET)
    assert placed.decoding_chunk(plan(100, 100), 8) == 8


def test_room_for_decoding_counts_what_the_vae_sends_away(monkeypatch):
    """10 GB are free or cached, 2 GB in use; a network of 4 GB leaves when the VAE comes (2 GB a megapixel)."""
    monkeypatch.setattr(placement, "free_memory", lambda *_: Free(64 * GB, 10 * GB))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda *_: 2 * GB)
    modules = {
        "unet": torch.nn.Linear(10**5, 10**4, bias=False, device="meta"),
        "vae": torch.nn.Linear(3, 3),
    }
    parts = (NetworkFootprint("unet", 4 * GB), NetworkFootprint("vae", 36, stages=("encoding", "decoding")))
    for mode, chunk in ((Mode.RESIDENT, 3), (Mode.MODELS, 5)):
        described = spec({"decoding_gb_per_mpf": 2.0})
        placed = placement.Placement(Strategy(mode), CPU, (), True, described, modules, parts)
        assert placed.decoding_chunk(plan(1000, 1000), 8) == chunk
        assert placed.decoding_chunk(plan(1000, 1000), 1) == 1


def test_weights_that_fit_nowhere():
    error = refusal(24, ram=8, parts=(NetworkFootprint("unet", 35 * GB, block=GB, layer=GB),))
    assert error.field == "settings.model" and "use a computer with 48 GB of it" in str(error)
    error = refusal(None, ram=8, parts=(NetworkFootprint("unet", 35 * GB),))
    assert error.field == "settings.model" and "a computer with a GPU, or with 64 GB of main memory" in str(error)


def test_weights_are_counted_from_the_headers(monkeypatch):
    assert not footprint.parts_of_files(model_spec("isa-nano"), itemsize=4), "none of its networks is read"
    monkeypatch.setattr(registry, "idle_parts", lambda _: frozenset())
    found = {part.name: part for part in footprint.parts_of_files(model_spec("isa-nano"), itemsize=4)}
    from maquette.backend.models.isa.build import load_transformer

    module = load_transformer(model_spec("isa-nano"))
    (loaded,) = footprint.parts_of_modules({"transformer": module}, {}, tiles=False)
    buffers = sum(b.numel() * b.element_size() for _, b in module.named_buffers())
    assert found["transformer"].weights == loaded.weights - buffers > 10**6
    assert 0 < found["transformer"].layer < found["transformer"].block <= found["transformer"].weights
    assert footprint.parts_of_files(model_spec("isa-nano"), itemsize=2)[0].weights * 2 == found["transformer"].weights


def test_a_job_is_refused_before_its_weights_are_read(tiny_spec, monkeypatch):
    from maquette.backend.models import engine as engines
    from maquette.backend.models.engine import Engine

    from ..conftest import make_shot

    engine = Engine(tiny_spec, device="cpu")
    shot = make_shot()
    assert engine.check_memory(engine.plan(shot)) == Strategy()
    monkeypatch.setattr(footprint, "free_ram", lambda: 10**6)
    monkeypatch.setattr(engines, "reclaimable", lambda: 0)
    monkeypatch.setattr(engines, "interruptible", lambda *_: pytest.fail("weights were read"))
    with pytest.raises(EngineError, match="Tiny would take about .* main memory"):
        engine.generate(shot, lambda _: None, lambda: False)


def test_main_memory_within_a_containers_limit(tmp_path):
    assert footprint.free_ram(tmp_path) == pytest.approx(footprint.free_ram(), rel=0.2)
    (tmp_path / "memory.max").write_text("3000000000\n")
    (tmp_path / "memory.current").write_text("1000000000\n")
    assert footprint.free_ram(tmp_path) == 2_000_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert footprint.free_ram(tmp_path) > 10**8


# -- the switches ----------------------------------------------------------------------------------------------------


def cogvideox() -> tuple[Any, dict]:
    module = CogVideoXTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, num_layers=3, text_embed_dim=8,
        time_embed_dim=8, sample_width=8, sample_height=8, sample_frames=5, max_text_seq_length=4,
    )  # fmt: skip
    inputs = {"hidden_states": torch.randn(1, 2, 4, 8, 8), "encoder_hidden_states": torch.randn(1, 4, 8)}
    return module, {**inputs, "timestep": torch.tensor([3])}


def wan() -> tuple[torch.nn.Module, dict]:
    module = WanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=24, in_channels=4, out_channels=4, text_dim=8, freq_dim=8,
        ffn_dim=32, num_layers=3, image_dim=8,
    )  # fmt: skip
    inputs = {"hidden_states": torch.randn(1, 4, 2, 8, 8), "encoder_hidden_states": torch.randn(1, 6, 8)}
    return module, {
        **inputs, "timestep": torch.tensor([3]), "encoder_hidden_states_image": torch.randn(1, 5, 8)
    }  # fmt: skip


def svd() -> tuple[torch.nn.Module, dict]:
    module = UNetSpatioTemporalConditionModel(
        in_channels=8, out_channels=4, block_out_channels=(32, 64), layers_per_block=1, cross_attention_dim=16,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"), num_attention_heads=(2, 4),
        projection_class_embeddings_input_dim=96, addition_time_embed_dim=32,
    )  # fmt: skip
    return module, {
        "sample": torch.randn(1, 2, 8, 8, 8), "timestep": torch.tensor(3.0),
        "encoder_hidden_states": torch.randn(1, 1, 16), "added_time_ids": torch.ones(1, 3),
    }  # fmt: skip


@pytest.fixture(params=[cogvideox, wan, svd])
def denoiser(request) -> tuple[Any, dict]:
    torch.manual_seed(0)
    module, inputs = request.param()
    return module.eval(), inputs


@pytest.fixture
def everything_is_large(monkeypatch):
    monkeypatch.setattr(footprint, "SMALL", 0)


def hooks_of(module: torch.nn.Module) -> str:
    if _is_group_offload_enabled(module):
        return "groups"
    return "model" if hasattr(module, "_hf_hook") else ""


@pytest.mark.usefixtures("everything_is_large")
@pytest.mark.parametrize("strategy", [s for s in ORDER if not s.tiling], ids=str)
@torch.no_grad()
def test_an_arrangement_gives_the_same_picture(denoiser, strategy):
    module, inputs = denoiser
    want = module(**inputs).sample
    spread = copy.deepcopy(module)
    counted = footprint.parts_of_modules({"unet": spread}, {}, tiles=False)
    placement.apply(strategy, {"unet": spread}, counted, CPU, torch.float32)
    kinds = {Mode.RESIDENT: "", Mode.MODELS: "model", Mode.BLOCKS: "groups", Mode.LAYERS: "groups"}
    assert hooks_of(spread) == kinds[strategy.mode]
    stored = {parameter.dtype for parameter in spread.parameters()}
    assert (torch.float8_e4m3fn in stored) is strategy.casting
    for _ in range(2):
        got = spread(**inputs).sample
        difference = float((got - want).abs().max() / want.abs().max())
        # Three bits of mantissa round each weight by 6 % at most.
        assert difference < (0.2 if strategy.casting else 1e-6)
        assert (difference > 1e-5) is strategy.casting
    assert {parameter.dtype for parameter in spread.parameters()} == stored


@pytest.mark.usefixtures("everything_is_large")
@torch.no_grad()
def test_casting_saves_what_is_counted(denoiser):
    module, _ = denoiser
    (part,) = footprint.parts_of_modules({"unet": module}, {}, tiles=False)
    bytes_of = lambda: sum(p.numel() * p.element_size() for _, p in footprint._tensors(module))  # noqa: E731
    assert bytes_of() == part.weights
    placement.apply(Strategy(Mode.RESIDENT, casting=True), {"unet": module}, (part,), CPU, torch.float32)
    # diffusers knows a few more layers to leave alone than the general patterns.
    assert part.weights - part.saved <= bytes_of() <= part.weights - 0.6 * part.saved


@pytest.mark.usefixtures("everything_is_large")
@torch.no_grad()
def test_an_image_encoder_by_layers():
    torch.manual_seed(0)
    config = CLIPVisionConfig(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
                              image_size=16, patch_size=8, projection_dim=8)  # fmt: skip
    encoder = CLIPVisionModelWithProjection(config).eval()
    pixels = torch.randn(1, 3, 16, 16)
    want = encoder(pixels).image_embeds
    counted = footprint.parts_of_modules({"image_encoder": encoder}, {}, tiles=False)
    placement.apply(Strategy(Mode.BLOCKS), {"image_encoder": encoder}, counted, CPU, torch.float32)
    assert hooks_of(encoder) == "groups"
    assert torch.allclose(encoder(pixels).image_embeds, want, atol=1e-6)


def tiny_vae() -> AutoencoderKLCogVideoX:
    torch.manual_seed(0)
    options: Any = {
        "down_block_types": ("CogVideoXDownBlock3D",) * 2,
        "up_block_types": ("CogVideoXUpBlock3D",) * 2,
        "block_out_channels": (8, 8),
    }
    return AutoencoderKLCogVideoX(
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=2,
        sample_height=96,
        sample_width=80,
        **options,
    ).eval()


@torch.no_grad()
def test_tiling_is_switched_on_where_the_vae_has_it():
    vae = tiny_vae()
    latents = torch.randn(1, 4, 1, 32, 32)
    whole = vae.decode(latents, return_dict=False)[0]
    counted = footprint.parts_of_modules({"vae": vae}, {}, tiles=True)
    assert counted[0].tiles
    placement.apply(Strategy(tiling=True), {"vae": vae}, counted, CPU, torch.float32)
    assert vae.use_tiling and vae.use_slicing
    tiled = vae.decode(latents, return_dict=False)[0]
    # Tiles do not see beyond their edges, which they are blended at: alike, not equal.
    assert tiled.shape == whole.shape and 0 < (tiled - whole).abs().mean() < 0.3 * whole.abs().mean()


@pytest.mark.usefixtures("everything_is_large")
@torch.no_grad()
def test_model_offload_sends_away_what_does_not_run(monkeypatch):
    """Denoising parts stay together; each of the others sends away all that it finds."""
    linear = lambda: torch.nn.Linear(4, 4)  # noqa: E731
    modules = {"vae": tiny_vae(), "text_encoder": linear(), "unet": linear(), "adapter": linear()}
    counted = footprint.parts_of_modules(modules, {}, tiles=False)
    placement.apply(Strategy(Mode.MODELS), modules, counted, CPU, torch.float32)
    hooks: dict[str, Any] = {name: getattr(module, "_hf_hook") for name, module in modules.items()}  # noqa: B009
    leaves = {name: {one.model for one in hook.prev_module_hook._hooks} for name, hook in hooks.items()}
    assert leaves["unet"] == leaves["adapter"] == {modules["vae"], modules["text_encoder"]}
    assert leaves["vae"] == {modules["text_encoder"], modules["unet"], modules["adapter"]}
    sent = []
    for name, hook in hooks.items():
        monkeypatch.setattr(hook, "init_hook", lambda _, name=name: sent.append(name))
    together = hooks["vae"].prev_module_hook
    assert together.model in leaves["vae"]
    together.offload()
    assert sorted(sent) == ["adapter", "text_encoder", "unet"]


@torch.no_grad()
def test_place_says_what_it_did(monkeypatch, caplog):
    """A GPU of 1.2 GB is made believe, its tensors kept on the CPU: 1 GB of blocks must come and go."""
    monkeypatch.setattr(footprint, "SMALL", 1000)
    module, inputs = cogvideox()
    module.eval()
    want = module(**inputs).sample
    (part,) = footprint.parts_of_modules({"transformer": module}, {}, tiles=False)
    room = int((part.block * 1.02 + GB // 10) / (1 - MARGIN))
    assert part.block < part.weights
    monkeypatch.setattr(placement, "free_memory", lambda *_: Free(64 * GB, room, "Small GPU"))
    with caplog.at_level(logging.INFO, "maquette.memory"):
        placed = placement.place({"transformer": module}, spec({"base_gb": 0.1}), plan(), CPU, torch.float32, {})
    assert placed.strategy == Strategy(Mode.BLOCKS)
    assert hooks_of(module) == "groups"
    assert torch.allclose(module(**inputs).sample, want, atol=1e-6)
    (note,) = placed.notes
    assert "came to the GPU in parts (group offload by blocks)" in note and "Small GPU has 0 GB free" in note
    assert "tiny: group offload by blocks; about 0.1 GB of 0.1 GB free on Small GPU" in caplog.text
    assert placed.serves(plan()) and placed.previews
    heavier = spec({"base_gb": 0.1, "denoising_gb_per_mpf": 1.0})
    assert not replace(placed, spec=heavier).serves(plan())
    with pytest.raises(EngineError, match="Small GPU has"):
        placement.place({"transformer": module}, heavier, plan(), CPU, torch.float32, {})


def test_place_where_everything_fits():
    placed = placement.place({"net": torch.nn.Linear(3, 3)}, spec(), plan(), CPU, torch.float32, {})
    assert placed.strategy == Strategy() and placed.notes == () and placed.previews and placed.device == CPU


def test_weights_that_are_mapped_take_no_main_memory():
    """17 billion parameters on a computer with 16 GB beside its GPU, unless they must be read to be converted."""
    sizes = {"transformer": 35, "text_encoder": 11, "vae": 0.25}
    parts = [
        NetworkFootprint(name, int(n * GB), int(n * GB / 2), 2 * GB, GB, footprint.stages_of(name))
        for name, n in sizes.items()
    ]
    mapped = tuple(replace(part, mapped=part.weights) for part in parts)
    for gpu, chosen in ((80, Mode.RESIDENT), (24, Mode.BLOCKS)):
        free = Free(16 * GB, gpu * GB)
        strategy = memory.decide(Need(mapped, activations={"denoising": 7 * GB}), free)
        assert strategy == Strategy(chosen)
        assert memory.comes_from_disk(mapped, free, strategy) == (chosen is Mode.BLOCKS)
        assert not memory.comes_from_disk(mapped, Free(64 * GB, gpu * GB), strategy)
        with pytest.raises(memory.DoesNotFit):
            memory.decide(Need(tuple(parts), activations={"denoising": 7 * GB}), free)
    # Whole networks that come and go are copied when they go, and those in 8 bits are others than in the files.
    for strategy, ram in ((Strategy(Mode.MODELS), 36.25), (Strategy(Mode.BLOCKS, casting=True), 18.5)):
        assert memory.estimate(Need(mapped), strategy, on_gpu=True).ram == pytest.approx(ram * GB, rel=0.01)


def test_a_film_too_large_to_draw_is_refused_with_a_size_that_fits():
    large, free = replace(plan(), width=1920, height=1080), Free(4 * GB)
    with pytest.raises(EngineError, match=r"about 5\.5 GB of memory at 1920 x 1080") as refused:
        memory.check_drawing(large, free)
    width, height = map(int, re.findall(r"at about (\d+) x (\d+)", str(refused.value))[0])
    assert 960 < width < 1920
    memory.check_drawing(replace(large, width=width, height=height), free)
    with pytest.raises(EngineError, match="0.0 GB are free; close what else uses memory"):
        memory.check_drawing(large, Free(0))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_files_in_the_precision_of_the_run_are_mapped(tmp_path: Path, dtype: torch.dtype):
    """What the headers say, and where the weights lie once they are read."""
    network = Stacked().to(dtype)
    network.save_pretrained(tmp_path / "transformer")
    (part,) = footprint.parts_of_files(replace(spec({}), folder=tmp_path), 2)
    assert part.mapped == (part.weights if dtype == torch.bfloat16 else 0)
    read = load_part(replace(spec({}), folder=tmp_path), "transformer", Stacked, torch.bfloat16)
    weights = [layer.weight for layer in read.layers]
    assert {weight.dtype for weight in weights} == {torch.bfloat16}
    mapped = {str(tmp_path) in _mapped_file(weight.data_ptr()) for weight in weights}
    assert mapped == {dtype == torch.bfloat16}


@pytest.mark.parametrize("required", [True, False])
def test_a_lora_is_no_network_but_changes_one(tmp_path: Path, required: bool):
    Stacked().bfloat16().save_pretrained(tmp_path / "transformer")
    (tmp_path / "some_lora").mkdir()
    save_file({"a.lora_A.weight": torch.zeros(2, 2)}, tmp_path / "some_lora" / "it.safetensors")
    own = replace(spec({}), folder=tmp_path, files=("some_lora/it.safetensors",) if required else ())
    (part,) = footprint.parts_of_files(own, 2)
    assert part.name == "transformer" and part.mapped == (0 if required else part.weights)


class Stacked(ModelMixin, ConfigMixin):
    """Layers of 32 MB at two bytes a value."""

    @register_to_config
    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(2048, 2048, bias=False) for _ in range(4))


def _mapped_file(address: int) -> str:
    """The file that is mapped to this address of the process, "" for memory of its own."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        bounds, _, _, _, _, *path = line.split(maxsplit=5)
        begin, end = (int(bound, 16) for bound in bounds.split("-"))
        if begin <= address < end:
            return path[0] if path else ""
    raise AssertionError(f"nothing is mapped at {address:#x}")
