"""The file of a training run: what is made, what is trained, and what it starts from."""

from __future__ import annotations

import inspect
import json
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from ..catalogue.models import ModelSpec, model_spec
from ..models.isa.transformer import ISATransformer3DModel
from ..models.isa.vae import AutoencoderKLISA
from .data import DataConfig
from .dit import DiTLossConfig
from .errors import TrainingError
from .schedule import LoopConfig
from .vae import VAELossConfig, VAEStartConfig

PRESETS = Path(__file__).resolve().parents[2] / "presets" / "training"

LOOPS = ("vae", "vae_long", "dit")
"""A run's loops, in order; each has a section and one of its loss, ``NAME_loss``."""

PASSING = ("steps", "lr", "decay", "save_minutes", "sharded", "checkpointing")
"""Entries of a loop that may change when it is resumed: a run may be made longer or shorter, calmed down, or spread."""

PUBLISHED = "published"
"""What ``start`` says in short for both networks' published weights."""

_NETWORKS = {"vae": AutoencoderKLISA, "transformer": ISATransformer3DModel}

_GROUP, _CELL = 4, 8
"""Frames and pixels along a side that one latent holds."""

Section = TypeVar("Section")


@dataclass(frozen=True)
class StartConfig(VAEStartConfig):
    """What training starts from; new weights where nothing else is said.

    Attributes:
        vae, dit: start from the weights in the model's folder.
    """

    vae: bool = False
    dit: bool = False

    def __post_init__(self) -> None:
        if self.vae and self.image_vae:
            raise TrainingError("[start] has both vae = true and image_vae; the VAE can start from one of them")


@dataclass(frozen=True)
class RunConfig:
    """One file of ``presets/training``.

    Attributes:
        model: id in presets/models, whose configuration is trained.
        data, long_data: the shots to make; no long ones where the file does not speak of them. The VAE learns from
            ``long_data``, too, where its clips need them.
        vae: the VAE's loop; None keeps the published VAE as it is.
        vae_long: the VAE's second loop, on ``long_data``, which starts from what the first one reached; or None.
        dit: the DiT's loop.
        vae_loss, vae_long_loss, dit_loss: what they minimise.
        start: what the networks start from.
        overrides: entries of the model's ``vae`` and ``transformer`` tables to train with in place of its own.
    """

    model: str
    data: DataConfig
    long_data: DataConfig
    vae: LoopConfig | None
    vae_loss: VAELossConfig
    dit: LoopConfig
    dit_loss: DiTLossConfig
    vae_long: LoopConfig | None = None
    vae_long_loss: VAELossConfig = field(default_factory=VAELossConfig)
    start: StartConfig = field(default_factory=StartConfig)
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def spec(self) -> ModelSpec:
        """The trained model's description, with the overrides."""
        spec = model_spec(self.model)
        merged = {name: {**spec.components.get(name, {}), **table} for name, table in self.overrides.items()}
        return replace(spec, components={**spec.components, **merged})

    def with_steps(self, steps: int) -> RunConfig:
        """The same with every loop ``steps`` long."""
        loops = {name: getattr(self, name) for name in LOOPS}
        return replace(self, **{name: replace(loop, steps=steps) for name, loop in loops.items() if loop is not None})

    def lasting(self) -> dict[str, Any]:
        """What has to stay as it is over all resumes, as JSON: all but ``PASSING`` entries of the loops."""
        table = asdict(self)
        for loop in LOOPS:
            for entry in PASSING:
                (table[loop] or {}).pop(entry, None)
        return json.loads(json.dumps(table))


_NONE = {"shards": 0, "pair_shards": 0}
"""[long_data] of a file without it."""

_SECTIONS: dict[str, type] = {
    "data": DataConfig,
    "long_data": DataConfig,
    "vae": LoopConfig,
    "vae_loss": VAELossConfig,
    "vae_long": LoopConfig,
    "vae_long_loss": VAELossConfig,
    "dit": LoopConfig,
    "dit_loss": DiTLossConfig,
    "start": StartConfig,
}


