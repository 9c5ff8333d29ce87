"""GGUF files of a transformer: weights quantised as llama.cpp's format has them, in their authors' or ComfyUI's names.

The file stays as it is. What runs is diffusers' own reading of it: weights of linear layers within the blocks stay
quantised in memory and are widened as they run; all others are widened once.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import shutil
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..family import EngineError
from .component import WeightsError
from .gguf_header import check_header
from .reading import gguf_index
from .recognising import few

PART = "transformer"
"""The part of a model of which people have such files."""

_IN_A_BLOCK = re.compile(r"^\w+\.\d+\.")
_CURE = "pip install 'maquette[gguf]'"


def tensors(path: Path) -> dict[str, Tensor]:
    """The tensors by the file's own names, mapped; quantised ones are diffusers' ``GGUFParameter`` of raw bytes.

    Raises:
        WeightsError: the package that reads them is not installed; no GGUF file, cut short, or of a kind that diffusers
            does not widen.
    """
    if importlib.util.find_spec("gguf") is None:
        raise WeightsError(f"{path}: to read GGUF files, install the package gguf on this computer: {_CURE}")
    from diffusers.quantizers.gguf.utils import SUPPORTED_GGUF_QUANT_TYPES, GGUFParameter
    from gguf import GGMLQuantizationType as Kind
    from gguf import GGUFReader

    try:
        check_header(path)
        # Copied on writing: torch takes no memory that is read only.
        reader = GGUFReader(path, "c")
        read, shapes = reader.tensors, {each.name: _own_shape(reader, each.name) for each in reader.tensors}
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, KeyError, IndexError, TypeError, OverflowError, MemoryError) as error:
        raise WeightsError(f"{path}: not a GGUF file, or cut short ({error}); download it again") from error
    plain = {Kind.F32, Kind.F16, Kind.BF16}
    if unknown := [each.name for each in read if each.tensor_type not in {*plain, *SUPPORTED_GGUF_QUANT_TYPES}]:
        kinds = sorted({each.tensor_type.name for each in read if each.name in unknown})
        raise WeightsError(f"{path}: {few(unknown)} of the kind {', '.join(kinds)}, which diffusers does not widen")
    found: dict[str, Tensor] = {}
    for each in read:
        data = torch.from_numpy(each.data)
        if each.tensor_type is Kind.BF16:
            data = data.view(torch.bfloat16)
        value = data if each.tensor_type in plain else GGUFParameter(data, quant_type=each.tensor_type)  # pyright: ignore[reportCallIssue]
        shape = shapes[each.name]
        if shape and prod(shape) == prod(shape_of(value)):
            value = (widened(value) if quantised(value) else value).reshape(shape)
        found[each.name] = value
    return found


def _own_shape(reader: Any, name: str) -> tuple[int, ...]:
    """The shape that ComfyUI's files note of a tensor with more dimensions than the format has; empty where none."""
    noted = reader.get_field(f"comfy.gguf.orig_shape.{name}")
    return () if noted is None else tuple(int(noted.parts[place][0]) for place in noted.data)


def named(state: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """A file's tensors by the keys of a diffusers network.

    Raises:
        WeightsError: diffusers has no such mapping for the network's class, or it does not know these names.
    """
    from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES

    name = type(network).__name__
    mapping = SINGLE_FILE_LOADABLE_CLASSES.get(name)
    if mapping is None:
        raise WeightsError(
            f"diffusers reads no GGUF files of a {name}; take the files that the model's authors publish"
        )
    # What is named in its layout already stays so.
    if not set(network.state_dict()) <= set(state):
        try:
            state = mapping["checkpoint_mapping_fn"](checkpoint=dict(state), config=dict(network.config))  # type: ignore[arg-type, call-overload]
        except (LookupError, ValueError, RuntimeError, TypeError, AttributeError) as error:
            raise WeightsError(f"its names are not those of a {name} ({type(error).__name__}: {error})") from error
    return dict(state)


def shape_of(tensor: Tensor) -> tuple[int, ...]:
    """A tensor's shape in values; a quantised one's own is in bytes."""
    return tuple(getattr(tensor, "quant_shape", tensor.shape))


def keep(path: Path, target: Path, state: Mapping[str, Tensor]) -> dict[str, str]:
    """Copy a file to its place, and note kind, shape and bytes of every tensor beside it, so that nothing but their
    use needs it read.

    Args:
        state: its tensors by the network's keys.

    Returns:
        SHA-256 of the copy by its name.
    """
    said = {}
    for key, value in state.items():
        kind = getattr(value, "quant_type", None)
        name = {torch.float16: "F16", torch.bfloat16: "BF16"}.get(value.dtype, "F32") if kind is None else kind.name
        said[key] = [name, list(shape_of(value)), value.numel() * value.element_size()]
    shutil.copyfile(path, target)
    gguf_index(target).write_text(json.dumps(said), "utf-8")
    with target.open("rb") as stream:
        return {target.name: hashlib.file_digest(stream, "sha256").hexdigest()}


def load(path: Path, network: Any, dtype: torch.dtype, cure: str) -> Any:
    """A network with a file's weights, on the CPU and ready to run; ``config.json`` lies beside the file.

    Args:
        network: class of the network.
        dtype: in which it computes.
        cure: said of a file that cannot be read.

    Raises:
        EngineError: weights that cannot be read.
    """
    from accelerate import init_empty_weights
    from diffusers import GGUFQuantizationConfig

    try:
        with init_empty_weights():
            empty = network.from_config(network.load_config(path.parent, local_files_only=True))
        found = named(tensors(path), empty)
        if lost := empty.state_dict().keys() - found.keys():
            raise WeightsError(f"{few(lost)} not there")
        # With anything else beside them diffusers would take the names for the authors' once more.
        state = {key: found[key] for key in empty.state_dict()}
        linear = {f"{name}.weight" for name, module in empty.named_modules() if isinstance(module, nn.Linear)}
        for key, value in state.items():
            if quantised(value) and not (key in linear and _IN_A_BLOCK.match(key)):
                state[key] = widened(value)
        return network.from_single_file(
            state, config=str(path.parent), quantization_config=GGUFQuantizationConfig(compute_dtype=dtype),
            torch_dtype=dtype, local_files_only=True,
        ).eval()  # fmt: skip
    except (WeightsError, OSError, ValueError, RuntimeError) as error:
        raise EngineError("settings.model", f"{path}: cannot be read ({error}); {cure}") from error


def quantised(value: object) -> bool:
    """Whether a tensor is kept as raw bytes."""
    return getattr(value, "quant_type", None) is not None


def widened(value: Tensor) -> Tensor:
    """A quantised tensor's values."""
    from diffusers.quantizers.gguf.utils import dequantize_gguf_tensor

    return dequantize_gguf_tensor(value)
