"""A whole training run: data, VAE, encoding, DiT, export. Every part resumes where it was stopped.

A run lives in one folder: ``data/`` shards, ``vae.ckpt``, ``vae/`` (finished, with its latents' statistics),
``latents/``, ``dit.ckpt`` and a ``.log`` of each loop.
"""

from __future__ import annotations

import time
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from ..models.isa.build import load_image_encoder, new_transformer, new_vae
from ..models.isa.vae import AutoencoderKLISA
from ..models.registry import ModelSpec, model_spec
from .data import DataConfig, make_data, shard_paths
from .dit import DiTLoss, DiTLossConfig, Latents
from .encode import encode_data
from .errors import TrainingError
from .launch import in_bfloat16, new_accelerator, spread
from .loop import Loop, LoopConfig
from .vae import (
    Films,
    VAELossConfig,
    VAEObjective,
    VAEStartConfig,
    latent_statistics,
    start_from_components,
    start_from_image_vae,
)

PRESETS = Path(__file__).resolve().parents[2] / "presets" / "training"
STAGES = ("data", "vae", "dit", "export")
_STATISTICS_SHARDS = 2

Section = TypeVar("Section")


@dataclass(frozen=True)
class RunConfig:
    """One file of ``presets/training``.

    Attributes:
        model: id in presets/models, whose configuration is trained.
        data, long_data: the shots to make. The VAE learns from ``long_data``, too, where its clips need them.
        vae, dit: the loops. vae_loss, dit_loss: what they minimise.
        start: what the VAE starts from.
    """

    model: str
    data: DataConfig
    long_data: DataConfig
    vae: LoopConfig
    vae_loss: VAELossConfig
    dit: LoopConfig
    dit_loss: DiTLossConfig
    start: VAEStartConfig = field(default_factory=VAEStartConfig)


def _section(kind: type[Section], table: dict[str, Any], name: str, path: Path) -> Section:
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(table) - known)
    if unknown:
        raise TrainingError(f"{path}: [{name}] has no {', '.join(unknown)}; choose from {', '.join(sorted(known))}")
    try:
        return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in table.items()})
    except TypeError as error:
        raise TrainingError(f"{path}: [{name}] is incomplete ({error})") from error


def read_config(path: Path) -> RunConfig:
    """Read a run's file. Raises TrainingError that names the entry at fault."""
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TrainingError(f"{path}: not a readable training file ({error})") from error
    kinds: dict[str, type] = {
        "data": DataConfig,
        "long_data": DataConfig,
        "vae": LoopConfig,
        "vae_loss": VAELossConfig,
        "dit": LoopConfig,
        "dit_loss": DiTLossConfig,
        "start": VAEStartConfig,
    }
    unknown = sorted(set(table) - set(kinds) - {"model"})
    if unknown or "model" not in table:
        problem = f"no section [{unknown[0]}] is known" if unknown else "model is missing"
        raise TrainingError(f"{path}: {problem}; see presets/training/nano.toml")
    sections = {name: _section(kind, table.get(name, {}), name, path) for name, kind in kinds.items()}
    return RunConfig(model=table["model"], **sections)


@dataclass(frozen=True)
class Run:
    """Where and how a run happens; what its workers are given.

    Attributes:
        config: what to train.
        folder: of everything the run writes.
        device: ``cpu`` or ``cuda``.
        workers: processes that share each step; 1 on a GPU.
        until: ``time.time()`` at which the loops stop with a checkpoint, or None.
    """

    config: RunConfig
    folder: Path
    device: str = "cpu"
    workers: int = 2
    until: float | None = None

    @property
    def spec(self) -> ModelSpec:
        """The trained model's description."""
        return model_spec(self.config.model)

    def shards(self) -> list[Path]:
        """Files of the short shots."""
        return shard_paths(self.folder / "data", self.config.data)

    def latents(self) -> list[Path]:
        """Encoded files of all shots."""
        paths = self.shards() + shard_paths(self.folder / "data", self.config.long_data)
        return [self.folder / "latents" / (path.stem + ".pt") for path in paths]


def make_shots(run: Run) -> None:
    """Make the missing synthetic shots."""
    for config in (run.config.data, run.config.long_data):
        make_data(run.folder / "data", config, workers=max(run.workers, 1), device=run.device)


def _share_of_films(run: Run, process: int, processes: int) -> list[Path]:
    """The shards that one of several processes trains the VAE on; long shots are among them where they are of use."""
    loss = run.config.vae_loss
    paths = run.shards()[process::processes]
    if loss.dynamic_speed or max(loss.frames + loss.long_frames) > run.config.data.frames:
        long = shard_paths(run.folder / "data", run.config.long_data)
        paths += long[process::processes] or long
    return paths


