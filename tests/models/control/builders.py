"""Tiny models of the family: the published layout at a few channels, weights by the recipe."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from maquette.backend.catalogue.models import ModelSpec
from maquette.backend.models.renaming import LTX2_TRANSFORMER
from maquette.backend.models.weights.component import components
from maquette.backend.shot import Background, Settings, Shot
from safetensors.torch import load_file, save_file

from ...builders import make_shot, png
from ..mtvcrafter.builders import write_text_tokenizer
from ..tiny import WAN_PARTS, describe, save_weights

TABLES = tomllib.loads(
    """
[transformer]
num_attention_heads = 2
attention_head_dim = 12
in_channels = 4
out_channels = 4
text_dim = 16
freq_dim = 16
ffn_dim = 24
num_layers = 2
vace_layers = [0]
vace_in_channels = 72
"""
    + WAN_PARTS
)

ANIMATE_TABLES = {
    **TABLES,
    **tomllib.loads(
        """
[sampling]
base = "animate"
shift = 5.0
prompt = "a person dances"

[transformer]
num_attention_heads = 2
attention_head_dim = 12
in_channels = 12
latent_channels = 4
out_channels = 4
text_dim = 16
freq_dim = 16
ffn_dim = 24
num_layers = 2
image_dim = 16
added_kv_proj_dim = 24
motion_encoder_size = 16
motion_encoder_channel_sizes = { "4" = 4, "8" = 4, "16" = 4 }
motion_style_dim = 8
motion_dim = 4
motion_encoder_dim = 8
face_encoder_hidden_dim = 8
face_encoder_num_heads = 2
inject_face_latents_blocks = 1

[image_encoder]
hidden_size = 16
intermediate_size = 24
num_hidden_layers = 2
num_attention_heads = 2
image_size = 28
patch_size = 14
hidden_act = "gelu"
"""
    ),
}

LTX_TABLES = tomllib.loads(
    """
[sampling]
base = "ltx"
few_steps = "ltx-2.3-22b-distilled-lora"
audio_guidance = 7.0
stg = 1.0
stg_blocks = [1]
modality = 3.0
rescale = 0.7

[transformer]
in_channels = 8
out_channels = 8
num_attention_heads = 2
attention_head_dim = 12
cross_attention_dim = 24
gated_attn = true
cross_attn_mod = true
audio_in_channels = 128
audio_out_channels = 128
audio_num_attention_heads = 2
audio_attention_head_dim = 12
audio_cross_attention_dim = 24
audio_gated_attn = true
audio_cross_attn_mod = true
num_layers = 2
caption_channels = 16
rope_type = "split"
use_prompt_embeddings = false
perturbed_attn = true

[vae]
latent_channels = 8
block_out_channels = [4, 8, 16, 16]
down_block_types = ["LTX2VideoDownBlock3D", "LTX2VideoDownBlock3D", "LTX2VideoDownBlock3D", "LTX2VideoDownBlock3D"]
decoder_block_out_channels = [4, 8, 8, 16]
layers_per_block = [1, 1, 1, 1, 1]
decoder_layers_per_block = [1, 1, 1, 1, 1]
spatio_temporal_scaling = [true, true, true, true]
decoder_spatio_temporal_scaling = [true, true, true, true]
decoder_inject_noise = [false, false, false, false, false]
downsample_type = ["spatial", "temporal", "spatiotemporal", "spatiotemporal"]
upsample_type = ["spatiotemporal", "spatiotemporal", "temporal", "spatial"]
upsample_residual = [false, false, false, false]
upsample_factor = [2, 2, 1, 2]
encoder_causal = true
decoder_causal = false
encoder_spatial_padding_mode = "zeros"
decoder_spatial_padding_mode = "zeros"
spatial_compression_ratio = 32
temporal_compression_ratio = 8

[text_encoder]
vocab_size = 40
hidden_size = 16
intermediate_size = 24
num_hidden_layers = 2
num_attention_heads = 2
num_key_value_heads = 1
head_dim = 8
query_pre_attn_scalar = 8
sliding_window = 16
layer_types = ["sliding_attention", "full_attention"]

[text_encoder.rope_parameters.full_attention]
rope_type = "linear"
factor = 8.0
rope_theta = 1000000.0

[text_encoder.rope_parameters.sliding_attention]
rope_type = "default"
rope_theta = 10000.0

