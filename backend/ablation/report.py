"""The report of an ablation: Markdown, JSON, a contact sheet and the validation curves."""

from __future__ import annotations

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
from .config import GIVEN, VAES, Ablation
from .measure import AblationResults, TrialResult

ABOUT = {
    "isa": "interspatial attention between surface points and video tokens",
    "no_ispe": "the same without ISPE on the queries, keys and values of the interspatial attention",
    "control": "no points and no interspatial attention: normal maps through a 2D ControlNet",
}
PAPER = {"isa": (28.34, 0.931), "no_ispe": (25.21, 0.895), "control": (26.45, 0.916)}
"""PSNR in dB and SSIM of the paper's Tab. 4."""
_BASE = "isa"
_SHEET_FRAMES = 5
_SHEET_SHOTS = 4


def mean_over_seeds(found: Sequence[TrialResult], name: str) -> np.ndarray:
    """A measure of every shot (n,), averaged over trainings that differ in their seeds; NaN where one has none."""
    return np.mean([outcome.run.values[name] for outcome in found], axis=0)


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
            "shots": [sample.seed for sample in self.outcomes.samples],
            "missing": self.missing,
            **{key: {name: self._json(found) for name, found in group.items()} for key, group in groups.items()},
            "differences_to_isa": {
                name: {m.name: _triple(self.difference(name, m.name)) for m in self.measures}
                for name in self.variants
                if name != _BASE and _BASE in self.variants
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
                m.name: {
                    **_triple(bootstrap(mean_over_seeds(found, m.name))),
                    "shots": [_plain(float(v)) for v in mean_over_seeds(found, m.name)],
                }
                for m in self.measures
            },
        }

    def difference(self, variant: str, measure: str) -> tuple[float, float, float]:
        """A variant's paired difference to ISA, over the seeds that both were trained with (the first ones)."""
        count = min(len(self.variants[variant]), len(self.variants[_BASE]))
        other, base = (mean_over_seeds(self.variants[name][:count], measure) for name in (variant, _BASE))
        return paired(other, base)

    def as_markdown(self) -> str:
        """The report for people."""
        columns: dict[str, Sequence[TrialResult]] = {**self.variants}
        if GIVEN in self.outcomes.vaes:
            columns["VAE alone"] = [self.outcomes.vaes[GIVEN]]
        own = {name: [self.outcomes.vaes[name]] for name in VAES if name in self.outcomes.vaes}
        return render(
            Path(__file__).with_name("report.md.jinja"),
            report=self,
            shots=describe(self.outcomes.samples),
            shard=SHARD,
            about=ABOUT,
            paper=PAPER,
            given=GIVEN,
            columns=columns,
            others=[name for name in self.variants if name != _BASE] if _BASE in self.variants else [],
            own=own if len(own) == len(VAES) else {},
            on_vaes={name: self.on_vaes[name] for name in VAES} if len(self.on_vaes) == len(VAES) else {},
            mean=lambda found, name: bootstrap(mean_over_seeds(found, name)),
            between=_between,
            pace=_pace,
            judge=judge,
            psnr_by_place=psnr_by_place,
        )

    def order(self, measure: str) -> str:
        """The order of the variants by a measure, whatever it is, in one sentence."""
        one = next(m for m in MEASURES if m.name == measure)
        means = {name: bootstrap(mean_over_seeds(found, measure))[0] for name, found in self.variants.items()}
        ranked = sorted(means, key=lambda name: means[name], reverse=one.higher)
        text = ", then ".join(f"`{name}` ({number(means[name], 4)})" for name in ranked)
        undecided = [
            f"`{name}`"
            for name in ranked
            if name != _BASE and judge(self.difference(name, measure), one.higher) == "undecided"
        ]
        told = f"; these shots do not tell {' and '.join(undecided)} from `{_BASE}`" if undecided else ""
        return f"Order by {measure}, best first: {text}{told}."

    def sheet(self) -> np.ndarray:
        """Picture (H,W,3): of a few shots the true frames above each variant's, in the order of the tables."""
        first = {name: found[0].run.films for name, found in self.variants.items()}
        shots = sorted(set.intersection(*(set(films) for films in first.values())))[:_SHEET_SHOTS]
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
        """Validation loss, and its part where bodies are, over steps: a line a training."""
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot

        figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.4), constrained_layout=True)
        colours = dict(zip(ABOUT, ("tab:blue", "tab:orange", "tab:green"), strict=True))
        for axis, key in zip(axes, ("loss", "figure"), strict=True):
            for name, found in self.variants.items():
                for i, outcome in enumerate(found):
                    points = [(point["step"], point[key]) for point in outcome.curve if point["step"] > 0]
                    if points:
                        label = name if i == 0 else None
                        axis.plot(*zip(*points, strict=True), color=colours[name], label=label, linewidth=1.2)
            axis.set_title(f"validation {key}")
            axis.set_xlabel("steps")
            axis.set_yscale("log")
        axes[0].legend(fontsize="small")
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
