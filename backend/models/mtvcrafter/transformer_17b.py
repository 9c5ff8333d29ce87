"""MV-DiT-17B: Wan 2.1's image-to-video transformer with an attention to motion tokens in every fourth block.

Shape letters: B batch, L latent frames, h w latent, S video tokens, N motion tokens (L x 24), M width of a motion
token, C width of a video token.

Modules are named as diffusers names Wan's; ``names`` translates to the published names.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.normalization import FP32LayerNorm
from diffusers.models.transformers.transformer_wan import WanAttention, WanTransformer3DModel, WanTransformerBlock
from torch import Tensor, nn

from .motion_attention import WanMotionProcessor
from .rope import Table


class MotionBlock17B(WanTransformerBlock):
    """Wan's block with ``norm4`` and ``motion_attn`` between cross-attention and feed-forward."""

    def __init__(self, dim: int, ffn_dim: int, num_heads: int, eps: float, added_kv_proj_dim: int | None) -> None:
        super().__init__(dim, ffn_dim, num_heads, cross_attn_norm=True, eps=eps, added_kv_proj_dim=added_kv_proj_dim)
        self.norm4 = FP32LayerNorm(dim, eps, elementwise_affine=True)
        self.motion_attn = WanAttention(
            dim=dim, heads=num_heads, dim_head=dim // num_heads, eps=eps, processor=WanMotionProcessor()
        )

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        temb: Tensor,
        rotary_emb: Table,
        motion_BNC: Tensor,
        motion_tables: tuple[Table, Table],
    ) -> Tensor:
        """(B,S,C) -> (B,S,C).

        Args:
            encoder_hidden_states: image tokens, then 512 text tokens.
            temb: (B,6,C).
            rotary_emb: of self-attention, as ``WanRotaryPosEmbed`` gives it.
            motion_tables: of queries (S,D) and keys (N,D).
        """
        x_BSC = hidden_states
        modulation = (self.scale_shift_table + temb.float()).chunk(6, dim=1)
        shift, scale, gate, ff_shift, ff_scale, ff_gate = modulation

        normed = (self.norm1(x_BSC.float()) * (1 + scale) + shift).type_as(x_BSC)
        x_BSC = (x_BSC.float() + self.attn1(normed, None, None, rotary_emb) * gate).type_as(x_BSC)

        normed = self.norm2(x_BSC.float()).type_as(x_BSC)
        x_BSC = x_BSC + self.attn2(normed, encoder_hidden_states, None, None)

        normed = self.norm4(x_BSC.float()).type_as(x_BSC)
        x_BSC = x_BSC + self.motion_attn(normed, motion_BNC, None, motion_tables)

        normed = (self.norm3(x_BSC.float()) * (1 + ff_scale) + ff_shift).type_as(x_BSC)
        return (x_BSC.float() + self.ffn(normed).float() * ff_gate).type_as(x_BSC)


