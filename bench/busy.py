"""Nano generation on idle cores and beside busy ones, as Blender keeps them, in the same run.

    .venv/bin/python bench/busy.py [--rounds 3] [--busy 0 1 2] [--json OUT]

``sleeping`` is the backend as it runs (``share_cores``): torch's threads sleep while they wait for one another.
``spinning`` is torch left alone. ``reference`` is as many threads as there are cores, which never wait for one another:
its loss beside a busy core is that core's own share. Everything is measured in turn in every round; each
figure is the least of the rounds, each ratio that to the same on idle cores.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from maquette.backend.models.threads import share_cores
from tqdm import tqdm

FRAMES, SIZE, STEPS = 5, 128, 4
CORES = os.cpu_count() or 1
BUSY = [sys.executable, "-c", "while True: pass"]


class GenerationProcess:
    """A process that has nano loaded and makes a small film when it is told to."""

    def __init__(self, share: bool) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
        if share:
            share_cores(environment)
        command = [sys.executable, __file__, "--worker"]
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self) -> float:
        """Seconds of one generation."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print(file=self._process.stdin, flush=True)
        return float(self._process.stdout.readline())

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def work() -> int:
    """Be the process of a ``GenerationProcess``: for every line that comes in, the seconds of one."""
    from dataclasses import replace

    from maquette.backend.catalogue.models import DEFAULT_MODEL
    from maquette.backend.models.engine import load_engine
    from nano_generation import example_shot

    engine = load_engine(DEFAULT_MODEL, "cpu")
    shot = example_shot(FRAMES, SIZE, 512)
    shot = replace(shot, settings=replace(shot.settings, steps=STEPS, width=SIZE, height=SIZE))
    answers, sys.stdout = sys.stdout, sys.stderr
    for _ in sys.stdin:
        start = time.perf_counter()
        engine.generate(shot, lambda _: None, lambda: False)
        print(time.perf_counter() - start, file=answers, flush=True)
    return 0


def reference() -> float:
    """Seconds of one fixed piece of work on every core at once."""
    data = bytes(64 << 20)
    start = time.perf_counter()
    with ThreadPoolExecutor(CORES) as pool:
        list(pool.map(lambda _: hashlib.sha256(data).digest(), range(4 * CORES)))
    return time.perf_counter() - start


@contextmanager
def busy_cores(count: int) -> Iterator[None]:
    """Inside, ``count`` other processes use a core each."""
    processes = [subprocess.Popen(BUSY) for _ in range(count)]
    try:
        time.sleep(0.3)
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="time of nano generation beside busy cores")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 1, 2], help="busy cores; the first is the yardstick")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        return work()

    generations = {"sleeping": GenerationProcess(share=True), "spinning": GenerationProcess(share=False)}
    measured = {"reference": reference, **generations}
    try:
        for generation in generations.values():
            generation()  # loads
        seconds = {name: dict.fromkeys(arguments.busy, float("inf")) for name in measured}
        with tqdm(total=arguments.rounds * len(arguments.busy) * len(measured), desc="measuring") as bar:
            for _ in range(arguments.rounds):
                for count in arguments.busy:
                    with busy_cores(count):
                        for name, measure in measured.items():
                            seconds[name][count] = min(seconds[name][count], measure())
                            bar.update()
    finally:
        for generation in generations.values():
            generation.close()
    first = arguments.busy[0]
    figures = {
        "frames": FRAMES,
        "size": SIZE,
        "steps": STEPS,
        "cores": CORES,
        "seconds": {name: {n: round(s, 2) for n, s in of.items()} for name, of in seconds.items()},
        "ratio_to_idle": {name: {n: round(s / of[first], 2) for n, s in of.items()} for name, of in seconds.items()},
        "spinning_to_sleeping": {n: round(seconds["spinning"][n] / seconds["sleeping"][n], 2) for n in arguments.busy},
    }
    print(json.dumps(figures, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
