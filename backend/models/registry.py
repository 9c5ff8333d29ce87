"""The models that exist: one TOML file each in ``presets/models``, or in folders of the user's own.

Weights lie beside the file, in the folder that it names. A model without its weights is still listed, with what is
missing, so that an animator sees what could be had.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..shot import Shot
    from .engine import Engine, Plan

PRESETS = Path(__file__).resolve().parents[2] / "presets" / "models"
"""Where the models that come with Maquette are described."""

DEFAULT_MODEL = "isa-nano"

_REQUIRED = ("id", "label", "description", "license", "engine", "limits", "defaults")


class ModelError(ValueError):
    """A model that cannot be used, or a description that cannot be read; the message says which and the cure."""


@dataclass(frozen=True)
class ModelDefaults:
    """What runs when the shot's settings leave the choice open."""

    steps: int
    guidance: float
    width: int
    height: int
    frames: int


@dataclass(frozen=True)
class ModelSpec:
    """One file of ``presets/models``.

    Attributes:
        id: also the file's name without its ending.
        engine: which code runs it, a key of ``ENGINES``.
        inputs: what it takes (``characters``, ``reference``, ``background``, ``camera``, ``prompt``) and whether each
            is ``required``, ``optional`` or ``ignored``.
        limits: ``points`` per character, ``window_frames``, ``window_overlap``, ``max_frames``, ``size_multiple``,
            ``min_size``, ``max_size`` (pixels).
        files: paths that must exist under ``folder``.
        folder: where the weights lie.
        unavailable: why there are no weights to be had, or empty; said while none of ``files`` is there.
        components: configuration of each part (``vae``, ``transformer``, ``scheduler``).
    """

    id: str
    label: str
    description: str
    license: str
    engine: str
    inputs: Mapping[str, str]
    limits: Mapping[str, int]
    defaults: ModelDefaults
    files: tuple[str, ...]
    folder: Path
    unavailable: str = ""
    components: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


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
        if self.spec.unavailable and len(self.missing) == len(self.spec.files):
            return f"{self.spec.label} cannot run: {self.spec.unavailable}"
        return f"{self.spec.label} cannot run: {', '.join(self.missing)} not found in {self.spec.folder}"

    def as_json(self) -> dict[str, Any]:
        """The entry of ``GET /v1/models``."""
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
        }


def read_spec(path: Path) -> ModelSpec:
    """Read one model description. Raises ModelError that names the file and the entry at fault."""
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ModelError(f"{path}: not a readable model description ({error})") from error
    absent = [key for key in _REQUIRED if key not in data]
    if absent:
        raise ModelError(f"{path}: {', '.join(absent)} missing; see isa-nano.toml for a complete description")
    if data["id"] != path.stem:
        raise ModelError(f"{path}: id is {data['id']!r}; make it the file's name, {path.stem!r}")
    files = data.get("files", {})
    try:
        defaults = ModelDefaults(**data["defaults"])
    except TypeError as error:
        raise ModelError(f"{path}: defaults needs steps, guidance, width, height and frames ({error})") from error
    return ModelSpec(
        id=data["id"],
        label=data["label"],
        description=data["description"],
        license=data["license"],
        engine=data["engine"],
        inputs=data.get("inputs", {}),
        limits=data["limits"],
        defaults=defaults,
        files=tuple(files.get("required", ())),
        folder=path.parent / files.get("folder", data["id"]),
        unavailable=files.get("unavailable", ""),
        components={key: data[key] for key in ("vae", "transformer", "scheduler") if key in data},
    )


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
    """Whether a model's files are here."""
    missing = tuple(name for name in spec.files if not (spec.folder / name).is_file())
    return ModelStatus(spec=spec, available=not missing, missing=missing)


def list_models(extra_dirs: Iterable[str | Path] = ()) -> list[ModelStatus]:
    """All models, the default first, each with whether its weights are here."""
    return [status(spec) for spec in find_specs(extra_dirs).values()]


def plan_shot(shot: Shot, extra_dirs: Iterable[str | Path] = ()) -> Plan:
    """What the shot's model would make of it, without loading anything. Raises EngineError."""
    from .engine import EngineError
    from .plan import make_plan

    try:
        spec = model_spec(shot.settings.model, extra_dirs)
    except ModelError as error:
        raise EngineError("settings.model", str(error)) from error
    return make_plan(spec, shot)


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
    if found.spec.engine != "isa":
        raise ModelError(f"{found.spec.folder.name}.toml asks for the engine {found.spec.engine!r}; only 'isa' exists")
    from .isa.engine import ISAEngine

    return ISAEngine(found.spec, device=device)
