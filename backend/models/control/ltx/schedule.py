"""LTX's steps: the published scheduler by itself, or the levels of noise that a few-step LoRA was made for."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from diffusers.pipelines.ltx2.pipeline_ltx2_ic_lora import calculate_shift
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from ....catalogue.models import ModelSpec
from ....shot import Shot
from ...lora.files import recipe_of_shot
from ..build import Late, read_scheduler
from ..plan import few_steps


class FlowScheduler(Late, FlowMatchEulerDiscreteScheduler):
    """The published kind.

    Attributes:
        clean: what the last step took the clean latents to be.
    """

    clean: Tensor

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: str | torch.device | None = None,
        sigmas: list[float] | None = None,
        mu: float | None = None,
        timesteps: list[float] | None = None,
    ) -> None:
        """As its parent."""
        super().set_timesteps(num_inference_steps, device, sigmas, mu, timesteps)
        self.begin_late()

    def step(self, model_output: Tensor, timestep: Any, sample: Tensor, **named: Any) -> Any:  # pyright: ignore
        """As its parent."""
        given = super().step(model_output, timestep, sample, **named)
        assert self.step_index is not None
        self.clean = sample - self.sigmas[self.step_index - 1] * model_output
        return given

    def levels_of(self, sigmas: list[float], tokens: int) -> Tensor:
        """(steps + 1,) ``levels`` of a run with so many tokens, before diffusers' pipeline sets them."""
        names = ("base_image_seq_len", "max_image_seq_len", "base_shift", "max_shift")
        given = [self.config.get(n, d) for n, d in zip(names, (1024, 4096, 0.95, 2.05), strict=True)]
        self.set_timesteps(sigmas=sigmas, mu=calculate_shift(tokens, *given))
        return self.levels


def load_schedule(spec: ModelSpec, shot: Shot, steps: int) -> tuple[FlowScheduler, list[float]]:
    """The scheduler, and the noise before each step as the scheduler is given it.

    Raises:
        EngineError: it cannot be read, or LoRAs that cannot.
    """
    recipe = few_steps(spec, shot) or recipe_of_shot(spec, shot)
    # One step ends in the clean film: there is no last level of noise to stretch the others to.
    named: dict[str, Any] = {"shift_terminal": None} if steps == 1 else {}
    if recipe is not None and len(recipe.sigmas) == steps:
        named = {"use_dynamic_shifting": False, "shift": 1.0, "shift_terminal": None}
        return read_scheduler(spec, FlowScheduler, **named), list(recipe.sigmas)
    if recipe is not None and recipe.shift is not None:
        named |= {"use_dynamic_shifting": False, "shift": recipe.shift}
    return read_scheduler(spec, FlowScheduler, **named), np.linspace(1.0, 1 / steps, steps).tolist()
