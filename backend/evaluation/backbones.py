"""The trained networks that LPIPS and FVD need: files of the user's, never fetched and never replaced by others."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .perceptual import CHANNELS, LPIPS, VideoFeatures, alexnet_features

ALEXNET = "alexnet-owt-*.pth"
"""torchvision's AlexNet; after the dash come the first eight digits of the file's SHA-256."""

I3D = "i3d_torchscript.pt"
"""I3D as StyleGAN-V publishes it: a TorchScript program with its weights."""

WHERE = {
    ALEXNET: "download.pytorch.org/models/alexnet-owt-7be5be79.pth, linked from torchvision's page on AlexNet",
    I3D: "the address that StyleGAN-V's src/metrics/frechet_video_distance.py names (github.com/universome/stylegan-v)",
}
"""Where each file is published."""

_ARGUMENTS = {"rescale", "resize", "return_features"}


class BackboneError(ValueError):
    """A network's file that cannot be used; the message names the file, what is wrong and where it is published."""


@dataclass(frozen=True)
class Backbones:
    """What is at hand.

    Attributes:
        lpips: the network of LPIPS, or None. i3d: that of FVD, or None.
        absent: for each that is None, one sentence that says why and where its file is published.
        digests: SHA-256 of each file in use, by the name of the measure.
    """

    lpips: LPIPS | None = None
    i3d: VideoFeatures | None = None
    absent: tuple[str, ...] = ()
    digests: Mapping[str, str] | None = None


def backbones_home() -> Path | None:
    """Where the files are looked for unless the user says: ``MAQUETTE_BACKBONES``, or ``backbones`` in the user's data
    folder where there is one."""
    if named := os.environ.get("MAQUETTE_BACKBONES"):
        return Path(named).expanduser()
    from platformdirs import user_data_path

    folder = user_data_path("maquette", appauthor=False) / "backbones"
    return folder if folder.is_dir() else None


def find_backbones(folder: Path | None, device: torch.device | str = "cpu") -> Backbones:
    """Load what a folder holds; what is absent or cannot be used is told in ``absent``.

    I3D's file is a program. TorchScript runs none of Python's code, but gives no promise against a malicious file: it
    must come from someone the user trusts.

    Args:
        folder: with the files, or None for none.

    Raises:
        BackboneError: the folder was named and does not exist.
    """
    if folder is not None and not folder.is_dir():
        raise BackboneError(f"{folder}: there is no such folder; name the one that holds {ALEXNET} and {I3D}")
    absent: list[str] = []
    lpips, i3d, digests = None, None, {}
    try:
        path = _file(folder, ALEXNET)
        lpips = LPIPS(load_alexnet(path), _heads()).to(device)
        digests["lpips"] = _digest(path)
    except BackboneError as error:
        absent.append(f"LPIPS: {error}")
    try:
        path = _file(folder, I3D)
        i3d = VideoFeatures(load_i3d(path, device), device)
        digests["fvd"] = _digest(path)
    except BackboneError as error:
        absent.append(f"FVD: {error}")
    return Backbones(lpips, i3d, tuple(absent), digests)


def _file(folder: Path | None, pattern: str) -> Path:
    """The file of a folder that fits a pattern; of several the last by name."""
    found = sorted(folder.glob(pattern)) if folder is not None else []
    if not found:
        place = "no folder of networks was given (--backbones)" if folder is None else f"it is not in {folder}"
        raise BackboneError(f"it needs {pattern}, and {place}; it is published at {WHERE[pattern]}")
    return found[-1]


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def load_alexnet(path: Path) -> torch.nn.Sequential:
    """AlexNet's convolutions from torchvision's file; read as tensors only.

    Raises:
        BackboneError: the file is cut short, is something else, or is not what its name says.
    """
    again = f"fetch it again from {WHERE[ALEXNET]}"
    named = re.search(r"-([0-9a-f]{8,})\.pth$", path.name)
    if named is not None and not _digest(path).startswith(named[1]):
        raise BackboneError(
            f"{path}: the file does not have the checksum {named[1]} of its name: it is cut short or altered; {again}"
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise BackboneError(f"{path}: cannot be read as a file of weights ({_line(error)}); {again}") from error
    features = alexnet_features()
    wanted = features.state_dict()
    found = _convolutions(state)
    wrong = [key for key, value in wanted.items() if key not in found or found[key].shape != value.shape]
    if wrong:
        raise BackboneError(
            f"{path}: features.{wrong[0]} is absent or has another shape, so that it is not AlexNet; {again}"
        )
    features.load_state_dict({key: found[key] for key in wanted})
    return features


def _convolutions(state: Any) -> dict[str, Tensor]:
    """The tensors of ``features.`` by the rest of their names."""
    if not isinstance(state, Mapping):
        return {}
    return {
        key.removeprefix("features."): value
        for key, value in state.items()
        if isinstance(key, str) and key.startswith("features.") and isinstance(value, Tensor)
    }


def load_i3d(path: Path, device: torch.device | str = "cpu") -> torch.jit.ScriptModule:
    """I3D from StyleGAN-V's file.

    Raises:
        BackboneError: the file is cut short, or is another program.
    """
    again = f"fetch it again from {WHERE[I3D]}"
    try:
        network = torch.jit.load(str(path), map_location=device)
        takes = {argument.name for argument in network.forward.schema.arguments}  # type: ignore[union-attr]
    except Exception as error:
        raise BackboneError(f"{path}: cannot be read as a TorchScript program ({_line(error)}); {again}") from error
    if not takes >= _ARGUMENTS:
        raise BackboneError(f"{path}: the program does not take {', '.join(sorted(_ARGUMENTS - takes))}; {again}")
    return network


def _heads() -> dict[str, Tensor]:
    """The weightings of LPIPS's layers, which torchmetrics ships."""
    import torchmetrics.functional.image.lpips as shipped

    path = Path(shipped.__file__).parent / "lpips_models" / "alex.pth"
    try:
        heads = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise BackboneError(f"{path}: cannot be read ({_line(error)}); install torchmetrics again") from error
    wrong = [k for k, channels in enumerate(CHANNELS) if _shape(heads, k) != (1, channels, 1, 1)]
    if wrong:
        raise BackboneError(f"{path}: lin{wrong[0]}.model.1.weight is not as it should be; install torchmetrics again")
    return heads


def _shape(heads: Mapping[str, Tensor], layer: int) -> tuple[int, ...]:
    value = heads.get(f"lin{layer}.model.1.weight")
    return () if value is None else tuple(value.shape)


def _line(error: Exception) -> str:
    """The first line of what went wrong: torch's own messages run over many."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
