"""Carry out an arrangement of ``memory`` with the switches that diffusers and accelerate have for it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import cpu_offload_with_hook
from accelerate.hooks import UserCpuOffloadHook
from diffusers.hooks.group_offloading import apply_group_offloading
from diffusers.hooks.layerwise_casting import apply_layerwise_casting
from torch import nn

from ...catalogue.models import ModelSpec
from ..family import Plan
from .arrangement import MARGIN, Mode, Strategy, cast, check_fits, choose, estimate, moves, still_fits
from .footprint import GB, Free, NetworkFootprint, fitting_chunk, free_memory, parts_of_modules

log = logging.getLogger("maquette.memory")

STORAGE = torch.float8_e4m3fn
"""How weights are kept under layerwise casting."""

_CPU = torch.device("cpu")


@dataclass(eq=False)
class Placement:
    """How a model is spread, and until when that holds.

    Attributes:
        strategy: what was chosen.
        device: where tensors made by hand belong.
        notes: sentences for the animator; empty when everything simply fits.
        previews: whether decoding a preview between steps is cheap; not when the VAE would push the denoiser out.
    """

    strategy: Strategy
    device: torch.device
    notes: tuple[str, ...]
    previews: bool
    spec: ModelSpec = field(repr=False)
    modules: Mapping[str, nn.Module] = field(repr=False)
    parts: tuple[NetworkFootprint, ...] = field(repr=False)
    itemsize: int = 2

    def serves(self, plan: Plan) -> bool:
        """Whether another job fits with the parts as they are."""
        free = free_memory(self.device, self.modules.values())
        return still_fits(self.spec, plan, free, self.parts, self.itemsize, self.strategy)

    def decoding_chunk(self, plan: Plan, wanted: int) -> int:
        """Frames that the VAE decodes at once in the memory that is free now, ``wanted`` at most and one at least."""
        return fitting_chunk(self.spec, plan, wanted, self._decoding_room(), self.itemsize)

    def _decoding_room(self) -> int:
        """Bytes on the device beside what is there while the VAE decodes."""
        free = free_memory(self.device)
        if free.gpu is None:
            return int(free.ram * (1 - MARGIN))
        room = free.gpu - torch.cuda.memory_allocated(self.device)
        for part in self.parts if self.strategy.mode is Mode.MODELS else ():
            # The VAE's call sends the others away and brings the VAE.
            if moves(part, self.strategy.mode):
                weights = list(self.modules[part.name].parameters())
                there = weights[0].device != _CPU
                room += sum(weight.numel() * weight.element_size() for weight in weights) * (there - part.decodes)
        return int(room * (1 - MARGIN))


def place(
    modules: Mapping[str, nn.Module],
    spec: ModelSpec,
    plan: Plan,
    device: torch.device | str,
    dtype: torch.dtype,
    stages: Mapping[str, tuple[str, ...]],
) -> Placement:
    """Put a model's networks, loaded on the CPU, where they run.

    Args:
        modules: by name; ``vae*`` and ``image_encoder*`` encode (the VAE decodes as well), all others denoise, together
            at every step.
        stages: when a network runs where its name does not say: ``{"cmp": ("encoding",)}``.

    Raises:
        EngineError: it cannot fit; the message says what to change.
    """
    device = torch.device(device)
    if device.type == "cuda" and device.index is None:
        # The hooks compare devices, and "cuda" is not equal to "cuda:0".
        device = torch.device("cuda", torch.cuda.current_device())
    parts = parts_of_modules(modules, stages, tiles="tile_megapixels" in spec.memory)
    free = free_memory(device, modules.values())
    strategy = check_fits(spec, plan, free, parts, dtype.itemsize)
    apply(strategy, modules, parts, device, dtype)
    taken = estimate(choose(spec, plan, free, parts, dtype.itemsize)[1], strategy, on_gpu=free.gpu is not None)
    log.info("%s: %s; %s", spec.id, strategy, _figures(taken.ram, taken.gpu, free))
    return Placement(
        strategy=strategy,
        device=device,
        notes=notes(strategy, free),
        previews=not any(part.decodes and moves(part, strategy.mode) for part in parts),
        spec=spec,
        modules=dict(modules),
        parts=parts,
        itemsize=dtype.itemsize,
    )


def place_first(modules: Mapping[str, nn.Module], device: torch.device, dtype: torch.dtype) -> torch.device:
    """Put networks that run before all others on the device: whole where there is room, else layer by layer.

    Returns:
        Where their inputs belong.
    """
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", torch.cuda.current_device())
    parts = parts_of_modules(modules, {}, tiles=False)
    free = free_memory(device)
    # What is kept of other networks there is not free.
    held = torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
    whole = free.gpu is None or sum(part.weights for part in parts) + GB <= (free.gpu - held) * (1 - MARGIN)
    apply(Strategy(Mode.RESIDENT if whole else Mode.LAYERS), modules, parts, device, dtype)
    return device


def apply(
    strategy: Strategy,
    modules: Mapping[str, nn.Module],
    parts: tuple[NetworkFootprint, ...],
    device: torch.device,
    dtype: torch.dtype,
) -> None:
    """Throw the switches. ``modules`` lie in main memory, without hooks of an earlier arrangement."""
    hooked: list[tuple[NetworkFootprint, UserCpuOffloadHook]] = []
    for part in parts:
        module = modules[part.name]
        if strategy.tiling and part.tiles:
            _tile(module)
        if strategy.casting and cast(part):
            _cast(module, dtype)
        if not moves(part, strategy.mode):
            module.to(device)
        elif strategy.mode is Mode.MODELS or part.decodes:
            _, hook = cpu_offload_with_hook(module, device)
            hooked.append((part, hook))
        else:
            blocks = strategy.mode is Mode.BLOCKS and part.denoises
            _group(module, device, "block_level" if blocks else "leaf_level", casting=strategy.casting)
    for part, hook in hooked:
        # Denoising parts take turns at every step and stay together; of the others only one is there at a time.
        others = [other for p, other in hooked if other is not hook and not (part.denoises and p.denoises)]
        if others:
            hook.hook.prev_module_hook = _Together(others)


class _Together(UserCpuOffloadHook):
    """Several models that leave when another comes, where accelerate knows one."""

    def __init__(self, hooks: list[UserCpuOffloadHook]) -> None:
        self._hooks = hooks

    @property
    def model(self) -> Any:
        """One that is on the GPU if any is: accelerate asks only this one where it is."""
        models = [hook.model for hook in self._hooks]
        return next((model for model in models if next(model.parameters()).device != _CPU), models[0])

    def offload(self) -> None:
        """Send all of them to main memory."""
        for hook in self._hooks:
            hook.offload()


def _tile(module: Any) -> None:
    module.enable_tiling()
    if hasattr(module, "use_slicing"):
        module.enable_slicing()


def _cast(module: Any, dtype: torch.dtype) -> None:
    if hasattr(module, "enable_layerwise_casting"):
        # A diffusers model knows which of its layers must keep their precision.
        module.enable_layerwise_casting(storage_dtype=STORAGE, compute_dtype=dtype)
    else:
        apply_layerwise_casting(module, STORAGE, dtype)


def _group(module: nn.Module, device: torch.device, kind: str, casting: bool) -> None:
    """Group offload; the next group is fetched while one runs, except with casting, which changes what was fetched."""
    apply_group_offloading(
        module,
        onload_device=device,
        offload_device=_CPU,
        offload_type=kind,
        num_blocks_per_group=1 if kind == "block_level" else None,
        use_stream=device.type == "cuda" and not casting,
        # Pinned as they go: all weights pinned at once would be out of the system's reach.
        low_cpu_mem_usage=True,
    )


def notes(strategy: Strategy, free: Free) -> tuple[str, ...]:
    """What an animator should know of the arrangement."""
    if strategy == Strategy():
        return ()
    where = f"{free.name} has {free.gpu / GB:.0f} GB free" if free.gpu is not None else "little main memory is free"
    said = []
    if strategy.mode is not Mode.RESIDENT:
        said.append(f"The model came to the GPU in parts ({strategy.mode.value}), which is slower, because {where}")
    if strategy.casting:
        said.append(f"The denoiser's weights were kept in 8 bits, which changes the picture a little, because {where}")
    if strategy.tiling:
        said.append(f"The VAE worked in tiles, whose seams may show in even areas, because {where}")
    return tuple(said)


def _figures(ram: int, gpu: int, free: Free) -> str:
    if free.gpu is None:
        return f"about {ram / GB:.1f} GB of {free.ram / GB:.1f} GB free main memory"
    return f"about {gpu / GB:.1f} GB of {free.gpu / GB:.1f} GB free on {free.name}, {ram / GB:.1f} GB of main memory"
