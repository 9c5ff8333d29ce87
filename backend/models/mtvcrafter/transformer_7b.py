"""MV-DiT-7B: CogVideoX's transformer without text, each block with an attention to motion tokens.

Shape letters: B batch, L latent frames, h w latent, S video tokens, N motion tokens (L x 24), C width of the tokens.

Keys of the state dict are those of the published ``MV-DiT/CogVideoX`` folder.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention_processor import Attention
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.transformers.cogvideox_transformer_3d import CogVideoXBlock, CogVideoXTransformer3DModel
from torch import Tensor, nn

from .motion_attention import CogVideoXMotionProcessor
from .rope import Table


class MotionBlock7B(CogVideoXBlock):
    """CogVideoX's block with motion attention ``attn0`` between self-attention and feed-forward.

    The text half of ``norm1`` and ``norm2`` has weights but no tokens to act on.
    """

    def __init__(
        self, dim: int, num_attention_heads: int, attention_head_dim: int, time_embed_dim: int, attention_bias: bool
    ) -> None:
        super().__init__(dim, num_attention_heads, attention_head_dim, time_embed_dim, attention_bias=attention_bias)
        self.attn0 = Attention(
            query_dim=dim,
            heads=num_attention_heads,
            dim_head=attention_head_dim,
            qk_norm="layer_norm",
            eps=1e-6,
            bias=attention_bias,
            out_bias=True,
            processor=cast(Any, CogVideoXMotionProcessor()),
        )

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, x_BSC: Tensor, motion_BNC: Tensor, time_BE: Tensor, tables: tuple[Table, Table]
    ) -> Tensor:
        """(B,S,C) -> (B,S,C).

        Args:
            time_BE: embedding of the noise level.
            tables: rotary tables of video and of motion tokens.
        """
        no_text = x_BSC[:, :0]
        normed, _, gate, _ = self.norm1(x_BSC, no_text, time_BE)
        attended, _ = self.attn1(hidden_states=normed, encoder_hidden_states=no_text, image_rotary_emb=tables[0])
        x_BSC = x_BSC + gate * attended
        # Neither normalised nor gated: the weights were trained so.
        x_BSC = x_BSC + self.attn0(x_BSC, encoder_hidden_states=motion_BNC, tables=tables)
        normed, _, gate, _ = self.norm2(x_BSC, no_text, time_BE)
        return x_BSC + gate * self.ff(normed)


class MVDiT7BTransformer3DModel(CogVideoXTransformer3DModel):
    """The denoiser of MTVCrafter's CogVideoX variant.

    Args:
        num_motion_tokens: N of the learned tokens that stand for "no motion given" (13 latent frames x 24 joints).
        in_channels: noisy latents and the reference's together.

    The other arguments are those of ``CogVideoXTransformer3DModel``.
    """

    _no_split_modules = ["MotionBlock7B", "CogVideoXPatchEmbed"]

    @register_to_config
    def __init__(
        self,
        num_attention_heads: int = 48,
        attention_head_dim: int = 64,
        in_channels: int = 32,
        out_channels: int = 16,
        time_embed_dim: int = 512,
        text_embed_dim: int = 4096,
        num_layers: int = 42,
        attention_bias: bool = True,
        sample_width: int = 64,
        sample_height: int = 64,
        sample_frames: int = 49,
        patch_size: int = 2,
        temporal_compression_ratio: int = 4,
        num_motion_tokens: int = 312,
    ) -> None:
        own = self.config
        super().__init__(
            num_attention_heads=num_attention_heads,
            attention_head_dim=attention_head_dim,
            in_channels=in_channels,
            out_channels=out_channels,
            time_embed_dim=time_embed_dim,
            text_embed_dim=text_embed_dim,
            num_layers=0,
            attention_bias=attention_bias,
            sample_width=sample_width,
            sample_height=sample_height,
            sample_frames=sample_frames,
            patch_size=patch_size,
            temporal_compression_ratio=temporal_compression_ratio,
            max_text_seq_length=0,
            use_rotary_positional_embeddings=True,
        )
        # The base class recorded its own arguments, of which some are no choice here.
        self._internal_dict = own
        dim = num_attention_heads * attention_head_dim
        self.transformer_blocks = nn.ModuleList(
            MotionBlock7B(dim, num_attention_heads, attention_head_dim, time_embed_dim, attention_bias)
            for _ in range(num_layers)
        )
        self.unconditional_motion_token = nn.Parameter(torch.randn(num_motion_tokens, dim) * 0.02)

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        hidden_states: Tensor,
        motion_tokens: Tensor | None,
        timestep: Tensor,
        image_rotary_emb: Table,
        motion_rotary_emb: Table,
        return_dict: bool = True,
    ) -> Transformer2DModelOutput | tuple[Tensor]:
        """Predict v from noisy latents.

        Args:
            hidden_states: (B,L,32,h,w), noisy latents before the reference's.
            motion_tokens: (B,N,C) code vectors, frame-major; None for the learned tokens that mean no motion.
            timestep: (B,) integers.
            image_rotary_emb, motion_rotary_emb: ``rope.query_rope_7b``, ``rope.key_rope_7b``.

        Returns:
            (B,L,16,h,w).
        """
        batch, frames, _, height, width = hidden_states.shape
        patch = self.config["patch_size"]
        time_BE = self.time_embedding(self.time_proj(timestep).to(hidden_states.dtype))
        if motion_tokens is None:
            motion_tokens = self.unconditional_motion_token.expand(batch, -1, -1)
        motion_tokens = motion_tokens.to(hidden_states.dtype)
        no_text = hidden_states.new_zeros(batch, 0, self.config["text_embed_dim"])
        x_BSC = self.patch_embed(no_text, hidden_states)
        for block in self.transformer_blocks:
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                x_BSC = cast(Any, self._gradient_checkpointing_func)(
                    block, x_BSC, motion_tokens, time_BE, (image_rotary_emb, motion_rotary_emb)
                )
            else:
                x_BSC = block(x_BSC, motion_tokens, time_BE, (image_rotary_emb, motion_rotary_emb))
        x_BSC = self.norm_out(self.norm_final(x_BSC), temb=time_BE)
        out = self.proj_out(x_BSC).reshape(batch, frames, height // patch, width // patch, -1, patch, patch)
        out_BLChw = out.permute(0, 1, 4, 2, 5, 3, 6).flatten(5, 6).flatten(3, 4)
        return Transformer2DModelOutput(sample=out_BLChw) if return_dict else (out_BLChw,)
