"""The rival of interspatial attention in the paper's ablation: a 2D ControlNet on normal maps (Sec. 6.4, Tab. 4).

The video branch is the ISA-DiT's without its points: the same patch embedding, spatial and temporal transformers,
feed-forward layers, camera and reference cross-attention, and identity from concatenation and cross-attention alone.
What the ISA-DiT spends on points is spent on a control branch (ControlNet, Zhang et al. 2023): one block beside each
block of the video branch, fed with the video tokens plus an embedding of the normal maps' latents, its output added
to the video branch through a linear layer that starts at zero.

Shape letters: B batch, C characters, L latent frames, h w latent, P video tokens of a latent frame, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
import torch.nn.functional as F
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from torch import Tensor, nn

from ..models.group import Part
from ..models.isa.blocks import LedBlock, SpaceTimeBlock, modulation_places
from ..models.isa.inputs import ISAConditions, ISAInputs
from ..models.isa.layers import CrossAttention, FeedForward, Time, modulate
from ..models.isa.transformer import ISATransformer3DModel

_VIDEO_PLACES = 3 * 5
_CONTROL_PLACES = 3 * 4
"""Shift, scale and gate of the places of a block of either branch."""


@dataclass(frozen=True, eq=False)
class ControlConditions(ISAConditions):
    """``ISAConditions`` without points, and with the latents (B,16,L,h,w) that the control branch follows."""

    control: Tensor

    def frames(self, index: Tensor) -> ControlConditions:
        """See ``ISAConditions.frames``."""
        chosen = cast(ControlConditions, super().frames(index))
        return replace(chosen, control=self.control.index_select(2, index))


class VideoBlock(LedBlock):
    """``ISABlock`` without its points: 2D spatial -> 2D temporal -> feed-forward -> camera -> reference."""

    def __init__(self, width: int, heads: int, mlp_ratio: float, temporal_mlp_ratio: float) -> None:
        super().__init__(width, heads, mlp_ratio, temporal_mlp_ratio)
        self.video_mlp = FeedForward(width, mlp_ratio)
        self.camera_attention = CrossAttention(width, heads, kernel=True)
        self.reference_attention = CrossAttention(width, heads)
        self.modulation = nn.Parameter(torch.zeros(_VIDEO_PLACES, width))

    def init_weights(self) -> None:
        """What does not start as linear layers usually do."""
        self.camera_attention.init_weights()
        self.reference_attention.init_weights()

    def update(
        self,
        x_BLPD: Tensor,
        modulation: Tensor,
        encoding_PD: Tensor,
        time: Time,
        conditions: ISAConditions,
        index: int,
    ) -> Tensor:
        """Update video tokens; see ``ISABlock.update``."""
        spatial, spatial_ff, temporal, temporal_ff, video_ff = modulation_places(
            modulation, self.modulation, x_BLPD.dtype
        )
        x_BLPD = self.space_time(x_BLPD, spatial, spatial_ff, temporal, temporal_ff, time)
        x_BLPD = x_BLPD + video_ff[2] * self.video_mlp(modulate(self.norm(x_BLPD), video_ff[0], video_ff[1]))
        return self.cross_attend(x_BLPD, encoding_PD, conditions, index)


class ControlBlock(SpaceTimeBlock):
    """One block of the control branch; ``out`` is what the video branch gets of it, nothing at first."""

    def __init__(self, width: int, heads: int, mlp_ratio: float, temporal_mlp_ratio: float) -> None:
        super().__init__(width, heads, mlp_ratio, temporal_mlp_ratio)
        self.out = nn.Linear(width, width)
        self.modulation = nn.Parameter(torch.zeros(_CONTROL_PLACES, width))

    def forward(self, x_BLPD: Tensor, modulation: Tensor, time: Time) -> tuple[Tensor, Tensor]:
        """The control branch's tokens (B,L,P,D) after the block, and what they add to the video branch."""
        spatial, spatial_ff, temporal, temporal_ff = modulation_places(modulation, self.modulation, x_BLPD.dtype)
        x_BLPD = self.space_time(x_BLPD, spatial, spatial_ff, temporal, temporal_ff, time)
        return x_BLPD, self.out(x_BLPD)


