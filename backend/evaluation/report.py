"""The report of an evaluation: figures in JSON and Markdown, plots, contact sheets."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..training.synth import Sample
from .evaluate import Run, by_kind
from .measures import FVD, MEASURES, OTHER_REFERENCE, Measure
from .pictures import plot_settings, plot_shots, sheet, write_sheet
from .recommend import Choice, recommend, rule
from .sets import describe

AIMS = {"isa-nano": {"psnr": 22.0, "iou": 0.85, "psnr_background": 24.0, "swapped": 0.05}}
"""What a model is meant to reach on the held-out set at its default."""

AUTOENCODER_AIMS = {"isa-nano": {"psnr": 30.0}}
"""The same for its autoencoder alone."""


@dataclass(frozen=True)
class Report:
    """Everything that was run on one set.

    Attributes:
        model: id of the model.
        set_name: of the shots; samples: the shots.
        device: that it ran on.
        runs: one per setting of steps and guidance; the first is the model's default, on all shots. The others may
            have been run on the first shots only.
        truth: the true films' own measures. autoencoder: the true films through the VAE, or None.
        absent: measures that could not be taken, and why.
    """

    model: str
    set_name: str
    samples: Sequence[Sample]
    device: str
    runs: Sequence[Run]
    truth: Run
    autoencoder: Run | None
    absent: Sequence[str] = ()

    @cached_property
    def kind(self) -> dict[str, np.ndarray]:
        """Which samples (n,) bool are of each kind."""
        return by_kind(self.samples)

    @property
    def choice(self) -> Choice | None:
        """The recommended setting; None without a choice."""
        return recommend(self.runs) if len(self.runs) > 1 else None

    @property
    def aims(self) -> Mapping[str, float]:
        """By measure, what the model is meant to reach on this set; empty where nothing is."""
        return AIMS.get(self.model, {}) if self.set_name == "heldout" else {}

    def write(self, folder: Path) -> None:
        """Write ``report.json``, ``report.md``, the plots and the sheets."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.json").write_text(json.dumps(self.as_json(), indent=1) + "\n", "utf-8")
        (folder / "report.md").write_text(self.as_markdown(), "utf-8")
        for name, films in self._films().items():
            write_sheet(sheet(self.samples, films), folder / f"{name}.jpg")
        plot_shots(self.runs[0], self.kind, folder / "shots.png")
        if len(self.runs) > 1:
            plot_settings(self.runs, self.autoencoder, folder / "quality.png")

    def _films(self) -> dict[str, Mapping[int, np.ndarray]]:
        """The films to show, by the name of their sheet."""
        found = {"sheet": self.runs[0].films}
        if self.autoencoder is not None:
            found["autoencoder"] = self.autoencoder.films
        return {name: films for name, films in found.items() if films}

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
            "true_films": self._run_json(self.truth),
            "autoencoder": None if self.autoencoder is None else self._run_json(self.autoencoder),
            "aims": self._aims_json(),
            "runs": [self._run_json(run) for run in self.runs],
        }

    def _aims_json(self) -> dict[str, Any]:
        """By measure the aim, and the default's mean on all shots and where each reference is another picture."""
        run, others = self.runs[0], self.kind.get(OTHER_REFERENCE)
        return {
            name: {
                "aim": aim,
                "all": _plain(run.mean(name)[0]),
                "other_reference": None if others is None else _plain(run.mean(name, others)[0]),
            }
            for name, aim in self.aims.items()
        }

    def _run_json(self, run: Run) -> dict[str, Any]:
        return {
            "steps": run.steps,
            "guidance": run.guidance,
            "shots": run.shots,
            "seconds_per_shot": _plain(float(np.median(run.seconds))),
            "psnr_by_place": [_plain(value) for value in psnr_by_place(run)],
            "fvd": _plain(run.fvd(self.truth)),
            "measures": {
                name: {
                    **dict(zip(("mean", "low", "high"), map(_plain, run.mean(name)), strict=True)),
                    "n": run.count(name),
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
        aims = self.aims
        aim_head, aim_rule = (" aim |", "---|") if aims else ("", "")
        lines = [
            f"# {self.model} on `{self.set_name}`",
            "",
            f"{describe(self.samples)}, on {self.device}; {np.median(run.seconds):.2f} s a shot at the default. Means "
            "with 95 % bootstrap intervals over the shots. A measure takes only the shots on which it means something; "
            "n is how many these are.",
            "",
            f"| measure | | at the default: {run.steps} steps, guidance {run.guidance:g} |{aim_head} n | "
            "autoencoder alone | true films |",
            f"|---|---|---|{aim_rule}---|---|---|",
        ]
        for one in MEASURES:
            cells = [_cell(run, one.name)]
            if aims:
                cells.append(_aim(one, run.mean(one.name)[0], aims.get(one.name)))
            cells += [str(run.count(one.name)), _cell(self.autoencoder, one.name), _cell(self.truth, one.name)]
            lines.append(f"| {_name(one)} | {one.about} | {' | '.join(cells)} |")
        if run.features:
            others = "-" if self.autoencoder is None else _number(self.autoencoder.fvd(self.truth))
            cells = [_number(run.fvd(self.truth)), *(["-"] if aims else []), str(run.shots), others, "0"]
            lines.append(f"| {_name(FVD)} | {FVD.about} | {' | '.join(cells)} |")
        return lines + self._remarks()

    def _remarks(self) -> list[str]:
        run, lines = self.runs[0], []
        ceiling = AUTOENCODER_AIMS.get(self.model, {}).get("psnr")
        if self.autoencoder is not None and ceiling is not None and self.set_name == "heldout":
            found = self.autoencoder.mean("psnr")[0]
            one = next(one for one in MEASURES if one.name == "psnr")
            lines.append(f"The autoencoder alone: {_number(found)} dB of psnr; aim {_aim(one, found, ceiling)}.")
        places = psnr_by_place(run)
        if np.isfinite(places).all():
            texts = [", ".join(f"{value:.2f}" for value in places)]
            if self.autoencoder is not None:
                texts.append(", ".join(f"{value:.2f}" for value in psnr_by_place(self.autoencoder)))
            lines.append(
                f"PSNR in dB of the frames by their place in a latent frame, first to last: {texts[0]}"
                + (f"; of the autoencoder alone: {texts[1]}." if len(texts) > 1 else ".")
            )
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
        """The aims on all shots, and on those whose references show nothing of the film."""
        others = self.kind.get(OTHER_REFERENCE)
        if not self.aims or others is None or others.all():
            return []
        run = self.runs[0]
        lines = [
            "## Aims",
            "",
            f"At the default. In {int((~others[: run.shots]).sum())} of the {run.shots} shots a reference picture is a "
            "frame of the film, as people often give one; there, psnr and colour in part measure copying. In brackets "
            "the 95 % interval and n.",
            "",
            "| measure | all shots | aim | shots whose reference is another picture | aim |",
            "|---|---|---|---|---|",
        ]
        for one in MEASURES:
            if one.name not in self.aims:
                continue
            cells = []
            for chosen in (None, others):
                cells.append(_cell(run, one.name, chosen, counted=True))
                cells.append(_aim(one, run.mean(one.name, chosen)[0], self.aims[one.name]))
            lines.append(f"| {_name(one)} | {' | '.join(cells)} |")
        return lines

    def _by_kind(self) -> list[str]:
        run = self.runs[0]
        shown = [one for one in MEASURES if run.count(one.name)]
        lines = [
            "## By kind of shot",
            "",
            "At the default; in brackets the number of shots that count, where these are not all of the row.",
            "",
            f"| kind | shots | {' | '.join(one.name for one in shown)} |",
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
        said = {
            "sheet": "Of each shot the true frames above, the generated ones below, its reference pictures first.",
            "autoencoder": "The same with the autoencoder alone.",
        }
        for name in self._films():
            lines += ["", said[name], "", f"![{said[name]}]({name}.jpg)"]
        return [*lines, "", "Every shot's figures at the default.", "", "![Figures of every shot](shots.png)"]


def psnr_by_place(run: Run) -> np.ndarray:
    """PSNR in dB (4,) of all shots' frames by their place in a latent frame; NaN for absent places."""
    if not len(run.places):
        return np.full(4, np.nan)
    return 10 * np.log10(255.0**2 / np.maximum(run.places.mean(axis=0), 1e-5))


def _name(one: Measure) -> str:
    return f"{one.name} ({'up' if one.higher else 'down'}{f', {one.unit}' if one.unit else ''})"


def _plain(value: float) -> float | None:
    return round(float(value), 5) if math.isfinite(value) else None


def _number(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "-"


def _cell(run: Run | None, name: str, chosen: np.ndarray | None = None, counted: bool = False) -> str:
    """A mean with its interval and, where ``counted``, the number of shots that it rests on."""
    if run is None:
        return "-"
    mean, low, high = run.mean(name, chosen)
    count = f"; {run.count(name, chosen)}" if counted else ""
    return f"{_number(mean)} ({_number(low)} to {_number(high)}{count})" if math.isfinite(mean) else "-"


def _aim(one: Measure, found: float, aim: float | None) -> str:
    """An aim, and whether it was met or by how much it was missed."""
    if aim is None:
        return ""
    limit = f"{aim:g} or {'more' if one.higher else 'less'}"
    if not math.isfinite(found):
        return f"{limit}: not measured"
    short = aim - found if one.higher else found - aim
    return f"{limit}: met" if short <= 0 else f"{limit}: missed by {short:.2g}"
