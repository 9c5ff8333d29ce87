"""Where a model runs and in which precision."""

from __future__ import annotations

import torch


def choose_device(wanted: str | None) -> torch.device:
    """The device asked for, or a GPU where there is one."""
    return torch.device(wanted or ("cuda" if torch.cuda.is_available() else "cpu"))


def choose_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 on GPUs and on CPUs that compute in it, else float32."""
    if device.type == "cuda":
        return torch.bfloat16
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return torch.bfloat16 if device.type == "cpu" and native() else torch.float32


def choose_svd_dtype(device: torch.device) -> torch.dtype:
    """Half precision on a GPU, in which Stable Video Diffusion is published; a CPU has no fast one of its range."""
    return torch.float16 if device.type == "cuda" else torch.float32
