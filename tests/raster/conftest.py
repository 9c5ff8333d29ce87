"""Synthetic shots whose true film is known, small and drawn once."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
from maquette.backend.shot import Character, Reference, Shot
from maquette.backend.worlds.sample import Sample, make_sample, to_shot

SEED = 1_000_000_004
"""One character, whose reference is a frame of the film."""
OTHER = 1_000_000_008
"""One character, whose reference is another picture in another light."""


@cache
def sample(seed: int = SEED, frames: int = 5, size: int = 96, characters: int = 1) -> Sample:
    return make_sample(seed, frames, size, 256, characters, truth=True, maps=True)


def shot(seed: int = SEED, **changes) -> Shot:
    return to_shot(sample(seed), **changes)


def with_reference(made: Shot, index: int = 0, **changes) -> Shot:
    """The shot with parts of a character's reference exchanged."""
    people = list(made.characters)
    looks = people[index].reference
    assert isinstance(looks, Reference)
    people[index] = replace(people[index], reference=replace(looks, **changes))
    return replace(made, characters=tuple(people))


def with_person(made: Shot, index: int = 0, **changes) -> Shot:
    people: list[Character] = list(made.characters)
    people[index] = replace(people[index], **changes)
    return replace(made, characters=tuple(people))


def figure_psnr(film: np.ndarray, one: Sample) -> float:
    error = np.square(film[one.mask].astype(float) - one.video[one.mask]).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def iou(film: np.ndarray, one: Sample, level: int = 20) -> float:
    """Agreement of the pixels that differ from the empty film with those of the true film that do."""
    found, true = (np.abs(x.astype(int) - one.background).max(-1) > level for x in (film, one.video))
    return float((found & true).sum() / (found | true).sum())
