"""Marks that tie a folder to the configuration of its files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import TrainingError

_NAMED = 6
"""Differences that a message names at most."""


def write_stamp(path: Path, table: Mapping[str, Any]) -> None:
    """Write a mark, whole or not at all; its folder is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(table, indent=1) + "\n", "utf-8")
    os.replace(partial, path)


def read_stamp(path: Path) -> dict[str, Any] | None:
    """The mark at ``path``; None where there is none. Raises TrainingError where it cannot be read."""
    if not path.exists():
        return None
    try:
        table = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingError(f"{path}: not readable ({error}); name another --folder") from error
    if not isinstance(table, dict):
        raise TrainingError(f"{path}: not a table; name another --folder")
    return table


def differences(theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> str:
    """What a folder's entries are where they differ from this run's, in words; empty where they do not differ."""
    there, here = _flat(theirs), _flat(mine)
    found = [
        f"{name} ({there.get(name, 'missing')} there, {here.get(name, 'missing')} here)"
        for name in sorted(there.keys() | here.keys())
        if name not in there or name not in here or there[name] != here[name]
    ]
    more = f", and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return ", ".join(found[:_NAMED]) + more


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` as ``{"a.b": 1}``."""
    flat: dict[str, Any] = {}
    for name, value in table.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat
