"""diffusers' pipelines in the engine's hands: networks where they were placed, long films in windows.

Shape letters: B batch, C latent channels, L latent frames, h w latent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Self

import torch
from diffusers.pipelines.wan.pipeline_wan_vace import WanVACEPipeline
from torch import Tensor

from ..carried_start import CarriedStart
from ..context_parallel import SPLIT, WAN_PLAN, context_parallel
from ..group import ALONE, Group
from ..windows import fusion_weights
from .build import Late

PLAN = {**WAN_PLAN, "vace_blocks.0": {"hidden_states": SPLIT, "control_hidden_states": SPLIT}}
"""How VACE's transformer is evaluated by several (see ``context_parallel``); diffusers has no plan for it."""


class Placed:
    """One of diffusers' pipelines, for texts that have been read already.

    Args:
        transformer: a ``Checked`` one.
        device: where its tensors belong; networks that come and go cannot be asked.
        others: parts that it does without.
        parts: others that it has.
    """

    @classmethod
    def of(cls, vae: Any, transformer: Any, scheduler: Any, device: torch.device, *others: str, **parts: Any) -> Self:
        """A pipeline, as a rule without a text encoder."""
        every = {**dict.fromkeys(("tokenizer", "text_encoder", *others)), **parts}
        made: Any = cls(vae=vae, scheduler=scheduler, transformer=transformer, **every)  # type: ignore[call-arg]
        made._told = device
        made.set_progress_bar_config(disable=True)
        return made

    @property
    def _execution_device(self) -> torch.device:
        return self._told  # type: ignore[attr-defined]


def holder(
    start: CarriedStart | None, scheduler: Late, noise: Tensor, first: int, steps: int
) -> Callable[[Tensor, int], Tensor]:
    """A function that puts back into latents (1,C,R+L,h,w), after so many steps, what is held of the carried film.

    Args:
        noise: that the latents began with.
        first: R, latent frames before the film's.
    """

    def held(latents: Tensor, done: int) -> Tensor:
        if start is None:
            return latents
        level = float(scheduler.levels[done])
        film = start.hold(latents[:, :, first:], done, steps, lambda z: (1 - level) * z + level * noise[:, :, first:])
        # The scheduler would correct what is put back by what was there before.
        scheduler.last_sample = None  # type: ignore[attr-defined]
        return torch.cat([latents[:, :, :first], film], dim=2)

    return held


class VACEPipeline(Placed, WanVACEPipeline):
    """diffusers' own."""


class Checked:
    """A transformer that asks before each evaluation whether it is to go on.

    Args:
        dtype: that it computes in.
        check: may raise to stop.
    """

    def __init__(self, transformer: Any, dtype: torch.dtype, check: Callable[[], None]) -> None:
        self.dtype = dtype
        self.config = transformer.config
        self.cache_context = transformer.cache_context
        self._transformer, self._check = transformer, check

    def __call__(self, **named: Any) -> tuple[Tensor, ...]:
        """What the transformer answers."""
        self._check()
        return self._transformer(**named)


class Windowed(Checked):
    """A VACE transformer for films of any length: windows in time, whose answers are mixed at every step.

    The references' latent frames come first in every window, so that all have the same looks before them.

    Args:
        windows: latent frames of each window, without those of the references.
        references: latent frames of references, before the film's.
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
        super().__init__(transformer, dtype, check)
        self._windows, self._references, self._group = windows, references, group

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
