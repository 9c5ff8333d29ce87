"""How torch's threads share the processor with Blender (no torch here: it reads this when it is loaded)."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def share_cores(environment: MutableMapping[str, str] = os.environ, quota: Path = _QUOTA, parts: int = 1) -> None:
    """Let torch's threads sleep while they wait for one another, and be no more than a container may run at once.

    By default OpenMP's threads spin while they wait. Where another program keeps a core busy they then use up the time
    that the thread they wait for needs, and everything takes several times as long. On idle cores spinning gains about
    a tenth (``bench/busy.py``). What the user has set stays. Call before torch is imported; processes that are started
    later inherit it.

    Args:
        environment: variables to set.
        quota: Linux's file of the processor time that a container may use, ``microseconds period``, or ``max period``.
        parts: processes that share the cores.
    """
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    cores = allowed = os.cpu_count() or 1
    try:
        time, period = quota.read_text("ascii").split()
        allowed = max(1, int(time) // int(period))
    except (OSError, ValueError):
        pass  # no container, or one without a quota
    # The process that shares them out may have set its own number already.
    if (allowed < cores or parts > 1) and environment.get("OMP_NUM_THREADS", str(allowed)) == str(allowed):
        environment["OMP_NUM_THREADS"] = str(max(1, allowed // parts))
