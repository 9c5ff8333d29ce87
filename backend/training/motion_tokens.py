"""Training of the motion tokenizer (4DMoT; MTVCrafter, arXiv 2505.10238, Sec. 3.2).

Shape letters: B batch, W frames of a window, J joints (24), D code width, K codes, N vectors of a batch.

The networks minimise ``|x' - x| + commit * |z - c|^2`` with codes c taken as given and gradients passed from the codes
straight to the latents z. Codes move by exponential averages of the latents that chose them; codes that hardly
anything chooses start again from latents of the batch.
"""

from __future__ import annotations

import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..models.mtvcrafter.tokenizer import MotionTokenizer
from ..models.mtvcrafter.tokenizer_layers import Codebook
from .launch import new_accelerator
from .loop import Loop
from .motion_clips import MotionDataConfig, MotionDataError, Windows, gather, split, statistics
from .schedule import LoopConfig

CHECKPOINT = "tokenizer.ckpt"
_CLIPS = "clips.npz"


@dataclass(frozen=True)
class TokenLossConfig:
    """What the networks minimise and how codes move.

    Attributes:
        commit: weight of the distance between latents and their codes.
        mu: decay of the averages that codes are.
        reset_every: updates between two looks for dead codes.
        alive: a code whose average count per update is below this is dead.
    """

    commit: float = 0.5
    mu: float = 0.99
    reset_every: int = 20
    alive: float = 1.0


@dataclass(frozen=True)
class TokenRunConfig:
    """One file of ``presets/training`` that has a ``[tokenizer]``.

    Attributes:
        tokenizer: arguments of ``MotionTokenizer``, without statistics.
        data, loop, loss: see their classes.
    """

    tokenizer: dict[str, Any]
    loop: LoopConfig
    data: MotionDataConfig = field(default_factory=MotionDataConfig)
    loss: TokenLossConfig = field(default_factory=TokenLossConfig)


def is_token_run(path: Path) -> bool:
    """Whether a file of ``presets/training`` trains a motion tokenizer."""
    try:
        return "tokenizer" in tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return False


def read_token_config(path: Path) -> TokenRunConfig:
    """Read a run's file. Raises MotionDataError that names the entry at fault."""
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise MotionDataError(f"{path}: not a readable training file ({error})") from error
    kinds: dict[str, type] = {"data": MotionDataConfig, "loop": LoopConfig, "loss": TokenLossConfig}
    unknown = sorted(set(table) - set(kinds) - {"tokenizer"})
    if unknown or "tokenizer" not in table:
        problem = f"no section [{unknown[0]}] is known" if unknown else "[tokenizer] is missing"
        raise MotionDataError(f"{path}: {problem}; see presets/training/4dmot.toml")
    sections: dict[str, Any] = {}
    for name, kind in kinds.items():
        entries = {k: tuple(v) if isinstance(v, list) else v for k, v in table.get(name, {}).items()}
        known = {entry.name for entry in fields(kind)}
        if extra := sorted(set(entries) - known):
            raise MotionDataError(f"{path}: [{name}] has no {', '.join(extra)}; choose from {', '.join(sorted(known))}")
        try:
            sections[name] = kind(**entries)
        except TypeError as error:
            raise MotionDataError(f"{path}: [{name}] is incomplete ({error})") from error
    return TokenRunConfig(tokenizer=dict(table["tokenizer"]), **sections)


