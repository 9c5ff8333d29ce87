"""What the backend says of its models, in the form in which panels, checks and operators ask for it.

Filled from ``GET /v1/models``. What a backend does not say is not made up: of an unknown model everything is shown.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from ...backend.catalogue.lora_choice import LoraEntry
from ...backend.catalogue.models import INPUTS, CatalogueError, ModelEntry, ModelOption


class Model(ModelEntry):
    """One entry of ``GET /v1/models``, in the words of the panel."""

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
        if fps := self.limit("fps"):
            said.append(f"Made at {fps} frames per second and brought to the scene's rate")
        if self.limit("first_frame_reference"):
            said.append("The reference shows the shot's first frame")
        return said

    def _level(self, name: str) -> str:
        return self.inputs.get(name, "ignored")


_LEVELS = {"required": "Needs", "optional": "Can use", "ignored": "Leaves out"}

_known: dict[str, Model] = {}


def show(entries: Sequence[Mapping[str, Any]]) -> list[Model]:
    """Take in what a backend has said of all its models; returns them in its order, without those that have no id."""
    _known.clear()
    for entry in entries:
        with contextlib.suppress(CatalogueError):
            model = Model.from_json(entry)
            _known[model.id] = model
    return everyone()


def find(model: str) -> Model:
    """A model by id; one that no backend has named is one of which nothing is known."""
    return _known.get(model) or Model(model, model)


def known(model: str) -> bool:
    """Whether the backend has named it."""
    return model in _known


def everyone() -> list[Model]:
    """All models, in the backend's order."""
    return list(_known.values())


def option(model: str, name: str) -> ModelOption | None:
    """An option of a model, or None where it has no such option any more."""
    return find(model).options.get(name)


def lora_words(entry: LoraEntry) -> str:
    """A LoRA in a line: what it wants of the sampler, and its size."""
    return ", ".join([*filter(None, [lora_wants(entry)]), f"{entry.megabytes:.0f} MB"])


def lora_wants(entry: LoraEntry) -> str:
    """What a LoRA wants of the sampler; empty for nothing."""
    wants = [] if entry.steps is None else [f"{entry.steps} steps"]
    wants += [f"{name} {value:g}" for name in ("guidance", "shift") if (value := getattr(entry, name)) is not None]
    return ", ".join(wants)


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
