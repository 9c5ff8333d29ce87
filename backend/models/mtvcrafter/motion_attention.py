"""How video tokens look at motion tokens: the attention that MTVCrafter adds to its two base models.

Shape letters: B batch, S video tokens, N motion tokens (latent frames x 24 joints), H heads, D head width, C = H*D.

Rotary tables are pairs (cos, sin), (S,D) for queries and (N,D) for keys, see ``rope``.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.transformers.transformer_wan import WanAttention
from torch import Tensor

from .rope import Table, rotate


def split_keys_17b(k_BNC: Tensor, heads: int) -> Tensor:
    """Keys (B,N,C) as (B,H,N,D) in the layout that the 17B weights were trained with.

    The memory is reinterpreted, not transposed: slot p of head h is slice (h*N+p) % H of token (h*N+p) // H. So what a
    slot holds depends on the number of tokens, that is on the length of the clip.
    """
    batch, tokens, channels = k_BNC.shape
    return k_BNC.reshape(batch, heads, tokens, channels // heads)


class CogVideoXMotionProcessor:
    """Attention of MV-DiT-7B: queries from video tokens, keys and values from motion tokens, each with its own table.

    For ``diffusers.models.attention_processor.Attention`` with ``qk_norm="layer_norm"``.
    """

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        tables: tuple[Table, Table],
        attention_mask: None = None,
    ) -> Tensor:
        """(B,S,C) and (B,N,C) -> (B,S,C).

        Args:
            tables: of queries and of keys.
            attention_mask: always None; no motion token is ever padding.
        """
        q_BSC = attn.to_q(hidden_states)
        k_BNC = attn.to_k(encoder_hidden_states)
        v_BNC = attn.to_v(encoder_hidden_states)
        q_BHSD, k_BHND, v_BHND = (x.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for x in (q_BSC, k_BNC, v_BNC))
        q_BHSD = rotate(attn.norm_q(q_BHSD), tables[0])
        k_BHND = rotate(attn.norm_k(k_BHND), tables[1])
        out_BHSD = F.scaled_dot_product_attention(q_BHSD, k_BHND, v_BHND)
        out_BSC = out_BHSD.transpose(1, 2).flatten(2)
        return attn.to_out[1](attn.to_out[0](out_BSC))


class WanMotionProcessor:
    """Attention of MV-DiT-17B, with its key layout (``split_keys_17b``). For diffusers' ``WanAttention``."""

    _attention_backend = None
    _parallel_config = None

    def __call__(
        self,
        attn: WanAttention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: None,
        rotary_emb: tuple[Table, Table],
    ) -> Tensor:
        """(B,S,C) and (B,N,C) -> (B,S,C).

        Args:
            attention_mask: always None; no motion token is ever padding.
            rotary_emb: tables of queries and of keys.
        """
        q_BSC = attn.norm_q(attn.to_q(hidden_states))
        k_BNC = attn.norm_k(attn.to_k(encoder_hidden_states))
        v_BNC = attn.to_v(encoder_hidden_states)
        q_BHSD = rotate(q_BSC.unflatten(-1, (attn.heads, -1)).transpose(1, 2), rotary_emb[0])
        k_BHND = rotate(split_keys_17b(k_BNC, attn.heads), rotary_emb[1])
        v_BNHD = v_BNC.unflatten(-1, (attn.heads, -1))
        out_BSHD = dispatch_attention_fn(
            q_BHSD.transpose(1, 2),
            k_BHND.transpose(1, 2),
            v_BNHD,
            backend=self._attention_backend,
        )
        out_BSC = out_BSHD.flatten(2).type_as(hidden_states)
        return attn.to_out[1](attn.to_out[0](out_BSC))
