"""Connections whose every wait has an end. The time-out of ``requests`` begins anew with each byte, so that a peer who
sends one now and then would hold a request for ever."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import weakref
from typing import Any

from requests.adapters import HTTPAdapter


class WatchedAdapter(HTTPAdapter):
    """An adapter for one thread's requests that cuts its connections when their time is over.

    Attributes:
        late: whether that has happened to the request under way.
    """

    def __init__(self) -> None:
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._changed = threading.Condition()
        self._end: float | None = None
        self._thread: threading.Thread | None = None
        self.late = False
        super().__init__()

    def allow(self, seconds: float | None) -> None:
        """What is under way may take so long from now; None for as long as it likes."""
        with self._changed:
            self.late = False
            self._end = None if seconds is None else time.monotonic() + seconds
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, daemon=True)
                self._thread.start()
            self._changed.notify()

    def close(self) -> None:
        """End the watch with the connections."""
        with self._changed:
            thread, self._thread = self._thread, None
            self._changed.notify()
        if thread is not None:
            thread.join()
        super().close()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        """See HTTPAdapter."""
        super().init_poolmanager(*arguments, **options)
        self._watch_pools(self.poolmanager)

    def proxy_manager_for(self, *arguments: Any, **options: Any) -> Any:
        """See HTTPAdapter."""
        manager = super().proxy_manager_for(*arguments, **options)
        self._watch_pools(manager)
        return manager

    def _watch_pools(self, manager: Any) -> None:
        manager.pool_classes_by_scheme = {
            scheme: _watched(pool, self._sockets) for scheme, pool in manager.pool_classes_by_scheme.items()
        }

    def _watch(self) -> None:
        with self._changed:
            while self._thread is threading.current_thread():
                left = None if self._end is None else self._end - time.monotonic()
                if left is not None and left <= 0:
                    self.late, self._end = True, None
                    for each in list(self._sockets):
                        # One that is closed already has nothing to wait for.
                        with contextlib.suppress(OSError):
                            each.shutdown(socket.SHUT_RDWR)
                    continue
                self._changed.wait(left)


def _watched(pool: Any, sockets: weakref.WeakSet[socket.socket]) -> Any:
    """``pool``, whose connections keep their sockets in ``sockets``."""

    class Connection(pool.ConnectionCls):
        def connect(self) -> None:
            super().connect()
            if self.sock is not None:
                sockets.add(self.sock)

    if getattr(pool.ConnectionCls, "watched", False):
        return pool
    Connection.watched = True
    return type(pool.__name__, (pool,), {"ConnectionCls": Connection})
