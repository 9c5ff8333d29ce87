"""What people are told about a model's files: what is missing, where it is published, what it takes (no torch here)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ...catalogue.models import ModelSpec, WeightsSource
from .component import WeightsError
from .finding import FoundFiles, source_of
from .sizes import gpu_gigabytes


class Missing(WeightsError):
    """Published files that are not there.

    Attributes:
        lines: all of it for people; the message is the first.
    """

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__(lines[0])
        self.lines = tuple(lines)


def where_published(source: WeightsSource) -> str:
    """``owner/name (license, 14.3 GB)`` and what one must know."""
    said = f"{source.repository} ({source.license}, {source.gigabytes:g} GB)"
    return f"{said}; {source.note}" if source.note else said


def missing_report(spec: ModelSpec, absent: Iterable[FoundFiles], folders: Sequence[Path]) -> list[str]:
    """Each missing file, where it is published, under which licence and how large, and what the whole takes."""
    lines = []
    for found in absent:
        for pattern in found.missing:
            source = source_of(spec, found.component, pattern)
            line = f"  {found.component.name}: {pattern}"
            lines.append(line if source is None else f"{line}, published by {where_published(source)}")
            others = [p for p in found.component.published if p != pattern] if not found.weights else []
            if others:
                lines[-1] += f" (or {', or '.join(others)})"
    looked = ", ".join(map(str, folders))
    count = len(lines)
    head = f"{spec.label} cannot be added: {count} file{'s' * (count != 1)} not found in {looked}; nothing was written"
    return [head, *lines, *needs(spec)]


def needs(spec: ModelSpec) -> list[str]:
    """Room on disk, and memory, as far as the model's description says."""
    disk = sum(source.gigabytes for source in spec.sources if not source.optional)
    lines = []
    if disk:
        lines.append(
            f"  In all {disk:.1f} GB are to be fetched, and as much room again is needed in {spec.folder.parent}"
        )
    if memory := memory_words(spec):
        lines.append(f"  {memory}")
    return lines


def memory_words(spec: ModelSpec) -> str:
    """``Runs in 28 GB of GPU memory at full speed, and in 9 GB by moving weights to and fro``, or empty."""

    sizes = gpu_gigabytes(spec)
    if sizes is None:
        return ""
    full, least = sizes
    size = f"{spec.defaults.frames} frames of {spec.defaults.width} x {spec.defaults.height}"
    said = f"An estimated {full:.0f} GB of GPU memory at full speed for {size}"
    return f"{said}, {least:.0f} GB at the least by moving weights to and fro" if least < full - 0.5 else said
