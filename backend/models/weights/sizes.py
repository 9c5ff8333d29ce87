"""How much GPU memory a model takes at its default size, with or without its files (no torch at import)."""

from __future__ import annotations

from ...catalogue.loras import OPTION
from ...catalogue.models import ModelEntry, ModelSpec
from ..family import Plan
from ..lora.files import entries
from ..memory.arrangement import Strategy, arrangements, estimate
from ..memory.footprint import GB, NetworkFootprint, drawing_bytes, need_of, part_of, parts_of_files, stages_of
from ..registry import ModelStatus, idle_parts
from .component import components


def default_plan(spec: ModelSpec) -> Plan:
    """A job of the model's default size, one window."""
    d = spec.defaults
    return Plan(d.width, d.height, d.frames, ((0, d.frames),), (), (d.width, d.height), d.frames)


def gpu_gigabytes(spec: ModelSpec, parts: tuple[NetworkFootprint, ...] = ()) -> tuple[float, float] | None:
    """(at full speed, at the least) for the default size at two bytes a value; None when nothing is known.

    Without ``parts`` these are counted from the files. Where there are none, ``weights_gb`` and ``least_gb`` of the
    model's ``[memory]`` table say it. Of a model whose networks are not read it is what the carried film takes.
    """
    parts = parts or parts_of_files(spec, itemsize=2)
    if not parts and idle_parts(spec):
        drawing = drawing_bytes(spec.defaults.width, spec.defaults.height) / GB
        return drawing, drawing
    if not parts:
        weights = spec.memory.get("weights_gb")
        if weights is None:
            return None
        text = spec.memory.get("text_gb", 0.0)
        said = {"weights": weights - text, "text_encoder": text}
        whole = tuple(NetworkFootprint(name, int(size * GB), stages=stages_of(name)) for name, size in said.items())
        full = estimate(need_of(spec, default_plan(spec), whole), Strategy(), on_gpu=True).gpu / GB
        return full, min(full, spec.memory.get("least_gb", full))
    need = need_of(spec, default_plan(spec), parts)
    lean = need_of(spec, default_plan(spec), parts, lean=True)
    least = min(estimate(lean, strategy, on_gpu=True).gpu for strategy in arrangements(lean, on_gpu=True))
    return estimate(need, Strategy(), on_gpu=True).gpu / GB, least / GB


def parts_of_components(spec: ModelSpec, itemsize: int = 2) -> tuple[NetworkFootprint, ...]:
    """The networks by what the family declares, without any files (imports torch). Raises ModelError."""
    parts = []
    for name, component in components(spec).items():
        if component.build is None or component.optional:
            continue
        state = component.module(spec).state_dict()
        tensors = [
            (key, tuple(value.shape), itemsize if value.is_floating_point() else value.element_size())
            for key, value in state.items()
            # What need not be published is there already under another key.
            if not component.lacks(key)
        ]
        parts.append(part_of(name, tensors, tiles="tile_megapixels" in spec.memory and name.startswith("vae")))
    return tuple(parts)


def disk_bytes(spec: ModelSpec) -> int:
    """Room that a model's folder takes."""
    return sum(path.stat().st_size for path in spec.folder.rglob("*") if path.is_file())


def model_entry(status: ModelStatus) -> ModelEntry:
    """What a backend says of a model, with the memory that it takes and the LoRAs that are here."""
    return ModelEntry.of(
        status.spec,
        available=status.available,
        missing=status.missing,
        reason=status.reason,
        memory=memory_of(status.spec),
        loras=entries(status.spec) if OPTION in status.spec.options else (),
    )


def memory_of(spec: ModelSpec) -> dict[str, float]:
    """GB of GPU memory at the default size and on disk, as far as they are known."""
    said: dict[str, float] = {}
    if (sizes := gpu_gigabytes(spec)) is not None:
        said = {"gpu_gb": round(sizes[0], 1), "gpu_gb_least": round(sizes[1], 1)}
    disk = disk_bytes(spec) / GB
    fetch = sum(source.gigabytes for source in spec.sources if not source.optional)
    return {**said, "disk_gb": round(disk or fetch, 2)}
