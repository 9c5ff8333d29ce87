"""Many clients at once: how long health and a page of the list take, and whether everybody gets a turn.

python bench/backend_load.py [--clients 50] [--jobs 1000] [--streams 50] [--seconds 20]
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import requests
from maquette.tests.server.harness import Server, save_shot


def main() -> int:
    """Returns 1 when health is slower than 50 ms (95 of 100) or 500 ms (all), or a page than 200 ms."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("clients", 50), ("jobs", 1000), ("streams", 50), ("seconds", 20)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        Server(Path(folder), "--max-queue", str(100 * (args.clients + 1) + args.jobs)) as server,
    ):
        shot = save_shot(Path(folder) / "a.shot", "wait=0.02", steps=5).read_bytes()
        clients = [str(uuid.uuid4()) for _ in range(args.clients)]
        first = str(uuid.uuid4())
        health: list[float] = []
        over = threading.Event()
        threads = [threading.Thread(target=_ask_health, args=(server, health, over))]
        threads += [
            threading.Thread(target=_send, args=(server, who, shot, args.jobs // args.clients)) for who in clients
        ]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads[1:]:
            thread.join()
        sent = time.monotonic() - began
        streams = [
            threading.Thread(target=_follow, args=(server, who, over), daemon=True) for who in clients[: args.streams]
        ]
        for stream in streams:
            stream.start()
        _send(server, first, shot, 100)
        pages = []
        end = time.monotonic() + args.seconds
        while time.monotonic() < end:
            pages.append(_timed(server, "/v1/videos?limit=100", first)[0])
            time.sleep(0.1)
        over.set()
        threads[0].join()
        served = sum(len(_timed(server, "/v1/videos", who)[1]["data"]) > 0 for who in clients)
        started = [
            any(job["status"] != "queued" for job in _timed(server, "/v1/videos", who)[1]["data"]) for who in clients
        ]
    p95, worst = np.percentile(health, 95) * 1000, max(health) * 1000
    page = np.percentile(pages, 95) * 1000
    print(
        f"{args.clients} clients sent {args.jobs} jobs in {sent:.1f} s; "
        f"{len(streams)} event streams; {served} have jobs"
    )
    print(f"health, {len(health)} times: p95 {p95:.0f} ms, longest {worst:.0f} ms; a page of 100: p95 {page:.0f} ms")
    print(f"{sum(started)} of {args.clients} clients had a job begun")
    return int(p95 > 50 or worst > 500 or page > 200)


def _ask_health(server: Server, seconds: list[float], over: threading.Event) -> None:
    with requests.Session() as session:
        while not over.wait(0.05):
            began = time.perf_counter()
            session.get(server.address + "/v1/health", timeout=60)
            seconds.append(time.perf_counter() - began)


def _send(server: Server, who: str, shot: bytes, count: int) -> None:
    with requests.Session() as session:
        for _ in range(count):
            answer = session.post(
                server.address + "/v1/videos",
                files={"shot": ("a.shot", shot)},
                headers=server.headers(who),
                timeout=300,
            )
            assert answer.status_code == 201, answer.text


def _follow(server: Server, who: str, over: threading.Event) -> None:
    job = _timed(server, "/v1/videos?limit=1", who)[1]["data"][0]["id"]
    # The server's end may come before the next event.
    with (
        contextlib.suppress(requests.RequestException),
        requests.get(
            f"{server.address}/v1/videos/{job}/events", headers=server.headers(who), stream=True, timeout=60
        ) as answer,
    ):
        for _ in answer.iter_lines():
            if over.is_set():
                return


def _timed(server: Server, path: str, who: str) -> tuple[float, Any]:
    began = time.perf_counter()
    answer = requests.get(server.address + path, headers=server.headers(who), timeout=60).json()
    return time.perf_counter() - began, answer


if __name__ == "__main__":
    sys.exit(main())
