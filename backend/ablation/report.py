"""The report of an ablation: Markdown, JSON, a contact sheet and the validation curves."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..evaluation.markdown import number, render
from ..evaluation.measures import MEASURES
from ..evaluation.metrics import bootstrap
from ..evaluation.pictures import write_sheet
from ..evaluation.sets import describe
from ..training.data import SHARD
from .config import CARRIED_ALONE, GIVEN, SETS, VAES, Ablation
from .measure import AblationResults, TrialResult
from .network import FROM_CARRIED, FROM_NOISE

ABOUT = {
    "carried": "the carried film alone, no network",
    "isa_carried": "on the carried film: interspatial attention between surface points and video tokens",
    "isa_carried_no_ispe": "on the carried film: the same without ISPE in the interspatial attention",
    "control_carried": "on the carried film: no points, normal maps through a 2D ControlNet",
    "isa": "from noise, without the carried film: interspatial attention",
    "no_ispe": "from noise, without the carried film: the same without ISPE",
    "control": "from noise, without the carried film: normal maps through a 2D ControlNet",
}
PAIRS = (
    ("isa_carried", "carried"),
    ("isa_carried_no_ispe", "isa_carried"),
    ("control_carried", "isa_carried"),
    ("isa", "isa_carried"),
    ("no_ispe", "isa"),
    ("control", "isa"),
)
"""What is compared shot by shot: a variant, and the one that it is measured against."""
_SHEET_FRAMES = 5


def mean_over_seeds(found: Sequence[TrialResult], name: str, chosen: slice = slice(None)) -> np.ndarray:
    """A measure of every shot (n,), or of those chosen, averaged over trainings that differ in their seeds; NaN where
    one has none."""
    return np.mean([outcome.run.values[name][chosen] for outcome in found], axis=0)


def paired(other: np.ndarray, base: np.ndarray) -> tuple[float, float, float]:
    """Mean difference over the shots (n,) that both have a figure of, and its 95 % bootstrap interval over shots."""
    return bootstrap(other - base)


def judge(difference: tuple[float, float, float], higher: bool) -> str:
    """``better``, ``worse``, or ``undecided`` where the interval holds zero."""
    _, low, high = difference
    if not (math.isfinite(low) and math.isfinite(high)) or low <= 0 <= high:
        return "undecided"
    return "better" if (low > 0) == higher else "worse"


class AblationReport:
    """Tables and pictures of what an ablation measured."""

    def __init__(self, run: Ablation, outcomes: AblationResults) -> None:
        self.run, self.outcomes = run, outcomes
        each = len(outcomes.samples) // len(SETS)
        self.sets = {name: slice(i * each, (i + 1) * each) for i, name in enumerate(SETS)}
        self.variants: dict[str, list[TrialResult]] = {}
        self.on_vaes: dict[str, list[TrialResult]] = {}
        for trial, outcome in outcomes.dits.items():
            if trial.vae == GIVEN:
                self.variants.setdefault(trial.variant, []).append(outcome)
            else:
                self.on_vaes.setdefault(trial.vae, []).append(outcome)
        self.missing = [trial.key for trial in run.trials() if trial not in outcomes.dits]
        if run.config.vae is not None:
            self.missing += [f"vae-{name}" for name in VAES if name not in outcomes.vaes]
        self.measures = [m for m in MEASURES if any(np.isfinite(o.run.values[m.name]).any() for o in self._all())]

    def _all(self) -> list[TrialResult]:
        return [*self.outcomes.dits.values(), *self.outcomes.vaes.values()]

    def write(self, folder: Path) -> None:
        """Write ``ablation.md``, ``ablation.json``, ``ablation.jpg`` and ``curves.png``."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "ablation.json").write_text(json.dumps(self.as_json(), indent=1) + "\n", "utf-8")
        (folder / "ablation.md").write_text(self.as_markdown(), "utf-8")
        if self.variants:
            write_sheet(self.sheet(), folder / "ablation.jpg")
            self.plot(folder / "curves.png")

    def as_json(self) -> dict[str, Any]:
        """Means, intervals, paired differences, costs, curves and the figures of every shot."""
        groups = {"variants": self.variants, "on_vaes": self.on_vaes}
        return {
            "config": self.run.config.lasting(),
            "seeds": list(self.run.config.seeds),
            "device": self.run.device,
            "set": describe(self.outcomes.samples),
            "sets": {
                name: [sample.seed for sample in self.outcomes.samples[chosen]] for name, chosen in self.sets.items()
            },
            "missing": self.missing,
            **{key: {name: self._json(found) for name, found in group.items()} for key, group in groups.items()},
            "differences": {
                f"{name} - {base}": {
                    place: {m.name: _triple(self.difference(name, base, m.name, place)) for m in self.measures}
                    for place in self.sets
                }
                for name, base in self.pairs
            },
            "vaes": {
                name: {**self._json([outcome]), "psnr_by_place": [_plain(v) for v in psnr_by_place(outcome)]}
                for name, outcome in self.outcomes.vaes.items()
            },
        }

    def _json(self, found: Sequence[TrialResult]) -> dict[str, Any]:
        return {
            "parameters": found[0].parameters,
            "gflop_per_evaluation": _plain(found[0].gflop),
            "curves": [list(outcome.curve) for outcome in found],
            "measures": {
                place: {
                    m.name: {
                        **_triple(bootstrap(mean_over_seeds(found, m.name, chosen))),
                        "shots": [_plain(float(v)) for v in mean_over_seeds(found, m.name, chosen)],
                    }
                    for m in self.measures
                }
                for place, chosen in self.sets.items()
            },
        }

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Of ``PAIRS`` those that there are."""
        return [pair for pair in PAIRS if all(name in self.variants for name in pair)]

    def difference(self, variant: str, base: str, measure: str, place: str) -> tuple[float, float, float]:
        """Paired difference of two variants on one set, over the seeds that both were trained with (the first ones)."""
        trained = [len(self.variants[name]) for name in (variant, base) if name != CARRIED_ALONE]
        chosen = self.sets[place]
        ours, theirs = (
            mean_over_seeds(self.variants[name][: min(trained)], measure, chosen) for name in (variant, base)
        )
        return paired(ours, theirs)

    def as_markdown(self) -> str:
        """The report for people."""
        columns: dict[str, Sequence[TrialResult]] = {**self.variants}
        if GIVEN in self.outcomes.vaes:
            columns["VAE alone"] = [self.outcomes.vaes[GIVEN]]
        own = {name: [self.outcomes.vaes[name]] for name in VAES if name in self.outcomes.vaes}
        return render(
            Path(__file__).with_name("report.md.jinja"),
            report=self,
            shots={name: describe(self.outcomes.samples[chosen]) for name, chosen in self.sets.items()},
            shard=SHARD,
            about=ABOUT,
            given=GIVEN,
            columns=columns,
            own=own if len(own) == len(VAES) else {},
            on_vaes={name: self.on_vaes[name] for name in VAES} if len(self.on_vaes) == len(VAES) else {},
            mean=lambda found, name, chosen=slice(None): bootstrap(mean_over_seeds(found, name, chosen)),
            between=_between,
            pace=_pace,
            judge=judge,
            psnr_by_place=psnr_by_place,
        )

    def order(self, measure: str, place: str) -> str:
        """The order of the variants by a measure on one set, whatever it is, in one sentence."""
        one = next(m for m in MEASURES if m.name == measure)
        chosen = self.sets[place]
        means = {name: bootstrap(mean_over_seeds(each, measure, chosen))[0] for name, each in self.variants.items()}
        ranked = sorted(means, key=lambda name: means[name], reverse=one.higher)
        text = ", then ".join(f"`{name}` ({number(means[name], 4)})" for name in ranked)
        undecided = [
            f"`{name}` from `{following}`"
            for name, following in itertools.pairwise(ranked)
            if judge(self.difference(name, following, measure, place), one.higher) == "undecided"
        ]
        told = f"; these shots do not tell {' nor '.join(undecided)}" if undecided else ""
        return f"Order by {measure} on `{place}`, best first: {text}{told}."

    def sheet(self) -> np.ndarray:
        """Picture (H,W,3): of a few shots the true frames above each variant's, in the order of the tables."""
        first = {name: found[0].run.films for name, found in self.variants.items()}
        shots = sorted(set.intersection(*(set(films) for films in first.values())))
        blocks = []
        for index in shots:
            sample = self.outcomes.samples[index]
            chosen = np.linspace(0, len(sample.video) - 1, min(_SHEET_FRAMES, len(sample.video))).round().astype(int)
            rows = [sample.video, *(films[index] for films in first.values())]
            blocks.append(np.concatenate([np.concatenate(list(film[chosen]), axis=1) for film in rows], axis=0))
        if len(blocks) % 2:
            blocks.append(np.full_like(blocks[0], 255))
        bar = np.full((blocks[0].shape[0], 4, 3), 255, np.uint8)
        pairs = [np.concatenate([a, bar, b], axis=1) for a, b in zip(blocks[::2], blocks[1::2], strict=True)]
        gap = np.full((4, pairs[0].shape[1], 3), 255, np.uint8)
        return np.concatenate([part for pair in pairs for part in (pair, gap)][:-1], axis=0)

    def plot(self, path: Path) -> None:
        """Validation loss on each set over steps, a line a training: corrections above, from noise below."""
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot

        figure, axes = pyplot.subplots(2, len(SETS), figsize=(9, 6), constrained_layout=True, sharex=True)
        for row, names in zip(axes, (FROM_CARRIED, FROM_NOISE), strict=True):
            for axis, place in zip(row, SETS, strict=True):
                for colour, name in enumerate(names):
                    for i, outcome in enumerate(self.variants.get(name, ())):
                        points = [(point["step"], point[place]) for point in outcome.curve]
                        label = name if i == 0 else None
                        axis.plot(*zip(*points, strict=True), color=f"C{colour}", label=label, linewidth=1.2)
                axis.set_title(f"{'from the carried film' if names == FROM_CARRIED else 'from noise'}, {place}")
                axis.set_yscale("log")
            row[0].set_ylabel("validation loss")
            if row[0].lines:
                row[0].legend(fontsize="small")
        for axis in axes[-1]:
            axis.set_xlabel("steps")
        figure.savefig(path, dpi=100)
        pyplot.close(figure)


def psnr_by_place(outcome: TrialResult) -> list[float]:
    """PSNR in dB of the four places in a latent frame, from the mean squared error over all shots."""
    errors = np.nanmean(outcome.run.places, axis=0)
    return [float(10 * np.log10(255**2 / max(error, 1e-9))) for error in errors]


def _between(found: Mapping[str, Sequence[TrialResult]], name: str) -> tuple[float, float, float]:
    """Paired difference of a measure between the two VAEs, or what was trained on them."""
    regularised, plain = (mean_over_seeds(each, name) for each in found.values())
    return paired(regularised, plain)


def _pace(found: Sequence[TrialResult]) -> float:
    """Median seconds per step; NaN where none was taken."""
    paces = [point["seconds_per_step"] for one in found for point in one.curve if "seconds_per_step" in point]
    return float(np.median(paces)) if paces else float("nan")


def _plain(value: float) -> float | None:
    return round(value, 5) if math.isfinite(value) else None


def _triple(values: tuple[float, float, float]) -> Mapping[str, float | None]:
    return dict(zip(("mean", "low", "high"), map(_plain, values), strict=True))
