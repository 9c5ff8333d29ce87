"""Groups of processes on this computer, forked from the test's own so that nothing is imported again."""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from maquette.backend.models.group import Group, here, join


def in_group(size: int, folder: Path, work: Callable[[Group], Any]) -> list[Any]:
    """What ``work`` gives in each member of a new group of processes."""
    context: Any = multiprocessing.get_context("fork")
    store = f"file://{folder / f'store-{size}'}"
    pipes = [context.Pipe(duplex=False) for _ in range(size)]
    processes = [
        context.Process(target=_member, args=(rank, size, store, work, pipe[1]), daemon=True)
        for rank, pipe in enumerate(pipes)
    ]
    for process in processes:
        process.start()
    for _, theirs in pipes:
        theirs.close()
    try:
        told = []
        for ours, _ in pipes:
            assert ours.poll(120), "a member does not answer"
            told.append(ours.recv())
    finally:
        for process in processes:
            process.kill()
            process.join()
    errors = [value for fine, value in told if not fine]
    assert not errors, "\n".join(errors)
    return [value for _, value in told]


def _member(rank: int, size: int, store: str, work: Callable[[Group], Any], pipe: Connection) -> None:
    try:
        torch.set_num_threads(1)
        join(rank, size, store)
        pipe.send((True, work(here())))
        dist.barrier()
    except BaseException:
        pipe.send((False, traceback.format_exc()))
