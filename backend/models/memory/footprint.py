"""What a model takes and what a computer has free, in bytes (no torch at import).

Weights are counted from the headers of the files; activations come from the model's ``[memory]`` table, scaled by
picture size and frames. All of them are estimates. The table's entries are optional; GB are 10^9 bytes at two bytes a
value, and an mpf is a megapixel of one frame:

``weights_gb``
    all weights as they run, said while no files are there
``text_gb``
    of these the text encoder's, which is let go before the others come
``least_gb``
    GPU memory of the default job at the least, said while no files are there
``base_gb``
    what the runtime takes beside weights and activations (context, workspaces); 0.8 where not given
``STAGE_gb``
    activations of ``encoding``, ``denoising`` or ``decoding`` that do not grow with the picture
``STAGE_gb_per_mpf``
    and those that do, per megapixel and frame worked on at once
``encoding_frames``, ``denoising_frames``, ``decoding_frames``
    frames worked on at once; by default all, the longest window, and all
``decoding_frames_least``
    to how many decoding may be cut where memory is short; the engine then decodes as many as there is room for
``least_frames``
    frames that are worked on however short the shot is, so that shortening it further saves nothing
``fixed_picture``
    1 when the number of pixels is the model's own, so that no smaller picture can be asked for
``tile_megapixels``
    size of a tile where the VAE can work in tiles; without it the VAE is not tiled
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...catalogue.models import ModelSpec
from ..family import Plan

if TYPE_CHECKING:
    from torch import nn

GB = 10**9

STAGES = ("encoding", "denoising", "decoding")

TEXT = "text"
"""The stage of networks that read the shot's texts: they run before any other is read, and are then let go."""

SMALL = 512 * 2**20
"""Bytes: a part with less stays on the GPU whatever happens; moving it would cost more than it gives."""

_BASE_GB = 0.8
"""A CUDA context with cuDNN's and cuBLAS's workspaces."""

NOT_CAST = ("pos_embed", "patch_embed", "norm", "^proj_in$", "^proj_out$")
"""Layers that diffusers' layerwise casting leaves alone, as patterns of their names."""

_DRAWING_GB, _DRAWING_GB_PER_MP = 0.9, 2.2
"""What the program takes that draws a carried film, and what more per megapixel of the film, however many frames it has
(``bench/draft_memory.py``)."""

_WIDENING = 13
"""Bytes a value while a quantised weight is widened, at the most: 4 of Q8_0, 5 to 8 of Q2_K to Q6_K, 12.3 of IQ4_XS."""

_LORA = ".lora_"
"""In a LoRA's keys."""

_IN_A_LIST = re.compile(r"^[^.]+\.\d+(?=\.)")


@dataclass(frozen=True)
class NetworkFootprint:
    """Bytes of one network.

    Attributes:
        weights: all of it, at the precision that it runs at.
        saved: bytes that 8-bit storage would save.
        block: largest share that is on the GPU at a time when its blocks come and go one by one.
        layer: the same for single layers.
        stages: when it runs.
        tiles: whether it can work in tiles (a VAE).
        widening: bytes that it takes for a moment to widen one of its quantised weights.
        mapped: of the weights those that lie in their files as they run: such are mapped, not read, and take main
            memory only where it is free.
    """

    name: str
    weights: int
    saved: int = 0
    block: int = 0
    layer: int = 0
    stages: tuple[str, ...] = ("denoising",)
    tiles: bool = False
    mapped: int = 0
    widening: int = 0

    @property
    def small(self) -> bool:
        """Stays on the GPU."""
        return self.weights < SMALL

    @property
    def first(self) -> bool:
        """Gone before the other parts come."""
        return TEXT in self.stages

    @property
    def denoises(self) -> bool:
        """Runs at every step, beside the other parts that do."""
        return "denoising" in self.stages

    @property
    def decodes(self) -> bool:
        """A VAE: of use whole only, since ``encode`` and ``decode`` pass by the hooks that move single blocks."""
        return "decoding" in self.stages


@dataclass(frozen=True)
class Need:
    """What a job takes.

    Attributes:
        base: bytes beside weights and activations.
        activations: bytes of each stage.
        tiled: the same with the VAE in tiles; empty where it cannot.
    """

    parts: tuple[NetworkFootprint, ...]
    base: int = 0
    activations: Mapping[str, int] = field(default_factory=dict)
    tiled: Mapping[str, int] = field(default_factory=dict)

    @property
    def weights(self) -> int:
        """Bytes of all parts that are there at a time: those that come first, or the others."""
        return max(sum(part.weights for part in self.parts if part.first == first) for first in (True, False))

    @property
    def tiles(self) -> bool:
        """Whether tiling is to be had."""
        return bool(self.tiled) and any(part.tiles for part in self.parts)


