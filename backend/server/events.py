"""A job as it goes on, for those who follow it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace

from anyio import CapacityLimiter, to_thread
from sse_starlette import ServerSentEvent

from ..wire import JOB_EVENT, JobView
from .job_row import JobRow
from .jobs import JobStore

_FOLLOWING = CapacityLimiter(8)
"""Threads that read the store for those who follow jobs: the other requests have theirs."""

_FOLLOW_SECONDS, _MOST_SECONDS = 0.2, 2.0
"""Who follows a waiting job hears of its place no more often: so many seconds a place, and at most so many."""


async def follow(store: JobStore, job: JobRow) -> AsyncIterator[ServerSentEvent]:
    """The job now and after each change, until it has ended or is deleted."""
    loop = asyncio.get_running_loop()
    changed = asyncio.Event()

    def wake() -> None:
        # The loop is closed while the server stops.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(changed.set)

    unsubscribe = store.subscribe(wake, job.id)
    last: JobView | None = None

    def look() -> JobView | None:
        now = store.get(job.id)
        return None if now is None else store.view(now)

    try:
        while True:
            changed.clear()
            view = await to_thread.run_sync(look, limiter=_FOLLOWING)
            if view is None:
                return
            # The time left runs down by itself and is no news.
            news = replace(view, eta_seconds=None)
            if news != last:
                last = news
                yield ServerSentEvent(data=json.dumps(view.to_json()), event=JOB_EVENT)
            if view.ended:
                return
            if view.queue_position:
                await asyncio.sleep(min(_FOLLOW_SECONDS * view.queue_position, _MOST_SECONDS))
            await changed.wait()
    finally:
        unsubscribe()
