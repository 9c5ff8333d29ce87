"""The report of an evaluation: figures in JSON and Markdown, plots, contact sheets."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..media import encode_jpeg
from ..training.synth import Sample
from .evaluate import MEASURES, Run
from .sets import describe

_SHEET_SHOTS = 6
_SHEET_FRAMES = 5


@dataclass(frozen=True)
class Report:
    """Everything that was run on one set.

    Attributes:
        model: id of the model.
        set_name: of the shots; samples: the shots.
        device: that it ran on.
        runs: one per setting of steps and guidance; the first is the model's default.
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

    def write(self, folder: Path) -> None:
        """Write ``report.json``, ``report.md``, ``quality.png`` and the sheets."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.json").write_text(json.dumps(self.as_json(), indent=1) + "\n", "utf-8")
        (folder / "report.md").write_text(self.as_markdown(), "utf-8")
        (folder / "sheet.jpg").write_bytes(encode_jpeg(sheet(self.samples, self.runs[0].films)).data)
        if self.autoencoder is not None:
            picture = sheet(self.samples, self.autoencoder.films)
            (folder / "autoencoder.jpg").write_bytes(encode_jpeg(picture).data)
        plot(self, folder / "quality.png")

    def as_json(self) -> dict[str, Any]:
        """Means, intervals and the figures of every shot."""
        return {
            "model": self.model,
            "set": self.set_name,
            "shots": describe(self.samples),
            "seeds": [sample.seed for sample in self.samples],
            "device": self.device,
            "absent": list(self.absent),
            "true_films": _run_json(self.truth),
            "autoencoder": None if self.autoencoder is None else _run_json(self.autoencoder),
            "runs": [_run_json(run) for run in self.runs],
        }

    def as_markdown(self) -> str:
        """Tables for people."""
        lines = [
            f"# {self.model} on `{self.set_name}`",
            "",
            f"{describe(self.samples)}, on {self.device}. Means with 95 % bootstrap intervals over the shots; a "
            "measure takes only the shots on which it means something.",
            "",
            "| measure | | at the default: "
            f"{self.runs[0].steps} steps, guidance {self.runs[0].guidance:g} | autoencoder alone | true films |",
            "|---|---|---|---|---|",
        ]
        for one in MEASURES:
            unit = f", {one.unit}" if one.unit else ""
            cells = [_cell(run, one.name) for run in (self.runs[0], self.autoencoder, self.truth)]
            lines.append(f"| {one.name} ({'up' if one.higher else 'down'}{unit}) | {one.about} | {' | '.join(cells)} |")
        lines += ["", "## Steps and guidance", ""]
        names = [one.name for one in MEASURES]
        lines += [f"| steps | guidance | {' | '.join(names)} | s/shot |", "|---" * (len(names) + 3) + "|"]
        for run in self.runs:
            cells = [_number(run.mean(name)[0]) for name in names]
            lines.append(f"| {run.steps} | {run.guidance:g} | {' | '.join(cells)} | {run.seconds.mean():.2f} |")
        if self.absent:
            lines += ["", "## Not measured", "", *(f"- {text}" for text in self.absent)]
        return "\n".join(lines) + "\n"


def _run_json(run: Run) -> dict[str, Any]:
    return {
        "steps": run.steps,
        "guidance": run.guidance,
        "seconds_per_shot": _plain(float(run.seconds.mean())),
        "measures": {
            name: {
                **dict(zip(("mean", "low", "high"), map(_plain, run.mean(name)), strict=True)),
                "shots": [_plain(float(value)) for value in values],
            }
            for name, values in run.values.items()
        },
    }


def _plain(value: float) -> float | None:
    return round(value, 5) if math.isfinite(value) else None


def _number(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "-"


def _cell(run: Run | None, name: str) -> str:
    if run is None:
        return "-"
    mean, low, high = run.mean(name)
    return f"{_number(mean)} ({_number(low)} to {_number(high)})" if math.isfinite(mean) else "-"


def sheet(samples: Sequence[Sample], films: Sequence[np.ndarray]) -> np.ndarray:
    """Picture (H,W,3) of the first shots: true frames above generated ones, each led by a reference picture."""
    rows = []
    for sample, film in zip(samples[:_SHEET_SHOTS], films, strict=False):
        chosen = np.linspace(0, len(film) - 1, _SHEET_FRAMES).round().astype(int)
        last = sample.ref_image[-1] if len(sample.ref_image) > 1 else np.full_like(sample.ref_image[0], 255)
        true = np.concatenate([sample.ref_image[0], *sample.video[chosen]], axis=1)
        rows.append(np.concatenate([true, np.concatenate([last, *film[chosen]], axis=1)], axis=0))
    if len(rows) % 2:
        rows.append(np.full_like(rows[0], 255))
    return np.concatenate([np.concatenate(rows[i : i + 2], axis=1) for i in range(0, len(rows), 2)], axis=0)


def plot(report: Report, path: Path) -> None:
    """Quality against steps, a line per guidance, with intervals; the autoencoder's ceiling dotted."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = ("psnr", "iou", "psnr_background", "colour")
    figure, axes = pyplot.subplots(1, len(shown), figsize=(3.4 * len(shown), 3.2), constrained_layout=True)
    for axis, name in zip(axes, shown, strict=True):
        for guidance in sorted({run.guidance for run in report.runs if run.guidance is not None}):
            runs = sorted((run for run in report.runs if run.guidance == guidance), key=lambda run: run.steps or 0)
            steps = [run.steps for run in runs]
            means = np.array([run.mean(name) for run in runs])
            axis.plot(steps, means[:, 0], marker="o", label=f"guidance {guidance:g}")
            axis.fill_between(steps, means[:, 1], means[:, 2], alpha=0.12)
        if report.autoencoder is not None:
            axis.axhline(report.autoencoder.mean(name)[0], linestyle=":", color="0.3", label="autoencoder")
        one = next(one for one in MEASURES if one.name == name)
        axis.set_title(f"{name} ({one.unit})" if one.unit else name)
        axis.set_xlabel("steps")
        axis.set_xticks(sorted({run.steps for run in report.runs if run.steps is not None}))
    axes[0].legend(fontsize="small")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