@dataclass(frozen=True)
class Free:
    """What there is.

    Attributes:
        ram: bytes of main memory.
        gpu: bytes of GPU memory, None without a GPU.
        name: of the GPU.
    """

    ram: int
    gpu: int | None = None
    name: str = "the GPU"


def stages_of(name: str) -> tuple[str, ...]:
    """When a part of this name runs, if nobody says otherwise."""
    if name.startswith("vae"):
        return ("encoding", "decoding")
    if name.startswith("text_encoder"):
        return (TEXT,)
    return ("encoding",) if name.startswith("image_encoder") else ("denoising",)


def part_of(
    name: str, tensors: Iterable[tuple[str, tuple[int, ...], float]], stages: tuple[str, ...] = (), tiles: bool = False
) -> NetworkFootprint:
    """Add up a network.

    Args:
        tensors: key, shape and bytes a value as it runs, of every weight.
    """
    total = saved = rest = 0.0
    blocks: dict[str, float] = {}
    layers: dict[str, float] = {}
    tensors = list(tensors)
    cast = {
        layer
        for layer, leaf, shape in ((*key.rpartition(".")[::2], shape) for key, shape, _ in tensors)
        if leaf == "weight" and len(shape) >= 2 and not any(re.search(pattern, layer) for pattern in NOT_CAST)
    }
    for key, shape, itemsize in tensors:
        count = prod(shape)
        size = count * itemsize
        total += size
        layer = key.rpartition(".")[0]
        layers[layer] = layers.get(layer, 0) + size
        if layer in cast:
            saved += count * (itemsize - 1)
        if found := _IN_A_LIST.match(key):
            blocks[found[0]] = blocks.get(found[0], 0) + size
        else:
            rest += size
    # Two at a time: the next one is fetched while one runs.
    largest = max(blocks.values(), default=0)
    return NetworkFootprint(
        name=name,
        weights=int(total),
        saved=int(saved),
        block=int(min(total, rest + 2 * largest)),
        layer=int(min(total, 2 * max(layers.values(), default=0))),
        stages=stages or stages_of(name),
        tiles=tiles,
    )


def parts_of_files(spec: ModelSpec, itemsize: int) -> tuple[NetworkFootprint, ...]:
    """The networks whose safetensors lie in the model's folder, from their headers.

    Args:
        itemsize: bytes a floating-point value as the model runs.
    """
    from ..registry import idle_parts
    from ..weights.reading import headers, weights_in

    tiles, idle = "tile_megapixels" in spec.memory, idle_parts(spec)
    parts, changed = [], False
    for folder in sorted(path for path in spec.folder.glob("*") if path.is_dir() and path.name not in idle):
        found = headers(weights_in(folder))
        if any(_LORA in key for key in found):
            # No network, but one is added to another, whose weights then are not those of its files any more.
            changed = changed or f"{folder.name}/" in " ".join(spec.files)
            continue
        tensors = [
            (key, e.shape, e.held / prod(e.shape) if e.held else itemsize if e.floating else e.itemsize)
            for key, e in found.items()
        ]
        if tensors:
            part = part_of(folder.name, tensors, tiles=tiles and folder.name.startswith("vae"))
            mapped = sum(e.size for e in found.values() if not e.floating or e.itemsize == itemsize)
            part = _as_kept(part, [prod(e.shape) for e in found.values() if e.held])
            parts.append(replace(part, mapped=mapped))
    return tuple(replace(part, mapped=0) if changed and part.denoises else part for part in parts)


def parts_of_modules(
    modules: Mapping[str, nn.Module], stages: Mapping[str, tuple[str, ...]], tiles: bool
) -> tuple[NetworkFootprint, ...]:
    """The same of loaded networks, buffers included."""
    return tuple(
        _as_kept(
            part_of(
                name,
                [(key, tuple(value.shape), value.element_size()) for key, value in _tensors(module)],
                stages.get(name, ()),
                tiles and getattr(module, "use_tiling", None) is not None,
            ),
            [
                prod(shape)
                for _, value in _tensors(module)
                if (shape := getattr(value, "quant_shape", None)) is not None
            ],
        )
        for name, module in modules.items()
    )


