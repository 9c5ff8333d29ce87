"""The models that exist: one TOML file each in ``presets/models``, or in folders of the user's own.

Weights lie beside the file, in the folder that it names, or in the user's data folder.
"""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

PRESETS = Path(__file__).resolve().parents[2] / "presets" / "models"
"""Where the models that come with Maquette are described."""

DEFAULT_MODEL = "isa-nano"

_REQUIRED = ("id", "label", "description", "license", "engine", "limits", "defaults")
_KINDS = {"bool": bool, "int": int, "float": float, "choice": str}
_META = {"id", "label", "description", "license", "engine", "inputs", "limits", "defaults", "files"} | {
    "options",
    "sources",
    "memory",
}
INPUT_LEVELS = ("required", "optional", "ignored")


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
class ModelOption:
    """Something that this model alone lets the animator choose; ``[options.NAME]`` in its file.

    Attributes:
        type: ``bool``, ``int``, ``float`` or ``choice``.
        choices: what a ``choice`` can be.
        min, max: least and greatest number, or None.
    """

    type: str
    default: bool | int | float | str
    label: str
    description: str = ""
    choices: tuple[str, ...] = ()
    min: float | None = None
    max: float | None = None

    def problem(self, value: object) -> str:
        """Why a value cannot be taken, or an empty string."""
        if self.type == "bool":
            return "" if isinstance(value, bool) else f"{value!r}; choose true or false"
        if self.type == "choice":
            return "" if value in self.choices else f"{value!r}; choose one of {', '.join(self.choices)}"
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        if isinstance(value, bool) or not isinstance(value, (int, float)) or (self.type == "int" and not whole):
            return f"{value!r}; choose {'a whole number' if self.type == 'int' else 'a number'}"
        low = -float("inf") if self.min is None else self.min
        high = float("inf") if self.max is None else self.max
        return "" if low <= value <= high else f"{value:g}; choose {low:g} to {high:g}"


@dataclass(frozen=True)
class Source:
    """Where some of a model's weights are published; ``[[sources]]`` in its file.

    Attributes:
        name: what the files are, for the reader.
        component: folder under the model's, which they become.
        repository: who publishes them where, such as ``owner/name`` on a model hub.
        files: paths in that repository.
        license: of these files.
        gigabytes: they take on disk.
        optional: whether the model runs without them.
        note: what one must know before fetching them, such as a registration.
    """

    name: str
    component: str
    repository: str
    files: tuple[str, ...]
    license: str
    gigabytes: float
    optional: bool = False
    note: str = ""


@dataclass(frozen=True)
class ModelSpec:
    """One file of ``presets/models``.

    Attributes:
        id: also the file's name without its ending.
        engine: which code runs it, a key of ``models.registry.ENGINES``.
        inputs: what it takes (``characters``, ``reference``, ``background``, ``camera``, ``prompt``, ``joints``,
            ``keypoints``, ``meshes``, ``tracks``, ``clay``) and whether each is ``required``, ``optional`` or
            ``ignored``; what is not listed is ignored.
        limits: ``points`` per character, ``window_frames``, ``window_overlap``, ``max_frames``, ``max_characters``,
            ``size_multiple``, ``min_size``, ``max_size`` (pixels a side), ``max_short_side`` (pixels; makes the default
            size's short side that of every aspect, see ``settings.fit_size``), ``first_frame_reference`` (1 when the
            reference picture is the video's first frame), each where it applies.
        files: paths that must exist under ``folder``.
        folder: where the weights lie.
        unavailable: why there are no weights to be had, or empty; said while none of ``files`` is there.
        components: the tables that configure its parts (``vae``, ``transformer``, ``scheduler``, ...).
        options: what it alone lets the animator choose.
        sources: where its weights are published.
        memory: figures from which its need of memory is estimated.
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
    options: Mapping[str, ModelOption] = field(default_factory=dict)
    sources: tuple[Source, ...] = ()
    memory: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelEntry:
    """A model as a backend offers it: one entry of ``GET /v1/models``.

    Attributes:
        missing: files that are not there, relative to the model's folder.
        reason: why it cannot run, for the animator; empty when it can.
        memory: ``gpu_gb``, ``gpu_gb_least``, ``disk_gb`` at the default size, as far as they are known.
    """

    id: str
    label: str
    description: str
    license: str
    available: bool
    missing: tuple[str, ...]
    reason: str
    inputs: Mapping[str, str]
    limits: Mapping[str, int]
    defaults: ModelDefaults
    options: Mapping[str, ModelOption]
    sources: tuple[Source, ...]
    memory: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """As it goes over the wire."""
        return asdict(self)


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


def weights_home() -> Path:
    """Where weights that do not come with Maquette are kept, a folder a model: ``MAQUETTE_WEIGHTS``, or the user's
    data folder (the one that platformdirs names, which Blender's Python lacks)."""
    if named := os.environ.get("MAQUETTE_WEIGHTS"):
        return Path(named).expanduser()
    variable, default = {
        "win32": ("LOCALAPPDATA", "~/AppData/Local"),
        "darwin": ("", "~/Library/Application Support"),
    }.get(sys.platform, ("XDG_DATA_HOME", "~/.local/share"))
    return Path(os.environ.get(variable) or default).expanduser() / "maquette" / "models"


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
    inputs = data.get("inputs", {})
    for name, level in inputs.items():
        if level not in INPUT_LEVELS:
            raise ModelError(f"{path}: inputs.{name} is {level!r}; make it one of {', '.join(INPUT_LEVELS)}")
    return ModelSpec(
        id=data["id"],
        label=data["label"],
        description=data["description"],
        license=data["license"],
        engine=data["engine"],
        inputs=inputs,
        limits=data["limits"],
        defaults=defaults,
        files=tuple(files.get("required", ())),
        folder=_folder(path, files.get("folder", data["id"])),
        unavailable=files.get("unavailable", ""),
        components={key: value for key, value in data.items() if key not in _META and isinstance(value, dict)},
        options={name: _option(path, name, entry) for name, entry in data.get("options", {}).items()},
        sources=tuple(_source(path, i, entry) for i, entry in enumerate(data.get("sources", ()))),
        memory=data.get("memory", {}),
    )


def _folder(path: Path, name: str) -> Path:
    """Beside the description when the weights are there, else in the folder that holds all weights."""
    beside = path.parent / name
    return beside if beside.is_dir() else weights_home() / name


def _option(path: Path, name: str, entry: Mapping[str, Any]) -> ModelOption:
    try:
        option = ModelOption(**{**entry, "choices": tuple(entry.get("choices", ()))})
    except TypeError as error:
        raise ModelError(f"{path}: options.{name} needs type, default and label ({error})") from error
    if option.type not in _KINDS:
        raise ModelError(f"{path}: options.{name}.type is {option.type!r}; make it one of {', '.join(_KINDS)}")
    if why := option.problem(option.default):
        raise ModelError(f"{path}: options.{name}.default is {why}")
    return option


def _source(path: Path, index: int, entry: Mapping[str, Any]) -> Source:
    try:
        return Source(**{**entry, "files": tuple(entry.get("files", ()))})
    except TypeError as error:
        raise ModelError(
            f"{path}: sources[{index}] needs name, component, repository, files, license and gigabytes ({error})"
        ) from error
