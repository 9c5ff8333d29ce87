"""What operators answer: why they cannot be pressed, why nothing was done, and what else there is to say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sized
from functools import wraps
from typing import Any

Execute = Callable[[Any, Any], set[str]]


def possible(operator: Any, can: object, otherwise: str) -> bool:
    """Whether an operator can be pressed; where not, its button says why. The answer of a ``poll``."""
    if not can:
        operator.poll_message_set(otherwise)
    return bool(can)


def refused(operator: Any, why: object) -> set[str]:
    """Report why nothing was done; the answer of an ``execute``."""
    operator.report({"ERROR"}, str(why))
    return {"CANCELLED"}


def refusing(*errors: type[Exception]) -> Callable[[Execute], Execute]:
    """Decorates an ``execute`` that does nothing, and says why, where one of these errors is raised."""

    def decorated(execute: Execute) -> Execute:
        @wraps(execute)
        def guarded(self: Any, context: Any) -> set[str]:
            try:
                return execute(self, context)
            except errors as error:
                return refused(self, error)

        return guarded

    return decorated


def tell(operator: Any, notes: Iterable[str], level: str = "INFO") -> None:
    """Report sentences, each by itself."""
    for note in notes:
        operator.report({level}, note)


def chosen(operator: Any, entries: Sized, otherwise: int) -> int | None:
    """Index of the entry that the operator's ``index`` names, ``otherwise`` where negative; reports a missing one."""
    index = otherwise if operator.index < 0 else operator.index
    if 0 <= index < len(entries):
        return index
    operator.report({"ERROR"}, f"The list has no entry {index}: it holds {len(entries)}")
    return None
