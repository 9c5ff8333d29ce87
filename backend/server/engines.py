"""What the server needs of the models."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ..models.engine import Engine
    from ..models.family import Plan
    from ..models.registry import ModelStatus
    from ..shot import Shot


class Engines(Protocol):
    """A source of engines. One instance lives in the server, another in the engine process."""

    def models(self) -> list[ModelStatus]:
        """All models, available or not (called in the server)."""
        ...

    def plan(self, shot: Shot) -> Plan:
        """What would be made of the shot; raises EngineError (called in the server)."""
        ...

    def load(self, model_id: str, device: str | None) -> Engine:
        """Load a model (called in the engine process)."""
        ...

    def draft(self, model_id: str, device: str | None) -> Engine:
        """An engine for drafts at a model's size, without weights (called in the engine process)."""
        ...

    def device(self, wanted: str | None) -> str:
        """The device that ``load`` uses, in words (called in the engine process)."""
        ...

    def warm_up(self, device: str | None) -> Iterator[None]:
        """Import what jobs need, a piece at a time, as long as nobody waits (called in the engine process)."""
        ...


class RegistryEngines:
    """The models of presets/models, and of more folders like it."""

    def __init__(self, folders: tuple[Path, ...] = ()) -> None:
        self._folders = folders

    def models(self) -> list[ModelStatus]:
        """See Engines."""
        from ..models.registry import list_models

        return list_models(self._folders)

    def plan(self, shot: Shot) -> Plan:
        """See Engines."""
        from ..models.registry import plan_shot

        return plan_shot(shot, self._folders)

    def load(self, model_id: str, device: str | None) -> Engine:
        """See Engines."""
        from ..models.engine import load_engine

        return load_engine(model_id, device, self._folders)

    def draft(self, model_id: str, device: str | None) -> Engine:
        """See Engines."""
        from ..catalogue.models import model_spec
        from ..models.engine import Engine

        return Engine(model_spec(model_id, self._folders), device)

    def device(self, wanted: str | None) -> str:
        """See Engines."""
        import torch

        device = torch.device(wanted or ("cuda" if torch.cuda.is_available() else "cpu"))
        if device.type == "cuda":
            return f"{device} ({torch.cuda.get_device_name(device)})"
        return str(device)

    def warm_up(self, device: str | None) -> Iterator[None]:
        """See Engines."""
        # What every job needs comes first, then the drafts', then the slowest third of what the networks need.
        for module in ("media", "raster.carry", "models.engine"):
            importlib.import_module(f"..{module}", __package__)
            yield
        importlib.import_module("diffusers.utils.torch_utils")
        importlib.import_module("..models.memory.placement", __package__)
        yield
        from ..catalogue.models import DEFAULT_MODEL
        from ..models.engine import load_engine
        from ..models.registry import list_models

        if any(status.spec.id == DEFAULT_MODEL and status.available for status in list_models(self._folders)):
            load_engine(DEFAULT_MODEL, device, self._folders)
        yield


def make_engines(path: str, folders: tuple[Path, ...]) -> Engines:
    """The engines that the factory ``module:attribute`` makes of folders with model descriptions."""
    module, _, attribute = path.partition(":")
    factory: Any = getattr(importlib.import_module(module), attribute)
    return factory(folders)
