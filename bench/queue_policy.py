"""The order in which engines take jobs, on a hundred simulated GPUs: what it is worth that models stay where they are.

Jobs come at random, most of them for a few models; reading a model's weights takes a minute; now and then an engine
dies, its job begins again and its model is gone. ``first`` always takes the first of the queue, ``where loaded`` is the
server's own rule (``backend/server/dispatch.py``), ``own first`` never leaves its model while a job for it waits.

python bench/queue_policy.py [--engines 100] [--jobs 5000] [--seed 0]
"""

from __future__ import annotations

import argparse
import heapq
import random
from collections.abc import Callable, Sequence
from statistics import mean

from maquette.backend.server.dispatch import choose

LOAD = 60.0
"""Seconds that a model's weights take."""

Choice = Callable[[Sequence[str], str, Sequence[tuple[str, bool]]], int | None]


def own_first(queue: Sequence[str], loaded: str, others: Sequence[tuple[str, bool]]) -> int | None:
    """The first job for the model that is loaded, or the first."""
    return next((place for place, model in enumerate(queue) if model == loaded), 0)


def simulate(policy: Choice, engines: int, jobs: int, load: float, seed: int) -> tuple[float, float, float, float]:
    """Seconds that jobs wait, in the mean and the longest; the shares of jobs that read weights, of engines at work."""
    rng = random.Random(seed)
    models = [f"m{i}" for i in range(8)]
    weights = [1 / (i + 1) for i in range(8)]
    # Seconds of a job; those of a model are alike.
    cost = {model: rng.uniform(30, 300) for model in models}
    rate = load * engines / sum(cost[m] * w for m, w in zip(models, weights, strict=True)) * sum(weights)
    events: list[tuple[float, int, str, int]] = []
    now = 0.0
    for job in range(jobs):
        now += rng.expovariate(rate)
        heapq.heappush(events, (now, job, "comes", job))
    wants = rng.choices(models, weights, k=jobs)
    came, waits, loads, worked = {}, [], 0, 0.0
    queue: list[int] = []
    loaded, at_work = [""] * engines, [False] * engines
    count = jobs
    while events:
        now, _, what, number = heapq.heappop(events)
        if what == "comes":
            came.setdefault(number, now)
            queue.append(number)
        else:
            at_work[number] = False
            if what == "dies":
                loaded[number] = ""
        for engine in [i for i in range(engines) if not at_work[i]]:
            others = [(loaded[i], not at_work[i]) for i in range(engines) if i != engine]
            place = policy([wants[job] for job in queue], loaded[engine], others) if queue else None
            if place is None:
                continue
            job = queue.pop(place)
            needed = 0.0 if loaded[engine] == wants[job] else LOAD
            loads += needed > 0
            loaded[engine], at_work[engine] = wants[job], True
            spent = needed + cost[wants[job]] * rng.uniform(0.5, 1.5)
            worked += spent
            count += 1
            if rng.random() < 0.01:
                heapq.heappush(events, (now + spent / 2, count, "dies", engine))
                heapq.heappush(events, (now + spent / 2, -count, "comes", job))
            else:
                waits.append(now - came[job])
                heapq.heappush(events, (now + spent, count, "ends", engine))
    assert len(waits) == jobs, "each job ends once"
    return mean(waits), max(waits), loads / jobs, worked / engines / now


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("engines", 100), ("jobs", 5000), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    policies: dict[str, Choice] = {"first": lambda *_: 0, "where loaded": choose, "own first": own_first}
    print(f"{args.engines} engines, {args.jobs} jobs of 8 models")
    print("load  policy         mean wait  longest  weights read  at work")
    for load in (0.5, 0.8, 0.95):
        for name, policy in policies.items():
            wait, longest, read, busy = simulate(policy, args.engines, args.jobs, load, args.seed)
            print(f"{load:4.2f}  {name:<13} {wait:9.1f} s {longest:7.0f} s {read:12.0%} {busy:8.0%}", flush=True)


if __name__ == "__main__":
    main()
