"""The models that exist: one TOML file each in ``presets/models``, or in folders of the user's own.

Weights lie beside the file, in the folder that it names, or in the user's data folder.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Self

from .lora_choice import LoraEntry, parse_loras
from .reader import PRESETS as _ROOT
from .reader import CatalogueError, build_known, fit, make_preset, read_table, titled

PRESETS = _ROOT / "models"
"""Where the models that come with Maquette are described."""

DEFAULT_MODEL = "isa-nano"

INPUTS = {
    "characters": "characters",
    "reference": "a reference picture",
    "background": "a background",
    "camera": "the camera's motion",
    "prompt": "a prompt",
    "joints": "the bodies' joints",
    "keypoints": "body, hand and face keypoints",
    "meshes": "the bodies' surfaces",
    "tracks": "picked tracks",
    "clay": "the light on the bodies",
}
"""Every input that a model may take, in the words of the panel."""

LIMITS = (
    "points", "window_frames", "window_overlap", "window_stride", "min_frames", "max_frames", "max_characters",
    "size_multiple", "min_size", "max_size", "max_short_side", "within_clip", "whole_short_side", "same_area",
    "frame_long_side", "frame_short_side", "control_scale", "first_frame_reference", "fps",
)  # fmt: skip

MOST_TEXT = 1000
"""Characters of an option that is a text."""

Level = Literal["required", "optional", "ignored"]
Value = bool | int | float | str


class ModelError(CatalogueError):
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
        type: ``bool``, ``int``, ``float``, ``choice``, ``text`` or ``loras`` (a text, see ``lora_choice``).
        choices: what a ``choice`` can be.
        min, max: least and greatest number, or None.
        needs: inputs that a shot is to hold for it, unless it is at its default, even those that the model ignores.
    """

    type: Literal["bool", "int", "float", "choice", "text", "loras"]
    default: Value
    label: str
    description: str = ""
    choices: tuple[str, ...] = ()
    min: float | None = None
    max: float | None = None
    needs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if unknown := [name for name in self.needs if name not in INPUTS]:
            raise ValueError(f"needs {unknown[0]!r}, which is no input; choose from {', '.join(INPUTS)}")
        if self.type == "choice" and not self.choices:
            raise ValueError("choices is empty; name what can be chosen")
        if why := self.problem(self.default):
            raise ValueError(f"default is {why}")

    @property
    def low(self) -> float:
        """Least number, minus infinity where there is none."""
        return -math.inf if self.min is None else self.min

    @property
    def high(self) -> float:
        """Greatest number, infinity where there is none."""
        return math.inf if self.max is None else self.max

    def problem(self, value: object) -> str:
        """Why a value cannot be taken, or an empty string."""
        if self.type == "bool":
            return "" if isinstance(value, bool) else f"{value!r}; choose true or false"
        if self.type == "choice":
            return "" if value in self.choices else f"{value!r}; choose one of {', '.join(self.choices)}"
        if self.type == "loras":
            try:
                return "" if isinstance(value, str) and parse_loras(value) is not None else f"{value!r}; write a text"
            except ValueError as error:
                return str(error)
        if self.type == "text":
            good = isinstance(value, str) and len(value) <= MOST_TEXT
            return "" if good else f"{str(value)[:40]!r}; write at most {MOST_TEXT} characters"
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        if isinstance(value, bool) or not isinstance(value, (int, float)) or (self.type == "int" and not whole):
            return f"{value!r}; choose {'a whole number' if self.type == 'int' else 'a number'}"
        return "" if self.low <= value <= self.high else f"{value:g}; choose {self.low:g} to {self.high:g}"

    def fit(self, value: Value) -> Value:
        """The nearest value that the option can have; the default for what is no such value at all."""
        if self.type in ("bool", "choice", "text", "loras"):
            return self.default if self.problem(value) else value
        if isinstance(value, (bool, str)) or not math.isfinite(value):
            return self.default
        bounded = min(max(float(value), self.low), self.high)
        # Blender keeps single precision: 0.6 comes back as 0.6000000238.
        return round(bounded) if self.type == "int" else float(f"{bounded:.6g}")


@dataclass(frozen=True)
class WeightsSource:
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
        inputs: which of ``INPUTS`` it takes, and how; what is not listed is ignored.
        limits: those of ``LIMITS`` that apply: ``points`` per character; sizes in pixels a side; ``max_short_side``
            makes the default size's short side that of every aspect, ``within_clip`` is 1 where that is no longer than
            the clip's, ``whole_short_side`` is 1 where that side is a multiple and the longer one follows,
            ``same_area`` is 1 where every size has about the default's pixels, ``frame_long_side`` and
            ``frame_short_side`` are a further size by the option ``picture``, and ``control_scale`` is how much smaller
            a control film's sides are, see ``catalogue.sizes``; ``first_frame_reference`` is 1 when the reference
            picture is the video's first frame; ``fps`` is the only rate that it knows.
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
    limits: Mapping[str, int]
    defaults: ModelDefaults
    files: tuple[str, ...]
    folder: Path
    inputs: Mapping[str, Level] = field(default_factory=dict)
    unavailable: str = ""
    components: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    options: Mapping[str, ModelOption] = field(default_factory=dict)
    sources: tuple[WeightsSource, ...] = ()
    memory: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for table, known in (("inputs", INPUTS), ("limits", LIMITS)):
            if unknown := [name for name in getattr(self, table) if name not in known]:
                raise ValueError(f"{table}.{unknown[0]} is unknown; choose from {', '.join(known)}")


