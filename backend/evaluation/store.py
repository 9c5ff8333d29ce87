"""Finished shots of an evaluation, kept on disk, so that an interrupted one goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..catalogue.models import ModelSpec
from ..worlds.sample import Sample

_HERE = Path(__file__).parent
_JUDGES = ("measures.py", "metrics.py", "perceptual.py", "silhouette.py")
"""Files that say what a figure means; others of this package only arrange figures."""
_CARRY = _HERE.parent / "raster"
"""The code of the carried film, which has no weights by which it could be told from another."""


@dataclass(frozen=True)
class Scored:
    """What one shot gave under one setting.

    Attributes:
        seconds: that the film took to make.
        values: of each measure; None where the shot has nothing to measure.
        places: mean squared error of the frames by their place in a latent frame; None for absent places.
        features: I3D's of the film, or None.
    """

    seconds: float
    values: dict[str, float | None]
    places: list[float | None]
    features: list[float] | None


class Store:
    """A folder of finished shots. A shot that is there is one that the same model, setting and judges have had.

    Args:
        folder: of all evaluations; None keeps nothing.
        key: of what the figures depend on besides setting and shot, see ``store_key``.
    """

    def __init__(self, folder: Path | None, key: str) -> None:
        self._folder = None if folder is None else folder / key

    def read(self, setting: str, sample: Sample) -> Scored | None:
        """What a shot gave, or None when it has not been run or its file is damaged."""
        path = self._path(setting, sample, ".json")
        if path is None or not path.is_file():
            return None
        try:
            return Scored(**json.loads(path.read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def film(self, setting: str, sample: Sample) -> np.ndarray | None:
        """The film (T,H,W,3) that was kept of a shot, or None."""
        path = self._path(setting, sample, ".npz")
        if path is None or not path.is_file():
            return None
        try:
            with np.load(path) as kept:
                return kept["film"]
        except (OSError, ValueError, KeyError):
            return None

    def write(self, setting: str, sample: Sample, scored: Scored, film: np.ndarray | None) -> None:
        """Keep a shot's figures and, where given, its film; each file is whole or not there."""
        path = self._path(setting, sample, ".json")
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        if film is not None:
            partial = path.with_suffix(".partial.npz")
            np.savez_compressed(partial, film=film)
            os.replace(partial, path.with_suffix(".npz"))
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(scored)), "utf-8")
        os.replace(partial, path)

    def _path(self, setting: str, sample: Sample, suffix: str) -> Path | None:
        if self._folder is None:
            return None
        return self._folder / setting / f"{sample.seed}-{sample_digest(sample)}{suffix}"


def sample_digest(sample: Sample) -> str:
    """What tells a sample from another of the same seed that a changed generator makes."""
    digest = hashlib.sha256()
    for part in (sample.video, sample.background, sample.clay, sample.points, sample.viewmats, sample.Ks):
        digest.update(np.ascontiguousarray(part).tobytes())
    for look in (look for c in range(len(sample.points)) for look in sample.references(c)):
        digest.update(np.ascontiguousarray(look.image).tobytes())
    return digest.hexdigest()[:12]


def store_key(spec: ModelSpec, device: str, backbones: Mapping[str, str] | None = None) -> str:
    """A folder's name for a model's weights and configuration, a device, the judges' code and networks, and the carried
    film's code."""
    digest = hashlib.sha256()
    files = [path for ending in ("*.safetensors", "*.json") for path in spec.folder.rglob(ending)]
    for path in sorted(files):
        digest.update(str(path.relative_to(spec.folder)).encode())
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    configuration = (spec.engine, dict(spec.components), dict(spec.limits), dict(backbones or {}), device)
    digest.update(json.dumps(configuration, sort_keys=True, default=str).encode())
    for path in (*(_HERE / name for name in _JUDGES), *sorted(_CARRY.glob("*.py"))):
        digest.update(path.read_bytes())
    return f"{spec.id}-{digest.hexdigest()[:12]}"
