"""The models that exist: one TOML file each in ``presets/models``, or in folders of the user's own.

Weights lie beside the file, in the folder that it names. A model without its weights is still listed, with what is
missing, so that an animator sees what could be had.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..catalogue.models import ModelDefaults, ModelError, ModelOption, ModelSpec, Source, read_spec, weights_home

if TYPE_CHECKING:
    from ..shot import Shot
    from .family import Engine, Plan

PRESETS = Path(__file__).resolve().parents[2] / "presets" / "models"
"""Where the models that come with Maquette are described."""

DEFAULT_MODEL = "isa-nano"

ENGINES: dict[str, tuple[str, str]] = {
    "isa": ("isa.plan:make_plan", "isa.family:ISAEngine"),
    "mtvcrafter": ("mtvcrafter.plan:make_plan", "mtvcrafter.family:MTVCrafterEngine"),
    "mimicmotion": ("mimicmotion.plan:make_plan", "mimicmotion.family:MimicMotionEngine"),
    "mofa": ("mofa.plan:make_plan", "mofa.family:MOFAEngine"),
}
"""What a description's ``engine`` stands for: a function ``(spec, shot) -> Plan`` that needs no torch, and a class
``(spec, device=None)`` that is an ``Engine``. Loaded on demand."""

__all__ = [
    "DEFAULT_MODEL",
    "ENGINES",
    "ModelDefaults",
    "ModelError",
    "ModelOption",
    "ModelSpec",
    "ModelStatus",
    "Source",
    "find_specs",
    "list_models",
    "load_engine",
    "model_spec",
    "plan_shot",
    "read_spec",
    "shot_engine",
    "status",
    "weights_home",
]


@dataclass(frozen=True)
class ModelStatus:
    """A model and whether it can run here.

    Attributes:
        missing: files that are not there, relative to the model's folder.
    """

    spec: ModelSpec
    available: bool
    missing: tuple[str, ...]

    @property
    def reason(self) -> str:
        """One sentence for the animator, empty when the model can run."""
        if self.available:
            return ""
        spec, none = self.spec, len(self.missing) == len(self.spec.files)
        if spec.unavailable and none:
            return f"{spec.label} cannot run: {spec.unavailable}"
        if spec.sources:
            what = "its weights are" if none else f"{len(self.missing)} of its {len(spec.files)} files are"
            return (
                f"{spec.label} cannot run: {what} not here; on the backend's computer run "
                f"'maquette models add {spec.id} --from DIR' with the files that its authors publish"
            )
        return f"{spec.label} cannot run: {', '.join(self.missing)} not found in {spec.folder}"

    def as_json(self) -> dict[str, Any]:
        """The entry of ``GET /v1/models``."""
        from .weights.sizes import memory_json

        spec = self.spec
        return {
            "id": spec.id,
            "label": spec.label,
            "description": spec.description,
            "license": spec.license,
            "available": self.available,
            "missing": list(self.missing),
            "reason": self.reason,
            "inputs": dict(spec.inputs),
            "limits": dict(spec.limits),
            "defaults": vars(spec.defaults).copy(),
            "options": {name: asdict(option) for name, option in spec.options.items()},
            "sources": [asdict(source) for source in spec.sources],
            "memory": memory_json(spec),
        }


def find_specs(extra_dirs: Iterable[str | Path] = ()) -> dict[str, ModelSpec]:
    """Every described model by id, the default first. A user's folder wins over the built-in description."""
    specs: dict[str, ModelSpec] = {}
    for folder in (PRESETS, *map(Path, extra_dirs)):
        for path in sorted(folder.glob("*.toml")):
            spec = read_spec(path)
            specs[spec.id] = spec
    return dict(sorted(specs.items(), key=lambda item: item[0] != DEFAULT_MODEL))


def model_spec(model_id: str, extra_dirs: Iterable[str | Path] = ()) -> ModelSpec:
    """One model by id. Raises ModelError that lists the ids there are."""
    specs = find_specs(extra_dirs)
    if model_id not in specs:
        raise ModelError(f"no model {model_id!r}; choose one of {', '.join(specs)}")
    return specs[model_id]


def status(spec: ModelSpec) -> ModelStatus:
    """Whether a model's files are here; a large one may lie there in shards, with their index."""
    missing = tuple(name for name in spec.files if not _is_there(spec.folder / name))
    return ModelStatus(spec=spec, available=not missing, missing=missing)


def _is_there(path: Path) -> bool:
    if path.is_file() or path.suffix != ".safetensors":
        return path.is_file()
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
    from .family import EngineError
    from .quality import is_draft, settled

    try:
        spec = model_spec(shot.settings.model, extra_dirs)
        if is_draft(shot):
            return importlib.import_module(".draft", __package__).draft_plan(spec, shot)
        make_plan = _engine_part(spec, 0)
    except ModelError as error:
        raise EngineError("settings.model", str(error)) from error
    return make_plan(spec, settled(shot, spec.defaults))


def load_engine(model_id: str, device: str | None = None, extra_dirs: Iterable[str | Path] = ()) -> Engine:
    """Make a model ready to run; its weights are read on the first generation.

    Args:
        model_id: as listed.
        device: ``cuda``, ``cuda:1``, ``cpu``, ...; None for a GPU where there is one.

    Raises:
        ModelError: an unknown model, absent weights or an unknown engine.
    """
    found = status(model_spec(model_id, extra_dirs))
    if not found.available:
        raise ModelError(found.reason)
    return _engine_part(found.spec, 1)(found.spec, device=device)


def shot_engine(shot: Shot, device: str | None = None, extra_dirs: Iterable[str | Path] = ()) -> Engine:
    """The engine that makes a shot, by its model and quality. Arguments and errors as of ``load_engine``."""
    from .quality import is_draft

    if is_draft(shot):
        from .draft import DraftEngine

        return DraftEngine(model_spec(shot.settings.model, extra_dirs), device)
    return load_engine(shot.settings.model, device, extra_dirs)


def _engine_part(spec: ModelSpec, part: int) -> Any:
    if spec.engine not in ENGINES:
        raise ModelError(f"{spec.id}.toml asks for the engine {spec.engine!r}; there are {', '.join(ENGINES)}")
    module, _, name = ENGINES[spec.engine][part].partition(":")
    return getattr(importlib.import_module(f".{module}", __package__), name)
