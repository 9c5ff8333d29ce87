"""The report of an evaluation: figures in JSON and Markdown, plots, contact sheets."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..worlds.sample import Sample
from .aims import ASPECT_SLACK, Verdict, judge
from .evaluate import EvaluationRun, by_kind
from .measures import FVD, MEASURES, OTHER_REFERENCE, Measure
from .pictures import plot_settings, plot_shots, sheet, write_sheet
from .recommend import Choice, recommend, rule
from .sets import describe


@dataclass(frozen=True)
class Report:
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
        parts = [self._headline(), self._aims(), self._by_kind()]
        if len(self.runs) > 1:
            parts.append(self._settings())
        parts.append(self._pictures())
        if self.absent:
            parts.append(["## Not measured", "", *(f"- {text}" for text in self.absent)])
        return "\n\n".join("\n".join(part) for part in parts if part) + "\n"

    def _headline(self) -> list[str]:
        run = self.runs[0]
        lacking = f" The shots came without {' and '.join(self.without)}." if self.without else ""
        lines = [
            f"# {self.model} on `{self.set_name}`",
            "",
            f"{describe(self.samples)}, on {self.device}; {np.median(run.seconds):.2f} s a shot at the default, "
            f"{np.median(self.carried.seconds):.2f} s for the carried film alone.{lacking} Means with 95 % bootstrap "
            "intervals over the shots; the difference is taken shot by shot. A measure takes only the shots on which "
            "it means something; n is how many these are.",
            "",
            f"| measure | | at the default: {run.steps} steps, guidance {run.guidance:g} | carried film alone | "
            "difference | n | autoencoder alone | true films |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for one in MEASURES:
            gain = _interval(*run.gain(self.carried, one.name), signed=True)
            cells = [_cell(run, one.name), _cell(self.carried, one.name), gain, str(run.count(one.name))]
            cells += [_cell(self.autoencoder, one.name), _cell(self.truth, one.name)]
            lines.append(f"| {_name(one)} | {one.about} | {' | '.join(cells)} |")
        if run.features:
            mine, carried = run.fvd(self.truth), self.carried.fvd(self.truth)
            others = "-" if self.autoencoder is None else _number(self.autoencoder.fvd(self.truth))
            cells = [_number(mine), _number(carried), f"{mine - carried:+.3g}", str(run.shots), others, "0"]
            lines.append(f"| {_name(FVD)} | {FVD.about} | {' | '.join(cells)} |")
        return lines + self._remarks()

    def _remarks(self) -> list[str]:
        run, lines = self.runs[0], []
        count = run.count("swapped")
        if count and run.mean("swapped")[0] == 0:
            lines.append(
                f"No characters are swapped in {count} shots, of which a bootstrap can tell nothing more; up to "
                f"{100 * min(3 / count, 1):.0f} % of all shots could still be (the rule of three)."
            )
        if run.features and len(run.features) <= len(run.features[0]):
            lines.append(
                f"fvd from {len(run.features)} shots and {len(run.features[0])} features is biased upwards: compare "
                "it within this report, not with published figures, which rest on about 2048 films."
            )
        return [line for text in lines for line in ("", text)]

    def _aims(self) -> list[str]:
        """Each aim on all shots, on those whose references show nothing of the film, and at the worst aspect."""
        verdicts = self.verdicts
        if not verdicts:
            return []
        others = self.kind.get(OTHER_REFERENCE, np.zeros(len(self.samples), bool))
        lines = [
            "## Aims",
            "",
            f"At the default. In {int((~others).sum())} of the {len(others)} shots a reference picture is a frame of "
            "the film, as people often give one; there, psnr and colour in part measure copying. In brackets the 95 % "
            f"interval and n. At no aspect may an aim in dB be missed by more than {ASPECT_SLACK:g} dB; the worst one "
            "is told.",
            "",
            "| measure | all shots | aim | shots whose reference is another picture | aim | worst aspect | aim |",
            "|---|---|---|---|---|---|---|",
        ]
        for one in MEASURES:
            mine = {verdict.where: verdict for verdict in verdicts if verdict.measure is one}
            if not mine:
                continue
            everywhere, other = mine.pop("all"), mine.pop(OTHER_REFERENCE, None)
            measured = [verdict for verdict in mine.values() if math.isfinite(verdict.short)]
            worst = max(measured, key=lambda verdict: verdict.short, default=None)
            cells = []
            for verdict in (everywhere, other, worst):
                if verdict is None:
                    cells += ["-", ""]
                    continue
                name = f"{verdict.where}: " if verdict is worst else ""
                cells += [name + _interval(*verdict.found, count=verdict.n), verdict.told()]
            lines.append(f"| {_name(one)} | {' | '.join(cells)} |")
        return lines

    def _by_kind(self) -> list[str]:
        lines = [
            "## By kind of shot",
            "",
            "In brackets the number of shots that count, where these are not all of the row.",
        ]
        for title, run in (("At the default", self.runs[0]), ("The carried film alone", self.carried)):
            shown = [one for one in MEASURES if run.count(one.name)]
            lines += [
                "",
                f"| {title} | shots | {' | '.join(one.name for one in shown)} |",
                "|---" * (len(shown) + 2) + "|",
            ]
            for name, chosen in self.kind.items():
                total = int(chosen[: run.shots].sum())
                cells = []
                for one in shown:
                    count = run.count(one.name, chosen)
                    mean = _number(run.mean(one.name, chosen)[0]) if count else "-"
                    cells.append(f"{mean} ({count})" if 0 < count < total else mean)
                lines.append(f"| {name} | {total} | {' | '.join(cells)} |")
        return lines

    def _settings(self) -> list[str]:
        choice = self.choice
        assert choice is not None
        shared = min(run.shots for run in self.runs)
        first = np.arange(len(self.samples)) < shared
        shown = [one for one in MEASURES if any(run.count(one.name, first) for run in self.runs)]
        few = f"the first {shared} of the {len(self.samples)} shots" if shared < len(self.samples) else "all shots"
        names = [one.name for one in shown]
        lines = [
            "## Steps and guidance",
            "",
            f"Means over {few}. Points: {rule()}.",
            "",
            f"| steps | guidance | {' | '.join(names)} | s/shot | points |",
            "|---" * (len(names) + 4) + "|",
        ]
        ordered = sorted(
            zip(self.runs, choice.points, strict=True), key=lambda item: (item[0].steps or 0, item[0].guidance or 0)
        )
        for run, points in ordered:
            cells = [_number(run.mean(name, first)[0]) for name in names]
            seconds = float(np.median(run.seconds[:shared]))
            row = f"| {run.steps} | {run.guidance:g} | {' | '.join(cells)} | {seconds:.2f} | {points:.2f} |"
            lines.append(row)
        run, best, now = choice.run, choice.best, self.runs[0]
        said = f"Recommended: {run.steps} steps, guidance {run.guidance:g}"
        if best is not run:
            said += f"; the best without regard to time is {best.steps} steps, guidance {best.guidance:g}"
        kept = "this is the default." if run is now else f"the default is {now.steps} steps, guidance {now.guidance:g}."
        shots = (
            "The shots that this choice rests on are among those that the default is reported on, so that a default "
            "chosen by it looks slightly better there than it would on others."
        )
        return [*lines, "", f"{said}; {kept} {shots}", "", "![Quality against steps, a line per guidance](quality.png)"]

    def _pictures(self) -> list[str]:
        lines = ["## To look at"]
        if self.runs[0].films:
            said = f"Of each shot its references, and frames of the true film, the carried film and {self.model}'s."
            lines += ["", said, "", f"![{said}](sheet.jpg)"]
        return [*lines, "", "Every shot's figures at the default.", "", "![Figures of every shot](shots.png)"]


def _name(one: Measure) -> str:
    return f"{one.name} ({'up' if one.higher else 'down'}{f', {one.unit}' if one.unit else ''})"


def _plain(value: float) -> float | None:
    return round(float(value), 5) if math.isfinite(value) else None


def _number(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "-"


def _interval(mean: float, low: float, high: float, count: int | None = None, signed: bool = False) -> str:
    """A mean with its interval and, where given, the number of shots that it rests on."""
    if not math.isfinite(mean):
        return "-"
    sign = "+" if signed else ""
    counted = "" if count is None else f"; {count}"
    return f"{mean:{sign}.3g} ({low:{sign}.3g} to {high:{sign}.3g}{counted})"


def _cell(run: EvaluationRun | None, name: str) -> str:
    return "-" if run is None else _interval(*run.mean(name))
