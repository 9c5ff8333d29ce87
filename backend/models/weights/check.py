"""``maquette models check`` and ``remove``: whether a model's folder holds what it should, and letting go of it."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

from ...catalogue.models import ModelError, ModelSpec, weights_home
from ..registry import status
from .add import read_record
from .component import Component, WeightsError, components
from .reading import header, headers, is_gguf, missing_shards, weights_in
from .recognising import differences, few
from .sizes import disk_bytes

_SAMPLE = 4096
"""Values of each tensor that are looked at."""


def check(spec: ModelSpec, full: bool = False, log: Callable[[str], None] = lambda _: None) -> list[str]:
    """Sentences about what is wrong with a model's files; none when it can run.

    Args:
        full: read every byte and hold it against the hashes that were noted when the model was added.
        log: told each part that is right.
    """
    problems = []
    if (found := status(spec)).missing:
        problems.append(f"{spec.folder}: {few(found.missing)} not there; add them with: {cure(spec)}")
    try:
        parts = components(spec)
    except ModelError:
        # Not made of published weights, so that nothing more is known than that the files can be read.
        parts = {name: Component(name) for name in dict.fromkeys(file.split("/")[0] for file in spec.files)}
    for component in parts.values():
        folder = component.folder(spec)
        if not folder.is_dir():
            if not component.optional and not found.missing:
                problems.append(f"{folder}: not there; add it with: {cure(spec)}")
            continue
        wrong = _check_part(spec, component, folder, full)
        problems += wrong
        if not wrong:
            log(f"{component.name}: right")
    return problems


def cure(spec: ModelSpec) -> str:
    """The command that brings a model's weights in."""
    return f"maquette models add {spec.id} --from DIR"


def _check_part(spec: ModelSpec, component: Component, folder: Path, full: bool) -> list[str]:
    again = f"add it again with: {cure(spec)} --component {component.name} --force"
    files = weights_in(folder)
    try:
        if lost := missing_shards(files):
            return [f"{folder}: {few(path.name for path in lost)} not there; {again}"]
        entries = headers(files)
    except WeightsError as error:
        return [f"{error}; {again}"]
    problems = []
    if component.build is not None:
        expected = {key: tuple(value.shape) for key, value in component.module(spec).state_dict().items()}
        missing, unexpected, shapes = differences(expected, {key: entry.shape for key, entry in entries.items()})
        missing = [key for key in missing if not component.lacks(key)]
        problems += [
            f"{folder}: {len(names)} of {len(expected)} keys {words} ({few(names)}); {again}"
            for names, words in ((missing, "missing"), (unexpected, "unexpected"), (shapes, "of another shape"))
            if names
        ]
    record = read_record(folder)
    for name, size in record.get("sizes", {}).items():
        path = folder / name
        if not path.is_file():
            problems.append(f"{path}: not there; {again}")
        elif path.stat().st_size != size:
            problems.append(f"{path}: {path.stat().st_size} bytes instead of {size}; {again}")
    if not problems:
        problems += [f"{name}; {again}" for path in files if not is_gguf(path) for name in _not_finite(path)]
    if full and not problems:
        for name, wanted in record.get("sha256", {}).items():
            if _sha256(folder / name) != wanted:
                problems.append(f"{folder / name}: changed since it was added; {again}")
    return problems


def _not_finite(path: Path) -> list[str]:
    """Tensors of which a sample holds infinities or NaN."""
    import torch
    from safetensors import safe_open

    wrong = []
    kinds = header(path)
    with safe_open(str(path), framework="pt", device="cpu") as stream:
        for key in stream.keys():  # noqa: SIM118
            if kinds[key].floating and not torch.isfinite(stream.get_tensor(key).reshape(-1)[:_SAMPLE].float()).all():
                wrong.append(key)
    return [f"{path}: {few(wrong)} holds values that are not finite"] if wrong else []


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def removable(spec: ModelSpec) -> list[Path]:
    """The files of a model that was added.

    Raises:
        WeightsError: nothing is there, or the weights came with the model's description and not by ``add``.
    """
    if not spec.folder.is_dir():
        raise WeightsError(f"{spec.label} has no weights in {spec.folder}; there is nothing to remove")
    if not spec.folder.resolve().is_relative_to(weights_home().resolve()):
        raise WeightsError(
            f"{spec.folder} came with the description of {spec.label} and was not added; it is left alone"
        )
    return sorted(path for path in spec.folder.rglob("*") if path.is_file())


def remove(spec: ModelSpec) -> int:
    """Delete a model's weights. Returns the bytes that this frees. Raises WeightsError."""
    removable(spec)
    size = disk_bytes(spec)
    # Out of sight first: a removal that is interrupted leaves no model that looks whole.
    gone = spec.folder.with_name(f".{spec.folder.name}.removed")
    shutil.rmtree(gone, ignore_errors=True)
    spec.folder.rename(gone)
    shutil.rmtree(gone)
    return size
