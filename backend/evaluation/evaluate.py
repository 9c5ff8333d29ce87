"""Run a model on shots whose true film is known, and measure what comes out.

Every shot goes through the engine exactly as one from Blender would: a Shot in, frames out.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..models.engine import Engine
from ..models.isa.family import ISAFamily
from ..models.windows import joins
from ..raster.carry import Carrier
from ..shot.types import Settings, Shot
from ..worlds.sample import Sample, to_shot
from . import metrics
from .backbones import Backbones
from .conditions import CONDITIONS, KNOWN
from .measures import FILM_REFERENCE, MEASURES, OTHER_REFERENCE, kinds, measure, reference_kind
from .perceptual import frechet_distance
from .store import Scored, Store

Film = Callable[[Any], np.ndarray]
"""Makes the film (T,H,W,3) uint8 of a sample, or of what was made ready of it."""


@dataclass(frozen=True)
class EvaluationRun:
    """What one setting gave.

    Attributes:
        steps, guidance: of the sampler; None for what no sampler made.
        values: per measure, one figure a shot (NaN where the shot has nothing to measure).
        seconds: per shot.
        films: (T,H,W,3) uint8 of the shots that were to be kept, by their index.
        places: (n,4) mean squared error of each shot by place in a latent frame; NaN for absent places.
        features: of I3D, one (D,) a shot; empty without the network.
    """

    steps: int | None
    guidance: float | None
    values: dict[str, np.ndarray]
    seconds: np.ndarray
    films: Mapping[int, np.ndarray] = field(repr=False, default_factory=dict)
    places: np.ndarray = field(repr=False, default_factory=lambda: np.zeros((0, 4)))
    features: Sequence[np.ndarray] = field(repr=False, default=())

    @property
    def shots(self) -> int:
        """How many it was measured on: the first of the set."""
        return len(self.seconds)

    def same(self, other: EvaluationRun) -> bool:
        """Whether no measure tells its films from another run's of the same shots."""
        shared = min(self.shots, other.shots)
        return all(
            np.array_equal(values[:shared], other.values[name][:shared], equal_nan=True)
            for name, values in self.values.items()
        )

    def mean(self, name: str, chosen: np.ndarray | None = None) -> tuple[float, float, float]:
        """Mean of a measure over the shots, or those of ``chosen`` (n,) bool, and its 95 % bootstrap interval."""
        values = self.values[name]
        return metrics.bootstrap(values if chosen is None else values[chosen[: len(values)]])

    def count(self, name: str, chosen: np.ndarray | None = None) -> int:
        """Shots that a measure's mean rests on."""
        values = self.values[name]
        return int(np.isfinite(values if chosen is None else values[chosen[: len(values)]]).sum())

    def gain(self, other: EvaluationRun, name: str, chosen: np.ndarray | None = None) -> tuple[float, float, float]:
        """Mean difference of a measure to another run on the same shots, and its 95 % bootstrap interval."""
        shared = min(self.shots, other.shots)
        values = self.values[name][:shared] - other.values[name][:shared]
        return metrics.bootstrap(values if chosen is None else values[chosen[:shared]])

    def fvd(self, truth: EvaluationRun) -> float:
        """Fréchet video distance to the true films of the same shots; NaN without I3D's features."""
        return frechet_distance(self.features, truth.features[: len(self.features)])


def by_kind(samples: Sequence[Sample]) -> dict[str, np.ndarray]:
    """Which of the samples (n,) bool are of each kind: by characters, fewest first, by camera, reference, aspect and
    dress."""
    found = [(*kinds(sample), reference_kind(sample)) for sample in samples]
    counts = sorted({(len(sample.points), kinds(sample)[0]) for sample in samples})
    names = [name for _, name in counts] + sorted({kind[1] for kind in found}, reverse=True)
    names += [name for name in (FILM_REFERENCE, OTHER_REFERENCE) if any(kind[3] == name for kind in found)]
    names += dict.fromkeys(kind[2] for kind in found)
    chosen = {name: np.array([name in kind for kind in found]) for name in names}
    dressed = np.array([sample.dressed for sample in samples])
    # Told apart only where a set has both.
    return chosen | ({"bare bodies": ~dressed, "dressed people": dressed} if 0 < dressed.sum() < len(dressed) else {})


