"""``maquette models add``: published files, checked against the networks here, become a model's folder."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fnmatch import fnmatchcase
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
from torch import Tensor, nn

from ...catalogue.models import ModelSpec
from .component import Component, WeightsError, components
from .finding import FoundFiles, find
from .gguf_files import PART as TRANSFORMER
from .gguf_files import keep as keep_gguf
from .gguf_files import named, shape_of, tensors
from .missing import Missing, missing_report
from .reading import is_gguf, read_state
from .recognising import differences, few, recognise
from .writing import DTYPES, MOST_BYTES, stored_bytes, write_weights

RECORD = "maquette.json"
"""Beside each part: what it was made of, and what was written."""

Log = Callable[[str], None]


def add(
    spec: ModelSpec,
    folders: Sequence[Path],
    *,
    only: Sequence[str] = (),
    dtype: str = "keep",
    force: bool = False,
    log: Log = print,
    most_bytes: int = MOST_BYTES,
) -> list[str]:
    """Bring a model's weights in, all or nothing.

    Args:
        spec: ``folder`` is where they go.
        folders: where the published files lie; a GGUF file among them takes the place of the transformer's.
        only: names of parts; all of them by default.
        dtype: ``keep``, ``fp16``, ``bf16`` or ``fp32`` for floating-point weights.
        force: replace parts that are there.
        most_bytes: of a shard.

    Returns:
        Names of the parts that were written; those that were there already, from the same files, are not among them.

    Raises:
        Missing: published files that are not in ``folders``, all of them named.
        WeightsError: files of another model, cut short or unsafe; no room; a part that would be replaced.
    """
    parts = components(spec)
    if unknown := sorted(set(only) - set(parts)):
        raise WeightsError(f"--component {unknown[0]}: {spec.label} has {', '.join(parts)}")
    given, searched = _own_file(spec, folders)
    found = find([part for name, part in parts.items() if not only or name in only], searched)
    if given is not None:
        if TRANSFORMER not in {one.component.name for one in found}:
            raise WeightsError(f"{given}: a GGUF file holds a transformer; leave --component out, or name that part")
        found = [_replaced(one, given) if one.component.name == TRANSFORMER else one for one in found]
    wanted = [one for one in found if not one.component.optional or one.component.name in only]
    # A part that was added before need not be found again.
    absent = [one for one in wanted if one.missing and not (one.component.folder(spec) / RECORD).is_file()]
    if absent:
        raise Missing(missing_report(spec, absent, folders))
    for one in found:
        if one.missing and one not in wanted:
            log(f"{one.component.name}: left out, {one.missing[0]} was not found; {spec.label} runs without it")
    todo = [one for one in found if not one.missing and _needs_writing(spec, one, dtype, force, log)]
    if not todo:
        return []
    _check_room(spec.folder, sum(path.stat().st_size for path in {path for one in todo for path in one.weights}))
    for one in todo:
        # All of it before the first byte is written; the tensors are only mapped, so that this is quick.
        if one.weights:
            verified(spec, one, log)
    with _beside(spec.folder) as new:
        for one in todo:
            _write_part(spec, one, new / one.component.name, dtype, log, most_bytes)
        _report_unclaimed(todo, parts, log)
        for one in todo:
            _move_in(new / one.component.name, one.component.folder(spec))
    return [one.component.name for one in todo]


def _own_file(spec: ModelSpec, given: Sequence[Path]) -> tuple[Path | None, list[Path]]:
    """The GGUF file among what was given, and the folders. Raises WeightsError."""
    files = [path for path in given if is_gguf(path)]
    if not files:
        return None, list(given)
    if len(files) > 1:
        raise WeightsError(f"{files[0]} and {files[1]}: {spec.label} has one transformer; give one GGUF file")
    if not files[0].is_file():
        raise WeightsError(f"--from {files[0]}: no such file")
    return files[0], [path for path in given if path != files[0]]


def _replaced(found: FoundFiles, path: Path) -> FoundFiles:
    """A part with this file instead of its published ones."""
    return replace(found, weights=(path,), missing=tuple(p for p in found.missing if p in found.component.copy))


def _needs_writing(spec: ModelSpec, found: FoundFiles, dtype: str, force: bool, log: Log) -> bool:
    """Whether a part has to be made. Raises WeightsError when another is in the way and ``force`` is not given."""
    folder = found.component.folder(spec)
    record = read_record(folder)
    if not folder.exists() or force or not all((folder / name).is_file() for name in record.get("sizes", {})):
        return True
    if record.get("made_of") == _made_of(found, dtype):
        log(f"{found.component.name}: there already, from the same files")
        return False
    raise WeightsError(f"{folder} is there already, from other files; give --force to replace it")


def _made_of(found: FoundFiles, dtype: str) -> dict[str, Any]:
    files = [*found.weights, *found.copies]
    return {"dtype": dtype, "files": [[path.name, path.stat().st_size] for path in files]}


def read_record(folder: Path) -> dict[str, Any]:
    """What was noted when a part was added; empty where nothing was."""
    try:
        return dict(json.loads((folder / RECORD).read_text("utf-8")))
    except (OSError, ValueError):
        return {}


@contextmanager
def _beside(folder: Path) -> Any:
    """A new folder on the same disk, gone at the end whatever happens."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = folder.parent / f".{folder.name}.adding-{os.getpid()}"
    for left in folder.parent.glob(f".{folder.name}.adding-*"):
        # What a process that was killed could not clear away.
        pid = left.name.rpartition("-")[2]
        if not (pid.isdigit() and int(pid) != os.getpid() and psutil.pid_exists(int(pid))):
            shutil.rmtree(left, ignore_errors=True)
    new.mkdir()
    try:
        yield new
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _move_in(new: Path, place: Path) -> None:
    """Put a finished part where it belongs; the one that was there goes only when the new one is in its place."""
    place.parent.mkdir(parents=True, exist_ok=True)
    old = new.with_name(f"{new.name}.old")
    if place.exists():
        os.replace(place, old)
    try:
        os.replace(new, place)
    except OSError:
        if old.exists():
            os.replace(old, place)
        raise


