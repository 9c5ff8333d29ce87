"""One run of a model over one shot: what it is given, and how it tells how far it is."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..catalogue.models import ModelSpec
from ..shot import Shot
from .family import Cancelled, Family, NotFinite, Plan, Progress
from .finite import check
from .group import ALONE, Group

if TYPE_CHECKING:
    from .memory.placement import Placement

log = logging.getLogger("maquette.engine")

PREVIEW_SECONDS = 0.5
"""Least time between previews: making one takes time from the work."""

PREVIEW_SIDE = 384
"""Pixels of a preview's longer side at most."""


@dataclass(eq=False)
class Generation:
    """One run of a model over one shot, as its family sees it.

    Attributes:
        spec, shot, plan: the model, the shot, and what will be made of it.
        steps, guidance: of the denoising.
        options: the shot's choice of each of the model's options.
        device: where tensors made by hand belong.
        dtype: what the networks compute in.
        texts: what the text encoder made of each of the family's texts.
        group: the processes that make the film together, each in a generation of its own; sampling may share its work
            out to them.
        networks: loaded and spread. Those above 512 MiB may be off the device between calls: reach them by their
            ``forward``, or by methods with diffusers' ``apply_forward_hook``, and never read their ``.device``.
        notes: sentences for the animator; families add to them.
        metadata: what else to remember of the run; families add to it.
    """

    spec: ModelSpec
    shot: Shot
    plan: Plan
    family: Family
    steps: int
    guidance: float
    device: torch.device
    dtype: torch.dtype
    on_progress: Callable[[Progress], None]
    cancelled: Callable[[], bool]
    options: Mapping[str, Any] = field(default_factory=dict)
    group: Group = ALONE
    texts: Mapping[str, Any] = field(default_factory=dict)
    networks: Mapping[str, Any] = field(default_factory=dict)
    placement: Placement | None = None
    notes: list[str] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    _in_step: bool = False
    """Whether the members of a group wait for each other: none may stop by itself."""
    _last: tuple[str, int, int] = ("encoding", 0, 0)
    _shown: float = float("-inf")

    def generator(self) -> torch.Generator:
        """New, of the shot's seed; on the CPU, so that a seed gives the same noise on every device."""
        return torch.Generator("cpu").manual_seed(self.shot.settings.seed)

    def check(self) -> None:
        """Raise Cancelled when the generation is to stop; while a group samples, its members stop at a report."""
        if not self._in_step and self.cancelled():
            raise Cancelled

    def report(self, stage: str, step: int, steps: int, preview: np.ndarray | None = None) -> None:
        """Report a step of a stage (see ``Progress``). Raises Cancelled."""
        self._last = (stage, step, steps)
        self.on_progress(Progress(stage, step, steps, preview if self.group.leads else None))
        if self._in_step and self.group.any(self.cancelled()):
            raise Cancelled
        self.check()

    def stepped(self, step: int, steps: int, still: Callable[[], np.ndarray], by_vae: bool = False) -> None:
        """Report a denoising step.

        Args:
            still: gives the middle of the clip as it looks by now (h,w,3) uint8; called only when a preview is due.
            by_vae: it decodes; there is no preview then where the VAE would push the denoiser off the device.

        Raises:
            Cancelled: the generation is to stop.
        """
        preview = None
        due = step == steps or time.monotonic() - self._shown >= PREVIEW_SECONDS
        if due and self.group.leads and not (by_vae and self.placement is not None and not self.placement.previews):
            try:
                preview = self._small(still())
            except NotFinite:
                log.info("No preview of step %d: it is not finite", step)
            self._shown = time.monotonic()
        self.report("denoising", step, steps, preview)

    @contextmanager
    def in_step(self) -> Iterator[None]:
        """While the members of the group sample together."""
        self._in_step = self.group.size > 1
        yield
        self._in_step = False

    def check_finite(self, value: Any, name: str) -> None:
        """Raise NotFinite unless all tensors in ``value``, which ``name`` gave, are finite."""
        check(value, name, self.when())

    def when(self) -> str:
        """Where the generation is, in words."""
        stage, step, steps = self._last
        return f"at step {step + 1} of {steps}" if stage == "denoising" and step < steps else f"while {stage}"

    def decoding_chunk(self, wanted: int) -> int:
        """Frames that the VAE decodes at once: ``wanted``, or as many as there is room for, which is noted."""
        if self.placement is None:
            return wanted
        chunk = self.placement.decoding_chunk(self.plan, wanted)
        if chunk < wanted:
            self.notes.append(f"Decoded {chunk} frames at once, for want of memory")
        return chunk

    def _small(self, still: np.ndarray) -> np.ndarray:
        scale = min(1.0, PREVIEW_SIDE / max(self.plan.width, self.plan.height))
        width, height = (max(1, round(side * scale)) for side in (self.plan.width, self.plan.height))
        return self.family.fit(self.spec, still[None], width, height)[0]