def read_config(path: Path) -> RunConfig:
    """Read a run's file. Raises TrainingError that names the entry at fault."""
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TrainingError(f"{path}: not a readable training file ({error})") from error
    unknown = sorted(set(table) - set(_SECTIONS) - {"model", "overrides"})
    if unknown or "model" not in table:
        problem = f"no section [{unknown[0]}] is known" if unknown else "model is missing"
        raise TrainingError(f"{path}: {problem}; see presets/training/nano.toml")
    if table.get("start") == PUBLISHED:
        table["start"] = {"vae": True, "dit": True}
    if "vae_long_loss" in table and "vae_long" not in table:
        raise TrainingError(f"{path}: [vae_long_loss] without [vae_long]; give the second loop its steps, batch and lr")
    sections: dict[str, Any] = {}
    for name, kind in _SECTIONS.items():
        if name == "vae_long" and name not in table:
            continue
        if name == "vae" and name not in table and _starts_from_published_vae(table):
            sections[name] = None
            continue
        entries = table.get(name, _NONE if name == "long_data" else {})
        if not isinstance(entries, dict):
            hint = f' or start = "{PUBLISHED}"' if name == "start" else ""
            raise TrainingError(f"{path}: {name} = {entries!r} is no section; write [{name}]{hint}")
        sections[name] = read_section(kind, entries, name, path)
        if name in ("data", "long_data"):
            check_shots(sections[name], name, path)
    if sections["vae"] is None and "vae_long" in sections:
        raise TrainingError(f"{path}: [vae_long] goes on from [vae], which is missing")
    overrides = _overrides(table.get("overrides", {}), path)
    return RunConfig(model=table["model"], overrides=overrides, **sections)


def check_shots(data: DataConfig, name: str, path: Path) -> None:
    """Raises TrainingError: shots of section [name] that cannot be encoded."""
    if (data.frames - 1) % _GROUP:
        raise TrainingError(f"{path}: [{name}] frames = {data.frames}; give 1 + a multiple of {_GROUP}")
    if data.size % _CELL:
        raise TrainingError(f"{path}: [{name}] size = {data.size}; give a multiple of {_CELL}")


def _starts_from_published_vae(table: dict[str, Any]) -> bool:
    start = table.get("start")
    return isinstance(start, dict) and start.get("vae") is True


def read_section(kind: type[Section], table: dict[str, Any], name: str, path: Path) -> Section:
    """A section [name] of a file as its dataclass. Raises TrainingError that names the entry at fault."""
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(set(table) - set(known)):
        raise TrainingError(f"{path}: [{name}] has no {', '.join(unknown)}; choose from {', '.join(sorted(known))}")
    needed = (n for n, f in known.items() if f.default is MISSING and f.default_factory is MISSING)
    if missing := [key for key in needed if key not in table]:
        raise TrainingError(f"{path}: [{name}] is incomplete; give it {', '.join(missing)} too")
    entries = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
    for key, value in entries.items():
        _check_type(known[key].type, value, f"{path}: [{name}] {key}")
    try:
        return kind(**entries)
    except (TypeError, ValueError) as error:
        said = str(error)
        raise TrainingError(f"{path}: {said if said.startswith('[') else f'[{name}] {said}'}") from error


def _check_type(wanted: object, value: object, where: str) -> None:
    """Hold an entry against its annotation, which is text. Raises TrainingError that names it."""
    kinds: dict[str, tuple[type | tuple[type, ...], str]] = {
        "int": (int, "a whole number"),
        "float": ((int, float), "a number"),
        "bool": (bool, "true or false"),
        "str": (str, "a text"),
    }
    text = str(wanted)
    kind, words = kinds.get(text, (tuple, "a list of numbers") if text.startswith("tuple") else (object, ""))
    if not isinstance(value, kind) or (isinstance(value, bool) and text in ("int", "float")):
        raise TrainingError(f"{where} = {value!r} must be {words}")


def _overrides(tables: Any, path: Path) -> dict[str, dict[str, Any]]:
    """The tables below [overrides], checked for entries that their network knows."""
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise TrainingError(f"{path}: overrides must be tables: [overrides.vae], [overrides.transformer]")
    if unknown := sorted(set(tables) - set(_NETWORKS)):
        raise TrainingError(f"{path}: no [overrides.{unknown[0]}] is known; choose from {', '.join(_NETWORKS)}")
    for name, table in tables.items():
        check_network(table, name, f"overrides.{name}", path)
    return tables


def check_network(table: Mapping[str, Any], network: str, section: str, path: Path) -> None:
    """Raises TrainingError: entries of [section] that the ``vae`` or the ``transformer`` does not know."""
    known = sorted(set(inspect.signature(_NETWORKS[network].__init__).parameters) - {"self"})
    if unknown := sorted(set(table) - set(known)):
        raise TrainingError(f"{path}: [{section}] has no {', '.join(unknown)}; choose from {', '.join(known)}")
