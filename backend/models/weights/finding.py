"""Find published files in folders that somebody downloaded to (no torch here)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from ...catalogue.models import ModelSpec, WeightsSource
from .component import Component, WeightsError
from .reading import missing_shards

_DEPTH = 4
"""Folders between the one that is named and the files: enough for a hub's cache (models--a--b/snapshots/hash/...)."""


@dataclass(frozen=True)
class FoundFiles:
    """The published files of one part.

    Attributes:
        weights: one file or its shards.
        copies: file -> path below the part's folder.
        missing: patterns of files that are not there and have to be; shards by name.
    """

    component: Component
    weights: tuple[Path, ...] = ()
    copies: dict[Path, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()


def find(components: Iterable[Component], folders: Sequence[Path]) -> list[FoundFiles]:
    """Look for every part in ``folders``, the first folder first.

    Raises:
        WeightsError: a folder that is not there, or two files that could be meant.
    """
    for folder in folders:
        if not folder.is_dir():
            raise WeightsError(f"--from {folder}: no such folder")
    components = list(components)
    patterns = {pattern for c in components for pattern in (*c.published, *c.copy)}
    return [_find_one(component, folders, patterns) for component in components]


def _find_one(component: Component, folders: Sequence[Path], patterns: set[str]) -> FoundFiles:
    weights: tuple[Path, ...] = ()
    missing: list[str] = []
    others = patterns - {*component.published, *component.copy}
    for pattern in component.published:
        if weights := tuple(_search(pattern, folders, others)):
            break
    if component.published and not weights:
        missing.append(component.published[0])
    missing += [str(path) for path in missing_shards(weights)]
    copies: dict[Path, str] = {}
    for pattern, target in component.copy.items():
        paths = _search(pattern, folders, others)
        if not paths and pattern not in component.copy_optional:
            missing.append(pattern)
        if len(paths) > 1 and not target.endswith("/"):
            raise WeightsError(
                f"{paths[0]} and {paths[1]}: only one {pattern} is wanted; name its own folder by --from"
            )
        copies.update({path: target + path.name if target.endswith("/") else target for path in paths})
    return FoundFiles(component, weights, copies, tuple(missing))


def _search(pattern: str, folders: Sequence[Path], others: set[str]) -> list[Path]:
    """Files that match, all of one folder: by the full pattern, then by ever shorter ends of it."""
    parts = PurePosixPath(pattern).parts
    ends = ["/".join(parts[i:]) for i in range(len(parts))]
    # An end that fits another part's file as well could find that.
    ends = [end for end in ends if end == pattern or not any(_ends_alike(end, other) for other in others)]
    # An end with a wildcard may fit a base model's file: the whole pattern in any folder comes first.
    loose = [end for end in ends if end != pattern and "*" in end]
    for tried in ([end for end in ends if end not in loose], loose):
        for folder in folders:
            for end in tried:
                for depth in range(_DEPTH + 1):
                    if paths := sorted(path for path in folder.glob("*/" * depth + end) if path.is_file()):
                        return _same_folder(paths, end)
    return []


def _ends_alike(end: str, other: str) -> bool:
    count = len(PurePosixPath(end).parts)
    tail = "/".join(PurePosixPath(other).parts[-count:])
    return tail == end or fnmatchcase(tail, end)


def _same_folder(paths: list[Path], pattern: str) -> list[Path]:
    folders = list(dict.fromkeys(path.parent for path in paths))
    if len(folders) > 1:
        raise WeightsError(
            f"{pattern} is both in {folders[0]} and in {folders[1]}; give the folder that is meant as --from"
        )
    return paths


def source_of(spec: ModelSpec, component: Component, pattern: str) -> WeightsSource | None:
    """Where a file is published, as the model's description says."""
    name = PurePosixPath(pattern).name
    own = [source for source in spec.sources if source.component == component.name]
    for source in (*own, *spec.sources):
        for file in source.files:
            tail = PurePosixPath(file).name
            if fnmatchcase(file, pattern) or fnmatchcase(pattern, file) or fnmatchcase(name, tail):
                return source
    return own[0] if own else None
