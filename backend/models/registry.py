"""Which models of the catalogue can run here, and the families that run them.

A model without its weights is still listed, with its missing files, so that an animator knows of it.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..catalogue.models import ModelError, ModelSpec, find_specs, model_spec
from . import draft
from .family import EngineError, Family, Plan, media_errors
from .quality import is_draft, settled
from .upscale import upscaled_plan

if TYPE_CHECKING:
    from ..shot import Shot


@dataclass(frozen=True)
class ModelStatus:
    """A model and whether it can run here.

    Attributes:
        missing: files that are not there, relative to the model's folder.
        unread: a file that is there and cannot be read, since the package for its kind is not installed; else empty.
    """

    spec: ModelSpec
    available: bool
    missing: tuple[str, ...]
    unread: str = ""

    @property
    def reason(self) -> str:
        """One sentence for the animator, empty when the model can run."""
        if self.available:
            return ""
        spec, none = self.spec, len(self.missing) == len(self.spec.files)
        if spec.unavailable and none:
            return f"{spec.label} cannot run: {spec.unavailable}"
        if self.unread and not self.missing:
            return (
                f"{spec.label} cannot run: its {self.unread} is a GGUF file, and what reads such is not installed; on "
                f"the backend's computer run '{sys.executable} -m pip install gguf'"
            )
        if spec.sources:
            what = "its weights are" if none else f"{len(self.missing)} of its {len(spec.files)} files are"
            return (
                f"{spec.label} cannot run: {what} not here; on the backend's computer run "
                f"'maquette models fetch {spec.id}', or 'maquette models add {spec.id} --from DIR' with the files that "
                "its authors publish"
            )
        return f"{spec.label} cannot run: {', '.join(self.missing)} not found in {spec.folder}"


def status(spec: ModelSpec) -> ModelStatus:
    """Whether a model's files are here; a large one may lie there in shards, with their index."""
    missing = tuple(name for name in spec.files if not _is_there(spec.folder / name))
    unread = next((path.parent.name for path in spec.folder.glob("*/*.gguf") if not find_spec("gguf")), "")
    return ModelStatus(spec=spec, available=not missing and not unread, missing=missing, unread=unread)


def _is_there(path: Path) -> bool:
    if path.is_file() or path.suffix != ".safetensors":
        return path.is_file()
    if path.with_suffix(".gguf").is_file():
        return True
    try:
        index = json.loads(path.with_name(f"{path.name}.index.json").read_text("utf-8"))
        return all(path.with_name(name).is_file() for name in set(index["weight_map"].values()))
    except (OSError, ValueError, LookupError, AttributeError):
        return False


def list_models(extra_dirs: Iterable[str | Path] = ()) -> list[ModelStatus]:
    """All models, the default first, each with whether its weights are here."""
    return [status(spec) for spec in find_specs(extra_dirs).values()]


def plan_shot(shot: Shot, extra_dirs: Iterable[str | Path] = ()) -> Plan:
    """What the shot's model would make of it, without loading anything. Raises EngineError."""
    try:
        spec = model_spec(shot.settings.model, extra_dirs)
        make_plan = draft.make_plan if is_draft(shot) else _family_module(spec, "plan").make_plan
    except ModelError as error:
        raise EngineError("settings.model", str(error)) from error
    with media_errors():
        return upscaled_plan(shot, make_plan(spec, settled(shot, spec)), is_draft(shot))


def idle_parts(spec: ModelSpec) -> frozenset[str]:
    """Folders of a model's files that are not read, because what is in them changes nothing: its family's plan says
    which."""
    try:
        find = getattr(_family_module(spec, "plan"), "idle_parts", None)
    except ModelError:
        return frozenset()
    return frozenset() if find is None else find(spec)


def find_family(spec: ModelSpec) -> Family:
    """What a description's ``engine`` names: a folder here. Raises ModelError when there is none of that name."""
    module = _family_module(spec, "family")
    return module.family_of(spec) if hasattr(module, "family_of") else module.FAMILY


def _family_module(spec: ModelSpec, module: str) -> Any:
    here = Path(__file__).parent
    families = sorted(path.parent.name for path in here.glob("*/family.py"))
    if spec.engine not in families:
        raise ModelError(f"{spec.id}.toml: engine is {spec.engine!r}; make it one of {', '.join(families)}")
    return importlib.import_module(f".{spec.engine}.{module}", __package__)
