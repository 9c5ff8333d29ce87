"""Kill the server, then its engines, in the middle of work; every job must end once, with a whole result.

python bench/backend_kills.py [--server 100] [--engine 50] [--seed 0]
"""

from __future__ import annotations

import argparse
import collections
import os
import random
import signal
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from maquette.tests.server.harness import ALICE, Server, save_shot, until


def main() -> int:
    """Returns 1 when a job was lost, done twice, or its result is damaged."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", type=int, default=100, help="kills of the server")
    parser.add_argument("--engine", type=int, default=50, help="kills of the engines' process")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder), "--max-queue", "2000")
        server.start()
        # A hundredth of a second a step: a job is a good part of the time between two kills.
        shot = save_shot(Path(folder) / "a.shot", "wait=0.02", steps=20)
        sent: list[str] = []

        def send(count: int) -> None:
            with server.client() as client:
                sent.extend(client.submit(shot, key=f"upload-{len(sent):08d}").id for _ in range(count))

        began = time.monotonic()
        for kill in range(args.server):
            # The job that the last kill interrupted ends first: three such ends are a job's limit.
            before = _begun(server)
            send(3)
            until(lambda b=before: _begun(server) >= b + 2, 120, "the next job begins")
            time.sleep(rng.uniform(0.0, 0.5))
            server.stop(signal.SIGKILL)
            server.start()
            _say("server", kill, args.server, began)
        killed = 0
        _all_end(server)
        while killed < args.engine:
            # One kill a job: three are its limit, and would fail it.
            before = _begun(server)
            send(1)
            until(lambda b=before: _begun(server) > b, 120, "it begins")
            time.sleep(rng.uniform(0.0, 0.3))
            try:
                os.kill(server.engine_pid(), signal.SIGKILL)
                killed += 1
                _say("engine", killed - 1, args.engine, began)
            except ProcessLookupError:
                pass
            _all_end(server)
        _all_end(server)
        with server.client() as client:
            jobs = {job.id: job for job in client.jobs()}
            bad = [job.id for job in jobs.values() if job.status == "completed" and not _whole(server, job.id)]
        states = collections.Counter(
            f"{job.status} {job.error.code if job.error else ''}".strip() for job in jobs.values()
        )
        server.stop()
        lost, more = set(sent) - set(jobs), set(jobs) - set(sent)
        aside = len(list((server.data / "set-aside").iterdir())) if (server.data / "set-aside").exists() else 0
    print(f"{args.server} kills of the server, {args.engine} of an engine, {time.monotonic() - began:.0f} s")
    print(f"{len(sent)} jobs: {len(lost)} lost, {len(more) + len(sent) - len(set(sent))} doubled, {len(bad)} damaged")
    print(f"they ended as {dict(states)}; folders set aside: {aside}")
    return int(bool(lost or more or bad or len(sent) != len(set(sent)) or states["completed"] != len(sent)))


def _begun(server: Server) -> int:
    return sum(line.startswith("begin ") for line in server.noted())


def _all_end(server: Server) -> None:
    with server.client() as client:
        until(lambda: client.health()["queue"] == 0, 1800, "all jobs end")


def _whole(server: Server, job: str) -> bool:
    with server.client(ALICE) as client, tempfile.TemporaryDirectory() as folder:
        film = client.download(job, Path(folder) / "a.mp4").read_bytes()
        with zipfile.ZipFile(client.download(job, Path(folder) / "a.zip", "frames")) as frames:
            return b"moov" in film and frames.testzip() is None and len(frames.namelist()) == 5


def _say(what: str, number: int, most: int, began: float) -> None:
    if (number + 1) % 10 == 0:
        print(f"{what}: {number + 1} of {most} kills, {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
