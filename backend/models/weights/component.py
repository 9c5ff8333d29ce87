"""What a family of models says about each of its parts: where it is published and how its file becomes ours.

A family's ``convert`` module has ``COMPONENTS``, a mapping from a part's name to its ``Component``, or, when its models
differ, a function ``components(spec)`` that gives one.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...catalogue.models import ModelError, ModelSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

    State = Mapping[str, Tensor]

NESTING = ("state_dict", "module", "model_state_dict")
"""Keys under which training programs put the weights beside their own notes."""


class WeightsError(ModelError):
    """Published files that cannot be used; the message says which file, what is wrong and the cure."""


@dataclass(frozen=True)
class Component:
    """One folder of a model: a network, or small files alone.

    ``published`` names files as their repository does (``vae/diffusion_pytorch_model*.safetensors``). Its entries are
    alternatives, the best first; all files that one entry matches together hold the weights (shards). In a folder that
    somebody downloaded to, an entry may be found without its leading folders when its name alone is unmistakable.

    Attributes:
        name: the folder below the model's, ``transformer``, ``vae``, ...
        published: see above; empty for a part that only copies files.
        build: the network, whose ``state_dict`` says which keys and shapes must be there. It is called under
            ``accelerate.init_empty_weights``: parameters are on the meta device and take no memory.
        convert: the published state dict, flat (nesting under ``state_dict`` or ``module`` is gone), of this part
            alone (``prefix`` is gone), to the keys of ``build``. Its tensors are mapped from the file: rename, split
            and transpose them as you like, nothing is read before it is written. None changes nothing.
        config: what ``config.json`` holds; None for the configuration of the network that ``build`` makes.
        prefix: the part's published keys all begin with this, and others in the same file belong to other parts.
        may_lack: patterns (``fnmatch``) of our keys that a published file need not have, such as tied weights.
        may_drop: patterns of converted keys that are published and not needed.
        copy: small files that go along unchanged: published pattern -> name below the part's folder (a name that ends
            in ``/`` is a folder for all files that the pattern matches).
        copy_optional: those of ``copy`` (by pattern) that may be absent.
        weights_name: stem of our weights file: ``diffusion_pytorch_model``; ``model`` for transformers' classes.
        keep_dtype: stays at the published precision whatever ``--dtype`` asks for.
        optional: the model runs without it.
        verify: for files without ``build`` (a LoRA, tables): sentences about what is wrong with the converted state.
    """

    name: str
    published: tuple[str, ...] = ()
    build: Callable[[ModelSpec], nn.Module] | None = None
    convert: Callable[[State], State] | None = None
    config: Callable[[ModelSpec], Mapping[str, Any]] | None = None
    prefix: str = ""
    may_lack: tuple[str, ...] = ()
    may_drop: tuple[str, ...] = ()
    copy: Mapping[str, str] = field(default_factory=dict)
    copy_optional: tuple[str, ...] = ()
    weights_name: str = "diffusion_pytorch_model"
    keep_dtype: bool = False
    optional: bool = False
    verify: Callable[[ModelSpec, State], Sequence[str]] | None = None

    def module(self, spec: ModelSpec) -> nn.Module:
        """The network without memory for its weights. Raises ModelError when the part has none."""
        from accelerate import init_empty_weights

        if self.build is None:
            raise ModelError(f"{self.name} is not a network")
        with init_empty_weights():
            return self.build(spec)

    def lacks(self, key: str) -> bool:
        """Whether a key of ours need not be published."""
        return any(fnmatchcase(key, pattern) for pattern in self.may_lack)

    def drops(self, key: str) -> bool:
        """Whether a published key (converted) is not needed."""
        return any(fnmatchcase(key, pattern) for pattern in self.may_drop)

    def folder(self, spec: ModelSpec) -> Path:
        """Where the part lies."""
        return spec.folder / self.name


def components(spec: ModelSpec) -> dict[str, Component]:
    """The parts of a model by name. Raises ModelError for a model whose family takes no published weights."""
    name = f"{__name__.rsplit('.', 2)[0]}.{spec.engine}.convert"
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not name.startswith(error.name):
            raise
        raise ModelError(f"{spec.label} ({spec.id}) takes no published weights: nothing to add") from error
    found = module.components(spec) if hasattr(module, "components") else module.COMPONENTS
    return dict(found)


def unwrap(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """The state dict inside the nesting that training programs add (``{"state_dict": {...}, "epoch": 3}``)."""
    # So often at most: a damaged file may hold itself.
    for _ in range(8):
        inner = next((state[key] for key in NESTING if isinstance(state.get(key), Mapping)), None)
        if inner is None:
            return state
        state = inner
    return state


def without_prefix(state: State, *prefixes: str) -> dict[str, Tensor]:
    """Keys without the first of ``prefixes`` that they begin with; other keys as they are."""
    return {
        next((key.removeprefix(prefix) for prefix in prefixes if key.startswith(prefix)), key): value
        for key, value in state.items()
    }
