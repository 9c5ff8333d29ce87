"""What the backend says of its models, in the form in which panels, checks and operators ask for it.

Filled from ``GET /v1/models``. What a backend does not say is not made up: of an unknown model everything is shown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Value = bool | int | float | str

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

_KINDS = ("bool", "int", "float", "choice")


@dataclass(frozen=True)
class Option:
    """Something that one model alone lets the animator choose.

    Attributes:
        kind: ``bool``, ``int``, ``float`` or ``choice``.
        choices: of a ``choice``; at least one.
        low, high: bounds of a number, infinite where there is none.
    """

    name: str
    kind: str
    default: Value
    label: str
    description: str = ""
    choices: tuple[str, ...] = ()
    low: float = -math.inf
    high: float = math.inf

    def fit(self, value: Value) -> Value:
        """The nearest value that the option can have; the default for what is no such value at all."""
        if self.kind == "bool":
            return value if isinstance(value, bool) else self.default
        if self.kind == "choice":
            return value if value in self.choices else self.default
        if isinstance(value, (bool, str)) or not math.isfinite(value):
            return self.default
        bounded = min(max(float(value), self.low), self.high)
        # Blender keeps single precision: 0.6 comes back as 0.6000000238.
        return round(bounded) if self.kind == "int" else float(f"{bounded:.6g}")


@dataclass(frozen=True)
class Model:
    """One entry of ``GET /v1/models``.

    Attributes:
        available: None when no backend has been asked.
        reason: why it cannot run, empty when it can.
        inputs: name -> ``required``, ``optional`` or ``ignored``; empty when nothing is known.
        limits: numbers by name: ``max_characters``, ``min_frames``, ``max_frames``, ``points``, sizes.
        defaults: ``steps``, ``guidance``, ``width``, ``height``, ``frames`` as far as they are known.
    """

    id: str
    label: str
    description: str = ""
    license: str = ""
    available: bool | None = None
    reason: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)
    defaults: Mapping[str, float] = field(default_factory=dict)
    options: Mapping[str, Option] = field(default_factory=dict)

    @property
    def state(self) -> str:
        """``READY``, ``MISSING`` or ``UNKNOWN``."""
        return "UNKNOWN" if self.available is None else "READY" if self.available else "MISSING"

    def uses(self, name: str) -> bool:
        """Whether it takes an input; of a model of which nothing is known, True."""
        return not self.inputs or self.inputs.get(name, "ignored") != "ignored"

    def needs(self, name: str) -> bool:
        """Whether it cannot do without an input."""
        return self.inputs.get(name) == "required"

    def limit(self, name: str) -> int:
        """A limit by name; 0 when there is none."""
        return int(self.limits.get(name, 0))

    def takes(self) -> list[str]:
        """Sentences on its inputs: what it needs, what it can use, what it leaves out."""
        if not self.inputs:
            return []
        groups = {level: [INPUTS[name] for name in INPUTS if self._level(name) == level] for level in _LEVELS}
        return [f"{word} {_listed(groups[level])}" for level, word in _LEVELS.items() if groups[level]]

    def bounds(self) -> list[str]:
        """Sentences on its limits."""
        said = []
        if most := self.limit("max_characters"):
            said.append("One character" if most == 1 else f"At most {most} characters")
        least, most = self.limit("min_frames"), self.limit("max_frames")
        if least > 1 and most:
            said.append(f"{least} frames" if least == most else f"{least} to {most} frames")
        elif least > 1 or most:
            said.append(f"At least {least} frames" if least > 1 else f"At most {most} frames")
        low, high, multiple = self.limit("min_size"), self.limit("max_size"), self.limit("size_multiple")
        if low and high:
            steps = f", in steps of {multiple}" if multiple > 1 else ""
            said.append(f"{low} to {high} pixels a side{steps}" if low != high else f"{low} pixels a side")
        if self.limit("first_frame_reference"):
            said.append("The reference shows the shot's first frame")
        return said

    def _level(self, name: str) -> str:
        return self.inputs.get(name, "ignored")


_LEVELS = {"required": "Needs", "optional": "Can use", "ignored": "Leaves out"}

_known: dict[str, Model] = {}


def show(entries: Sequence[Mapping[str, Any]]) -> list[Model]:
    """Take in what a backend has said of all its models; returns them in its order."""
    models = [parse(entry) for entry in entries if entry.get("id")]
    _known.clear()
    _known.update((model.id, model) for model in models)
    return models


def find(model: str) -> Model:
    """A model by id; one that no backend has named is one of which nothing is known."""
    return _known.get(model) or Model(model, model)


def known(model: str) -> bool:
    """Whether the backend has named it."""
    return model in _known


def everyone() -> list[Model]:
    """All models, in the backend's order."""
    return list(_known.values())


def option(model: str, name: str) -> Option | None:
    """An option of a model, or None where it has no such option any more."""
    return find(model).options.get(name)


def parse(entry: Mapping[str, Any]) -> Model:
    """One entry of ``GET /v1/models``; what is not understood in it is left out."""
    name = str(entry["id"])
    available = entry.get("available")
    return Model(
        id=name,
        label=str(entry.get("label") or name),
        description=str(entry.get("description") or ""),
        license=str(entry.get("license") or ""),
        available=None if available is None else bool(available),
        reason=_reason(entry) if available is False else "",
        inputs={key: str(level) for key, level in _table(entry, "inputs").items()},
        limits=_numbers(_table(entry, "limits")),
        defaults=_numbers(_table(entry, "defaults")),
        options={
            key: found
            for key, data in _table(entry, "options").items()
            if isinstance(data, Mapping) and (found := _option(str(key), data)) is not None
        },
    )


def _reason(entry: Mapping[str, Any]) -> str:
    if reason := entry.get("reason"):
        return str(reason)
    missing = entry.get("missing") or []
    files = ", ".join(map(str, missing)) if isinstance(missing, list) else str(missing)
    return f"The backend lacks files of this model: {files}" if files else "The backend cannot run this model"


def _table(entry: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = entry.get(name)
    return table if isinstance(table, Mapping) else {}


def _numbers(table: Mapping[str, Any]) -> dict[str, float]:
    return {str(key): value for key, value in table.items() if isinstance(value, (int, float))}


def _option(name: str, data: Mapping[str, Any]) -> Option | None:
    kind, default = str(data.get("type")), data.get("default")
    choices = tuple(map(str, data.get("choices") or ()))
    if kind not in _KINDS or not isinstance(default, (bool, int, float, str)) or (kind == "choice" and not choices):
        return None
    low, high = data.get("min"), data.get("max")
    return Option(
        name=name,
        kind=kind,
        default=default,
        label=str(data.get("label") or name.replace("_", " ").title()),
        description=str(data.get("description") or ""),
        choices=choices,
        low=-math.inf if low is None else float(low),
        high=math.inf if high is None else float(high),
    )


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
