"""The engine: what every generation does, whatever the family of its model.

A generation plans, reads what needs no weights, makes sure that the job fits into memory, reads the networks and
spreads them as ``memory`` chose, encodes, denoises, decodes, and reports on the way. It can be cancelled at every
report, before every evaluation of a network, and while weights are read. What a family does its own way is in
``family.Family``.
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import nn

from ..catalogue.models import ModelError, ModelSpec, model_spec
from ..media import StreamedFilm
from ..shot import Shot
from .device import choose_device
from .draft import FAMILY as DRAFT
from .family import Cancelled, EngineError, Family, Network, Plan, Progress, Result, TextReader, media_errors
from .finishing import finish
from .finite import watch
from .generation import Generation
from .group import ALONE, here
from .interrupting import interruptible
from .memory.arrangement import MARGIN, Strategy, check_drawing, check_fits, comes_from_disk
from .memory.footprint import TEXT, Free, free_memory, parts_of_files, reclaimable, stages_of
from .quality import is_draft, settled
from .registry import find_family, status
from .settings import option
from .upscale import upscaled_plan
from .weights.component import WeightsError

if TYPE_CHECKING:
    from .memory.placement import Placement

log = logging.getLogger("maquette.engine")

_FROM_DISK = (
    "The weights came from the disk at every step, which is much slower, because main memory does not hold them; close "
    "what else uses it"
)

MOST_TEXTS = 8
"""Texts of the latest jobs that need not be read again."""


class Engine:
    """One model; its networks are read on its first generation and kept.

    Args:
        spec: its description; the weights are in its folder.
        device: as torch names it; None for a GPU where there is one.
        family: by default the one that the description names.

    Raises:
        ModelError: the description names no family that there is.
    """

    def __init__(self, spec: ModelSpec, device: str | None = None, family: Family | None = None) -> None:
        self.spec = spec
        self.family: Family = find_family(spec) if family is None else family
        self.device = choose_device(device)
        self.dtype = self.family.dtype(self.device)
        self.group = here()
        self.networks: dict[str, nn.Module] = {}
        self._variants: dict[str, str] = {}
        self._texts: dict[str, Any] = {}
        self._reading = ""
        self._placement: Placement | None = None
        self._said: tuple[str, ...] = ()
        self._run: Generation | None = None

    def plan(self, shot: Shot) -> Plan:
        """What ``generate`` would make. Raises EngineError."""
        with media_errors():
            plan = self._family(shot).plan(self.spec, settled(shot, self.spec))
        return upscaled_plan(shot, plan, is_draft(shot))

    def generate(self, shot: Shot, on_progress: Callable[[Progress], None], cancelled: Callable[[], bool]) -> Result:
        """Make the video. Of a group of processes all are to make it; only the first gets its frames.

        Args:
            on_progress: called at every stage and step, from the calling thread.
            cancelled: asked before every evaluation of a network, and all the time while weights are read; True stops.

        Raises:
            EngineError: the shot does not suit the model, or does not fit into memory. ModelError: weights are missing.
            NotFinite: a network's numbers went wrong on the way. Cancelled: ``cancelled`` said so.
        """
        started = time.monotonic()
        with torch.no_grad(), media_errors():
            run = self.begin(shot, on_progress, cancelled)
            family, plan = run.family, run.plan
            frames: np.ndarray | StreamedFilm = np.zeros((0, plan.height, plan.width, 3), np.uint8)
            if self.group.leads or run.group.size > 1:
                with run.group.agreement(Cancelled):
                    prepared = family.prepare(run)
                    self.load(run)
                    conditions = family.encode(run, prepared)
                with run.in_step():
                    sampled = family.sample(run, conditions)
                run.check_finite(sampled, "The sampler")
                if self.group.leads:
                    frames = finish(run, family.decode(run, conditions, sampled))
        # A film that is drawn while it is written has only begun.
        streamed = isinstance(frames, StreamedFilm)
        seconds = {} if streamed else {"seconds": round(time.monotonic() - started, 2)}
        return Result(
            frames,
            shot.clip.fps,
            (*run.plan.notes, *run.notes),
            {**self._metadata(run), **run.metadata, **seconds},
        )

    def begin(
        self,
        shot: Shot,
        on_progress: Callable[[Progress], None] = lambda _: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Generation:
        """A generation that has only been planned. Raises EngineError."""
        family = self._family(shot)
        shot = settled(shot, self.spec)
        plan = upscaled_plan(shot, family.plan(self.spec, shot), is_draft(shot))
        steps, guidance = family.sampling(self.spec, shot)
        options = {name: option(self.spec, shot, name) for name in self.spec.options}
        group = self.group if family.shared else ALONE
        plan = replace(plan, held=family.held(self.spec, plan, group.size))
        run = Generation(
            *(self.spec, shot, plan, family, steps, guidance, self.device, self.dtype, on_progress, cancelled),
            options=options,
            group=group,
        )
        if self.group.size > group.size and family is not DRAFT:
            run.notes.append(
                f"{self.spec.label} does not share its work out: one of the {self.group.size} devices made this film. "
                "Start the backend with an engine a GPU (--gpus 0,1), and each makes a film"
            )
        return run

    def load(self, run: Generation) -> None:
        """Read a generation's networks and spread them, unless they lie right for it already.

        Raises:
            EngineError: weights that cannot be read, or a job that does not fit. ModelError: weights that are missing.
            Cancelled: the generation is to stop.
        """
        self._run = run
        wanted = run.family.networks(self.spec, run.shot, self.dtype)
        if not wanted:
            check_drawing(run.plan, self._free())
            return
        run.report("loading", 0, len(wanted))
        first = {name: network for name, network in wanted.items() if _is_first(name, network)}
        others = {name: network for name, network in wanted.items() if name not in first}
        there = self._placement is not None and all(
            self._variants.get(name) == network.variant for name, network in others.items()
        )
        kept = there and self._placement is not None and self._placement.serves(run.plan)
        if (reading := " ".join(network.variant for network in first.values())) != self._reading:
            # Other networks read texts otherwise.
            self._texts, self._reading = {}, reading
        texts = dict.fromkeys(run.family.texts(run))
        unread = [text for text in texts if text not in self._texts]
        if unread or not kept:
            self._check_files(run.plan, kept)
        if unread:
            self._read_texts(run, first, unread, len(wanted))
        run.texts = {text: self._texts.pop(text) for text in texts}
        self._texts = dict([*self._texts.items(), *run.texts.items()][-MOST_TEXTS:])
        if self._placement is None:
            self._read(run, others, len(first))
        run.report("loading", len(wanted), len(wanted))
        assert self._placement is not None
        run.networks, run.placement, run.device = self.networks, self._placement, self._placement.device
        run.notes.extend((*self._placement.notes, *self._said))

    def _check_files(self, plan: Plan, kept: bool) -> None:
        """Before anything is read: the files are there and what is to come fits beside the networks that are kept."""
        found = status(self.spec)
        if not found.available:
            raise ModelError(found.reason)
        try:
            if kept:
                parts = parts_of_files(self.spec, self.dtype.itemsize)
                come = sum(part.weights for part in parts if part.first)
                kept = come <= free_memory(self.device).ram * (1 - MARGIN)
            if not kept:
                self.unload()
                strategy = self.check_memory(plan)
                log.info("%s: %s", self.spec.id, strategy)
                if comes_from_disk(parts_of_files(self.spec, self.dtype.itemsize), self._free(), strategy):
                    self._said = (_FROM_DISK,)
        except WeightsError as error:
            # Reading the file tells it with its cure.
            log.info("%s: memory is not estimated: %s", self.spec.id, error)

    def _read_texts(self, run: Generation, first: Mapping[str, Network], texts: Iterable[str], count: int) -> None:
        """Have the text encoder read what it has not yet read, and let it go; ``count`` networks are read in all."""
        from .memory.placement import place_first

        read = self._load(run, first, 0, count)
        run.device = place_first(read, self.device, self.dtype)
        reader = cast(TextReader, run.family)
        for text in texts:
            run.check()
            self._texts[text] = reader.encode_text(run, read, text)
            run.check_finite(self._texts[text], "The text encoder")
        read.clear()
        _collect()

    def _read(self, run: Generation, wanted: Mapping[str, Network], done: int) -> None:
        # Here, because it imports diffusers, which a draft does without.
        from .memory.placement import place

        read = self._load(run, wanted, done, done + len(wanted))
        stages = {name: network.stages for name, network in wanted.items() if network.stages}
        self._placement = place(read, self.spec, run.plan, self.device, self.dtype, stages)
        self.networks = read
        self._variants = {name: network.variant for name, network in wanted.items()}

    def _load(self, run: Generation, wanted: Mapping[str, Network], done: int, count: int) -> dict[str, nn.Module]:
        """Networks on the CPU, watched from now on; ``done`` of ``count`` have been read before."""
        read: dict[str, nn.Module] = {}
        with interruptible(run.check):
            for i, (name, network) in enumerate(wanted.items(), done):
                run.report("loading", i, count)
                try:
                    read[name] = network.load()
                except EngineError:
                    # diffusers tells of a stop within a file as of a file that it cannot read.
                    run.check()
                    raise
        watch(read, lambda: "" if self._run is None else self._run.when())
        return read

    def check_memory(self, plan: Plan) -> Strategy:
        """The arrangement that a job would run under, by the headers of the files: a job that cannot fit costs nobody
        the time of reading weights.

        Raises:
            EngineError: it cannot fit; the message says what to change.
        """
        return check_fits(self.spec, plan, self._free(), itemsize=self.dtype.itemsize)

    def _free(self) -> Free:
        free = free_memory(self.device)
        # What an earlier job left in this process makes room for this one.
        return replace(free, ram=free.ram + reclaimable())

    @property
    def reconstruct(self) -> Callable[[np.ndarray], np.ndarray] | None:
        """Takes a film (T,H,W,3) uint8 through the VAE alone and back; None where the family has no way to."""
        return self.family.autoencoder(self.spec, self.device, self.dtype)

    def unload(self) -> None:
        """Give the networks' memory back."""
        self.networks, self._variants, self._placement, self._said = {}, {}, None, ()
        _collect()

    def _family(self, shot: Shot) -> Family:
        return DRAFT if is_draft(shot) else self.family

    def _metadata(self, run: Generation) -> dict[str, Any]:
        """Settings as they were run."""
        plan, settings = run.plan, run.shot.settings
        sampled = {"seed": settings.seed, "steps": run.steps, "guidance": run.guidance, "options": dict(run.options)}
        return {
            "model": self.spec.id,
            **({"quality": settings.quality} if settings.quality else {}),
            **(sampled if run.family is not DRAFT else {}),
            "width": plan.width * plan.upscale,
            "height": plan.height * plan.upscale,
            "model_size": list(plan.model_size),
            "windows": len(plan.windows),
            "device": str(run.device),
            **({"members": run.group.size} if run.group.size > 1 else {}),
            "dtype": str(self.dtype).removeprefix("torch."),
            **({"placement": str(run.placement.strategy)} if run.placement is not None else {}),
        }


def _is_first(name: str, network: Network) -> bool:
    return TEXT in (network.stages or stages_of(name))


def _collect() -> None:
    """Give back the memory of networks that are no longer held: hooks of offloading tie a network to itself."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def load_engine(model_id: str, device: str | None = None, extra_dirs: Iterable[str | Path] = ()) -> Engine:
    """Make a model ready to run.

    Args:
        model_id: as listed.
        device: ``cuda``, ``cuda:1``, ``cpu``, ...; None for a GPU where there is one.

    Raises:
        ModelError: an unknown model, absent weights or an unknown family.
    """
    found = status(model_spec(model_id, extra_dirs))
    if not found.available:
        raise ModelError(found.reason)
    return Engine(found.spec, device)


def shot_engine(shot: Shot, device: str | None = None, extra_dirs: Iterable[str | Path] = ()) -> Engine:
    """The engine for a shot; a draft needs no weights. Arguments and errors as of ``load_engine``."""
    if is_draft(shot):
        return Engine(model_spec(shot.settings.model, extra_dirs), device)
    return load_engine(shot.settings.model, device, extra_dirs)
