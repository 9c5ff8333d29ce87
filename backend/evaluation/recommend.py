"""Which steps and guidance a table of runs speaks for, by a rule that anyone can check by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .evaluate import EvaluationRun
from .measures import MEASURES

WORTH = {"psnr": 1.0, "iou": 0.05, "psnr_background": 1.0, "colour": 2.0, "warp": 2.0}
"""How much of each measure counts as one point: body, camera, identity and steadiness about as much as one another."""

ENOUGH = 0.25
"""Points by which a faster setting may fall short of the best."""


@dataclass(frozen=True)
class Choice:
    """What the rule gave.

    Attributes:
        run: the setting.
        points: of every run, against the best one, which has 0.
        best: the run with the most points.
    """

    run: EvaluationRun
    points: tuple[float, ...]
    best: EvaluationRun


def rule() -> str:
    """The rule in words."""
    units = {one.name: f" {one.unit}" if one.unit else "" for one in MEASURES}
    worth = ", ".join(f"{amount:g}{units[name]} of {name}" for name, amount in WORTH.items())
    return (
        f"a setting gains one point for each {worth} on the shots that all settings were run on, and the fastest one "
        f"within {ENOUGH:g} points of the best is recommended"
    )


def recommend(runs: Sequence[EvaluationRun]) -> Choice:
    """The recommended one of runs that share their first shots; see ``rule``."""
    shared = min(run.shots for run in runs)
    signs = {one.name: 1.0 if one.higher else -1.0 for one in MEASURES}
    points = np.zeros(len(runs))
    for name, amount in WORTH.items():
        values = np.stack([run.values[name][:shared] for run in runs])
        told = np.isfinite(values).all(axis=0)
        if told.any():
            points += signs[name] * values[:, told].mean(axis=1) / amount
    points -= points.max()
    seconds = [float(np.median(run.seconds[:shared])) for run in runs]
    able = [i for i in range(len(runs)) if points[i] >= -ENOUGH]
    chosen = min(able, key=lambda i: (seconds[i], -points[i]))
    return Choice(runs[chosen], tuple(float(value) for value in points), runs[int(points.argmax())])