def _as_kept(part: NetworkFootprint, quantised: Sequence[int]) -> NetworkFootprint:
    """A network some of whose weights, of so many values each, are kept quantised: nothing of it is cast."""
    return replace(part, saved=0, widening=_WIDENING * max(quantised)) if quantised else part


def _tensors(module: nn.Module) -> Iterable[tuple[str, Any]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def drawing_bytes(width: int, height: int) -> int:
    """What a carried film of so many pixels takes, on the device that draws it, with the program itself."""
    return int((_DRAWING_GB + _DRAWING_GB_PER_MP * width * height / 1e6) * GB)


def need_of(
    spec: ModelSpec,
    plan: Plan,
    parts: tuple[NetworkFootprint, ...],
    itemsize: int = 2,
    frames: int | None = None,
    megapixels: float | None = None,
    window: int | None = None,
    lean: bool = False,
) -> Need:
    """What a job takes.

    Args:
        itemsize: bytes a value of the activations.
        frames, megapixels: instead of the plan's, to try others.
        window: frames that are denoised together at most, to try fewer than the plan's.
        lean: with as few frames decoded at once as ``decoding_frames_least`` allows.
    """
    table = spec.memory
    if megapixels is None:
        width, height = plan.model_size if all(plan.model_size) else (plan.width, plan.height)
        megapixels = width * height / 1e6
    every = frames or plan.model_frames or plan.frames
    longest = max((stop - start for start, stop in plan.windows), default=every)
    decoded = int(table.get("decoding_frames_least", 0)) if lean else 0
    at_once = {"encoding": every, "denoising": min(every, longest, window or longest), "decoding": decoded or every}

    def stage_bytes(stage: str, picture: float) -> int:
        count = min(at_once[stage], int(table.get(f"{stage}_frames", 0)) or at_once[stage])
        # A shorter window makes more of them, which several devices may then have whole.
        held = plan.held if stage == "denoising" and window is None else 1.0
        gigabytes = table.get(f"{stage}_gb", 0.0) + table.get(f"{stage}_gb_per_mpf", 0.0) * picture * count * held
        widening = max((part.widening for part in parts if stage in part.stages), default=0)
        return int(gigabytes * GB * itemsize / 2) + widening

    tile = table.get("tile_megapixels")
    return Need(
        parts=parts,
        base=int(table.get("base_gb", _BASE_GB) * GB),
        activations={stage: stage_bytes(stage, megapixels) for stage in STAGES},
        tiled={}
        if tile is None
        else {
            stage: stage_bytes(stage, megapixels if stage == "denoising" else min(tile, megapixels)) for stage in STAGES
        },
    )


def fitting_chunk(spec: ModelSpec, plan: Plan, wanted: int, room: int, itemsize: int) -> int:
    """Frames that the VAE can decode at once, ``wanted`` at most and one at least.

    Args:
        room: free bytes.
        itemsize: bytes a value.
    """
    width, height = plan.model_size
    frame = spec.memory.get("decoding_gb_per_mpf", 0.0) * GB * itemsize / 2 * width * height / 1e6
    return max(1, min(wanted, int(room // frame))) if frame else wanted


def free_memory(device: Any, modules: Iterable[nn.Module] = ()) -> Free:
    """What a job may use on ``device`` (as torch names it), with what ``modules`` and torch's cache hold already."""
    import torch

    device = torch.device(device)
    held = sum(
        value.numel() * value.element_size()
        for module in modules
        for _, value in _tensors(module)
        if value.device.type == "cpu"
    )
    ram = free_ram() + held
    if device.type != "cuda":
        return Free(ram)
    free, _ = torch.cuda.mem_get_info(device)
    return Free(ram, free + torch.cuda.memory_reserved(device), torch.cuda.get_device_name(device))


def free_ram(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes of main memory that can be had without swapping, within the limit of a container where there is one."""
    import psutil

    available = int(psutil.virtual_memory().available)
    try:
        limit, used = ((cgroup / name).read_text().strip() for name in ("memory.max", "memory.current"))
        return available if limit == "max" else min(available, max(0, int(limit) - int(used)))
    except (OSError, ValueError):
        return available


_PROGRAM = GB
"""Bytes of main memory that the program itself takes, with torch."""


def reclaimable() -> int:
    """Bytes of main memory that this process holds beyond the program itself; mapped files count as free anyway."""
    import psutil

    held = psutil.Process().memory_info()
    return max(0, held.rss - getattr(held, "shared", 0) - _PROGRAM)
