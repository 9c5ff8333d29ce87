"""Tiny MTVCrafters: the published structure at a few channels, weights by the recipe."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from maquette.backend.catalogue.models import ModelSpec, read_spec
from maquette.backend.shot import Shot
from maquette.backend.shot.framing import read_statistics
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from ...builders import make_shot, png
from ...parity.recipe import recipe
from ..tiny import WAN_PARTS, save_weights

SIZE = 32

_COMMON = """
label = "Tiny {id}"
description = "for tests"
license = "none"
engine = "mtvcrafter"

[inputs]
characters = "required"
reference = "required"
background = "optional"
camera = "required"
prompt = "{prompt}"
joints = "required"

[defaults]
steps = 2
guidance = 3.0
width = 32
height = 32
frames = 49

[tokenizer]
widths = [8, 16]
code_dim = 32
codes = 24
layers_per_block = 1
norm_num_groups = 4

[options.carried_start]
type = "float"
default = 0.0
min = 0.0
max = 1.0
label = "Start From Carried Film"
"""

TINY_7B = (
    'id = "tiny-7b"'
    + _COMMON.format(id="7B", prompt="ignored")
    + """
[limits]
max_characters = 1
window_frames = 49
max_frames = 49
size_multiple = 16
min_size = 32
max_size = 32
same_area = 1
frame_long_side = 48
frame_short_side = 32

[files]
required = ["transformer/config.json"]

[options.picture]
type = "choice"
default = "square"
choices = ["square", "frame"]
label = "Picture"

[options.beside]
type = "choice"
default = "background"
choices = ["background", "carried", "black"]
label = "Beside the Picture"

[sampling]
base = "cogvideox"

[transformer]
num_attention_heads = 2
attention_head_dim = 16
in_channels = 8
out_channels = 4
time_embed_dim = 16
text_embed_dim = 8
num_layers = 2

[vae]
down_block_types = ["CogVideoXDownBlock3D", "CogVideoXDownBlock3D", "CogVideoXDownBlock3D", "CogVideoXDownBlock3D"]
up_block_types = ["CogVideoXUpBlock3D", "CogVideoXUpBlock3D", "CogVideoXUpBlock3D", "CogVideoXUpBlock3D"]
block_out_channels = [8, 8, 8, 8]
layers_per_block = 1
latent_channels = 4
norm_num_groups = 4
scaling_factor = 0.7
"""
)

TINY_17B = (
    'id = "tiny-17b"'
    + _COMMON.format(id="17B", prompt="optional")
    + """
[limits]
max_characters = 1
window_frames = 49
window_overlap = 9
max_frames = 200
size_multiple = 16
min_size = 16
max_size = 64
same_area = 1
first_frame_reference = 1

[options.few_steps]
type = "bool"
default = false
label = "Few Steps"

[files]
required = ["transformer/config.json"]

[sampling]
base = "wan"
few_steps = 1
prompt = "somebody"
negative_prompt = "blurred"

[transformer]
num_attention_heads = 2
attention_head_dim = 18
in_channels = 12
out_channels = 4
text_dim = 16
freq_dim = 16
ffn_dim = 24
num_layers = 5
image_dim = 16
motion_dim = 32
"""
    + WAN_PARTS
    + """
[image_encoder]
hidden_size = 16
intermediate_size = 24
num_hidden_layers = 3
num_attention_heads = 2
image_size = 28
patch_size = 14
hidden_act = "gelu"

[scheduler]
shift = 5.0
"""
)

SCHEDULER = {
    "_class_name": "CogVideoXDPMScheduler",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "set_alpha_to_one": True,
    "snr_shift_scale": 1.0,
    "timestep_spacing": "trailing",
}
"""What CogVideoX-5b is published with."""


def tiny_spec(folder: Path, text: str) -> ModelSpec:
    """A tiny model's description, written to ``folder``."""
    name = text.split('"')[1]
    path = folder / f"{name}.toml"
    path.write_text(text, "utf-8")
    (folder / name).mkdir(exist_ok=True)
    return read_spec(path)


def write_text_tokenizer(folder: Path) -> None:
    """A tokenizer of a few words in the place of umT5's."""
    words = ["<pad>", "</s>", "<unk>", "a", "person", "somebody", "blurred", "dances", "waves"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore[reportAttributeAccessIssue]
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(str(folder))


def write_weights(spec: ModelSpec) -> None:
    """All parts of a tiny model, in the folders that its engine reads."""
    save_weights(spec)
    if spec.components["sampling"]["base"] == "wan":
        write_text_tokenizer(spec.folder / "text_tokenizer")
    else:
        (spec.folder / "scheduler").mkdir(exist_ok=True)
        (spec.folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(SCHEDULER), "utf-8")


def tiny_lora(rank: int = 2, seed: int = 1, scale: float = 1.0) -> dict[str, torch.Tensor]:
    """A LoRA for the tiny 17B in its published layout: a pair, a norm's and a bias' difference."""
    dim, module = 36, "diffusion_model.blocks.0.self_attn.q"
    shapes = {
        f"{module}.lora_down.weight": (rank, dim),
        f"{module}.lora_up.weight": (dim, rank),
        f"{module}.diff_b": (dim,),
        "diffusion_model.blocks.1.norm3.diff": (dim,),
        "diffusion_model.blocks.4.motion_attn.o.lora_down.weight": (rank, dim),
        "diffusion_model.blocks.4.motion_attn.o.lora_up.weight": (dim, rank),
        "diffusion_model.patch_embedding.diff": (dim, 12, 1, 2, 2),
    }
    return {key: scale * torch.from_numpy(recipe(key, shape, seed)) for key, shape in shapes.items()}


def write_lora(spec: ModelSpec) -> None:
    """Put ``tiny_lora`` where the engine looks for it."""
    (spec.folder / "lora").mkdir(exist_ok=True)
    save_file(tiny_lora(), spec.folder / "lora" / "diffusion_pytorch_model.safetensors")


def dancing(frames: int, *, model: str, phase: float = 0.0, sway: float = 0.1, **others: Any) -> Shot:
    """A shot of one character who stands as MTVCrafter's mean pose does, 1.8 m before its camera, and sways.

    Args:
        phase: of the swaying, radians; another motion.
        sway: metres.
    """
    others.setdefault("reference", png(64, 64, (200, 90, 30)))
    shot = make_shot(
        frames=frames, model=model, width=others.pop("width", 64), height=others.pop("height", 64), **others
    )
    clip = shot.clip
    focal = max(clip.width, clip.height) / (2 * np.tan(np.radians(27.5)))
    K = np.array([[focal, 0, clip.width / 2], [0, focal, clip.height / 2], [0, 0, 1]], np.float32)
    camera = np.repeat(read_statistics().mean[None] / 1000, frames, axis=0)
    time = np.arange(frames)[:, None] / 8
    camera[..., 0] += sway * np.sin(time + phase + np.arange(24) / 10)
    viewmat = clip.viewmats[0]
    world = (camera - viewmat[:3, 3]) @ viewmat[:3, :3]
    characters = [replace(c, joints=world.astype(np.float32)) for c in shot.characters]
    return replace(
        shot,
        clip=replace(clip, viewmats=np.repeat(viewmat[None], frames, axis=0), Ks=np.repeat(K[None], frames, axis=0)),
        characters=tuple(characters),
    )
