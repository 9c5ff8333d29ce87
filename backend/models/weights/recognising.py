"""Tell from its keys which model a checkpoint is of, for the message when it is not the wanted one (no torch here)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

_SIGNS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("a LoRA, which changes a model and is none itself", (".lora_down.", ".lora_up.")),
    ("a LoRA, which changes a model and is none itself", (".lora_A.", ".lora_B.")),
    ("LTX-2's transformer in diffusers' names", ("transformer_blocks.", ".audio_to_video_attn.norm_q.")),
    ("LTX-2 in its authors' names", (".audio_to_video_attn.q_norm.",)),
    ("LTX-2's text connectors", ("video_connector.", "audio_connector.")),
    ("Gemma 3", (".pre_feedforward_layernorm.",)),
    ("MTVCrafter's 7B transformer", ("transformer_blocks.", ".attn0.")),
    ("a VACE transformer of Wan 2.1 in diffusers' names", ("vace_blocks.0.proj_out.", ".attn2.to_k.")),
    ("a Wan-Animate transformer in diffusers' names", ("face_adapter.", ".attn2.to_k.")),
    ("MTVCrafter's 17B transformer", ("blocks.", ".motion_attn.")),
    ("MTVCrafter's motion tokenizer (4DMoT)", ("vq.codebook",)),
    ("MimicMotion", ("pose_net.conv_layers.",)),
    ("MOFA-Video's landmark adapter", ("controlnet_ldmk_embedding.",)),
    ("MOFA-Video's trajectory adapter", ("flow_encoder.", "controlnet_down_blocks.0.")),
    ("CMP, which turns sparse motion into flow", ("image_encoder.", "flow_decoder.")),
    ("Wan 2.1's image-to-video transformer in its authors' names", ("blocks.", ".cross_attn.k_img.")),
    ("a Wan 2.1 transformer in its authors' names", ("blocks.", ".cross_attn.k.")),
    ("a Wan 2.1 transformer in diffusers' names", ("blocks.", ".attn2.to_k.", "scale_shift_table")),
    ("a CogVideoX transformer", ("transformer_blocks.", ".norm1.linear.")),
    ("a Wan VAE in diffusers' names", ("encoder.mid_block.resnets.0.norm1.gamma", "post_quant_conv.")),
    ("LTX-2's video VAE", ("encoder.down_blocks.0.", "latents_mean")),
    ("a Wan VAE in its authors' names", ("encoder.downsamples.0.", "decoder.upsamples.0.")),
    ("the VAE of Stable Video Diffusion", ("decoder.mid_block.resnets.0.spatial_res_block.",)),
    ("a video VAE of diffusers", ("encoder.down_blocks.0.", "decoder.up_blocks.0.", "conv3d")),
    ("the UNet of Stable Video Diffusion", ("down_blocks.0.resnets.0.spatial_res_block.", "up_blocks.1.")),
    ("a whole Stable Diffusion checkpoint", ("model.diffusion_model.", "first_stage_model.")),
    ("a CLIP image encoder", ("vision_model.",)),
    ("an OpenCLIP model", ("visual.transformer.",)),
    ("a T5 text encoder", ("encoder.block.", ".SelfAttention.")),
    ("a T5 text encoder in Wan's names", ("token_embedding.weight", ".attn.q.weight")),
    ("a Stable Diffusion UNet for pictures", ("down_blocks.0.resnets.0.conv1.weight", "up_blocks.1.")),
)
"""What a checkpoint is of, and strings of which each is in some key; the first that holds."""


def recognise(keys: Iterable[str]) -> str:
    """Which model keys look to be of, in words, or empty."""
    joined = "\n".join(keys)
    return next((words for words, signs in _SIGNS if all(sign in joined for sign in signs)), "")


def few(names: Iterable[str], most: int = 4) -> str:
    """``a, b, c and 12 more``."""
    names = sorted(names)
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def differences(
    expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]
) -> tuple[list[str], list[str], list[str]]:
    """Keys that are missing, unexpected, and of another shape (``key: 4 x 8 instead of 4 x 16``)."""
    missing = sorted(expected.keys() - found.keys())
    unexpected = sorted(found.keys() - expected.keys())
    shapes = [
        f"{key}: {_shape(found[key])} instead of {_shape(expected[key])}"
        for key in sorted(expected.keys() & found.keys())
        if tuple(expected[key]) != tuple(found[key])
    ]
    return missing, unexpected, shapes


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a number"
