"""Work in threads of Python beside Blender's own.

An operator gives Python's lock away while it runs. Where Blender then finds another thread of Python at work, it
reads an overridden context without the lock, and crashes if that thread stops at this very moment. So captures, which
render in an overridden context, rest while anything is under way here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

_threads: list[threading.Thread] = []


def run(work: Callable[..., Any], *arguments: Any) -> Future[Any]:
    """Do some work in a thread, which must not touch Blender; when Blender ends, it is broken off."""
    future: Future[Any] = Future()

    def body() -> None:
        try:
            future.set_result(work(*arguments))
        except BaseException as error:  # raised again by whoever asks for the result
            future.set_exception(error)

    thread = threading.Thread(target=body, daemon=True)
    _threads.append(thread)
    thread.start()
    return future


def busy() -> bool:
    """Whether any of it is under way."""
    _threads[:] = [thread for thread in _threads if thread.is_alive()]
    return bool(_threads)
