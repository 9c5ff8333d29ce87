"""Spread a model over GPU and main memory so that a job fits, or refuse the job with advice (no torch at import).

``decide`` picks the fastest arrangement whose estimate (``footprint``) stays within what is free; ``placement`` carries
it out with the switches that diffusers has for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from ...catalogue.models import ModelSpec
from ..family import EngineError, Plan
from .footprint import GB, Free, Need, NetworkFootprint, drawing_bytes, need_of, parts_of_files

if TYPE_CHECKING:
    pass

MARGIN = 0.04
"""Share of the free memory left alone: allocators do not fill it to the last byte."""


class Mode(Enum):
    """Where the weights are while the model runs, fastest first."""

    RESIDENT = "everything on the device"
    MODELS = "model offload"
    BLOCKS = "group offload by blocks"
    LAYERS = "group offload by layers"


@dataclass(frozen=True)
class Strategy:
    """An arrangement.

    Attributes:
        tiling: the VAE works in tiles, and on one clip of a batch at a time.
        casting: the denoiser's weights are stored in 8 bits (float8_e4m3fn) and widened layer by layer as they run.
    """

    mode: Mode = Mode.RESIDENT
    tiling: bool = False
    casting: bool = False

    def __str__(self) -> str:
        words = [self.mode.value]
        if self.casting:
            words.append("8-bit storage of the denoiser's weights")
        if self.tiling:
            words.append("VAE in tiles")
        return ", ".join(words)


_MODES = (
    (Mode.RESIDENT, False),
    (Mode.MODELS, False),
    (Mode.BLOCKS, False),
    (Mode.RESIDENT, True),
    (Mode.MODELS, True),
    (Mode.BLOCKS, True),
    (Mode.LAYERS, False),
    (Mode.LAYERS, True),
)
"""Fastest first, except that what changes the weights' values comes after moving them by whole blocks."""

ORDER = tuple(Strategy(mode, tiling, casting) for mode, casting in _MODES for tiling in (False, True))
"""Arrangements on a GPU in order of preference."""

CPU_ORDER = tuple(Strategy(Mode.RESIDENT, tiling) for tiling in (False, True))
"""Arrangements without a GPU: there is nowhere to offload to."""


@dataclass(frozen=True)
class Estimate:
    """Peak bytes of an arrangement; without a GPU all are in ``ram``."""

    ram: int
    gpu: int = 0

    def fits(self, free: Free) -> bool:
        """Whether that much is there."""
        keep = 1 - MARGIN
        return self.ram <= free.ram * keep and self.gpu <= (free.gpu or 0) * keep


class DoesNotFit(ValueError):
    """No arrangement fits.

    Attributes:
        least: peak bytes of the arrangement that takes least.
    """

    def __init__(self, least: Estimate) -> None:
        super().__init__(f"at least {least.gpu / GB:.1f} GB of GPU memory and {least.ram / GB:.1f} GB of main memory")
        self.least = least


def estimate(need: Need, strategy: Strategy, on_gpu: bool) -> Estimate:
    """Peak bytes of a job under an arrangement."""
    activations = need.tiled if strategy.tiling else need.activations
    peak = max(activations.values(), default=0)
    parts = [part for part in need.parts if not part.first]
    if not on_gpu:
        rest = sum(part.weights for part in parts) + peak
        return Estimate(ram=max(need.weights, rest) + need.base)
    first = sum(part.weights - part.mapped for part in need.parts if part.first)
    ram = max(first, sum(_in_ram(part, strategy) for part in parts)) + GB

    def whole(part: NetworkFootprint) -> int:
        # While a layer runs it is there in both widths.
        return part.weights - part.saved + part.layer if strategy.casting and cast(part) else part.weights

    # What comes first is put there whole where it fits, and else by layers, one network after another, whatever
    # becomes of the others.
    before = need.base + max((min(part.layer, part.weights) for part in need.parts if part.first), default=0)
    if strategy.mode is Mode.RESIDENT:
        return Estimate(ram, max(before, need.base + sum(map(whole, parts)) + peak))

    def present(part: NetworkFootprint) -> int:
        """What of a part is on the GPU while it runs."""
        if strategy.mode is Mode.MODELS or part.decodes:
            return whole(part)
        if strategy.mode is Mode.BLOCKS and part.denoises:
            shrink = (part.weights - part.saved) / max(part.weights, 1) if strategy.casting else 1.0
            return min(whole(part), int(part.block * shrink) + (part.layer if strategy.casting else 0))
        return min(whole(part), part.layer)

    moving = [part for part in parts if moves(part, strategy.mode)]
    stays = sum(whole(part) for part in parts if part not in moving)
    # Denoising parts run in turns at every step and stay together; of the others only one is there at a time.
    peaks = [peak, sum(present(part) for part in moving if part.denoises) + activations.get("denoising", 0)]
    for part in moving:
        if not part.denoises:
            peaks.append(present(part) + max((activations.get(stage, 0) for stage in part.stages), default=0))
    return Estimate(ram, max(before, need.base + stays + max(peaks)))


