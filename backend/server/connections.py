"""Connections that cost the server little: so many at a time, and each with an end to its patience."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_SECONDS = 15.0
"""A request's head comes whole in so long."""

UNREAD_SECONDS = 60.0
"""Somebody who takes nothing of an answer for so long has gone."""

MOST = 400
"""Connections at a time; beyond them, those that have waited longest for their next request are closed."""


class PatientProtocol(H11Protocol):
    """uvicorn's, which by itself waits for ever for the rest of a head."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio.Protocol."""
        self._waiting_since = time.monotonic()
        self._patience: asyncio.TimerHandle | None = None
        super().connection_made(transport)
        others: list[Any] = [c for c in self.connections if c is not self and not c.transport.is_closing()]
        if len(others) >= MOST:
            idle = [each for each in others if not each.busy]
            # Where all work, the new one has to go.
            min(idle, key=lambda each: each._waiting_since, default=self).transport.abort()
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        waited = self._patience is not None
        super().data_received(data)
        if self.busy:
            self._stop_waiting()
        elif not waited and not self.transport.is_closing():
            self._await_head()

    def on_response_complete(self) -> None:
        """The next request may follow; uvicorn's own time-out runs until its first byte."""
        self._waiting_since = time.monotonic()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """See asyncio.Protocol: the other side reads slower than is sent."""
        super().pause_writing()
        self._stop_waiting()
        self._patience = self.loop.call_later(UNREAD_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        super().resume_writing()
        self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._stop_waiting()
        super().connection_lost(exc)

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def _await_head(self) -> None:
        self._stop_waiting()
        self._patience = self.loop.call_later(HEADER_SECONDS, self._too_slow)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _too_slow(self) -> None:
        self._patience = None
        if not self.busy:
            self.transport.abort()