class ControlTransformer3DModel(ISATransformer3DModel):
    """An ISA-DiT's video branch that follows ``ISAInputs.control_latents`` instead of surface points.

    With several characters the concatenated reference is the mean of those present, as only their points could say
    whose each pixel is. Cross-attention keeps them apart.

    Args:
        control_hidden: hidden width of the control blocks' feed-forward layers (see ``control_network``).
        config: of ``ISATransformer3DModel``.
    """

    def __init__(self, control_hidden: int, **config: Any) -> None:
        super().__init__(**config)
        for name in ("point_in", "point_out", "point_reference", "null_point"):
            delattr(self, name)
        own = self.config
        width, heads, layers = self.width, own["num_attention_heads"], own["num_layers"]
        ratios = own["mlp_ratio"], own["temporal_mlp_ratio"]
        self.control_in = nn.Linear(own["latent_channels"] * own["patch_size"] ** 2, width)
        self.blocks = nn.ModuleList(VideoBlock(width, heads, *ratios) for _ in range(layers))
        # Half a unit above, so that the ratio times the width is cut to this hidden width.
        control_ratio = (control_hidden + 0.5) / width
        self.control_blocks = nn.ModuleList(
            ControlBlock(width, heads, control_ratio, own["temporal_mlp_ratio"]) for _ in range(layers)
        )
        self.modulation_out = nn.Linear(own["adaln_rank"] or width, (_VIDEO_PLACES + _CONTROL_PLACES) * width)
        self._init_weights()
        for block in self.control_blocks:
            nn.init.zeros_(cast(ControlBlock, block).out.weight)

    def _reference_latents(self, inputs: ISAInputs) -> Tensor:
        present = inputs.reference_present[..., None, None, None]
        total = (inputs.reference_latents * present).sum(dim=1) / present.sum(dim=1).clamp(min=1)
        return total[:, :, None].expand(-1, -1, inputs.background_latents.shape[2], -1, -1)

    def prepare_conditions(self, inputs: ISAInputs) -> ControlConditions:
        """See ``ISATransformer3DModel.prepare_conditions``.

        Raises:
            ValueError: the inputs have no ``control_latents``.
        """
        if inputs.control_latents is None:
            raise ValueError("this transformer follows normal maps; give ISAInputs.control_latents")
        b, frames = inputs.plucker.shape[0], inputs.control_latents.shape[2]
        nothing = self.null_reference.new_zeros(b, frames, 0, self.width)
        return ControlConditions(
            point_tokens=nothing,
            point_encoding=nothing,
            point_mask=torch.zeros(nothing.shape[:3], dtype=torch.bool, device=nothing.device),
            control=inputs.control_latents.to(self._dtype()),
            **self._picture_conditions(inputs),
        )

    def forward(
        self,
        hidden_states: Tensor | None,
        timestep: Tensor | None,
        conditions: ISAConditions | ISAInputs,
        part: Part | None = None,
        residual: bool = False,
        return_dict: bool = True,
    ) -> Transformer2DModelOutput | tuple[Tensor] | ISAConditions:
        """One evaluation of the flow; see ``ISATransformer3DModel.forward``."""
        if isinstance(conditions, ISAInputs):
            conditions = self.prepare_conditions(conditions)
        if hidden_states is None or timestep is None:
            return conditions
        assert isinstance(conditions, ControlConditions)
        x_BLPD, encoding_PD, time = self._video_tokens(hidden_states, conditions.latents, part)
        time_BD = F.silu(self.time_embedding(timestep.float()))
        modulation = self.modulation_out(self.modulation_in(time_BD))
        modulation = modulation.unflatten(1, (_VIDEO_PLACES + _CONTROL_PLACES, -1))
        for_video, for_control = modulation.split((_VIDEO_PLACES, _CONTROL_PLACES), dim=1)
        c_BLPD = x_BLPD + self.control_in(self._patches(conditions.control))
        for index, (block, control) in enumerate(zip(self.blocks, self.control_blocks, strict=True)):
            x_BLPD = block(x_BLPD, for_video, encoding_PD, time, conditions, index)
            c_BLPD, added = control(c_BLPD, for_control, time)
            x_BLPD = x_BLPD + added
        sample = self._sample(x_BLPD, time_BD, hidden_states, timestep, None if residual else conditions.carried)
        return Transformer2DModelOutput(sample=sample) if return_dict else (sample,)


def parameter_count(model: nn.Module) -> int:
    """Trainable numbers of a network."""
    return sum(p.numel() for p in model.parameters())


def control_network(config: Mapping[str, Any]) -> ControlTransformer3DModel:
    """The control variant of an ISA-DiT's configuration, with as nearly as possible as many parameters.

    Args:
        config: arguments of ``ISATransformer3DModel``.
    """
    with torch.device("meta"):
        wanted = parameter_count(ISATransformer3DModel(**config))
        one, two = (parameter_count(ControlTransformer3DModel(hidden, **config)) for hidden in (1, 2))
    hidden = 1 + round((wanted - one) / (two - one))
    return ControlTransformer3DModel(max(hidden, 1), **config)


FROM_NOISE = ("isa", "no_ispe", "control")
FROM_CARRIED = ("isa_carried", "isa_carried_no_ispe", "control_carried")
VARIANTS = (*FROM_CARRIED, *FROM_NOISE)
"""Networks of the ablation, by the name that configurations and reports call them: those that correct the carried film
in one step, and those that know nothing of it and start from noise."""


def variant_network(variant: str, config: Mapping[str, Any]) -> ISATransformer3DModel:
    """A network of the ablation with new weights.

    Args:
        variant: one of ``VARIANTS``.
        config: arguments of the ISA variant.
    """
    if variant not in VARIANTS:
        raise ValueError(f"variant {variant!r}: choose one of {', '.join(VARIANTS)}")
    own = {**config, "start": "noise"}
    if variant in FROM_CARRIED:
        own |= {"start": "carried", "prediction": "residual"}
    if variant.startswith("control"):
        return control_network(own)
    return ISATransformer3DModel(**own, interspatial="no_encoding" if variant.endswith("no_ispe") else "isa")