[text_encoder_connectors]
caption_channels = 16
text_proj_in_factor = 3
video_connector_num_attention_heads = 2
video_connector_attention_head_dim = 12
video_connector_num_layers = 1
video_connector_num_learnable_registers = 128
video_gated_attn = true
audio_connector_num_attention_heads = 2
audio_connector_attention_head_dim = 12
audio_connector_num_layers = 1
audio_connector_num_learnable_registers = 128
audio_gated_attn = true
rope_type = "split"
per_modality_projections = true
video_hidden_dim = 24
audio_hidden_dim = 24
proj_bias = true
"""
)

CHANGES = {
    "limits.min_size": 32,
    "limits.max_size": 64,
    "limits.window_frames": 9,
    "limits.window_overlap": 4,
    "memory.least_frames": 5,
    "defaults.steps": 2,
    "defaults.width": 32,
    "defaults.height": 32,
}

ANIMATE_CHANGES = {**CHANGES, "limits.window_frames": 13}
del ANIMATE_CHANGES["limits.window_overlap"]

LTX_CHANGES = {
    **ANIMATE_CHANGES,
    "limits.min_size": 64,
    "limits.control_scale": 2,
    "limits.window_frames": 17,
    "options.overlap.default": "9",
    "memory.least_frames": 9,
    "defaults.width": 64,
    "defaults.height": 64,
}

LTX_SCHEDULER = {
    "_class_name": "FlowMatchEulerDiscreteScheduler",
    "base_image_seq_len": 1024,
    "base_shift": 0.95,
    "max_image_seq_len": 4096,
    "max_shift": 2.05,
    "num_train_timesteps": 1000,
    "shift": 1.0,
    "shift_terminal": 0.1,
    "time_shift_type": "exponential",
    "use_dynamic_shifting": True,
}
"""What LTX-2.3 is published with."""

SCHEDULER = {
    "_class_name": "UniPCMultistepScheduler",
    "flow_shift": 3.0,
    "num_train_timesteps": 1000,
    "prediction_type": "flow_prediction",
    "solver_order": 2,
    "use_flow_sigmas": True,
}
"""What VACE is published with, as far as it is not diffusers' default."""


def write_small_files(folder: Path, scheduler: dict[str, Any] = SCHEDULER) -> None:
    """Tokenizer and scheduler in the published layout."""
    write_text_tokenizer(folder / "tokenizer")
    (folder / "scheduler").mkdir(exist_ok=True)
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler), "utf-8")


def tiny_spec(folder: Path, preset: str = "vace-1.3b", beside: bool = True) -> ModelSpec:
    """The shipped description with tiny networks, written to ``folder``."""
    if preset.startswith("wan-animate"):
        return describe(folder, preset, ANIMATE_TABLES, ANIMATE_CHANGES, beside)
    if preset == "ltx-2.3":
        return describe(folder, preset, LTX_TABLES, LTX_CHANGES, beside)
    return describe(folder, preset, TABLES, CHANGES, beside)


def write_weights(spec: ModelSpec) -> None:
    """All parts of a tiny model, in the folders that its engine reads."""
    save_weights(spec)
    if spec.id != "ltx-2.3":
        return write_small_files(spec.folder)
    write_small_files(spec.folder, LTX_SCHEDULER)
    vae = spec.folder / "vae" / "diffusion_pytorch_model.safetensors"
    # Spread as latents are, not about zero.
    state = load_file(vae)
    save_file({**state, "latents_std": 1 + state["latents_std"].abs()}, vae, {"format": "pt"})
    (spec.folder / "ic_lora").mkdir()
    save_file(ltx_lora(spec), spec.folder / "ic_lora" / "diffusion_pytorch_model.safetensors")


def ltx_lora(spec: ModelSpec, seed: int = 1, rank: int = 2, meta: bool = False) -> dict[str, torch.Tensor]:
    """A LoRA for every linear layer of the blocks of LTX's transformer, in its authors' names; or only its shapes."""
    draw = torch.Generator().manual_seed(seed)
    made = {}
    for key, value in components(spec)["transformer"].module(spec).state_dict().items():
        module, _, leaf = LTX2_TRANSFORMER.published(key).rpartition(".")
        if leaf == "weight" and value.ndim == 2 and module.startswith("transformer_blocks."):
            for name, shape in (("A", (rank, value.shape[1])), ("B", (value.shape[0], rank))):
                filled = torch.empty(shape, device="meta") if meta else torch.randn(shape, generator=draw) / 4
                made[f"diffusion_model.{module}.lora_{name}.weight"] = filled
    return made


def led_shot(
    frames: int = 6, *, options: dict[str, Any] | None = None, prompt: str = "somebody", **others: Any
) -> Shot:
    """Somebody before a floor and a plain background, with all that any control film is drawn from."""
    others.setdefault("background", Background("still", (png(64, 64, (40, 90, 160)),)))
    shot = make_shot(frames=frames, width=64, height=64, full=True, **others)
    settings = Settings(model="vace-1.3b", seed=3, options=options or {})
    return replace(shot, prompt=prompt, settings=settings)


def animated_shot(frames: int = 5, **options: Any) -> Shot:
    """The same for Wan-Animate, at the scene's own rate, so that no frame lies between two."""
    shot = led_shot(frames, options={"frame_rate": 24, **options})
    return replace(shot, settings=replace(shot.settings, model="wan-animate-14b"))


def in_context_shot(frames: int = 9, **options: Any) -> Shot:
    """The same for LTX."""
    shot = led_shot(frames, options=options)
    return replace(shot, settings=replace(shot.settings, model="ltx-2.3"))