def run_films(
    name: str,
    samples: Sequence[Sample],
    make: Film,
    backbones: Backbones | None = None,
    store: Store | None = None,
    keep: frozenset[int] = frozenset(),
    steps: int | None = None,
    guidance: float | None = None,
    bar: Any = None,
    ready: Callable[[Sample], Any] = lambda sample: sample,
    across: Callable[[Any], Sequence[range]] = lambda given: (),
) -> EvaluationRun:
    """Make the film of every sample, or take up what is kept of it, and measure it.

    Args:
        name: of the setting, as a folder's name.
        keep: indices of the samples whose films the run is to hold.
        bar: a tqdm bar, moved on after each sample.
        ready: what ``make`` is given of a sample; its time does not count.
        across: where the windows of such a film meet, see ``windows.joins``.
    """
    backbones, store = backbones or Backbones(), store or Store(None, "")
    scored, films = [], {}
    for index, sample in enumerate(samples):
        one = store.read(name, sample)
        film = store.film(name, sample) if index in keep else None
        if one is None or (index in keep and film is None):
            given = ready(sample)
            started = time.monotonic()
            film = make(given)
            seconds = time.monotonic() - started
            film = _fitted(film, sample)
            one = score(film, sample, seconds, backbones, across(given))
            store.write(name, sample, one, film if index in keep else None)
        if film is not None and index in keep:
            films[index] = film
        scored.append(one)
        if bar is not None:
            bar.update()
    features = [np.array(one.features) for one in scored if one.features is not None]
    return EvaluationRun(
        steps,
        guidance,
        {one.name: np.array([_number(row.values.get(one.name)) for row in scored]) for one in MEASURES},
        np.array([row.seconds for row in scored]),
        films,
        np.array([[_number(error) for error in row.places] for row in scored]),
        features if len(features) == len(scored) else (),
    )


def _fitted(film: np.ndarray, sample: Sample) -> np.ndarray:
    """A film at the sample's size; a model may work at another."""
    if film.shape == sample.video.shape:
        return film
    from ..media import resize_frames

    return resize_frames(film, sample.video.shape[2], sample.video.shape[1])


def score(
    film: np.ndarray, sample: Sample, seconds: float, backbones: Backbones, across: Sequence[range] = ()
) -> Scored:
    """The figures of one film (T,H,W,3) uint8 of a sample."""
    lpips = None if backbones.lpips is None else backbones.lpips.films
    features = None if backbones.i3d is None else backbones.i3d(film)
    return Scored(
        seconds,
        {name: _plain(value) for name, value in measure(film, sample, lpips, across).items()},
        [_plain(float(error)) for error in metrics.place_errors(film, sample.video)],
        None if features is None else [float(value) for value in features],
    )


def true_films(samples: Sequence[Sample], **arguments: Any) -> EvaluationRun:
    """The measures of the true films themselves: the best that each can be. Arguments as of ``run_films``."""
    return run_films("true", samples, lambda sample: sample.video, **arguments)


def carried_films(
    samples: Sequence[Sample],
    device: str = "cpu",
    without: Sequence[str] = (),
    dropped: str | None = None,
    **arguments: Any,
) -> EvaluationRun:
    """The carried films alone, no network on top. Further arguments as of ``run_films``.

    Args:
        without: what the shots are handed over without, as ``to_shot`` names it.
        dropped: one of ``conditions.CONDITIONS`` that is taken away.
    """

    def make(shot: Shot) -> np.ndarray:
        return Carrier(shot, shot.clip.width, shot.clip.height, device, dropped == KNOWN).maps("frames")[0]

    def ready(sample: Sample) -> Shot:
        shot = _shot(sample, None, without)
        return shot if dropped is None else CONDITIONS[dropped].drop(shot)

    return run_films("carried" + _suffix(without) + _lacking(dropped), samples, make, ready=ready, **arguments)


def run_model(
    engine: Engine,
    samples: Sequence[Sample],
    model: str,
    steps: int,
    guidance: float,
    without: Sequence[str] = (),
    dropped: str | None = None,
    **arguments: Any,
) -> EvaluationRun:
    """Generate every sample with a model at the sample's size and measure it. Further arguments as of ``run_films``.

    Args:
        without: what the shots are handed over without, as ``to_shot`` names it.
        dropped: one of ``conditions.CONDITIONS`` that is taken away.
    """
    if dropped == KNOWN:
        engine = Engine(engine.spec, str(engine.device), family=ISAFamily(blind=True))

    def make(shot: Shot) -> np.ndarray:
        return np.asarray(engine.generate(shot, lambda progress: None, lambda: False).frames)

    def across(shot: Shot) -> list[range]:
        rate = shot.clip.fps / engine.spec.limits.get("fps", shot.clip.fps)
        return joins(engine.plan(shot).windows, shot.clip.frames, rate)

    def ready(sample: Sample) -> Shot:
        height, width = sample.mask.shape[1:]
        settings = Settings(model, sample.seed % 2**32, steps, guidance, width, height)
        shot = _shot(sample, settings, without)
        return shot if dropped is None else CONDITIONS[dropped].drop(shot)

    name = f"steps-{steps}_guidance-{guidance:g}{_suffix(without)}{_lacking(dropped)}"
    return run_films(name, samples, make, steps=steps, guidance=guidance, ready=ready, across=across, **arguments)


def _shot(sample: Sample, settings: Settings | None, without: Sequence[str]) -> Shot:
    return to_shot(sample, settings, **{name: False for name in without})


def _suffix(without: Sequence[str]) -> str:
    return "".join(f"_no-{name}" for name in without)


def _lacking(dropped: str | None) -> str:
    return f"_dropped-{dropped}" if dropped else ""


def run_autoencoder(
    code: Callable[[np.ndarray], np.ndarray], samples: Sequence[Sample], **arguments: Any
) -> EvaluationRun:
    """Measure every true film (T,H,W,3) sent through the autoencoder ``code``: the best that its DiT can reach."""
    return run_films("autoencoder", samples, lambda sample: code(sample.video), **arguments)


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None