@dataclass(frozen=True)
class _Files:
    """``[files]`` of a description."""

    folder: str
    required: tuple[str, ...] = ()
    unavailable: str = ""


@dataclass(frozen=True)
class ModelEntry:
    """A model as a backend offers it: one entry of ``GET /v1/models``. Of an unknown model most fields are empty.

    Attributes:
        available: None when no backend has been asked.
        missing: files that are not there, relative to the model's folder.
        reason: why it cannot run, for the animator; empty when it can.
        inputs, limits, options, sources: see ``ModelSpec``.
        defaults: see ``ModelDefaults``; as far as they are known.
        memory: ``gpu_gb``, ``gpu_gb_least``, ``disk_gb`` at the default size, as far as they are known.
        loras: the user's LoRAs there, where the model takes any.
    """

    id: str
    label: str
    description: str = ""
    license: str = ""
    available: bool | None = None
    missing: tuple[str, ...] = ()
    reason: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)
    defaults: Mapping[str, float] = field(default_factory=dict)
    options: Mapping[str, ModelOption] = field(default_factory=dict)
    sources: tuple[WeightsSource, ...] = ()
    memory: Mapping[str, float] = field(default_factory=dict)
    loras: tuple[LoraEntry, ...] = ()

    @classmethod
    def of(cls, spec: ModelSpec, **said: Any) -> Self:
        """The entry of a description; ``said``: what only the computer with the weights knows."""
        same = {each.name: getattr(spec, each.name) for each in fields(cls) if hasattr(spec, each.name)}
        return cls(**{**same, "defaults": vars(spec.defaults), "memory": {}, **said})

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Self:
        """An entry as a backend of any version sends it; what is not understood in it is left out.

        Raises:
            CatalogueError: it has no ``id``.
        """
        options = entry.get("options")
        if isinstance(options, Mapping):
            named = {key: {"label": titled(str(key)), **each} for key, each in options.items() if _is_table(each)}
            entry = {**entry, "options": named}
        said = build_known(cls, entry)
        if not said.get("id"):
            raise CatalogueError("id is missing; a model has a name")
        said["label"] = said.get("label") or said["id"]
        if said.get("available") is not False:
            said["reason"] = ""
        elif not said.get("reason"):
            files = ", ".join(said.get("missing", ()))
            said["reason"] = (
                f"The backend lacks files of this model: {files}" if files else "The backend cannot run this model"
            )
        return cls(**said)

    def to_json(self) -> dict[str, Any]:
        """As it goes over the wire."""
        return asdict(self)


def _is_table(value: object) -> bool:
    return isinstance(value, Mapping)


def find_specs(
    extra_dirs: Iterable[str | Path] = (), faulty: Callable[[ModelError], None] | None = None
) -> dict[str, ModelSpec]:
    """Every described model by id, the default first. A user's folder wins over the built-in description.

    ``faulty`` is told of each description that cannot be read, which is then left out; None raises the ModelError.
    """
    specs: dict[str, ModelSpec] = {}
    for path in _descriptions(extra_dirs).values():
        try:
            specs[path.stem] = read_spec(path)
        except ModelError as error:
            if faulty is None:
                raise
            faulty(error)
    return specs


def model_spec(model_id: str, extra_dirs: Iterable[str | Path] = ()) -> ModelSpec:
    """One model by id. Raises ModelError that lists the ids there are."""
    paths = _descriptions(extra_dirs)
    if model_id not in paths:
        raise ModelError(f"no model {model_id!r}; choose one of {', '.join(paths)}")
    return read_spec(paths[model_id])


def _descriptions(extra_dirs: Iterable[str | Path]) -> dict[str, Path]:
    paths = {path.stem: path for folder in (PRESETS, *map(Path, extra_dirs)) for path in sorted(folder.glob("*.toml"))}
    return dict(sorted(paths.items(), key=lambda item: item[0] != DEFAULT_MODEL))


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
        table = read_table(path)
        named = table.pop("files", {})
        named = {"folder": path.stem, **named} if _is_table(named) else named
        files = fit(_Files, named, f"{path}: files")
        own = {each.name for each in fields(ModelSpec)}
        components = {key: table.pop(key) for key in list(table) if key not in own and _is_table(table[key])}
        beside = path.parent / files.folder
        folder = beside if beside.is_dir() else weights_home() / files.folder
        return make_preset(
            ModelSpec,
            table,
            path,
            files=files.required,
            unavailable=files.unavailable,
            folder=folder,
            components=components,
        )
    except ModelError:
        raise
    except CatalogueError as error:
        raise ModelError(str(error)) from error