def _write_part(spec: ModelSpec, found: FoundFiles, folder: Path, dtype: str, log: Log, most_bytes: int) -> None:
    component = found.component
    kept = component.keep_dtype or dtype == "keep"
    target_dtype = None if kept else DTYPES[dtype]
    folder.mkdir()
    hashes: dict[str, str] = {}
    if found.weights:
        state, module = verified(spec, found)
        own = is_gguf(found.weights[0])
        size = found.weights[0].stat().st_size if own else stored_bytes(state, target_dtype)
        _check_room(spec.folder, size)
        log(f"{component.name}: {len(state)} tensors, {size / 1e9:.2f} GB, from {few(p.name for p in found.weights)}")
        if own:
            hashes = keep_gguf(found.weights[0], folder / f"{component.weights_name}.gguf", state)
        else:
            hashes = write_weights(state, folder, component.weights_name, target_dtype, most_bytes)
        if module is not None or component.config is not None:
            (folder / "config.json").write_text(_config(spec, component, module), "utf-8")
    for path, target in found.copies.items():
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / target)
    record = {
        "made_of": _made_of(found, dtype),
        "sha256": hashes,
        "sizes": {str(p.relative_to(folder)): p.stat().st_size for p in sorted(folder.rglob("*")) if p.is_file()},
        "maquette": _version(),
    }
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", "utf-8")


def _version() -> str:
    try:
        return metadata.version("maquette")
    except metadata.PackageNotFoundError:
        return ""


def _check_room(folder: Path, size: int) -> None:
    parent = next(path for path in folder.absolute().parents if path.is_dir())
    free = shutil.disk_usage(parent).free
    if size > free:
        raise WeightsError(
            f"{folder}: {size / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free; make room on that disk, or "
            "name a folder on another by --to"
        )


