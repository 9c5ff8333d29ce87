"""Tiny MTVCrafters laid out as the real ones are published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from maquette.backend.catalogue.models import ModelSpec
from maquette.backend.models.mtvcrafter.build import load_network
from maquette.backend.models.mtvcrafter.convert import clip_vision_to_published, vae_names
from maquette.backend.models.mtvcrafter.names import UMT5_ENCODER, WAN_TRANSFORMER
from safetensors.torch import save_file

from .builders import SCHEDULER, tiny_lora, write_text_tokenizer

State = dict[str, torch.Tensor]


def write_shards(state: State, folder: Path, shards: int = 2) -> None:
    """Safetensors with an index, as diffusers writes large models."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"diffusion_pytorch_model-{i + 1:05d}-of-{shards:05d}.safetensors" for i in range(shards)]
    where = {key: names[i % shards] for i, key in enumerate(state)}
    for name in names:
        save_file({key: state[key].contiguous() for key in state if where[key] == name}, folder / name)
    index = {"metadata": {}, "weight_map": where}
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index), "utf-8")


def clip_file(image_half: State) -> State:
    """Wan's CLIP checkpoint: the image half, a text half, and what joins them."""
    width = image_half["visual.post_norm.weight"].shape[0]
    return {
        **image_half,
        "visual.head": torch.ones(width, 8),
        "log_scale": torch.ones(()),
        "textual.token_embedding.weight": torch.ones(5, 4),
        "textual.blocks.0.attn.q.weight": torch.ones(4, 4),
    }


def publish(spec: ModelSpec, folder: Path) -> dict[str, State]:
    """Write a model's weights as they are published; its own folder must hold them.

    Returns:
        What was written, by part, in our names.
    """
    parts: dict[str, Any] = {}
    base = spec.components["sampling"]["base"]
    for part in ("tokenizer", "transformer", "vae"):
        parts[part] = load_network(spec, part, torch.float32).state_dict()
    (folder / "4DMoT").mkdir(parents=True)
    torch.save({"module": parts["tokenizer"], "dp_world_size": 8}, folder / "4DMoT" / "mp_rank_00_model_states.pt")
    if base == "cogvideox":
        write_shards(parts["transformer"], folder / "MV-DiT" / "CogVideoX")
        vae = folder / "CogVideoX-5b" / "vae"
        vae.mkdir(parents=True)
        save_file(parts["vae"], vae / "diffusion_pytorch_model.safetensors")
        scheduler = folder / "CogVideoX-5b" / "scheduler"
        scheduler.mkdir()
        (scheduler / "scheduler_config.json").write_text(json.dumps(SCHEDULER), "utf-8")
        return parts
    for part in ("text_encoder", "image_encoder"):
        parts[part] = load_network(spec, part, torch.float32).state_dict()
    write_shards(WAN_TRANSFORMER.to_published(parts["transformer"]), folder / "MV-DiT" / "Wan-2-1")
    torch.save(vae_names(spec).to_published(parts["vae"]), folder / "Wan2.1_VAE.pth")
    text = {key: value for key, value in parts["text_encoder"].items() if key != "encoder.embed_tokens.weight"}
    torch.save(UMT5_ENCODER.to_published(text), folder / "models_t5_umt5-xxl-enc-bf16.pth")
    torch.save(
        clip_file(clip_vision_to_published(parts["image_encoder"])),
        folder / "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth",
    )
    write_text_tokenizer(folder / "google" / "umt5-xxl")
    save_file(tiny_lora(), folder / "Wan2.1_I2V_14B_FusionX_LoRA.safetensors")
    return parts
