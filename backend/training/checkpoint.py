"""Checkpoints: written whole or not at all, and read only into the run that they belong to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .errors import TrainingError
from .players import Player
from .sharding import like

_ENTRIES = ("modules", "players", "ema", "step", "skipped", "figures")


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write ``state``; what ``path`` held before stays until the file is whole and on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with open(partial, "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def read_checkpoint(path: Path, mapped: bool = False) -> dict[str, Any]:
    """Read what ``write_checkpoint`` wrote, into main memory.

    Args:
        mapped: leave it on the disk until it is used, and then share it with other processes.

    Raises:
        TrainingError: the file is cut short, or no checkpoint of a training loop.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # torch.load raises nearly anything on a damaged file
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise TrainingError(f"{path}: cut short or no checkpoint ({reason}); delete it to begin again") from error
    missing = [name for name in _ENTRIES if not isinstance(state, dict) or name not in state]
    if missing:
        raise TrainingError(
            f"{path}: a checkpoint of another version ({', '.join(missing)} missing); delete it to begin again"
        )
    return state


def pack(players: Mapping[str, Player]) -> dict[str, Any]:
    """The state of all networks and their optimisers, by the player's name."""
    return {
        "modules": {
            player: {name: module.state_dict() for name, module in one.modules.items()}
            for player, one in players.items()
        },
        "players": {player: one.state() for player, one in players.items()},
    }


def unpack(path: Path, state: dict[str, Any], players: Mapping[str, Player]) -> None:
    """Put a checkpoint's state into the networks and optimisers, all of it or nothing.

    Raises:
        TrainingError: other players, networks, weights or optimisers than the run's; names what differs.
    """
    _same_names(path, "players", state["modules"], players)
    for player, one in players.items():
        _same_names(path, "networks", state["modules"][player], one.modules)
        for name, module in one.modules.items():
            _same_weights(path, name, state["modules"][player][name], module)
        _same_names(path, f"optimisers of {player}", state["players"][player], one.optimizers)
        for name, optimizer in one.optimizers.items():
            theirs = [len(group["params"]) for group in state["players"][player][name]["param_groups"]]
            mine = [len(group["params"]) for group in optimizer.param_groups]
            if theirs != mine:
                raise TrainingError(
                    f"{path}: {name} of {player} trained {theirs} parameters, this run's trains {mine}; "
                    "name another --folder or begin again"
                )
    for player, one in players.items():
        for name, module in one.modules.items():
            mine = module.state_dict()
            module.load_state_dict(
                {key: like(value, mine[key]) for key, value in state["modules"][player][name].items()}
            )
        for name, optimizer in one.optimizers.items():
            optimizer.load_state_dict(_spread(state["players"][player][name], optimizer))


def _spread(state: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """An optimiser's state with the moments of each parameter spread as the parameter is."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def spread(value: Any, parameter: Tensor) -> Any:
        return like(value, parameter) if getattr(value, "shape", None) == parameter.shape else value

    entries = {
        number: {name: spread(value, parameters[number]) for name, value in found.items()}
        for number, found in state["state"].items()
    }
    return {**state, "state": entries}


def load_averaged(path: Path, model: nn.Module) -> int:
    """Put a checkpoint's averaged weights into its model; returns the steps it has seen.

    Raises:
        TrainingError: the checkpoint is cut short, or of another network.
    """
    state = read_checkpoint(path)
    weights = {**state["modules"]["model"]["model"], **state["ema"]}
    _same_weights(path, "model", weights, model)
    model.load_state_dict(weights)
    return state["step"]


def start_from(path: Path, players: Mapping[str, Player]) -> None:
    """Put a checkpoint's averaged weights into the model, and those of other networks where their names are the same.

    Raises:
        TrainingError: the checkpoint is cut short, or a network of the same name has other weights.
    """
    found = read_checkpoint(path)["modules"]
    others = [
        (name, module, found[player][name])
        for player, one in players.items()
        for name, module in one.modules.items()
        if (player, name) != ("model", "model") and name in found.get(player, {})
    ]
    for name, module, weights in others:
        _same_weights(path, name, weights, module)
    load_averaged(path, players["model"].modules["model"])
    for _, module, weights in others:
        module.load_state_dict(weights)


def _same_names(path: Path, what: str, theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> None:
    if set(theirs) != set(mine):
        raise TrainingError(
            f"{path}: holds the {what} {', '.join(sorted(theirs))}, but this run has {', '.join(sorted(mine))}; "
            "name another --folder or begin again"
        )


def _same_weights(path: Path, name: str, theirs: Mapping[str, Tensor], module: nn.Module) -> None:
    mine = module.state_dict()
    differing = [
        f"{key} is {'missing' if key not in theirs else tuple(theirs[key].shape)} "
        f"where this run's is {'none' if key not in mine else tuple(mine[key].shape)}"
        for key in [*mine, *(key for key in theirs if key not in mine)]
        if key not in theirs or key not in mine or theirs[key].shape != mine[key].shape
    ]
    if differing:
        more = f", and {len(differing) - 1} more" if len(differing) > 1 else ""
        raise TrainingError(
            f"{path}: belongs to another network: {name}: {differing[0]}{more}; name another --folder or begin again"
        )
