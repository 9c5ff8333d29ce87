"""Names of weights in published files and in the classes used here.

Each ``Renaming`` is a list of (ours, published) pieces, applied in both directions, so that a file can be converted and
a key can be reported by the name that its publisher gave it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

V = TypeVar("V")


@dataclass(frozen=True)
class Renaming:
    """Pieces of names, longest match first; a name is cut at dots and each run of parts is translated at most once.

    Attributes:
        pairs: (ours, published), both dotted; ``*`` stands for a number and must occur equally often in both.
    """

    pairs: tuple[tuple[str, str], ...]

    def published(self, key: str) -> str:
        """Our name -> the published one."""
        return _translate(key, self.pairs)

    def ours(self, key: str) -> str:
        """The published name -> ours."""
        return _translate(key, [(there, here) for here, there in self.pairs])

    def from_published(self, state: Mapping[str, V]) -> dict[str, V]:
        """Rename a published state dict. Raises ValueError when two keys fall together."""
        return _unique((self.ours(key), key, value) for key, value in state.items())

    def to_published(self, state: Mapping[str, V]) -> dict[str, V]:
        """Rename one of our state dicts to the published names."""
        return _unique((self.published(key), key, value) for key, value in state.items())


def _unique(rows: Iterable[tuple[str, str, V]]) -> dict[str, V]:
    renamed: dict[str, V] = {}
    for name, key, value in rows:
        if name in renamed:
            raise ValueError(f"{key}: a second weight with the name {name}")
        renamed[name] = value
    return renamed


def _translate(key: str, pairs: Iterable[tuple[str, str]]) -> str:
    """Replace every piece of ``key`` that some pair names, at dots only, each stretch once, the longest piece first."""
    ordered = sorted(pairs, key=lambda pair: -len(pair[0].split(".")))
    parts, out = key.split("."), []
    while parts:
        for source, target in ordered:
            wanted = source.split(".")
            if source.startswith("^"):
                if out:
                    continue
                wanted[0] = wanted[0][1:]
            found = parts[: len(wanted)]
            if len(found) == len(wanted) and all(
                want == have or (want == "*" and re.fullmatch(r"\d+", have))
                for want, have in zip(wanted, found, strict=True)
            ):
                numbers = iter(have for want, have in zip(wanted, found, strict=True) if want == "*")
                out += [next(numbers) if part == "*" else part for part in target.removeprefix("^").split(".")]
                parts = parts[len(wanted) :]
                break
        else:
            out.append(parts.pop(0))
    return ".".join(out)


WAN_TRANSFORMER = Renaming(
    (
        ("condition_embedder.time_embedder.linear_1", "time_embedding.0"),
        ("condition_embedder.time_embedder.linear_2", "time_embedding.2"),
        ("condition_embedder.text_embedder.linear_1", "text_embedding.0"),
        ("condition_embedder.text_embedder.linear_2", "text_embedding.2"),
        ("condition_embedder.time_proj", "time_projection.1"),
        ("condition_embedder.image_embedder.norm1", "img_emb.proj.0"),
        ("condition_embedder.image_embedder.ff.net.0.proj", "img_emb.proj.1"),
        ("condition_embedder.image_embedder.ff.net.2", "img_emb.proj.3"),
        ("condition_embedder.image_embedder.norm2", "img_emb.proj.4"),
        ("attn1", "self_attn"),
        ("attn2", "cross_attn"),
        ("to_q", "q"),
        ("to_k", "k"),
        ("to_v", "v"),
        ("to_out.0", "o"),
        ("add_k_proj", "k_img"),
        ("add_v_proj", "v_img"),
        ("norm_added_k", "norm_k_img"),
        ("blocks.*.norm2", "blocks.*.norm3"),
        ("blocks.*.scale_shift_table", "blocks.*.modulation"),
        ("ffn.net.0.proj", "ffn.0"),
        ("ffn.net.2", "ffn.2"),
        ("vace_blocks.*.norm2", "vace_blocks.*.norm3"),
        ("vace_blocks.*.scale_shift_table", "vace_blocks.*.modulation"),
        ("vace_blocks.*.proj_in", "vace_blocks.*.before_proj"),
        ("vace_blocks.*.proj_out", "vace_blocks.*.after_proj"),
        ("^scale_shift_table", "^head.modulation"),
        ("^proj_out", "^head.head"),
    )
)
"""Wan's transformer: diffusers' names and the original ones, which ``MV-DiT/Wan-2-1`` and most LoRAs have."""

LTX2_TRANSFORMER = Renaming(
    (
        ("^proj_in", "^patchify_proj"),
        ("^audio_proj_in", "^audio_patchify_proj"),
        ("^time_embed", "^adaln_single"),
        ("^audio_time_embed", "^audio_adaln_single"),
        ("^prompt_adaln", "^prompt_adaln_single"),
        ("^audio_prompt_adaln", "^audio_prompt_adaln_single"),
        ("^av_cross_attn_video_scale_shift", "^av_ca_video_scale_shift_adaln_single"),
        ("^av_cross_attn_audio_scale_shift", "^av_ca_audio_scale_shift_adaln_single"),
        ("^av_cross_attn_video_a2v_gate", "^av_ca_a2v_gate_adaln_single"),
        ("^av_cross_attn_audio_v2a_gate", "^av_ca_v2a_gate_adaln_single"),
        ("video_a2v_cross_attn_scale_shift_table", "scale_shift_table_a2v_ca_video"),
        ("audio_a2v_cross_attn_scale_shift_table", "scale_shift_table_a2v_ca_audio"),
        ("norm_q", "q_norm"),
        ("norm_k", "k_norm"),
    )
)
"""LTX-2's transformer: diffusers' names and the original ones, which its LoRAs have."""

LTX2_CONNECTORS = Renaming(
    (
        ("^video_text_proj_in", "^video_aggregate_embed"),
        ("^audio_text_proj_in", "^audio_aggregate_embed"),
        ("^video_connector.transformer_blocks", "^video_embeddings_connector.transformer_1d_blocks"),
        ("^audio_connector.transformer_blocks", "^audio_embeddings_connector.transformer_1d_blocks"),
        ("norm_q", "q_norm"),
        ("norm_k", "k_norm"),
    )
)
"""LTX-2.3's text connectors, likewise."""
