"""Which parts of the scene a model uses, so that only those are captured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ...backend.catalogue.models import ModelError, ModelSpec, model_spec


@dataclass(frozen=True)
class Wants:
    """What a capture is to hold besides characters, camera and background.

    Attributes:
        keypoints: body, hands and face of each character and of its reference.
        meshes: the surfaces of characters and set, frame by frame.
        tracks: the spots that the animator picked.
        clay: characters in mid grey under the scene's light, in the shot and in their references.
        meshes_required: whether the shot is refused where surfaces are too heavy or change their vertices; else it goes
            without them.
        pictures: the background and the looks, which may have to be rendered.
        rough: whether pictures are to be quick, for a preview.
        options: the model's own options that the animator has set, by name; they go into the Shot as they are.
    """

    keypoints: bool = True
    meshes: bool = True
    tracks: bool = True
    clay: bool = True
    meshes_required: bool = True
    pictures: bool = True
    rough: bool = False
    options: Mapping[str, bool | int | float | str] = field(default_factory=dict)


def wants_of(inputs: Mapping[str, str] | None, options: Mapping[str, bool | int | float | str] | None = None) -> Wants:
    """What a model wants, by the table of its inputs (``required``, ``optional`` or ``ignored``).

    Args:
        inputs: of the model; an input that it does not name is ignored. None is an unknown model, which gets all.
        options: that the animator has set.
    """
    named = ("keypoints", "meshes", "tracks", "clay")
    taken = {name: inputs is None or inputs.get(name, "ignored") != "ignored" for name in named}
    required = inputs is None or inputs.get("meshes") == "required"
    return Wants(**taken, meshes_required=required, options=dict(options or {}))


def preset_wants(model: str) -> Wants:
    """What the description of a model says that it wants; everything for a model without a readable one."""
    spec = described(model)
    return wants_of(None if spec is None else spec.inputs)


def described(model: str) -> ModelSpec | None:
    """The description of a model by its id, or None where there is none that can be read."""
    try:
        return model_spec(model)
    except ModelError:
        return None
