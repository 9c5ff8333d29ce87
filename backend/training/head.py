"""Training of the head that corrects the carried film of dressed people (``models.isa.head``).

A run lives in one folder: ``run.json`` (what it was begun with), ``clips/``, ``head.ckpt``, ``head.log``, TensorBoard's
curves in ``logs/``, and ``head/``, the weights. Every part goes on where it was stopped.

Shape letters: B clips of a batch, T frames of a clip, H W picture, h w cut.
"""

from __future__ import annotations

import json
import os
import shutil
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..catalogue.models import ModelSpec, model_spec
from ..models.isa.build import load_head, new_head
from ..models.isa.head import CHANNELS, MIRRORED, SPREAD, CarriedHead, corrected, head_inputs, spread_out
from ..raster.carry import carry_shot
from ..worlds.sample import make_sample, to_shot
from .checkpoint import load_averaged
from .config import read_section
from .data import claim_data, shard_seeds, time_is_up
from .errors import TrainingError
from .launch import new_accelerator
from .loop import Loop
from .perceptual import PerceptualLoss
from .schedule import LoopConfig
from .stamp import differences, read_stamp, write_stamp

CHECKPOINT = "head.ckpt"
_PASSING = ("steps", "lr", "warmup", "decay", "save_minutes", "precision")
"""Entries of [loop] that may change while a run is under way."""
_PARTS = ("inputs", "gate", "target", "beyond", "mask")
"""Of a clip's file."""
_PICTURES = (0, 3, 6)
"""First channels of the pictures among them: carried film, background, clay."""
_FIGURE, _SLOPE = 28 / 127.5, 0.08


@dataclass(frozen=True)
class HeadDataConfig:
    """What to make.

    Attributes:
        clips: number of dressed shots; those in which nothing is seen to be worn teach nothing and are passed over.
        size: H = W, a multiple of 8, near ``models.isa.head.SIDE``.
        frames: made of each; step: every so-many-th is kept.
    """

    clips: int = 600
    size: int = 128
    frames: int = 5
    step: int = 2


@dataclass(frozen=True)
class HeadLossConfig:
    """What the head minimises: differences of pixels, and of their differences to their neighbours, as a share of what
    the carried film itself is off by, clip by clip.

    Attributes:
        cut: h = w of what is seen of each clip at a time; frames: how many of its frames.
        figure: weight of the pixels of the people, beside 1.
        square: weight of squared differences; edges: of neighbours' differences; outline: of pixels that stand out from
            the background in one film and not in the other; all beside 1 of plain differences.
        perceptual: weight of ``training.perceptual``, beside 1 of all these, as a share of the carried film's, as
            these are; it does not reward blur.
        doubt: weight of outlines that are neither here nor there, which films show as mist.
        floor: added to what the carried film is off by, or clips that lack nothing would count most.
    """

    cut: int = 96
    frames: int = 1
    figure: float = 2.0
    square: float = 2.0
    edges: float = 0.5
    outline: float = 0.5
    perceptual: float = 1.0
    doubt: float = 0.3
    floor: float = 2e-3


@dataclass(frozen=True)
class HeadRunConfig:
    """One file of ``presets/training`` that has a ``[head_data]``: the model whose head it trains, and how."""

    model: str
    loop: LoopConfig
    data: HeadDataConfig = field(default_factory=HeadDataConfig)
    loss: HeadLossConfig = field(default_factory=HeadLossConfig)


@dataclass(frozen=True)
class HeadRun:
    """Where and how a run happens: ``until`` is the ``time.time()`` at which it stops with a checkpoint, or None."""

    config: HeadRunConfig
    folder: Path
    device: str = "cpu"
    until: float | None = None

    @property
    def spec(self) -> ModelSpec:
        """The model whose head is trained."""
        return model_spec(self.config.model)


_SECTIONS: dict[str, tuple[str, type]] = {
    "loop": ("loop", LoopConfig),
    "head_data": ("data", HeadDataConfig),
    "head_loss": ("loss", HeadLossConfig),
}


def is_head_run(path: Path) -> bool:
    """Whether a file of ``presets/training`` trains a head."""
    try:
        return "head_data" in tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return False


def read_head_config(path: Path) -> HeadRunConfig:
    """Read a run's file. Raises TrainingError that names the entry at fault."""
    table = tomllib.loads(path.read_text("utf-8"))
    unknown = sorted(set(table) - set(_SECTIONS) - {"model"})
    if unknown or "model" not in table:
        problem = f"no section [{unknown[0]}] is known" if unknown else "model is missing"
        raise TrainingError(f"{path}: {problem}; see presets/training/nano-head.toml")
    found: dict[str, Any] = {
        name: read_section(kind, table.get(key, {}), key, path) for key, (name, kind) in _SECTIONS.items()
    }
    config = HeadRunConfig(table["model"], **found)
    if "head" not in model_spec(config.model).components:
        raise TrainingError(f"{path}: {config.model} has no head; give its description a [head]")
    for name, value in (("[head_data] size", config.data.size), ("[head_loss] cut", config.loss.cut)):
        if value < 8 or value % 8 or value > config.data.size:
            raise TrainingError(f"{path}: {name} = {value}; give a multiple of 8, and no larger cut than the size")
    return config


