"""MTVCrafter's two transformers against the stored examples, with the stored rotary tables."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from maquette.backend.models.mtvcrafter import motion_attention
from maquette.backend.models.mtvcrafter.names import WAN_TRANSFORMER
from maquette.backend.models.mtvcrafter.transformer_7b import MVDiT7BTransformer3DModel
from maquette.backend.models.mtvcrafter.transformer_17b import MVDiT17BTransformer3DModel
from torch import Tensor, nn

from .fixtures import Check, Fixture, Measured, same_keys
from .recipe import fill, recipe

GUIDANCE = 3.0


class Tap:
    """The output of a module at its last call."""

    def __init__(self, module: nn.Module) -> None:
        self.value: Tensor = torch.empty(0)
        module.register_forward_hook(self._keep)

    def _keep(self, _module: nn.Module, _inputs: tuple, output: Tensor) -> None:
        self.value = output.detach()


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Every key of a state dict with its shape."""
    return {key: tuple(value.shape) for key, value in model.state_dict().items()}


def build_7b(fixture: Fixture) -> MVDiT7BTransformer3DModel:
    """Our model at a fixture's configuration, with the recipe's weights."""
    config = dict(fixture.sidecar["config"])
    config.pop("use_rotary_positional_embeddings")
    return fill(MVDiT7BTransformer3DModel(**config), fixture.seed())


def build_17b(fixture: Fixture, motion_dim: int) -> MVDiT17BTransformer3DModel:
    """Our model at a fixture's configuration, with the recipe's weights under their published names."""
    theirs = fixture.sidecar["config"]
    model = MVDiT17BTransformer3DModel(
        num_attention_heads=theirs["num_heads"],
        attention_head_dim=theirs["dim"] // theirs["num_heads"],
        in_channels=theirs["in_dim"],
        out_channels=theirs["out_dim"],
        text_dim=theirs["text_dim"],
        freq_dim=theirs["freq_dim"],
        ffn_dim=theirs["ffn_dim"],
        num_layers=theirs["num_layers"],
        motion_dim=motion_dim,
    )
    return fill(model, fixture.seed(), published=WAN_TRANSFORMER.published)


def motion_tokens(fixture: Fixture) -> Tensor:
    """(N,M): stored, or rows of the recipe's codebook of the full tokenizer."""
    if "motion_tokens" in fixture.inputs:
        return fixture.inputs["motion_tokens"]
    tokenizer = Fixture.load("mtv_4dmot_full")
    (part,) = (name for name in tokenizer.sidecar["weights"] if "vq.codebook" in tokenizer.keys(name))
    codebook = recipe("vq.codebook", tokenizer.keys(part)["vq.codebook"], tokenizer.seed(part))
    return torch.from_numpy(codebook)[fixture.inputs["code_indices"].flatten().long()]


def run_7b(model: MVDiT7BTransformer3DModel, fixture: Fixture) -> Tensor:
    """(2,L,16,h,w): without motion (the learned tokens), and with the fixture's."""
    rope = Fixture.load("mtv_rope4d").outputs
    latents = torch.cat([fixture.inputs["latents"], fixture.inputs["ref_latents"]], dim=1)
    with torch.no_grad():
        return model(
            latents.expand(2, -1, -1, -1, -1),
            torch.stack([model.unconditional_motion_token, motion_tokens(fixture)]),
            fixture.inputs["timestep"].expand(2),
            (rope["q7_cos"], rope["q7_sin"]),
            (rope["k7_cos"], rope["k7_sin"]),
            return_dict=False,
        )[0]


def run_17b(model: MVDiT17BTransformer3DModel, fixture: Fixture, motion: Tensor | None = None) -> Tensor:
    """(16,L,h,w)."""
    rope = Fixture.load("mtv_rope4d").outputs
    context = fixture.inputs["context"]
    with torch.no_grad():
        return model(
            torch.cat([fixture.inputs["latents"], fixture.inputs["cond"]])[None],
            fixture.inputs["timestep"],
            F.pad(context, (0, 0, 0, fixture.sidecar["config"]["text_len"] - len(context)))[None],
            fixture.inputs["clip"][None],
            (motion_tokens(fixture) if motion is None else motion)[None],
            (rope["k17_cos"], rope["k17_sin"]),
            return_dict=False,
        )[0][0]


