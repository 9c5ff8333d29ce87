"""Where a run trains: its device, its precision, and its processes.

A run shares each step among processes: on a CPU several of one thread each, on GPUs one a GPU. It starts them itself,
or is one of those that ``accelerate launch`` or ``torchrun`` started, which the environment (``RANK``,
``WORLD_SIZE``) tells.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..models.device import choose_dtype
from .errors import TrainingError

if TYPE_CHECKING:
    from accelerate import Accelerator

_PATIENCE = timedelta(hours=12)
"""How long a process waits for the others, which may have shots to make or a VAE's statistics to take."""

_told: set[str] = set()


def check_device(device: str) -> torch.device:
    """The device that ``cpu``, ``cuda`` or ``cuda:N`` names. Raises TrainingError where there is none such."""
    try:
        found = torch.device(device)
    except RuntimeError:
        found = None
    if found is None or found.type not in ("cpu", "cuda"):
        raise TrainingError(f"--device {device}: not a device; choose cpu, cuda or cuda:N")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if found.type == "cuda" and (found.index or 0) >= count:
        raise TrainingError(f"--device {device}: this machine has {count or 'no'} GPU(s) that torch can use")
    return found


def in_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether ``LoopConfig.precision`` means bfloat16 on this device."""
    return precision == "bf16" or (precision == "auto" and choose_dtype(device) == torch.bfloat16)


def autocast(device: torch.device, enabled: bool) -> torch.autocast:
    """bfloat16 where it pays; parameters, norms and losses stay float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


def launched() -> bool:
    """Whether this process is one of several that something else started."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def new_accelerator(device: str | torch.device, precision: str = "auto", logs: Path | None = None) -> Accelerator:
    """The device, the processes and the trackers of one loop.

    Args:
        device: ``cpu``, ``cuda`` or ``cuda:N``; where processes share GPUs, each has the one of its number.
        precision: of ``LoopConfig``.
        logs: folder for TensorBoard's curves. Where TensorBoard is not installed, one line says so.
    """
    from accelerate import Accelerator, InitProcessGroupKwargs
    from accelerate.state import AcceleratorState
    from accelerate.utils import is_tensorboard_available

    device = torch.device(device)
    if device.type == "cuda" and device.index is not None and not launched():
        torch.cuda.set_device(device)
    mixed = "bf16" if in_bfloat16(precision, device) else "no"
    # Accelerate keeps one state for the process; the loops of one run may differ in what they compute in.
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(
        cpu=device.type == "cpu",
        mixed_precision=mixed,
        log_with="tensorboard" if logs is not None and is_tensorboard_available() else None,
        project_dir=logs,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=_PATIENCE)],
    )
    if logs is not None and not accelerator.log_with and accelerator.is_main_process and "tensorboard" not in _told:
        _told.add("tensorboard")
        print(
            f"TensorBoard is not installed: no curves in {logs}, only the text logs; pip install 'maquette[train]'",
            file=sys.stderr,
        )
    return accelerator


def processes(device: str, workers: int | None) -> int:
    """How many processes share a step.

    Args:
        device: ``cuda`` means every GPU that there is; ``cuda:N`` one.
        workers: what the user wants; at most so many as there are GPUs. None for one a CPU core (up to 8) or a GPU.
    """
    if launched():
        return int(os.environ["WORLD_SIZE"])
    found = torch.device(device)
    if found.type == "cpu":
        return workers or min(os.cpu_count() or 1, 8)
    gpus = torch.cuda.device_count() if found.index is None else 1
    return min(workers or gpus, gpus)


def run_processes(work: Callable[[Any], bool], argument: Any, count: int) -> bool:
    """Run ``work(argument)`` in ``count`` processes that average their gradients; returns the first one's result.

    In this process alone where ``count`` is 1 or where it is one of several already. SIGTERM and Ctrl-C are passed on
    to the processes, which end their step and write their checkpoint.

    Raises:
        TrainingError: what a process raised.
    """
    if count <= 1 or launched():
        return work(argument)
    import torch.multiprocessing as torch_multiprocessing

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    results = torch_multiprocessing.get_context("spawn").SimpleQueue()
    started: list[int] = []
    asked = False

    def pass_on(number: int = 0, frame: object = None) -> None:
        # SIGTERM even for Ctrl-C: a terminal sends that to all of them itself, and a second one would cut them short.
        nonlocal asked
        asked = True
        for pid in started:
            try:
                os.kill(pid, signal.SIGTERM)
            except ProcessLookupError:
                pass

    watch = threading.current_thread() is threading.main_thread()
    before = {n: signal.signal(n, pass_on) for n in (signal.SIGINT, signal.SIGTERM)} if watch else {}
    try:
        context = torch_multiprocessing.spawn(_enter, (work, argument, count, port, results), nprocs=count, join=False)
        assert context is not None
        started.extend(context.pids())
        if asked:
            pass_on()
        while not context.join():
            pass
    except torch_multiprocessing.ProcessRaisedException as error:
        if not results.empty() and isinstance(told := results.get(), str):
            raise TrainingError(told) from error
        raise
    except torch_multiprocessing.ProcessExitedException as error:
        if asked:  # before there was a step to end
            raise KeyboardInterrupt from error
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if results.empty():  # Ctrl-C before there was a step to end
        raise KeyboardInterrupt
    return results.get()


def first_alone(device: str, work: Callable[[], object]) -> None:
    """Do ``work`` in the first process that something else started, while the others wait; at once in any other."""
    if not launched():
        work()
        return
    accelerator = new_accelerator(device, "no")
    if accelerator.is_main_process:
        work()
    accelerator.wait_for_everyone()


def _enter(rank: int, work: Callable[[Any], bool], argument: Any, count: int, port: int, results: Any) -> None:
    """One of the processes that ``run_processes`` starts; it finds the others as one of ``torchrun`` would."""
    torch.set_num_threads(1)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(count),
        LOCAL_WORLD_SIZE=str(count),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        OMP_NUM_THREADS="1",
    )
    try:
        done = work(argument)
        if rank == 0:
            results.put(done)
    except ValueError as error:
        results.put(str(error))
        raise
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def _leave_with_parent() -> None:
    """End this process when the command that started it is gone, so that a killed run leaves nothing behind."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
