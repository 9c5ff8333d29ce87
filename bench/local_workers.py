"""Engines that share one queue: how much more 2 and 4 of them do than one, and a kill among 200 jobs.

``sleep`` are jobs that wait, as for a GPU: what the queue itself costs. ``nano`` are films of
the embedded model, by the processor, a thread each.

python bench/local_workers.py [--seconds 10] [--jobs 200]      # nano by as many engines as there are cores, at most
python bench/local_workers.py --ray      # what Ray costs a job, where it is installed
"""

from __future__ import annotations

import argparse
import collections
import os
import random
import signal
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

from maquette.backend import shot as shots
from maquette.backend.client import BackendClient
from maquette.tests.server.harness import Server, save_shot, until


def main() -> int:
    """Returns 1 when a job of the killed engine is lost or done twice."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="of work for one engine")
    parser.add_argument("--jobs", type=int, default=200, help="through which an engine is killed")
    parser.add_argument("--ray", action="store_true", help="only compare Ray's actor with the local process")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.ray:
            local, ray = (
                1 / _rate(Path(folder), 1, "", 60, {}, "--executor", executor) for executor in ("local", "ray")
            )
            print(f"a job that takes no time: {local:.3f} s local, {ray:.3f} s by Ray, {ray - local:.3f} s more")
            return int(ray - local > 0.5)
        for kind, prompt, environment, each, most in (
            ("sleep", "wait=0.05", {}, 0.25, 4),
            ("nano", "", {"MAQUETTE_ENGINES": "maquette.backend.server.engines:RegistryEngines"}, 2.0, os.cpu_count()),
        ):
            one = 0.0
            for workers in [count for count in (1, 2, 4) if count <= (most or 1)]:
                place = Path(folder) / f"{kind}-{workers}"
                place.mkdir()
                rate = _rate(place, workers, prompt, max(4, round(args.seconds / each)), environment)
                one = one or rate
                print(f"{kind}: {workers} engines {rate:.2f} jobs/s, {rate / one:.2f} of one", flush=True)
        return _killed(Path(folder), args.jobs)


def _rate(folder: Path, workers: int, prompt: str, count: int, environment: dict[str, str], *more: str) -> float:
    path = save_shot(folder / "a.shot", prompt)
    shot = shots.load_shot(path)
    # As small as it goes: what is measured is how engines share the processor.
    shots.save_shot(replace(shot, settings=replace(shot.settings, width=64, height=64)), path)
    with (
        Server(folder, "--workers", str(workers), "--max-queue", "999", *more, **environment) as server,
        server.client() as client,
    ):
        # Every engine has had a job before the clock starts.
        _send_and_wait(client, [path] * 2 * workers)
        told = [client.job(job) for job in _send_and_wait(client, [path] * count)]
    ends = sorted(job.finished_at or 0.0 for job in told)
    # From the first end on, so that the time that sending takes is not counted.
    return (count - 1) / (ends[-1] - ends[0])


def _send_and_wait(client: BackendClient, paths: list[Path]) -> list[str]:
    jobs = [client.submit(path).id for path in paths]
    until(lambda: client.health()["queue"] == 0, 900, "all end")
    return jobs


def _killed(folder: Path, count: int) -> int:
    rng = random.Random(0)
    place = folder / "killed"
    place.mkdir()
    kills = 0
    with Server(place, "--workers", "2", "--max-queue", "999") as server, server.client() as client:
        sent = [save_shot(place / f"{i}.shot", "wait=0.01", name=f"n{i}") for i in range(count)]
        over = threading.Event()

        def kill() -> None:
            nonlocal kills
            while not over.wait(rng.uniform(1.0, 3.0)):
                try:
                    os.kill(server.engine_pid(), signal.SIGKILL)
                    kills += 1
                except (ProcessLookupError, IndexError):
                    pass

        killer = threading.Thread(target=kill)
        killer.start()
        jobs = _send_and_wait(client, sent)
        over.set()
        killer.join()
        states = collections.Counter(client.job(job).status.value for job in jobs)
        begun = collections.Counter(line.split()[1] for line in server.noted() if line.startswith("begin "))
        log = server.log.read_text()
    lost = count - states["completed"]
    again = sum(times - 1 for times in begun.values())
    twice = sum(log.count(f"{job}: completed") > 1 for job in jobs)
    print(f"{count} jobs, {kills} kills of an engine: {dict(states)}")
    print(f"{lost} lost, {twice} twice, {again} begun again")
    return int(bool(lost or twice or again > kills))


if __name__ == "__main__":
    sys.exit(main())