def verified(
    spec: ModelSpec, found: FoundFiles, tell: Log = lambda _: None
) -> tuple[Mapping[str, Tensor], nn.Module | None]:
    """The converted state dict of a part, every key and shape of it right, and its network on the meta device.

    Args:
        tell: given a sentence about what else the files hold.

    Raises:
        WeightsError: it is not; counts and names of what is wrong, and what the file seems to be instead.
    """
    component = found.component
    where = few(str(path) for path in found.weights)
    if found.weights and is_gguf(found.weights[0]):
        published = tensors(found.weights[0])
        module = component.module(spec)
        try:
            state = named(published, module)
        except WeightsError as error:
            raise WeightsError(f"{where}: {_not_this(component, published)}: {error}") from error
        return _held_against(component, module, state, published, where), module
    published = read_state(found.weights, tell)
    own = {
        key.removeprefix(component.prefix): value
        for key, value in published.items()
        if key.startswith(component.prefix)
    }
    if not published:
        raise WeightsError(f"{where}: holds no tensors; take another file")
    if not own:
        why = f"none of its {len(published)} keys begins with {component.prefix!r} ({few(published)})"
        raise WeightsError(f"{where}: {_not_this(component, published)}: {why}")
    try:
        state = dict(component.convert(own) if component.convert is not None else own)
    except (LookupError, ValueError, RuntimeError, TypeError, AttributeError) as error:
        raise WeightsError(f"{where}: {_not_this(component, published)} ({type(error).__name__}: {error})") from error
    if component.build is None:
        if problems := list(component.verify(spec, state) if component.verify is not None else ()):
            raise WeightsError(f"{where}: {'; '.join(problems)}")
        return state, None
    module = component.module(spec)
    return _held_against(component, module, state, published, where), module


def _held_against(
    component: Component, module: nn.Module, state: dict[str, Tensor], published: Mapping[str, Tensor], where: str
) -> dict[str, Tensor]:
    """The state without what is not needed. Raises WeightsError where its keys and shapes are not the network's."""
    expected = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    state = {key: value for key, value in state.items() if key in expected or not component.drops(key)}
    missing, unexpected, shapes = differences(expected, {key: shape_of(value) for key, value in state.items()})
    missing = [key for key in missing if not component.lacks(key)]
    if missing or unexpected or shapes:
        counts = [
            f"{len(names)} {words} ({few(names)})"
            for names, words in ((missing, "missing"), (unexpected, "unexpected"), (shapes, "of another shape"))
            if names
        ]
        raise WeightsError(f"{where}: {_not_this(component, published)}: of {len(expected)} keys, {', '.join(counts)}")
    return state


def _not_this(component: Component, published: Mapping[str, Any]) -> str:
    looks = recognise(published)
    return f"not the {component.name} that is wanted here" + (f"; these look like keys of {looks}" if looks else "")


def _config(spec: ModelSpec, component: Component, module: nn.Module | None) -> str:
    """What ``from_pretrained`` reads."""
    if component.config is not None:
        name = {} if module is None else {"_class_name": type(module).__name__}
        return json.dumps({**name, **component.config(spec)}, indent=2, sort_keys=True) + "\n"
    assert module is not None
    to_json: Any = getattr(module, "to_json_string", None)
    if to_json is not None:
        return str(to_json())
    config: Any = module.config
    config.architectures = [type(module).__name__]
    return str(config.to_json_string())


def _report_unclaimed(todo: Sequence[FoundFiles], parts: Mapping[str, Component], log: Log) -> None:
    """Tell of keys in a shared file that none of its parts takes; they change nothing."""
    for path in dict.fromkeys(path for one in todo for path in one.weights if one.component.prefix):
        prefixes = {c.prefix for c in parts.values() if any(_shares(path, pattern) for pattern in c.published)}
        left = [key for key in read_state([path]) if not key.startswith(tuple(prefixes))]
        if left:
            log(f"{path.name}: {len(left)} keys are of no use here ({few(left)})")


def _shares(path: Path, pattern: str) -> bool:
    return fnmatchcase(path.name, pattern.rpartition("/")[2])
