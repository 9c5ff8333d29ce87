"""diffusers' VACE pipeline in the engine's hands: networks where they were placed, long films in fused windows.

Shape letters: B batch, C latent channels, L latent frames, h w latent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from diffusers.pipelines.wan.pipeline_wan_vace import WanVACEPipeline
from torch import Tensor

from ..windows import fusion_weights


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
    """

    def __init__(
        self,
        transformer: Any,
        dtype: torch.dtype,
        windows: Sequence[range],
        references: int,
        check: Callable[[], None],
    ) -> None:
        self.dtype = dtype
        self.config = transformer.config
        self.cache_context = transformer.cache_context
        self._transformer = transformer
        self._windows, self._references, self._check = windows, references, check

    def __call__(self, hidden_states: Tensor, control_hidden_states: Tensor, **named: Any) -> tuple[Tensor]:
        """What the transformer answers, (1,C,R+L,h,w); arguments are the transformer's."""
        if len(self._windows) == 1:
            self._check()
            return self._transformer(hidden_states=hidden_states, control_hidden_states=control_hidden_states, **named)
        R = self._references
        total = torch.zeros_like(hidden_states, dtype=torch.float32)
        weight = torch.zeros(hidden_states.shape[2], device=hidden_states.device)
        for window in self._windows:
            self._check()
            places = [*range(R), *(R + latent for latent in window)]
            counts = torch.tensor([*[1.0] * R, *fusion_weights(len(window))], device=hidden_states.device)
            (answer,) = self._transformer(
                hidden_states=hidden_states[:, :, places],
                control_hidden_states=control_hidden_states[:, :, places],
                **named,
            )
            total[:, :, places] += answer.float() * counts.view(1, 1, -1, 1, 1)
            weight[places] += counts
        return ((total / weight.view(1, 1, -1, 1, 1)).to(hidden_states.dtype),)