class CodeAverages(nn.Module):
    """Averages of the latents that chose each code; kept beside the codebook so that a run can be resumed."""

    sums: Tensor
    counts: Tensor
    updates: Tensor

    def __init__(self, codes: int, code_dim: int, config: TokenLossConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("sums", torch.zeros(codes, code_dim))
        self.register_buffer("counts", torch.ones(codes))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def _sample(self, z_ND: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """Latents of the batch with a little noise, so that two codes never start alike."""
        rows = torch.randint(len(z_ND), (count,), generator=generator).to(z_ND.device)
        noise = torch.randn(count, z_ND.shape[1], generator=generator).to(z_ND)
        return z_ND[rows] + noise * 0.01 / z_ND.shape[1] ** 0.5

    @torch.no_grad()
    def start(self, book: Codebook, z_ND: Tensor, generator: torch.Generator) -> None:
        """Give every code a latent of the first batch."""
        book.codebook.copy_(self._sample(z_ND, len(book.codebook), generator))
        self.sums.copy_(book.codebook)
        self.counts.fill_(1.0)

    @torch.no_grad()
    def update(self, book: Codebook, z_ND: Tensor, indices_N: Tensor, generator: torch.Generator) -> int:
        """Move the codes; returns how many were dead and start again (0 between resets)."""
        if not torch.isfinite(z_ND).all():
            return 0
        chosen = torch.zeros_like(self.counts).index_add_(0, indices_N, torch.ones_like(indices_N, dtype=z_ND.dtype))
        total = torch.zeros_like(self.sums).index_add_(0, indices_N, z_ND)
        self.counts.lerp_(chosen, 1 - self.config.mu)
        self.sums.lerp_(total, 1 - self.config.mu)
        self.updates += 1
        dead = torch.zeros_like(self.counts, dtype=torch.bool)
        if int(self.updates) % self.config.reset_every == 0:
            dead = self.counts < self.config.alive
            self.sums[dead] = self._sample(z_ND, int(dead.sum()), generator)
            self.counts[dead] = 1.0
        book.codebook.copy_(self.sums / self.counts[:, None].clamp_min(1e-6))
        return int(dead.sum())


class TokenTraining(nn.Module):
    """The tokenizer and what its training adds to it; both go into the checkpoint."""

    def __init__(self, tokenizer: MotionTokenizer, config: TokenLossConfig) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        codes, code_dim = tokenizer.vq.codebook.shape
        self.averages = CodeAverages(codes, code_dim, config)


class TokenLoss:
    """Loss of one batch of windows; while the model is in training mode it moves the codebook on the way."""

    def __init__(self, windows: Windows, config: TokenLossConfig, batch: int, device: torch.device) -> None:
        self.windows, self.config, self.batch, self.device = windows, config, batch, device

    def __call__(self, model: nn.Module, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        assert isinstance(model, TokenTraining)
        tokenizer, averages = model.tokenizer, model.averages
        x_B3WJ = tokenizer.normalized(self.windows.batch(self.batch, generator).to(self.device))
        if model.training and int(averages.updates) == 0:
            with torch.no_grad():
                first = tokenizer.latents(x_B3WJ)
            averages.start(tokenizer.vq, _vectors(first), generator)
        z_BDFJ = tokenizer.latents(x_B3WJ)
        found = tokenizer.vq(z_BDFJ)
        back_B3WJ = tokenizer.decode_codes(z_BDFJ + (found.codes - z_BDFJ).detach())
        error = F.l1_loss(back_B3WJ, x_B3WJ)
        indices = found.indices.flatten()
        figures = {
            "l1": float(error.detach()),
            "commit": float(found.loss.detach()),
            "used": float(indices.unique().numel()),
        }
        if model.training:
            reset = averages.update(tokenizer.vq, _vectors(z_BDFJ.detach()), indices, generator)
            if int(averages.updates) % self.config.reset_every == 0:
                figures["reset"] = float(reset)
        return error + self.config.commit * found.loss, figures


def _vectors(z_BDFJ: Tensor) -> Tensor:
    return z_BDFJ.permute(0, 2, 3, 1).reshape(-1, z_BDFJ.shape[1]).float()


@dataclass(frozen=True)
class Reconstruction:
    """How well a tokenizer gives motions back.

    Attributes:
        joint_mm: mean distance of a joint to where it was, millimetres.
        pose_mm: the same with each frame's pelvis moved to where it was: the error of the pose alone.
        mean_mm: what answering always with the training set's mean would give, for scale.
        token_loss: mean squared distance of latents and codes.
        used: codes that occur.
        windows: how many windows were measured.
    """

    joint_mm: float
    pose_mm: float
    mean_mm: float
    token_loss: float
    used: int
    windows: int

    def __str__(self) -> str:
        return (
            f"{self.joint_mm:.1f} mm per joint ({self.pose_mm:.1f} mm about the pelvis; {self.mean_mm:.1f} mm for the "
            f"mean pose), token loss {self.token_loss:.3f}, {self.used} codes in use, {self.windows} windows"
        )


@torch.no_grad()
def reconstruction(tokenizer: MotionTokenizer, clips: Sequence[np.ndarray], window: int = 49) -> Reconstruction:
    """Measure on the clips (T,24,3) millimetres, cut into windows that do not overlap.

    Raises:
        MotionDataError: no clip has ``window`` frames.
    """
    pieces = [clip[i : i + window] for clip in clips for i in range(0, len(clip) - window + 1, window)]
    if not pieces:
        raise MotionDataError(f"no clip to measure on has {window} frames; give longer motions")
    was_training = tokenizer.training
    tokenizer.eval()
    sums = np.zeros(4)
    used: set[int] = set()
    for piece in pieces:
        x_13WJ = tokenizer.normalized(piece)
        found = tokenizer.encode(x_13WJ)
        back = tokenizer.millimetres(tokenizer.decode(found.tokens))[0].cpu().numpy()
        about = (back - back[:, :1]) - (piece - piece[:, :1])
        distances = [
            np.linalg.norm(d, axis=-1).mean() for d in (back - piece, about, tokenizer.statistics.mean - piece)
        ]
        sums += [*distances, float(found.loss)]
        used.update(found.indices.unique().tolist())
    tokenizer.train(was_training)
    joint, pose, mean, loss = (sums / len(pieces)).tolist()
    return Reconstruction(joint, pose, mean, loss, len(used), len(pieces))


@dataclass(frozen=True)
class TokenRun:
    """Where and how a run happens.

    Attributes:
        config: what to train.
        folder: of everything the run writes: ``clips.npz``, ``tokenizer.ckpt``, ``tokenizer.log``,
            ``logs/`` for TensorBoard, ``tokenizer/``.
        data: folder of motion files, or None for made-up motions.
        held_out: folder of motion files to measure on, or None for a share of the data.
        device: ``cpu`` or ``cuda``.
        until: ``time.time()`` at which the loop stops with a checkpoint, or None.
    """

    config: TokenRunConfig
    folder: Path
    data: Path | None = None
    held_out: Path | None = None
    device: str = "cpu"
    until: float | None = None


def _clips(run: TokenRun) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Training and held-out clips; kept in the run's folder, so that a resumed run sees the same."""
    path = run.folder / _CLIPS
    if not path.exists():
        config = run.config.data
        train, held_out = split(gather(config, run.data), config)
        if run.held_out is not None:
            held_out = gather(config, run.held_out)
        run.folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial.npz")
        named = {
            f"{kind}_{i:06d}": clip for kind, part in (("t", train), ("h", held_out)) for i, clip in enumerate(part)
        }
        np.savez(partial, **named)  # type: ignore[arg-type]
        partial.replace(path)
    with np.load(path) as stored:
        return tuple([stored[name] for name in sorted(stored) if name.startswith(kind)] for kind in "th")  # type: ignore[return-value]


def new_training(config: TokenRunConfig, clips: Sequence[np.ndarray]) -> TokenTraining:
    """An untrained tokenizer with the statistics of ``clips``. Raises MotionDataError for a wrong [tokenizer]."""
    known = statistics(clips)
    torch.manual_seed(config.loop.seed)
    try:
        tokenizer = MotionTokenizer(**config.tokenizer, mean_mm=known.mean.tolist(), std_mm=known.std.tolist())
    except (TypeError, ValueError) as error:
        raise MotionDataError(f"[tokenizer]: {error}") from error
    return TokenTraining(tokenizer, config.loss)


def train_tokens(run: TokenRun) -> tuple[bool, MotionTokenizer, Reconstruction | None]:
    """Train, or go on training, to the last step or until the time is up.

    Returns:
        Whether the run is complete, the tokenizer, and how well it gives held-out motions back (None where none are).
    """
    train, held_out = _clips(run)
    model = new_training(run.config, train)
    device = torch.device(run.device)
    # Codes are averages of latents, which need all of float32.
    config = replace(run.config.loop, precision="no")
    loop = Loop(model, config, run.folder / CHECKPOINT, new_accelerator(device, "no", run.folder / "logs"))
    loop.resume()
    windows = Windows(train, run.config.data.window)
    loss = TokenLoss(windows, run.config.loss, run.config.loop.batch, device)
    done = loop.run(loss, run.until, "motion tokenizer", run.folder / "tokenizer.log")
    tokenizer = model.tokenizer.eval()
    return done, tokenizer, reconstruction(tokenizer, held_out, windows.window) if held_out else None


def export_tokens(tokenizer: MotionTokenizer, folder: Path) -> Path:
    """Write ``config.json``, with the statistics, and the weights: a ``tokenizer/`` of an MTVCrafter model."""
    tokenizer.save_pretrained(folder)
    for file in folder.glob("*.safetensors"):
        file.chmod(0o644)
    return folder


def train_command(run: TokenRun, export_to: Path | None) -> bool:
    """Train, measure, export, and say so; returns whether the run is complete."""
    started = time.time()
    done, tokenizer, figures = train_tokens(run)
    print(f"trained for {(time.time() - started) / 60:.1f} min")
    if figures is not None:
        print(f"held-out motions: {figures}")
    print(f"weights written to {export_tokens(tokenizer, export_to or run.folder / 'tokenizer')}")
    return done
