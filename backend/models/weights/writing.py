"""Write safetensors one tensor after another, so that a model larger than the memory can be rewritten."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from .component import WeightsError

MOST_BYTES = 5 * 10**9
"""Of a shard."""

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}

_NAMES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2", torch.int64: "I64", torch.int32: "I32",
    torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


def stored_dtype(tensor: Tensor, dtype: torch.dtype | None) -> torch.dtype:
    """What a tensor is stored as when floating-point ones become ``dtype``."""
    return dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype


def stored_bytes(state: Mapping[str, Tensor], dtype: torch.dtype | None) -> int:
    """Bytes of the weights as they will be stored."""
    return sum(tensor.numel() * stored_dtype(tensor, dtype).itemsize for tensor in state.values())


def write_weights(
    state: Mapping[str, Tensor],
    folder: Path,
    stem: str,
    dtype: torch.dtype | None = None,
    most_bytes: int = MOST_BYTES,
    on_bytes: Callable[[int], None] = lambda _: None,
) -> dict[str, str]:
    """Write ``stem.safetensors``, or shards of it with their index where it is larger than ``most_bytes``.

    Args:
        dtype: what floating-point tensors become; None leaves them.
        on_bytes: told what each tensor added.

    Returns:
        SHA-256 of each file by name.

    Raises:
        WeightsError: values that are not finite, or that ``dtype`` cannot hold. OSError: the disk.
    """
    shards: list[dict[str, Tensor]] = [{}]
    filled = 0
    for key in sorted(state):
        size = stored_bytes({key: state[key]}, dtype)
        if shards[-1] and filled + size > most_bytes:
            shards.append({})
            filled = 0
        shards[-1][key] = state[key]
        filled += size
    if len(shards) == 1:
        name = f"{stem}.safetensors"
        return {name: _write_file(folder / name, shards[0], dtype, on_bytes)}
    names = [f"{stem}-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)]
    hashes = {
        name: _write_file(folder / name, shard, dtype, on_bytes) for name, shard in zip(names, shards, strict=True)
    }
    index = {
        "metadata": {"total_size": stored_bytes(state, dtype)},
        "weight_map": {key: name for name, shard in zip(names, shards, strict=True) for key in shard},
    }
    text = json.dumps(index, indent=2, sort_keys=True) + "\n"
    (folder / f"{stem}.safetensors.index.json").write_text(text, "utf-8")
    return hashes


def _write_file(
    path: Path, state: Mapping[str, Tensor], dtype: torch.dtype | None, on_bytes: Callable[[int], None]
) -> str:
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for key, tensor in state.items():
        kind = stored_dtype(tensor, dtype)
        size = tensor.numel() * kind.itemsize
        if kind not in _NAMES:
            raise WeightsError(f"{key} is of the type {kind}, which cannot be stored; choose another --dtype")
        entries[key] = {"dtype": _NAMES[kind], "shape": list(tensor.shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256()
    with path.open("wb") as stream:
        for piece in (struct.pack("<Q", len(text)), text):
            stream.write(piece)
            digest.update(piece)
        for key, tensor in state.items():
            data = _checked(key, tensor, stored_dtype(tensor, dtype)).reshape(-1).view(torch.uint8).numpy().data
            stream.write(data)
            digest.update(data)
            on_bytes(len(data))
    return digest.hexdigest()


def _checked(key: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """The tensor as it is stored, contiguous on the CPU; all of its values are looked at on the way."""
    tensor = tensor.detach().cpu()
    stored = tensor.to(dtype).contiguous()
    if tensor.is_floating_point() and not _finite(stored):
        if _finite(tensor):
            raise WeightsError(f"{key} holds values beyond {str(dtype).removeprefix('torch.')}; use --dtype bf16")
        raise WeightsError(f"{key} holds values that are not finite: the file is damaged, copy or download it again")
    return stored


def _finite(tensor: Tensor) -> bool:
    # The largest magnitude tells, without a copy of the tensor; types of 8 bits know few operations.
    wide = tensor if tensor.element_size() > 1 else tensor.float()
    return tensor.numel() == 0 or bool(torch.isfinite(torch.stack(torch.aminmax(wide))).all())