class MVDiT17BTransformer3DModel(WanTransformer3DModel):
    """The denoiser of MTVCrafter's Wan 2.1 variant.

    Args:
        motion_dim: M of the tokenizer's code vectors; filled up with zeros to C.
        motion_interval: blocks 0, n, 2n, ... have motion attention.
        in_channels: noisy latents 16, mask 4 and the given frames' latents 16 together.

    The other arguments are those of ``WanTransformer3DModel``.
    """

    _no_split_modules = ["MotionBlock17B", "WanTransformerBlock"]
    _keep_in_fp32_modules = ["rope", "time_embedder", "scale_shift_table", "norm1", "norm2", "norm3", "norm4"]
    _repeated_blocks = ["MotionBlock17B", "WanTransformerBlock"]

    @register_to_config
    def __init__(
        self,
        patch_size: tuple[int, ...] = (1, 2, 2),
        num_attention_heads: int = 40,
        attention_head_dim: int = 128,
        in_channels: int = 36,
        out_channels: int = 16,
        text_dim: int = 4096,
        freq_dim: int = 256,
        ffn_dim: int = 13824,
        num_layers: int = 40,
        eps: float = 1e-6,
        image_dim: int = 1280,
        rope_max_seq_len: int = 1024,
        motion_dim: int = 3072,
        motion_interval: int = 4,
    ) -> None:
        dim = num_attention_heads * attention_head_dim
        own = self.config
        super().__init__(
            patch_size=patch_size,
            num_attention_heads=num_attention_heads,
            attention_head_dim=attention_head_dim,
            in_channels=in_channels,
            out_channels=out_channels,
            text_dim=text_dim,
            freq_dim=freq_dim,
            ffn_dim=ffn_dim,
            num_layers=0,
            eps=eps,
            image_dim=image_dim,
            added_kv_proj_dim=dim,
            rope_max_seq_len=rope_max_seq_len,
        )
        # The base class recorded its own arguments, of which some are no choice here.
        self._internal_dict = own
        self.blocks = nn.ModuleList(
            MotionBlock17B(dim, ffn_dim, num_attention_heads, eps, dim)
            if i % motion_interval == 0
            else WanTransformerBlock(
                dim, ffn_dim, num_attention_heads, cross_attn_norm=True, eps=eps, added_kv_proj_dim=dim
            )
            for i in range(num_layers)
        )

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        hidden_states: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        encoder_hidden_states_image: Tensor,
        motion_tokens: Tensor,
        motion_rotary_emb: Table,
        return_dict: bool = True,
    ) -> Transformer2DModelOutput | tuple[Tensor]:
        """Predict the flow ``e - x_0`` from noisy latents.

        Args:
            hidden_states: (B,36,L,h,w): noisy latents, mask, given frames' latents.
            timestep: (B,) in 0..1000.
            encoder_hidden_states: (B,512,text_dim), zero after the prompt's last token.
            encoder_hidden_states_image: (B,257,image_dim), CLIP's last but one layer.
            motion_tokens: (B,N,M) code vectors, frame-major.
            motion_rotary_emb: ``rope.key_rope_17b``, (N,D) each.

        Returns:
            (B,16,L,h,w).
        """
        batch, _, frames, height, width = hidden_states.shape
        p_t, p_h, p_w = self.config["patch_size"]
        rotary = self.rope(hidden_states)
        query_table = (rotary[0][0, :, 0], rotary[1][0, :, 0])
        x_BSC = self.patch_embedding(hidden_states).flatten(2).transpose(1, 2).contiguous()
        embedded = self.condition_embedder(timestep, encoder_hidden_states, encoder_hidden_states_image)
        time_BC, modulation_B6C, text_BTC, image_BIC = embedded
        modulation_B6C = modulation_B6C.unflatten(1, (6, -1))
        context = torch.cat([cast(Tensor, image_BIC), text_BTC], dim=1)
        motion_BNC = F.pad(motion_tokens, (0, x_BSC.shape[-1] - motion_tokens.shape[-1]))
        motion_tables = (query_table, motion_rotary_emb)
        for block in self.blocks:
            arguments = (x_BSC, context, modulation_B6C, rotary)
            if isinstance(block, MotionBlock17B):
                arguments += (motion_BNC, motion_tables)
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                x_BSC = cast(Any, self._gradient_checkpointing_func)(block, *arguments)
            else:
                x_BSC = block(*arguments)
        shift, scale = (self.scale_shift_table.to(time_BC.device) + time_BC.unsqueeze(1)).chunk(2, dim=1)
        x_BSC = (self.norm_out(x_BSC.float()) * (1 + scale) + shift).type_as(x_BSC)
        out = self.proj_out(x_BSC).reshape(batch, frames // p_t, height // p_h, width // p_w, p_t, p_h, p_w, -1)
        out_BCLhw = out.permute(0, 7, 1, 4, 2, 5, 3, 6).flatten(6, 7).flatten(4, 5).flatten(2, 3)
        return Transformer2DModelOutput(sample=out_BCLhw) if return_dict else (out_BCLhw,)
