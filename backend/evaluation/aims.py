"""What a model is meant to reach on the held-out set at its default, and whether it does."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .evaluate import EvaluationRun
from .measures import ASPECTS, MEASURES, OTHER_REFERENCE, Measure


@dataclass(frozen=True)
class Aim:
    """What a measure's mean is to reach; None for the carried film's own.

    Attributes:
        everywhere: on all shots.
        other: on those whose reference is another picture.
    """

    everywhere: float | None
    other: float | None


AIMS: Mapping[str, Mapping[str, Aim]] = {
    "isa-nano": {
        "psnr": Aim(34.0, 31.0),
        "psnr_figure": Aim(27.0, 24.0),
        "iou_share": Aim(0.99, 0.99),
        "colour": Aim(8.0, 8.0),
        "swapped": Aim(0.0, 0.0),
        "swapped_mean": Aim(0.0, 0.0),
        "warp": Aim(None, None),
        "judder": Aim(1.15, 1.15),
    }
}
"""By model and measure."""

ASPECT_SLACK = 0.5
"""Decibels by which the mean at one aspect may fall short of an aim in decibels."""


@dataclass(frozen=True)
class Verdict:
    """One aim, and what was found.

    Attributes:
        where: the shots: ``all``, ``OTHER_REFERENCE``, or an aspect.
        aim: what was to be reached.
        found: the mean with its 95 % interval; NaN where there is nothing to measure.
        n: shots that it rests on.
    """

    measure: Measure
    where: str
    aim: float
    found: tuple[float, float, float]
    n: int

    @property
    def short(self) -> float:
        """By how much the aim is missed; 0 or less where it is met, NaN where nothing was measured."""
        return (self.aim - self.found[0]) * (1 if self.measure.higher else -1)

    def told(self) -> str:
        """The aim, and whether it was met or by how much it was missed."""
        limit = f"{self.aim:.3g} or {'more' if self.measure.higher else 'less'}"
        if not math.isfinite(self.short):
            return f"{limit}: not measured"
        return f"{limit}: met" if self.short <= 0 else f"{limit}: missed by {self.short:.2g}"


def judge(model: str, run: EvaluationRun, carried: EvaluationRun, kind: Mapping[str, np.ndarray]) -> list[Verdict]:
    """Hold a run, at the model's default on the held-out set, against the model's aims; none for a model without any.

    Args:
        carried: the carried films of the same shots.
        kind: which shots (n,) bool are of each kind, by its name.
    """
    verdicts = []
    for measure in MEASURES:
        aim = AIMS.get(model, {}).get(measure.name)
        if aim is None:
            continue
        groups: list[tuple[str, float | None, np.ndarray | None, float]] = [("all", aim.everywhere, None, 0.0)]
        if OTHER_REFERENCE in kind:
            groups.append((OTHER_REFERENCE, aim.other, kind[OTHER_REFERENCE], 0.0))
        if measure.unit == "dB":
            groups += [(name, aim.everywhere, kind[name], ASPECT_SLACK) for name in ASPECTS if name in kind]
        for where, wanted, chosen, slack in groups:
            limit = carried.mean(measure.name, chosen)[0] if wanted is None else wanted - slack
            found = run.mean(measure.name, chosen)
            verdicts.append(Verdict(measure, where, limit, found, run.count(measure.name, chosen)))
    return verdicts
