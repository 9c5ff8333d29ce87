"""What operators on an entry of a list share."""

from __future__ import annotations

from collections.abc import Sized
from typing import Any


def chosen(operator: Any, entries: Sized, otherwise: int) -> int | None:
    """Index of the entry that the operator's ``index`` names, ``otherwise`` where negative; reports a missing one."""
    index = otherwise if operator.index < 0 else operator.index
    if 0 <= index < len(entries):
        return index
    operator.report({"ERROR"}, f"The list has no entry {index}: it holds {len(entries)}")
    return None
