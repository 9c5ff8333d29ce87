"""What the engine asks of a family of models, and what it answers with (no torch here)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..catalogue.models import ModelSpec
from ..media import MediaError, StreamedFilm, squeeze_frames
from ..shot import Shot

if TYPE_CHECKING:
    import torch


class EngineError(ValueError):
    """A shot that this model cannot make.

    Attributes:
        field: dotted path of the part of the Shot at fault.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


@contextmanager
def media_errors() -> Iterator[None]:
    """Turn a damaged picture or film of the shot into an EngineError that names it."""
    try:
        yield
    except MediaError as error:
        field, _, said = str(error).partition(": ")
        raise EngineError(field, said) from error


class NotFinite(Exception):
    """Infinite numbers or NaN came out of a network: nothing is wrong with the shot.

    Args:
        name: what gave them. when: at which step or stage.
    """

    def __init__(self, name: str, when: str) -> None:
        super().__init__(
            f"{name} gave numbers that are not finite {when}; no film was written. Try another seed or a lower "
            "guidance; if every shot ends so, the weights are damaged or do not suit this device's precision"
        )


class Cancelled(Exception):
    """The generation was stopped on request."""


@dataclass(frozen=True, eq=False)
class Progress:
    """How far a generation is.

    Attributes:
        stage: ``loading``, ``encoding``, ``denoising``, ``decoding``, ``upscaling``, ``writing``, or
            ``drawing`` of a film that is drawn while it is written.
        step, steps: within the stage.
        preview: (h,w,3) uint8, what the middle of the clip looks like by now, or None.
    """

    stage: str
    step: int
    steps: int
    preview: np.ndarray | None = None


@dataclass(frozen=True)
class Plan:
    """What will be made of a shot.

    Attributes:
        width, height: pixels of the result, at the clip's aspect.
        frames: of the result; always the clip's.
        windows: (start, stop) frames that are denoised together; more than one when the shot is longer than the
            model's window.
        notes: sentences for the animator about what was fitted to the model.
        model_size: (width, height) in pixels that the model works at.
        model_frames: frames that the model works on, at least ``frames``.
        upscale: how many times as wide and high the film is when it is finished.
        held: share of denoising's activations that grow with the picture, as far as this device holds them; below 1
            where several share an evaluation out (see ``Family.held``).
    """

    width: int
    height: int
    frames: int
    windows: tuple[tuple[int, int], ...]
    notes: tuple[str, ...]
    model_size: tuple[int, int] = (0, 0)
    model_frames: int = 0
    upscale: int = 1
    held: float = 1.0


@dataclass(frozen=True, eq=False)
class Result:
    """A finished video.

    Attributes:
        frames: (T,H,W,3) uint8, or drawn while they are written: that raises Cancelled and MediaError too.
        fps: of the clip.
        notes: of the plan, and what turned up on the way.
        metadata: settings as they were run.
    """

    frames: np.ndarray | StreamedFilm
    fps: float
    notes: tuple[str, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def stage(self) -> str:
        """What it is to write the film, as ``Progress`` names it."""
        return "drawing" if isinstance(self.frames, StreamedFilm) else "writing"


@dataclass(frozen=True)
class Network:
    """One network of a model.

    Attributes:
        load: reads its saved weights and gives it back, a ``torch.nn.Module`` on the CPU. Raises EngineError.
        variant: what is read where one name stands for several (weights with a LoRA merged in, for instance).
        stages: when it runs; by default what its name says, see ``footprint.stages_of``.
    """

    load: Callable[[], Any]
    variant: str = ""
    stages: tuple[str, ...] = ()


class TextReader(Protocol):
    """What a family with ``texts`` is besides."""

    def encode_text(self, run: Any, networks: Mapping[str, Any], text: str) -> Any:
        """A text as ``run.texts`` has it then, on the CPU. Raises EngineError.

        Args:
            networks: those of the stage of texts; they are not among ``run.networks``.
        """
        ...


class Family(ABC):
    """One kind of model: what it does its own way. All else is the engine's (``engine.Engine``).

    The object ``FAMILY`` in ``models/NAME/family.py`` serves the descriptions with ``engine = "NAME"``, or, when these
    differ, what ``family_of(spec)`` there gives; beside it ``models/NAME/plan.py`` has ``make_plan(spec, shot)``, which
    needs no torch.

    A generation calls ``prepare``, ``TextReader.encode_text`` for each of ``texts``, ``encode``, ``sample`` and
    ``decode`` in this order; what each but that for texts returns the next is given. ``run`` is an
    ``engine.Generation``.
    """

    shared = False
    """Whether ``sample`` shares its work out to the members of ``run.group``; else the first makes the film alone."""

    def held(self, spec: ModelSpec, plan: Plan, size: int) -> float:
        """Share of denoising's activations that each of ``size`` members holds: all, unless they share out what is
        within an evaluation of the network."""
        return 1.0

    @abstractmethod
    def plan(self, spec: ModelSpec, shot: Shot) -> Plan:
        """What will be made of a shot. Raises EngineError."""

    def dtype(self, device: torch.device) -> torch.dtype:
        """Precision of the networks on a device."""
        from .device import choose_dtype

        return choose_dtype(device)

    def networks(self, spec: ModelSpec, shot: Shot, dtype: torch.dtype) -> Mapping[str, Network]:
        """The networks that a shot needs, by name. Raises EngineError."""
        return {}

    def texts(self, run: Any) -> tuple[str, ...]:
        """What the text encoder (``footprint.TEXT``) is to read, before any other network is there.

        A family that has any reads them too, as a ``TextReader``.
        """
        return ()

    def sampling(self, spec: ModelSpec, shot: Shot) -> tuple[int, float]:
        """Denoising steps and guidance. Raises EngineError."""
        settings, defaults = shot.settings, spec.defaults
        steps = defaults.steps if settings.steps is None else settings.steps
        return steps, float(defaults.guidance if settings.guidance is None else settings.guidance)

    def prepare(self, run: Any) -> Any:
        """What can be read from the shot before any weights are. Raises EngineError."""
        return None

    def encode(self, run: Any, prepared: Any) -> Any:
        """Conditions of the networks."""
        return prepared

    @abstractmethod
    def sample(self, run: Any, conditions: Any) -> Any:
        """Denoise; reports to ``run.stepped``."""

    @abstractmethod
    def decode(self, run: Any, conditions: Any, sampled: Any) -> np.ndarray | StreamedFilm:
        """The film (T,h,w,3) uint8 at any size, frames after the plan's are cut off; or the drawn film of the plan."""

    def autoencoder(
        self, spec: ModelSpec, device: torch.device, dtype: torch.dtype
    ) -> Callable[[np.ndarray], np.ndarray] | None:
        """A function that sends a film (T,H,W,3) uint8 through the VAE and back: the best that the model can make."""
        return None

    def fit(self, spec: ModelSpec, frames: np.ndarray, width: int, height: int) -> np.ndarray:
        """Frames of ``decode``, or a preview, at the size of the result (T,height,width,3) uint8."""
        return squeeze_frames(frames, width, height)
