"""Engines around networks that a test has made, with whatever weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from maquette.backend.catalogue.models import ModelSpec
from maquette.backend.models.engine import Engine
from maquette.backend.models.family import Network
from maquette.backend.models.generation import Generation
from maquette.backend.models.isa.family import ISAFamily, carry, condition
from maquette.backend.models.isa.inputs import ISAInputs
from maquette.backend.shot import Shot


def isa_engine(spec: ModelSpec, **networks: torch.nn.Module) -> Engine:
    """An engine on the CPU, in float32, for these networks; the files of the description need only exist."""

    class Given(ISAFamily):
        def networks(self, spec: ModelSpec, shot: Shot, dtype: torch.dtype) -> Mapping[str, Network]:
            return {name: Network(lambda network=network: network) for name, network in networks.items()}

        def dtype(self, device: torch.device) -> torch.dtype:
            return torch.float32

    return Engine(spec, "cpu", family=Given())


def begun(engine: Engine, shot: Shot) -> Generation:
    """A generation whose networks are loaded."""
    run = engine.begin(shot)
    engine.load(run)
    return run


@torch.no_grad()
def isa_inputs(engine: Engine, shot: Shot) -> ISAInputs:
    """A shot's conditions as the engine makes them."""
    run = begun(engine, shot)
    return condition(run, carry(run))