def _in_ram(part: NetworkFootprint, strategy: Strategy) -> int:
    """Main memory that a part takes, whatever else is free."""
    read = part.weights - part.mapped
    if strategy.casting and cast(part):
        return max(read, part.weights - part.saved)
    # What leaves the GPU as a whole is copied; single layers and blocks are fetched from where they were.
    copied = moves(part, strategy.mode) and (strategy.mode is Mode.MODELS or part.decodes)
    return part.weights if copied else read


def comes_from_disk(parts: tuple[NetworkFootprint, ...], free: Free, strategy: Strategy) -> bool:
    """Whether weights are read from the disk again and again, since they move and main memory does not hold them."""
    if free.gpu is None or strategy.casting or strategy.mode not in (Mode.BLOCKS, Mode.LAYERS):
        return False
    return sum(part.weights for part in parts if not part.first) + GB > free.ram * (1 - MARGIN)


def moves(part: NetworkFootprint, mode: Mode) -> bool:
    """Whether a part leaves the GPU between its calls.

    A VAE does under model offload even when it is small: its call is what sends the denoiser away, to make room for
    decoding.
    """
    return mode is not Mode.RESIDENT and (not part.small or (mode is Mode.MODELS and part.decodes))


def cast(part: NetworkFootprint) -> bool:
    """Whether a part is worth 8-bit storage."""
    return part.denoises and bool(part.saved) and not part.small


def arrangements(need: Need, on_gpu: bool) -> tuple[Strategy, ...]:
    """Those that make a difference for these parts, in order of preference."""
    order = ORDER if on_gpu else CPU_ORDER
    casts = any(map(cast, need.parts))
    return tuple(s for s in order if (need.tiles or not s.tiling) and (casts or not s.casting))


def decide(need: Need, free: Free) -> Strategy:
    """The first arrangement, in order of preference, that fits. Raises DoesNotFit."""
    on_gpu = free.gpu is not None
    tried = [(strategy, estimate(need, strategy, on_gpu)) for strategy in arrangements(need, on_gpu)]
    for strategy, taken in tried:
        if taken.fits(free):
            return strategy
    raise DoesNotFit(min((taken for _, taken in tried), key=lambda taken: (taken.gpu, taken.ram)))


def check_fits(
    spec: ModelSpec,
    plan: Plan,
    free: Free,
    parts: tuple[NetworkFootprint, ...] | None = None,
    itemsize: int = 2,
) -> Strategy:
    """The arrangement that a job would run under, found before any weights are read.

    Args:
        parts: of the networks; counted from the model's files by default.
        itemsize: bytes a value as the model runs.

    Raises:
        EngineError: it cannot fit; the message says what to change.
    """
    if parts is None:
        parts = parts_of_files(spec, itemsize)
    try:
        return choose(spec, plan, free, parts, itemsize)[0]
    except DoesNotFit as error:
        raise advice(spec, plan, free, parts, itemsize, error.least) from error


