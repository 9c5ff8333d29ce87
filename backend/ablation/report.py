"""The report of an ablation: Markdown, JSON, a contact sheet and the validation curves."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..evaluation.measures import MEASURES, Measure
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
        lines = ["# What interspatial attention is worth", "", *self._setup(), ""]
        lines += [*self._costs(), "", *self._table(), ""]
        if _BASE in self.variants and len(self.variants) > 1:
            lines += [*self._differences(), ""]
        if self.variants:
            lines += ["![True films above each variant's](ablation.jpg)", ""]
            lines += ["![Validation loss over the training](curves.png)", "", *self._curves(), ""]
        if len(self.outcomes.vaes) > 1:
            lines += [*self._vaes(), ""]
        if self.missing:
            lines += ["## Not finished", "", *(f"- {key}" for key in self.missing), ""]
        lines += self._limits()
        return "\n".join(lines).rstrip() + "\n"

    def _setup(self) -> list[str]:
        config, network = self.run.config, self.run.transformer
        data, dit = config.data, config.dit
        width = network["num_attention_heads"] * network["attention_head_dim"]
        kinds = [(data.shards, "one character"), (data.pair_shards, "two"), (data.trio_shards, "three")]
        shots = ", ".join(f"{SHARD * count} with {words}" for count, words in kinds if count)
        seeds = ", ".join(map(str, config.seeds))
        return [
            f"Networks of {network['num_layers']} blocks and width {width} ({config.model}'s, scaled), on shots of "
            f"{data.frames} frames of {data.size} x {data.size} with {data.points} points a character ({shots}). Every "
            f"variant was trained for {dit.steps} steps of {dit.batch * self.run.workers} clips on the same shots in "
            "the same order, with the same noise and times, by the same optimiser and learning rate "
            f"({dit.optimizer}, {dit.lr:g}), seed {seeds}; on {self.run.device}. All share one video VAE.",
            "",
            f"Measured on {describe(self.outcomes.samples)}, of seeds that no training draws, with "
            f"{config.measure.steps} steps and guidance {config.measure.guidance:g}; every variant starts from the "
            "same noise.",
            "",
            "What the variants lack is this and nothing else:",
            "",
            "- `no_ispe`: the encodings of place are not added to what the interspatial attention makes its queries, "
            "keys and values of, on either side. Video tokens keep the position encoding that they get where they "
            "enter and in the camera attention; a point's token keeps its own coordinates, which are features of it.",
            "- `control`: no surface points, so no identity at points either; identity comes from the concatenated "
            "reference and from cross-attention. With two characters the concatenated reference is the mean of both. "
            "Normal maps are drawn from the true bodies, with their true outlines and occlusions.",
        ]

    def _costs(self) -> list[str]:
        lines = [
            "## Budget",
            "",
            "| variant | what | parameters | GFLOP per clip and evaluation | s per step |",
            "|---|---|---|---|---|",
        ]
        for name, found in self.variants.items():
            paces = [point["seconds_per_step"] for o in found for point in o.curve if "seconds_per_step" in point]
            pace = _number(float(np.median(paces))) if paces else "-"
            lines.append(f"| {name} | {ABOUT[name]} | {found[0].parameters:,} | {_number(found[0].gflop)} | {pace} |")
        return lines

    def _table(self) -> list[str]:
        columns: dict[str, Sequence[TrialResult]] = {**self.variants}
        if GIVEN in self.outcomes.vaes:
            columns["VAE alone"] = [self.outcomes.vaes[GIVEN]]
        lines = [
            "## Held-out shots",
            "",
            "Means with 95 % bootstrap intervals over the shots; a measure takes only the shots on which it means "
            "something. The VAE alone is the most that any variant could reach.",
            "",
            f"| measure | | {' | '.join(columns)} |",
            "|---" * (len(columns) + 2) + "|",
        ]
        for m in self.measures:
            cells = [_cell(bootstrap(mean_over_seeds(found, m.name))) for found in columns.values()]
            lines.append(f"| {_head(m)} | {m.about} | {' | '.join(cells)} |")
        paper = " | ".join(f"{PAPER[name][0]:.2f}" for name in self.variants)
        blank = " | -" if GIVEN in self.outcomes.vaes else ""
        lines.append(f"| *paper's psnr* | Tab. 4: 4 B parameters, real films | {paper}{blank} |")
        return lines

    def _differences(self) -> list[str]:
        others = [name for name in self.variants if name != _BASE]
        lines = [
            "## Difference to ISA",
            "",
            "Shot by shot, with the 95 % interval of a paired bootstrap over the shots; `better` and `worse` where it "
            "leaves out zero, which tells of these shots and these trained weights, not of another training.",
            "",
            f"| measure | {' | '.join(others)} |",
            "|---" * (len(others) + 1) + "|",
        ]
        for m in self.measures:
            found = {name: self.difference(name, m.name) for name in others}
            cells = [f"{_cell(d, signed=True)} {judge(d, m.higher)}" for d in found.values()]
            lines.append(f"| {_head(m)} | {' | '.join(cells)} |")
        return [*lines, "", self.order("psnr"), "", self.order("psnr_figure"), "", self.order("iou")]

    def order(self, measure: str) -> str:
        """The order of the variants by a measure, whatever it is, in one sentence."""
        one = next(m for m in MEASURES if m.name == measure)
        means = {name: bootstrap(mean_over_seeds(found, measure))[0] for name, found in self.variants.items()}
        ranked = sorted(means, key=lambda name: means[name], reverse=one.higher)
        text = ", then ".join(f"`{name}` ({_number(means[name], 4)})" for name in ranked)
        undecided = [
            f"`{name}`"
            for name in ranked
            if name != _BASE and judge(self.difference(name, measure), one.higher) == "undecided"
        ]
        told = f"; these shots do not tell {' and '.join(undecided)} from `{_BASE}`" if undecided else ""
        return f"Order by {measure}, best first: {text}{told}."

    def _curves(self) -> list[str]:
        lines = [
            "Loss on the held-out shots at fixed times and noise, of the averaged weights (Fig. 14); `figure` is the "
            "loss where bodies are.",
            "",
            "| variant | seed | steps | loss | figure |",
            "|---|---|---|---|---|",
        ]
        for trial, outcome in self.outcomes.dits.items():
            if outcome.curve and trial.vae == GIVEN:
                last = outcome.curve[-1]
                cells = f"{int(last['step'])} | {_number(last['loss'], 4)} | {_number(last['figure'], 4)}"
                lines.append(f"| {trial.variant} | {trial.seed} | {cells} |")
        return lines

    def _vaes(self) -> list[str]:
        own = {name: outcome for name, outcome in self.outcomes.vaes.items() if name in VAES}
        config = self.run.config
        assert config.vae is not None
        lines = [
            "## The VAE with and without the image-decoding regularisation",
            "",
            f"Two VAEs trained for {config.vae.steps} steps of {config.vae.batch * self.run.workers} clips on the same "
            f"shots with the same seeds, one with weight {config.vae_loss.image_decoding:g} on the image-decoding "
            "regularisation. PSNR of their reconstructions, of all frames and by place in a latent frame (the first "
            "frame, a latent of its own, is left out); `seam` is the last-frame bias.",
            "",
            "| VAE | psnr, dB | place 0 | 1 | 2 | 3 | seam, dB |",
            "|---|---|---|---|---|---|---|",
        ]
        for name, outcome in self.outcomes.vaes.items():
            label = "the variants' own" if name == GIVEN else name
            places = " | ".join(_number(v, 4) for v in psnr_by_place(outcome))
            cells = [_cell(outcome.run.mean(m), digits=4) for m in ("psnr", "seam")]
            lines.append(f"| {label} | {cells[0]} | {places} | {cells[1]} |")
        if len(own) == len(VAES):
            a, b = (own[name].run.values for name in VAES)
            psnr, seam = paired(a["psnr"], b["psnr"]), paired(a["seam"], b["seam"])
            lines += [
                "",
                f"Difference of the regularised one: psnr {_cell(psnr, True)} dB ({judge(psnr, True)}), seam "
                f"{_cell(seam, True)} dB ({judge(seam, False)}).",
            ]
        if len(self.on_vaes) == len(VAES):
            both = [self.on_vaes[name] for name in VAES]
            lines += ["", "An ISA-DiT trained on the latents of each, as above:", ""]
            lines += [f"| measure | {' | '.join(VAES)} | difference |", "|---|---|---|---|"]
            for m in self.measures:
                a, b = (mean_over_seeds(found, m.name) for found in both)
                cells = [_cell(bootstrap(values)) for values in (a, b)]
                difference = paired(a, b)
                told = f"{_cell(difference, True)} {judge(difference, m.higher)}"
                lines.append(f"| {_head(m)} | {' | '.join(cells)} | {told} |")
        return lines

    def _limits(self) -> list[str]:
        seeds = len(self.run.config.seeds)
        trainings = "one training" if seeds == 1 else f"{seeds} trainings"
        known = "is not known" if seeds == 1 else "is known roughly at best"
        return [
            "## What this does not say",
            "",
            f"It rests on {trainings} of each variant, so how much another seed would move the figures {known}; on "
            "networks, pictures and a training that are small beside the paper's, and on synthetic shots. The points' "
            "tokens carry their place in the picture as features, where the paper's carry world coordinates, so that "
            "`no_ispe` goes without less here than there.",
        ]

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


def _head(m: Measure) -> str:
    return f"{m.name} ({'up' if m.higher else 'down'}{f', {m.unit}' if m.unit else ''})"


def _plain(value: float) -> float | None:
    return round(value, 5) if math.isfinite(value) else None


def _triple(values: tuple[float, float, float]) -> Mapping[str, float | None]:
    return dict(zip(("mean", "low", "high"), map(_plain, values), strict=True))


def _number(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}g}" if math.isfinite(value) else "-"


def _cell(values: tuple[float, float, float], signed: bool = False, digits: int = 3) -> str:
    if not math.isfinite(values[0]):
        return "-"
    sign = "+" if signed else ""
    mean, low, high = (f"{value:{sign}.{digits}g}" for value in values)
    return f"{mean} ({low} to {high})"
