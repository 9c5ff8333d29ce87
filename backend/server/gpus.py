"""Which GPUs engines run on (no torch here)."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys

_ORDER = {"CUDA_DEVICE_ORDER": os.environ.get("CUDA_DEVICE_ORDER", "PCI_BUS_ID")}
"""As nvidia-smi counts them."""

_ASK = """
import json, torch
print(json.dumps([torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]))
"""


def gpu_numbers(text: str) -> tuple[tuple[int, ...], ...]:
    """The GPUs of each engine in ``0+1,3``, each once. Raises argparse.ArgumentTypeError."""
    try:
        engines = tuple(tuple(int(part) for part in engine.split("+")) for engine in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no list of GPUs' numbers such as 0,1,3 or 0+1,2+3") from None
    numbers = [number for engine in engines for number in engine]
    if any(number < 0 for number in numbers):
        raise argparse.ArgumentTypeError(f"'{text}': GPUs are counted from 0")
    if len(set(numbers)) < len(numbers):
        raise argparse.ArgumentTypeError(f"'{text}' names a GPU twice; each belongs to one engine")
    return engines


def missing_gpus(wanted: tuple[tuple[int, ...], ...], names: list[str] | None = None) -> str:
    """What is wrong with the choice, and what would do; empty when all are here.

    Args:
        names: of the GPUs that are here; None to ask torch.
    """
    names = _names() if names is None else names
    if names is None:
        return "--gpus: torch cannot say which GPUs are here; 'maquette doctor' tells why."
    missing = ", ".join(str(number) for engine in wanted for number in engine if number >= len(names))
    if not missing:
        return ""
    if not names:
        return (
            f"--gpus {missing}: torch reaches no GPU here; 'maquette doctor' tells why. Without --gpus the processor "
            "is used, by as many engines as --workers says."
        )
    here = ", ".join(f"{number} ({name})" for number, name in enumerate(names))
    return f"--gpus {missing}: there is no such GPU. Here are {here}."


def see_only(gpu: int) -> None:
    """Hide all other GPUs from this process, before torch is imported; none of their memory is touched then."""
    seen = [part for part in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if part]
    os.environ["CUDA_VISIBLE_DEVICES"] = seen[gpu] if gpu < len(seen) else str(gpu)
    os.environ.update(_ORDER)


def _names() -> list[str] | None:
    # In a process of its own: the server keeps neither torch nor any GPU.
    done = subprocess.run(
        [sys.executable, "-c", _ASK], env={**os.environ, **_ORDER}, capture_output=True, text=True, check=False
    )
    try:
        return json.loads(done.stdout)
    except ValueError:
        return None