def check_7b_tiny(fixture: Fixture) -> Iterable[Measured]:
    """Guidance, patches, motion attention, a whole block."""
    model = build_7b(fixture)
    yield same_keys(fixture, shapes(model))
    block = model.transformer_blocks[0]
    patches, attended, first = Tap(model.patch_embed), Tap(block.attn0), Tap(block)
    unguided, guided = run_7b(model, fixture)
    yield fixture.close("pred_uncond", unguided)
    yield fixture.close("pred_cond", guided)
    yield fixture.close("pred_cfg3", unguided + GUIDANCE * (guided - unguided))
    yield fixture.close("patch_embed", patches.value[1])
    yield fixture.close("block0_motion_attn", attended.value[1])
    yield fixture.close("block0_out", first.value[1])


def check_7b_wide(fixture: Fixture) -> Iterable[Measured]:
    """Published widths."""
    model = build_7b(fixture)
    yield same_keys(fixture, shapes(model))
    attended = Tap(model.transformer_blocks[0].attn0)
    unguided, guided = run_7b(model, fixture)
    yield fixture.close("pred_uncond", unguided)
    yield fixture.close("pred_cond", guided)
    yield fixture.close("block0_motion_attn_sub", attended.value[:, :, ::48])


def keys_laid_out_like_values(k_BNC: Tensor, heads: int) -> Tensor:
    """What ``split_keys_17b`` would be if it transposed; the published weights do not fit it."""
    return k_BNC.unflatten(-1, (heads, -1)).transpose(1, 2)


def run_17b_with_ordinary_keys(model: MVDiT17BTransformer3DModel, fixture: Fixture) -> Tensor:
    """The output of the "corrected" key layout."""
    published = motion_attention.split_keys_17b
    motion_attention.split_keys_17b = keys_laid_out_like_values
    try:
        return run_17b(model, fixture)
    finally:
        motion_attention.split_keys_17b = published


def must_differ(fixture: Fixture, control: str, output: str, ours: Tensor) -> Measured:
    """Ours must not be near a stored wrong variant: passes while the distance is over half of what lies between."""
    wrong, right = fixture.outputs[control], fixture.outputs[output]
    distance = float((ours - wrong).abs().max())
    between = float((right - wrong).abs().max())
    return Measured(f"{control} (must differ)", "half of their distance at least", between / 2 - distance, 0.0)


def check_17b_tiny(fixture: Fixture) -> Iterable[Measured]:
    """Key layout, image tokens, motion attention, a whole block."""
    model = build_17b(fixture, motion_dim=128)
    yield same_keys(fixture, WAN_TRANSFORMER.to_published(shapes(model)))
    image = Tap(model.condition_embedder.image_embedder)
    attended, first = Tap(model.blocks[0].motion_attn), Tap(model.blocks[0])
    ours = run_17b(model, fixture)
    yield fixture.close("pred", ours)
    yield fixture.close("block0_motion_attn", attended.value[0])
    yield fixture.close("block0_out", first.value[0])
    yield fixture.close("clip_context_sub", image.value[0, ::8])
    yield must_differ(fixture, "control_pred_if_k_were_laid_out_like_v", "pred", ours)


def check_17b_wide(fixture: Fixture) -> Iterable[Measured]:
    """Published widths."""
    model = build_17b(fixture, motion_dim=3072)
    yield same_keys(fixture, WAN_TRANSFORMER.to_published(shapes(model)))
    attended = Tap(model.blocks[0].motion_attn)
    ours = run_17b(model, fixture)
    yield fixture.close("pred", ours)
    yield fixture.close("block0_motion_attn_sub", attended.value[0, :, ::40])
    yield must_differ(fixture, "control_pred_if_k_were_laid_out_like_v", "pred", ours)


CHECKS: dict[str, Check] = {
    "mtv_dit7b_tiny": check_7b_tiny,
    "mtv_dit7b_wide": check_7b_wide,
    "mtv_dit17b_tiny": check_17b_tiny,
    "mtv_dit17b_wide": check_17b_wide,
}
"""Checks of this family against the stored examples."""
