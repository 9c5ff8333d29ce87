"""Tiny models of the family: the published layout at a few channels, weights by the recipe."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

from maquette.backend.catalogue.models import ModelSpec
from maquette.backend.shot import Background, Settings, Shot

from ...builders import make_shot, png
from ..mtvcrafter.builders import write_text_tokenizer
from ..tiny import describe, save_weights

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

[vae]
base_dim = 4
z_dim = 4
dim_mult = [1, 1, 2, 2]
num_res_blocks = 1
temperal_downsample = [false, true, true]
latents_mean = [0.1, -0.2, 0.3, 0.0]
latents_std = [1.5, 2.0, 0.8, 1.1]

[text_encoder]
vocab_size = 40
d_model = 16
d_kv = 8
d_ff = 24
num_layers = 2
num_heads = 2
feed_forward_proj = "gated-gelu"
tie_word_embeddings = false
"""
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

SCHEDULER = {
    "_class_name": "UniPCMultistepScheduler",
    "flow_shift": 3.0,
    "num_train_timesteps": 1000,
    "prediction_type": "flow_prediction",
    "solver_order": 2,
    "use_flow_sigmas": True,
}
"""What VACE is published with, as far as it is not diffusers' default."""


def write_small_files(folder: Path) -> None:
    """Tokenizer and scheduler in the published layout."""
    write_text_tokenizer(folder / "tokenizer")
    (folder / "scheduler").mkdir(exist_ok=True)
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(SCHEDULER), "utf-8")


def tiny_spec(folder: Path, preset: str = "vace-1.3b", beside: bool = True) -> ModelSpec:
    """The shipped description with tiny networks, written to ``folder``."""
    if preset.startswith("wan-animate"):
        return describe(folder, preset, ANIMATE_TABLES, ANIMATE_CHANGES, beside)
    return describe(folder, preset, TABLES, CHANGES, beside)


def write_weights(spec: ModelSpec) -> None:
    """All parts of a tiny model, in the folders that its engine reads."""
    save_weights(spec)
    write_small_files(spec.folder)


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