def _vae_worker(run: Run) -> bool:
    config = run.config
    accelerator = new_accelerator(run.device, config.vae.precision, run.folder / "logs")
    torch.manual_seed(config.vae.seed)
    model = new_vae(run.spec)
    films = Films(_share_of_films(run, accelerator.process_index, accelerator.num_processes))
    loss_config = replace(config.vae_loss, bf16=config.vae_loss.bf16 and accelerator.mixed_precision == "bf16")
    loss = VAEObjective(films, loss_config, config.vae.batch, accelerator.device, model)
    loop = Loop(model, config.vae, run.folder / "vae.ckpt", accelerator, loss.companions, loss.rivals)
    if not loop.resume():
        if config.start.image_vae:
            model.load_state_dict(start_from_image_vae(run.spec, Path(config.start.image_vae)).state_dict())
        elif model.config["linear_shortcut"]:
            start_from_components(model, Films(run.shards()[:_STATISTICS_SHARDS]))
        loop.ema.reset(model)
    done = loop.run(loss, run.until, f"{config.model} VAE", run.folder / "vae.log")
    if done and accelerator.is_main_process:
        _finish_vae(run, loop, model)
    return done


def _finish_vae(run: Run, loop: Loop, model: AutoencoderKLISA) -> None:
    """Write the VAE with its averaged weights and the statistics of its latents."""
    loop.ema.copy_to(model)
    model.eval()
    statistics = latent_statistics(model, Films(run.shards()[:_STATISTICS_SHARDS]))
    model.register_to_config(**statistics)
    model.save_pretrained(run.folder / "vae")


def _dit_worker(run: Run) -> bool:
    config = run.config
    accelerator = new_accelerator(run.device, config.dit.precision, run.folder / "logs")
    torch.manual_seed(config.dit.seed)
    model = new_transformer(run.spec)
    loop = Loop(model, config.dit, run.folder / "dit.ckpt", accelerator)
    loop.resume()
    dtype = torch.bfloat16 if loop.bf16 else torch.float32
    loss = DiTLoss(Latents(run.latents()), config.dit_loss, config.dit.batch, loop.device, dtype)
    return loop.run(loss, run.until, f"{config.model} DiT", run.folder / "dit.log")


def train_vae(run: Run) -> bool:
    """Train the VAE; returns whether it is complete."""
    return (run.folder / "vae" / "config.json").exists() or spread(_vae_worker, run, run.workers)


def trained_vae(run: Run) -> AutoencoderKLISA:
    """The run's finished VAE."""
    folder = run.folder / "vae"
    if not (folder / "config.json").exists():
        raise TrainingError(f"{folder} holds no finished VAE; run 'maquette train vae' to its last step first")
    vae = AutoencoderKLISA.from_pretrained(folder, local_files_only=True)
    nn.Module.to(vae, run.device)
    return vae.eval()


def train_dit(run: Run) -> bool:
    """Encode what is not encoded yet and train the DiT; returns whether it is complete."""
    paths = shard_paths(run.folder / "data", run.config.data) + shard_paths(run.folder / "data", run.config.long_data)
    if not all(path.exists() for path in run.latents()):
        bf16 = in_bfloat16(run.config.dit.precision, torch.device(run.device))
        image_encoder = None
        if (width := run.spec.components["transformer"].get("image_embed_dim")) is not None:
            image_encoder = load_image_encoder(run.spec, width, torch.bfloat16 if bf16 else torch.float32)
            image_encoder.to(run.device)
        encode_data(trained_vae(run), paths, run.folder / "latents", bf16, image_encoder)
        del image_encoder
    return spread(_dit_worker, run, run.workers)


def averaged_transformer(run: Run) -> tuple[nn.Module, int]:
    """The DiT with its averaged weights, and the steps it has seen."""
    model = new_transformer(run.spec)
    loop = Loop(model, run.config.dit, run.folder / "dit.ckpt")
    if not loop.resume():
        raise TrainingError(f"{run.folder} holds no dit.ckpt; run 'maquette train dit' first")
    loop.ema.copy_to(model)
    return model.eval(), loop.step


def export(run: Run, folder: Path | None = None) -> Path:
    """Write VAE and DiT in float16 where the model's preset looks for them (or to ``folder``)."""
    target = folder or run.spec.folder
    vae = trained_vae(run).cpu()
    transformer, _ = averaged_transformer(run)
    vae.half().save_pretrained(target / "vae")
    transformer.half().save_pretrained(target / "transformer")  # type: ignore[operator]
    for file in target.rglob("*.safetensors"):
        file.chmod(0o644)
    return target


def train(run: Run, stages: Sequence[str] = STAGES) -> bool:
    """Run the stages in order; returns whether all are complete. Stops early when the time is up."""
    parts: dict[str, Callable[[Run], Any]] = {
        "data": make_shots,
        "vae": train_vae,
        "dit": train_dit,
        "export": export,
    }
    run.folder.mkdir(parents=True, exist_ok=True)
    for stage in stages:
        if parts[stage](run) is False:
            return False
        if run.until is not None and time.time() >= run.until and stage != stages[-1]:
            return False
    return True