def clip_path(run: HeadRun, number: int) -> Path:
    """File of a clip."""
    data = run.config.data
    return run.folder / "clips" / f"{data.size}px_{data.frames}f_{data.step}_{number:05d}.npz"


def make_clips(run: HeadRun) -> bool:
    """Make the missing clips while there is time; returns whether all are there."""
    from tqdm import tqdm

    data = run.config.data
    claim_data(run.folder / "clips")
    for number in tqdm(range(data.clips), desc="dressed clips", unit="clip"):
        path = clip_path(run, number)
        if path.exists():
            continue
        if time_is_up(run.until):
            return False
        # Shots with three characters are the fewest, so that no other run's shards reach these seeds.
        seeds = shard_seeds(data.frames, 3, 20_000 + number // 64)
        partial = path.with_suffix(f".{os.getpid()}.partial.npz")
        np.savez(partial, **make_clip(seeds[number % 64], data, run.device))  # type: ignore[arg-type]
        os.replace(partial, path)
    return True


def make_clip(seed: int, data: HeadDataConfig, device: str = "cpu") -> dict[str, np.ndarray]:
    """``inputs`` (T,CHANNELS,H,W) and ``gate`` (T,1,H,W) of ``head_inputs``, ``target`` (T,3,H,W) in [-1, 1],
    ``beyond`` (T,3,H,W) of ``spread_out``, all float16, and ``mask`` (T,1,H,W) bool, of one dressed shot; no frames
    where nothing is seen to be worn."""
    sample = make_sample(seed, data.frames, data.size, dressed=True, device=device)
    film = carry_shot(to_shot(sample), data.size, data.size, device)
    plate, clay = (torch.from_numpy(each).float() for each in (sample.background, sample.clay))
    x, gate = head_inputs(film, plate, clay, [not sample.lit_references] * len(sample.points))
    kept = slice(None, None if bool(gate.any()) else 0, data.step)
    target = torch.from_numpy(sample.video).permute(0, 3, 1, 2) / 127.5 - 1
    beyond = spread_out((x[:, :3] + 1) / 2, torch.from_numpy(film.character), SPREAD)
    named = {"inputs": x, "gate": gate, "target": target, "beyond": beyond}
    arrays = {name: part[kept].numpy().astype(np.float16) for name, part in named.items()}
    return {**arrays, "mask": sample.mask[kept, None]}


class Clips:
    """Made clips in memory, by cuts around what may be changed."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._clips = []
        for path in paths:
            with np.load(path) as stored:
                clip = tuple(torch.from_numpy(stored[name]) for name in _PARTS)
            if len(clip[0]):
                self._clips.append(clip)
        if not self._clips:
            raise TrainingError("no clip shows anything worn; give [head_data] more clips")

    def __len__(self) -> int:
        return len(self._clips)

    def batch(self, count: int, cut: int, frames: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Inputs, gate, target, beyond and mask (B,T,.,h,w) float32 of random clips, mirrored and in other colours."""

        def draw(least: int, end: int) -> int:
            return int(torch.randint(least, max(end, least + 1), (1,), generator=generator))

        rows = []
        for _ in range(count):
            clip = self._clips[draw(0, len(self))]
            chosen = torch.randperm(len(clip[0]), generator=generator)[:frames]
            chosen = chosen.repeat(frames)[:frames]
            places = torch.nonzero(clip[1].amax(dim=(0, 1)) > 0.5)
            middle = places[draw(0, len(places))]
            sides = clip[0].shape[2:]
            corner = [min(max(int(at) - draw(0, cut), 0), side - cut) for at, side in zip(middle, sides, strict=True)]
            rows_, columns = (slice(at, at + cut) for at in corner)
            x, gate, target, beyond, mask = (part[chosen][..., rows_, columns].float() for part in clip)
            if draw(0, 2):
                x, gate, target, beyond, mask = (part.flip(-1) for part in (x, gate, target, beyond, mask))
                x[:, list(MIRRORED)] *= -1
            order = torch.randperm(3, generator=generator)
            index = torch.arange(CHANNELS)
            for first in _PICTURES:
                index[first : first + 3] = first + order
            rows.append((x[:, index], gate, target[:, order], beyond[:, order], mask))
        return tuple(torch.stack(parts) for parts in zip(*rows, strict=True))


class HeadLoss:
    """Loss of one batch, see ``HeadLossConfig``."""

    def __init__(self, clips: Clips, config: HeadLossConfig, batch: int, device: torch.device) -> None:
        self.clips, self.config, self.batch, self.device = clips, config, batch, device
        self.structure = PerceptualLoss().to(device)

    def __call__(self, model: nn.Module, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        config = self.config
        drawn = self.clips.batch(self.batch, config.cut, config.frames, generator)
        x, gate, target, beyond, mask = (part.to(self.device) for part in drawn)
        carried, wrong = x[:, :, :3], model(x, gate)
        made = 2 * corrected((carried + 1) / 2, beyond, (x[:, :, 3:6] + 1) / 2, wrong) - 1
        share, given = (self._off(film, target, mask, x[:, :, 3:6]) for film in (made, carried))
        loss = (share / (given + config.floor)).mean()
        features = self.structure.targets(target.transpose(1, 2))
        found, before = (self.structure.distance(film.transpose(1, 2), features) for film in (made, carried))
        doubt = sum(4 * (part * (1 - part)).clamp(min=0).mean() for part in (wrong[1], wrong[3])) / gate.mean()
        return loss + config.perceptual * found / (before + config.floor) + config.doubt * doubt, {}

    def _off(self, film: Tensor, target: Tensor, mask: Tensor, background: Tensor) -> Tensor:
        """How far films are off their targets (B,)."""
        config, off = self.config, film - target
        weight = 1 + config.figure * mask
        edges = [_smooth(off.diff(dim=dim)).mean(dim=(1, 2, 3, 4)) for dim in (-1, -2)]
        plain = (_smooth(off) + config.square * off.square()) * weight
        outline = (_stands_out(film, background) - _stands_out(target, background)).abs()
        total = plain.mean(dim=(1, 2, 3, 4)) + config.edges * (edges[0] + edges[1])
        return total + config.outline * outline.mean(dim=(1, 2, 3, 4))


def _stands_out(film: Tensor, background: Tensor) -> Tensor:
    """About 1 (B,T,1,h,w) where the worst channel differs from the background by more than a figure does when it is
    looked for (``evaluation.silhouette``), and 0 elsewhere."""
    return torch.sigmoid(((film - background).abs().amax(dim=2, keepdim=True) - _FIGURE) / _SLOPE)


def _smooth(x: Tensor) -> Tensor:
    """About |x|, with a gradient at 0."""
    return (x.square() + 1e-4).sqrt() - 1e-2


def train_head(run: HeadRun) -> tuple[bool, CarriedHead]:
    """Make clips and train, or go on with it, to the last step or until the time is up.

    A run begins with the model's head where it has one.

    Returns:
        Whether the run is complete, and the head with its averaged weights.

    Raises:
        TrainingError: the folder holds a run that was begun otherwise.
    """
    config, checkpoint = run.config, run.folder / CHECKPOINT
    mine = {"head": dict(run.spec.components["head"]), **asdict(config)}
    mine["loop"] = {name: value for name, value in asdict(config.loop).items() if name not in _PASSING}
    theirs = read_stamp(run.folder / "run.json")
    if theirs is not None and checkpoint.exists() and (differing := differences(theirs, _plain(mine))):
        raise TrainingError(f"{run.folder} holds a run that was begun otherwise: {differing}; name another --folder")
    write_stamp(run.folder / "run.json", mine)
    torch.manual_seed(config.loop.seed)
    head = new_head(run.spec)
    if (run.spec.folder / "head" / "config.json").exists():
        head.load_state_dict(load_head(run.spec).state_dict())
    made = make_clips(run)
    accelerator = new_accelerator(run.device, config.loop.precision, run.folder / "logs")
    loop = Loop(head, config.loop, checkpoint, accelerator)
    loop.resume()
    done = False
    paths = [path for number in range(config.data.clips) if (path := clip_path(run, number)).exists()]
    if made:
        loss = HeadLoss(Clips(paths), config.loss, config.loop.batch, loop.device)
        done = loop.run(loss, run.until, f"{config.model} head", run.folder / "head.log")
    if checkpoint.exists():
        load_averaged(checkpoint, head)
    return done, head.cpu().eval()


def _plain(table: dict[str, Any]) -> dict[str, Any]:
    """A table as it comes back from JSON."""
    return json.loads(json.dumps(table))


def export_head(head: CarriedHead, folder: Path, name: str) -> Path:
    """Write a head in float16 to ``folder``/head, whole or not at all."""
    made = folder / ".head"
    shutil.rmtree(made, ignore_errors=True)
    head.register_to_config(_name_or_path=name)
    head.half().save_pretrained(made)
    for file in made.glob("*.safetensors"):
        file.chmod(0o644)
    shutil.rmtree(folder / "head", ignore_errors=True)
    made.rename(folder / "head")
    return folder / "head"
