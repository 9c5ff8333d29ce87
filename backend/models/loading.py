"""Networks with their saved weights."""

from __future__ import annotations

from typing import Any

import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel

from ..catalogue.models import ModelSpec
from .family import EngineError
from .weights import gguf_files
from .weights.reading import is_gguf, weights_in


def load_part(spec: ModelSpec, part: str, network: type, dtype: torch.dtype) -> Any:
    """A part of a model with its saved weights, on the CPU and ready to run.

    Args:
        part: folder below the model's.
        network: its class, of diffusers' or transformers' kind.

    Raises:
        EngineError: weights that cannot be read.
    """
    folder = spec.folder / part
    kind: Any = network
    cure = f"run: maquette models check {spec.id}"
    if (files := weights_in(folder)) and is_gguf(files[0]):
        return gguf_files.load(files[0], network, dtype, cure)
    named = {"dtype" if issubclass(network, PreTrainedModel) else "torch_dtype": dtype}
    try:
        made = kind.from_pretrained(folder, local_files_only=True, **named).eval()
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise EngineError("settings.model", f"{folder}: cannot be read ({error}); {cure}") from error
    absent = [key for key, value in made.named_parameters() if value.is_meta]
    if absent:
        raise EngineError(
            "settings.model", f"{folder}: holds the weights of another network: {absent[0]} is not among them; {cure}"
        )
    return made
