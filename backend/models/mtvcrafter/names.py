"""Names of weights in the files that MTVCrafter is published as, and in the classes used here."""

from __future__ import annotations

from ..renaming import WAN_TRANSFORMER, Renaming

__all__ = ["CLIP_VISION", "UMT5_ENCODER", "WAN_TRANSFORMER", "Renaming", "wan_vae"]

UMT5_ENCODER = Renaming(
    (
        ("^shared", "^token_embedding"),
        ("encoder.final_layer_norm", "^norm"),
        ("encoder.block.*.layer.0.SelfAttention.relative_attention_bias", "blocks.*.pos_embedding.embedding"),
        ("encoder.block.*.layer.0.SelfAttention", "blocks.*.attn"),
        ("encoder.block.*.layer.0.layer_norm", "blocks.*.norm1"),
        ("encoder.block.*.layer.1.layer_norm", "blocks.*.norm2"),
        ("encoder.block.*.layer.1.DenseReluDense.wi_0", "blocks.*.ffn.gate.0"),
        ("encoder.block.*.layer.1.DenseReluDense.wi_1", "blocks.*.ffn.fc1"),
        ("encoder.block.*.layer.1.DenseReluDense.wo", "blocks.*.ffn.fc2"),
    )
)
"""umT5's encoder: transformers' names and those of Wan's ``models_t5_umt5-xxl-enc-bf16.pth``."""

CLIP_VISION = Renaming(
    (
        ("^embeddings.class_embedding", "^visual.cls_embedding"),
        ("^embeddings.patch_embedding", "^visual.patch_embedding"),
        ("^embeddings.position_embedding.weight", "^visual.pos_embedding"),
        ("^pre_layrnorm", "^visual.pre_norm"),
        ("^post_layernorm", "^visual.post_norm"),
        ("^encoder.layers.*.layer_norm1", "^visual.transformer.*.norm1"),
        ("^encoder.layers.*.layer_norm2", "^visual.transformer.*.norm2"),
        ("^encoder.layers.*.self_attn.qkv", "^visual.transformer.*.attn.to_qkv"),
        ("^encoder.layers.*.self_attn.out_proj", "^visual.transformer.*.attn.proj"),
        ("^encoder.layers.*.mlp.fc1", "^visual.transformer.*.mlp.0"),
        ("^encoder.layers.*.mlp.fc2", "^visual.transformer.*.mlp.2"),
    )
)
"""CLIP's image half: transformers' names (queries, keys and values joined) and those of Wan's CLIP file."""


def wan_vae(levels: int, residual_blocks: int) -> Renaming:
    """Wan's VAE: diffusers' names and those of ``Wan2.1_VAE.pth``, which counts the decoder's layers through.

    Args:
        levels: resolutions of the VAE (``len(dim_mult)``).
        residual_blocks: of the encoder per level (``num_res_blocks``); the decoder has one more.
    """
    stride = residual_blocks + 2
    upward = []
    for level in range(levels):
        layers = [f"resnets.{i}" for i in range(residual_blocks + 1)] + ["upsamplers.0"]
        upward += [
            (f"decoder.up_blocks.{level}.{layer}", f"decoder.upsamples.{stride * level + i}")
            for i, layer in enumerate(layers)
        ]
    return Renaming(
        (
            *upward,
            ("encoder.down_blocks", "encoder.downsamples"),
            ("mid_block.resnets.0", "middle.0"),
            ("mid_block.attentions.0", "middle.1"),
            ("mid_block.resnets.1", "middle.2"),
            ("norm1", "residual.0"),
            ("conv1", "residual.2"),
            ("norm2", "residual.3"),
            ("conv2", "residual.6"),
            ("conv_shortcut", "shortcut"),
            ("norm_out", "head.0"),
            ("conv_out", "head.2"),
            ("encoder.conv_in", "encoder.conv1"),
            ("decoder.conv_in", "decoder.conv1"),
            ("^quant_conv", "^conv1"),
            ("^post_quant_conv", "^conv2"),
        )
    )