def check_drawing(plan: Plan, free: Free) -> None:
    """Raise EngineError where a carried film cannot be drawn in what is free, with the size that can."""
    room = (free.ram if free.gpu is None else free.gpu) * (1 - MARGIN)
    takes = drawing_bytes(plan.width, plan.height)
    if takes <= room:
        return
    scale = next(
        (s / 20 for s in range(19, 1, -1) if drawing_bytes(plan.width * s // 20, plan.height * s // 20) <= room), 0
    )
    cure = f"generate at about {int(plan.width * scale)} x {int(plan.height * scale)} pixels, or " if scale else ""
    raise EngineError(
        "settings.width",
        f"the carried film takes about {takes / GB:.1f} GB of memory at {plan.width} x {plan.height}, but "
        f"{room / GB:.1f} GB are free; {cure}close what else uses memory",
    )


def choose(
    spec: ModelSpec, plan: Plan, free: Free, parts: tuple[NetworkFootprint, ...], itemsize: int = 2
) -> tuple[Strategy, Need]:
    """The arrangement for a job, and the need that it meets: the leaner one only where nothing meets the full one.

    Raises:
        DoesNotFit: nothing meets either.
    """
    *fuller, last = needs(spec, plan, parts, itemsize)
    for need in fuller:
        try:
            return decide(need, free), need
        except DoesNotFit:
            continue
    return decide(last, free), last


def needs(spec: ModelSpec, plan: Plan, parts: tuple[NetworkFootprint, ...], itemsize: int) -> list[Need]:
    """What a job takes, and where the model can decode fewer frames at once, what it takes so at the least."""
    lean = [True] if spec.memory.get("decoding_frames_least") else []
    return [need_of(spec, plan, parts, itemsize, lean=each) for each in (False, *lean)]


def still_fits(
    spec: ModelSpec, plan: Plan, free: Free, parts: tuple[NetworkFootprint, ...], itemsize: int, strategy: Strategy
) -> bool:
    """Whether a job runs under an arrangement that was chosen for another, without cutting what a new one would not."""
    on_gpu = free.gpu is not None
    for need in needs(spec, plan, parts, itemsize):
        if estimate(need, strategy, on_gpu).fits(free):
            return True
        if any(estimate(need, other, on_gpu).fits(free) for other in arrangements(need, on_gpu)):
            return False
    return False


def advice(
    spec: ModelSpec, plan: Plan, free: Free, parts: tuple[NetworkFootprint, ...], itemsize: int, least: Estimate
) -> EngineError:
    """Why a job does not fit and what would: a shorter window, fewer frames, a smaller picture, another computer."""
    on_gpu = free.gpu is not None

    def fits(frames: int | None = None, scale: float = 1.0, window: int | None = None) -> bool:
        width, height = plan.model_size if all(plan.model_size) else (plan.width, plan.height)
        need = need_of(spec, plan, parts, itemsize, frames, width * height * scale * scale / 1e6, window, lean=True)
        return any(estimate(need, s, on_gpu).fits(free) for s in arrangements(need, on_gpu))

    cures = []
    field = "settings.model"
    shortest = max(1, int(spec.limits.get("min_frames", 1)), int(spec.memory.get("least_frames", 1)))
    frames = next((n for n in range(plan.frames - 1, shortest - 1, -1) if fits(frames=n)), 0)
    smallest = int(spec.limits.get("min_size", 0)) / max(1, min(plan.width, plan.height))
    scales = () if spec.memory.get("fixed_picture") else range(19, 1, -1)
    scale = next((s / 20 for s in scales if s / 20 >= smallest and fits(scale=s / 20)), 0.0)
    window = next((n for n in _shorter_windows(spec, plan) if fits(window=n)), 0)
    if scale:
        field = "settings.width"
        cures.append(f"generate at about {int(plan.width * scale)} x {int(plan.height * scale)} pixels")
    if frames:
        field = "clip"
        cures.insert(0, f"shorten the range to {frames} frames")
    if window:
        field = "settings.options.window"
        cures.insert(0, f"set {spec.options['window'].label} to {window}, which keeps the length")
    if on_gpu and least.ram > free.ram * (1 - MARGIN):
        cures.append(f"close what else uses main memory, or use a computer with {_round_up(least.ram)} GB of it")
    elif on_gpu:
        cures.append(f"use a GPU with {_round_up(least.gpu)} GB")
    else:
        cures.append(f"use a computer with a GPU, or with {_round_up(least.ram)} GB of main memory")
    there = (
        f"{free.name} has {(free.gpu or 0) / GB:.1f} GB free and the computer {free.ram / GB:.1f} GB of main memory"
        if on_gpu
        else f"the computer has {free.ram / GB:.1f} GB of main memory free"
    )
    takes = (
        f"{least.gpu / GB:.1f} GB of GPU memory and {least.ram / GB:.1f} GB" if on_gpu else f"{least.ram / GB:.1f} GB"
    )
    return EngineError(
        field,
        f"{spec.label} would take about {takes} of main memory for {plan.frames} frames of {plan.width} x "
        f"{plan.height}, at the least, but {there}; {', or '.join(cures)}",
    )


def _shorter_windows(spec: ModelSpec, plan: Plan) -> range:
    """Shorter windows that the animator can choose, the longest first; a window is longer than its overlap."""
    option, overlap = spec.options.get("window"), spec.options.get("overlap")
    longest = max((stop - start for start, stop in plan.windows), default=plan.frames)
    least = max(int(option.min or 1), int(overlap.default) + 2 if overlap else 1) if option else longest
    return range(longest - 1, least - 1, -1)


def _round_up(size: int) -> int:
    """Gigabytes as computers are sold."""
    sold = (4, 6, 8, 12, 16, 24, 32, 48, 64, 80, 96, 128, 192, 256, 384, 512)
    return next((gb for gb in sold if size <= gb * GB * (1 - MARGIN)), -(-size // GB))
