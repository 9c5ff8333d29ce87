"""diffusers' VACE pipeline in the engine's hands: networks where they were placed, long films in fused windows.

Shape letters: B batch, C latent channels, L latent frames, h w latent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from diffusers.pipelines.wan.pipeline_wan_vace import WanVACEPipeline
from torch import Tensor

from ..context_parallel import SPLIT, WAN_PLAN, context_parallel
from ..group import ALONE, Group
from ..windows import fusion_weights

PLAN = {**WAN_PLAN, "vace_blocks.0": {"hidden_states": SPLIT, "control_hidden_states": SPLIT}}
"""How VACE's transformer is evaluated by several (see ``context_parallel``); diffusers has no plan for it."""


class VACEPipeline(WanVACEPipeline):
    """diffusers' own, for texts that have been read already.

    Args:
        transformer: a ``Windowed`` one.
        device: where its tensors belong; networks that come and go cannot be asked.
    """

    @classmethod
    def of(cls, vae: Any, transformer: Any, scheduler: Any, device: torch.device) -> VACEPipeline:
        """A pipeline without a text encoder."""
        nothing: Any = None
        made = cls(tokenizer=nothing, text_encoder=nothing, vae=vae, scheduler=scheduler, transformer=transformer)
        made._told = device
        made.set_progress_bar_config(disable=True)
        return made

    @property
    def _execution_device(self) -> torch.device:
        return self._told


class Windowed:
    """A VACE transformer for films of any length: windows in time, whose answers are mixed at every step.

    The references' latent frames come first in every window, so that all have the same looks before them.

    Args:
        dtype: that it computes in.
        windows: latent frames of each window, without those of the references.
        references: latent frames of references, before the film's.
        check: called before each evaluation; may raise to stop.
        group: who evaluates it together: windows, and the tokens of each.
    """

    def __init__(
        self,
        transformer: Any,
        dtype: torch.dtype,
        windows: Sequence[range],
        references: int,
        check: Callable[[], None],
        group: Group = ALONE,
    ) -> None:
        self.dtype = dtype
        self.config = transformer.config
        self.cache_context = transformer.cache_context
        self._transformer = transformer
        self._windows, self._references, self._check = windows, references, check
        self._group = group

    def __call__(self, hidden_states: Tensor, control_hidden_states: Tensor, **named: Any) -> tuple[Tensor]:
        """What the transformer answers, (1,C,R+L,h,w); arguments are the transformer's."""
        # Every member of the group, also one without a window of its own.
        self._check()
        R = self._references
        places = [[*range(R), *(R + latent for latent in window)] for window in self._windows]
        across, within = self._group.spread(len(places), self.config["num_attention_heads"], even=True)

        def evaluate(place: list[int]) -> Tensor:
            self._check()
            x, control = (z if len(places) == 1 else z[:, :, place] for z in (hidden_states, control_hidden_states))
            with context_parallel(self._transformer, within, PLAN):
                (answer,) = self._transformer(hidden_states=x, control_hidden_states=control, **named)
            return answer.to(x.dtype)

        answers = across.together([partial(evaluate, place) for place in places], hidden_states[:, :, places[0]])
        if len(places) == 1:
            return (answers[0],)
        total = torch.zeros_like(hidden_states, dtype=torch.float32)
        weight = torch.zeros(hidden_states.shape[2], device=hidden_states.device)
        for place, answer in zip(places, answers, strict=True):
            counts = torch.tensor([*[1.0] * R, *fusion_weights(len(place) - R)], device=hidden_states.device)
            total[:, :, place] += answer.float() * counts.view(1, 1, -1, 1, 1)
            weight[place] += counts
        return ((total / weight.view(1, 1, -1, 1, 1)).to(hidden_states.dtype),)
