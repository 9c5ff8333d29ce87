"""The report of an evaluation: figures in JSON and Markdown, plots, contact sheets."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..worlds.sample import Sample
from .aims import ASPECT_SLACK, Verdict, judge
from .conditions import CONDITIONS
from .evaluate import EvaluationRun, by_kind
from .markdown import render
from .measures import FVD, MEASURES, OTHER_REFERENCE, Measure
from .pictures import plot_settings, plot_shots, sheet, write_sheet
from .recommend import Choice, recommend, rule
from .sets import describe

_WORTH = ("psnr", "psnr_figure", "ssim", "iou_share", "colour", "warp")
"""Measures by which the report tells what a condition is worth."""


@dataclass(frozen=True)
class EvaluationReport:
    """Everything that was run on one set.

    Attributes:
        model: id of the model.
        set_name: of the shots; samples: the shots.
        device: that it ran on.
        runs: one per setting of steps and guidance; the first is the model's default, on all shots. The others may
            have been run on the first shots only.
        truth: the true films' own measures. carried: the carried films, no network on top.
        autoencoder: the true films through the VAE, or None.
        absent: measures that could not be taken, and why.
        without: what the shots were handed over without, as ``to_shot`` names it.
        dropped: ``carried`` and ``model``: the carried films of the first shots and the model's at the default, without
            one of ``conditions.CONDITIONS`` each; none of a model that gives the carried films as they are.
    """

    model: str
    set_name: str
    samples: Sequence[Sample]
    device: str
    runs: Sequence[EvaluationRun]
    truth: EvaluationRun
    carried: EvaluationRun
    autoencoder: EvaluationRun | None
    absent: Sequence[str] = ()
    without: Sequence[str] = ()
    dropped: Mapping[str, Mapping[str, EvaluationRun]] = field(default_factory=dict)

    @cached_property
    def kind(self) -> dict[str, np.ndarray]:
        """Which samples (n,) bool are of each kind."""
        return by_kind(self.samples)

    @property
    def choice(self) -> Choice | None:
        """The recommended setting; None without a choice."""
        return recommend(self.runs) if len(self.runs) > 1 else None

    @property
    def verdicts(self) -> list[Verdict]:
        """How the default does against what the model is meant to reach; empty where nothing is."""
        if self.set_name != "heldout" or self.without:
            return []
        return judge(self.model, self.runs[0], self.carried, self.kind)

    def write(self, folder: Path) -> None:
        """Write ``report.json``, ``report.md``, the plots and the sheets."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.json").write_text(json.dumps(self.as_json(), indent=1) + "\n", "utf-8")
        (folder / "report.md").write_text(self.as_markdown(), "utf-8")
        if self.runs[0].films:
            films = {"true film": self.truth.films, "carried film": self.carried.films, self.model: self.runs[0].films}
            write_sheet(sheet(self.samples, films), folder / "sheet.jpg")
        plot_shots(self.runs[0], self.kind, folder / "shots.png")
        if len(self.runs) > 1:
            plot_settings(self.runs, self.carried, folder / "quality.png")

    def as_json(self) -> dict[str, Any]:
        """Means, intervals and the figures of every shot."""
        choice = self.choice
        return {
            "model": self.model,
            "set": self.set_name,
            "shots": describe(self.samples),
            "seeds": [sample.seed for sample in self.samples],
            "kinds": {name: [int(i) for i in np.flatnonzero(chosen)] for name, chosen in self.kind.items()},
            "device": self.device,
            "absent": list(self.absent),
            "recommended": None
            if choice is None
            else {
                "steps": choice.run.steps,
                "guidance": choice.run.guidance,
                "rule": rule(),
                "points": [_plain(value) for value in choice.points],
            },
            "without": list(self.without),
            "true_films": self._run_json(self.truth),
            "carried": self._run_json(self.carried),
            "autoencoder": None if self.autoencoder is None else self._run_json(self.autoencoder),
            "aims": [
                {
                    "measure": one.measure.name,
                    "shots": one.where,
                    "aim": _plain(one.aim),
                    "found": _plain(one.found[0]),
                    "n": one.n,
                    "met": one.short <= 0 if math.isfinite(one.short) else None,
                }
                for one in self.verdicts
            ],
            "runs": [self._run_json(run) for run in self.runs],
            "dropped": {
                of: {name: self._run_json(run) for name, run in lacking.items()} for of, lacking in self.dropped.items()
            },
        }

    def _run_json(self, run: EvaluationRun) -> dict[str, Any]:
        return {
            "steps": run.steps,
            "guidance": run.guidance,
            "shots": run.shots,
            "seconds_per_shot": _plain(float(np.median(run.seconds))),
            "fvd": _plain(run.fvd(self.truth)),
            "measures": {
                name: {
                    **dict(zip(("mean", "low", "high"), map(_plain, run.mean(name)), strict=True)),
                    "n": run.count(name),
                    "over_carried": [_plain(value) for value in run.gain(self.carried, name)],
                    "shots": [_plain(float(value)) for value in values],
                }
                for name, values in run.values.items()
            },
        }

    def as_markdown(self) -> str:
        """Tables for people."""
        shared = min(run.shots for run in self.runs)
        others = self.kind.get(OTHER_REFERENCE, np.zeros(len(self.samples), bool))
        points = self.choice.points if self.choice else [0.0]
        return render(
            Path(__file__).with_name("report.md.jinja"),
            report=self,
            shots=describe(self.samples),
            measures=MEASURES,
            fvd=FVD,
            slack=ASPECT_SLACK,
            rule=rule(),
            choice=self.choice,
            of_film=int((~others).sum()),
            shared=shared,
            first=np.arange(len(self.samples)) < shared,
            ordered=sorted(
                zip(self.runs, points, strict=True), key=lambda item: (item[0].steps or 0, item[0].guidance or 0)
            ),
            counted=_counted,
            conditions=CONDITIONS,
            worth=[one for one in MEASURES if one.name in _WORTH],
            median=np.median,
        )

    def aims(self) -> list[tuple[Measure, tuple[Verdict | None, ...]]]:
        """Of each measure that has aims: on all shots, on those whose references show nothing of the film, and at the
        aspect where most is missed."""
        found = []
        for one in MEASURES:
            mine = {verdict.where: verdict for verdict in self.verdicts if verdict.measure is one}
            if not mine:
                continue
            everywhere, other = mine.pop("all"), mine.pop(OTHER_REFERENCE, None)
            measured = [verdict for verdict in mine.values() if math.isfinite(verdict.short)]
            found.append((one, (everywhere, other, max(measured, key=lambda verdict: verdict.short, default=None))))
        return found


def _counted(runs: Sequence[EvaluationRun], chosen: np.ndarray | None = None) -> list[str]:
    """Measures that any of the runs has a figure of."""
    return [one.name for one in MEASURES if any(run.count(one.name, chosen) for run in runs)]


def _plain(value: float) -> float | None:
    return round(float(value), 5) if math.isfinite(value) else None
