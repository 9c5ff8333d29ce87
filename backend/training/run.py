"""A whole training run: data, VAE, encoding, DiT, export. Every part resumes where it was stopped.

A run lives in one folder: ``run.json`` (what it was begun with), ``data/`` shards, ``vae.ckpt`` (and
``vae_long.ckpt``), ``vae/`` (finished, with its latents' statistics), ``latents/``, ``dit.ckpt``, a ``.log`` of each
loop, and TensorBoard's curves in ``logs/``.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ..catalogue.models import ModelSpec
from ..models.isa.build import load_image_encoder, load_transformer, load_vae, new_transformer, new_vae
from ..models.isa.transformer import ISATransformer3DModel
from ..models.isa.vae import AutoencoderKLISA
from .checkpoint import load_averaged
from .config import LOOPS, PRESETS, RunConfig, read_config
from .data import claim_data, made_paths, make_data
from .dit import DiTLoss, Latents
from .encode import encode_data
from .errors import TrainingError
from .launch import first_alone, in_bfloat16, new_accelerator, run_processes
from .loop import Loop
from .pictures import show_clips, show_samples
from .schedule import LoopConfig
from .stamp import differences, read_stamp, write_stamp
from .strength import temper
from .vae import (
    Films,
    VAELossConfig,
    VAEObjective,
    latent_statistics,
    save_whole,
    start_from_components,
    start_from_image_vae,
)

__all__ = ["PRESETS", "STAGES", "RunConfig", "TrainingError", "TrainingRun", "export", "read_config", "train"]

STAGES = ("data", "vae", "dit", "export")
_STATISTICS_SHARDS = 2


@dataclass(frozen=True)
class TrainingRun:
    """Where and how a run happens; what its processes are given.

    Attributes:
        config: what to train.
        folder: of everything the run writes.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        workers: processes that share each step, see ``launch.processes``.
        until: ``time.time()`` at which the loops stop with a checkpoint, or None.
    """

    config: RunConfig
    folder: Path
    device: str = "cpu"
    workers: int = 2
    until: float | None = None

    @property
    def spec(self) -> ModelSpec:
        """The trained model's description, with the run's overrides."""
        return self.config.spec

    @property
    def vae_folder(self) -> Path:
        """Where the finished VAE lies."""
        return self.folder / "vae"

    def shards(self) -> list[Path]:
        """Files of the short shots that are made."""
        return made_paths(self.folder / "data", self.config.data)

    def long_shards(self) -> list[Path]:
        """Files of the long shots that are made."""
        return made_paths(self.folder / "data", self.config.long_data)

    def latents(self) -> list[Path]:
        """Encoded files of these shots."""
        return [self.folder / "latents" / (path.stem + ".pt") for path in self.shards() + self.long_shards()]


def claim(run: TrainingRun, stages: Sequence[str] = STAGES) -> None:
    """Make the folder this run's.

    A loop is held to its section and its loss' from its first checkpoint on, and to the number of processes, as they
    share out the batch; the VAE's to that no longer once they are complete. Everything else is held from the first
    checkpoint of any loop. ``config.PASSING`` may always change.

    Args:
        stages: that are about to run.

    Raises:
        TrainingError: the folder holds the work of another configuration, or shots of another generator.
    """
    stamp = run.folder / "run.json"
    mine = run.config.lasting()
    mine["workers"] = dict.fromkeys(LOOPS, run.workers)
    theirs = read_stamp(stamp)
    begun = {name for name in LOOPS if (run.folder / f"{name}.ckpt").exists()}
    finished = run.vae_folder.exists()
    if theirs is None and begun:
        raise TrainingError(f"{stamp} is missing, which says how this run was begun; name another --folder")
    if finished:
        begun |= {"vae", "vae_long"}
    if theirs is not None and begun:
        workers = {**mine["workers"], **theirs.get("workers", {})}
        open_ = {entry for name in LOOPS if name not in begun for entry in (name, f"{name}_loss")} | {"workers"}
        held = {name: value for name, value in mine.items() if name not in open_}
        before = {name: value for name, value in theirs.items() if name not in open_}
        for name in LOOPS:
            stage = "dit" if name == "dit" else "vae"
            over = stage == "vae" and (finished or (name == "vae" and "vae_long" in begun))
            if name in begun and (over or stage not in stages):
                mine["workers"][name] = workers[name]
            elif name in begun:
                held[f"workers of {name}"], before[f"workers of {name}"] = run.workers, workers[name]
        if differing := differences(before, held):
            raise TrainingError(
                f"{run.folder} holds a run that was begun otherwise: {differing}; name another --folder or give the "
                "old values"
            )
    if (run.folder / "data").exists():
        claim_data(run.folder / "data")
    if theirs != mine:
        write_stamp(stamp, mine)


def make_shots(run: TrainingRun) -> bool:
    """Make the missing synthetic shots; in a run that ends at some time, in a quarter of what is left of it.

    So a run of minutes learns from the few shots that it had time for, which are to be encoded as well; the next one
    has more.

    Returns:
        Whether there are shots of each length.
    """
    kinds = [config for config in (run.config.data, run.config.long_data) if config.count]
    begun = time.time()

    def make() -> None:
        for number, config in enumerate(kinds, start=1):
            until = None if run.until is None else begun + (run.until - begun) / 4 * number / len(kinds)
            make_data(run.folder / "data", config, max(run.workers, 1), run.device, until)

    first_alone(run.device, make)
    return all(made_paths(run.folder / "data", config) for config in kinds)


def _need_shots(run: TrainingRun) -> None:
    if not run.shards():
        raise TrainingError(f"{run.folder / 'data'} holds no shots; make them first: 'maquette train data'")


def _films(run: TrainingRun, loss: VAELossConfig, process: int, processes: int) -> Films:
    """The shots that one of several processes trains the VAE on; long ones are among them where they are of use."""
    short, long = run.shards(), run.long_shards()
    paths = short[process::processes] or short
    if loss.dynamic_speed or max(loss.frames) > run.config.data.frames:
        paths = paths + (long[process::processes] or long)
    return Films(paths)


def _published(load: Callable[[ModelSpec], nn.Module], run: TrainingRun, model: nn.Module, name: str) -> nn.Module:
    """Put the published weights into ``model``; returns the published network.

    Raises:
        TrainingError: there are no published weights that fit.
    """
    spec = run.spec
    try:
        found = load(spec)
        model.load_state_dict(found.state_dict())
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise TrainingError(
            f"[start] {name} = true: {spec.folder} holds no weights that fit this run ({reason[:300]}); leave it out"
        ) from error
    return found


def _vae_loop(run: TrainingRun, name: str, config: LoopConfig, loss_config: VAELossConfig) -> tuple[bool, Loop]:
    """One of the VAE's loops, ``vae`` or ``vae_long``; returns whether it is complete, and the loop."""
    accelerator = new_accelerator(run.device, config.precision, run.folder / "logs")
    torch.manual_seed(config.seed)
    model = new_vae(run.spec)
    if not loss_config.train_shortcut:
        model.freeze_linear_shortcut()
    films = _films(run, loss_config, accelerator.process_index, accelerator.num_processes)
    loss_config = replace(loss_config, bf16=loss_config.bf16 and accelerator.mixed_precision == "bf16")
    loss = VAEObjective(films, loss_config, config.batch, accelerator.device, model)
    loop = Loop(model, config, run.folder / f"{name}.ckpt", accelerator, loss.companions, loss.rivals)
    start = run.config.start
    if not loop.resume():
        if name == "vae_long":
            loop.start_from(run.folder / "vae.ckpt")
        elif start.vae:
            _published(load_vae, run, model, "vae")
        elif start.image_vae:
            model.load_state_dict(start_from_image_vae(run.spec, Path(start.image_vae)).state_dict())
        elif model.config["linear_shortcut"]:
            start_from_components(model, Films(run.shards()[:_STATISTICS_SHARDS]))
        loop.ema.reset(model)
    label = f"{run.config.model} VAE" + (" on long clips" if name == "vae_long" else "")
    show = show_clips(films, min(loss_config.frames)) if accelerator.log_with else None
    return loop.run(loss, run.until, label, run.folder / f"{name}.log", show), loop


def _vae_worker(run: TrainingRun) -> bool:
    config = run.config
    assert config.vae is not None
    done, loop = _vae_loop(run, "vae", config.vae, config.vae_loss)
    if done and config.vae_long is not None:
        done, loop = _vae_loop(run, "vae_long", config.vae_long, config.vae_long_loss)
    if done:
        if loop.accelerator.is_main_process:
            assert isinstance(loop.model, AutoencoderKLISA)
            loop.ema.copy_to(loop.model)
            _finish_vae(run, loop.model.eval())
        loop.accelerator.wait_for_everyone()
    return done


def _statistics(vae: AutoencoderKLISA) -> dict[str, Any]:
    """What a VAE's latents are normalised by."""
    return {name: vae.config[name] for name in ("latents_mean", "latents_std")}


def _finish_vae(run: TrainingRun, model: AutoencoderKLISA) -> None:
    """Write a VAE with the statistics of its latents; the published DiT, if it goes on, keeps those that it knows."""
    start = run.config.start
    if start.vae and start.dit:
        statistics = _statistics(load_vae(run.spec))
    else:
        statistics = latent_statistics(model, Films(run.shards()[:_STATISTICS_SHARDS]))
    model.register_to_config(**statistics)
    # That the folder is there means that the VAE is finished.
    save_whole(model, run.vae_folder)


def _keep_published_vae(run: TrainingRun) -> None:
    """Take the published VAE, with the statistics that the published DiT knows its latents by."""
    model = new_vae(run.spec)
    published = _published(load_vae, run, model, "vae")
    assert isinstance(published, AutoencoderKLISA)
    model.register_to_config(**_statistics(published))
    save_whole(model, run.vae_folder)


def _dit_worker(run: TrainingRun) -> bool:
    config = run.config
    accelerator = new_accelerator(run.device, config.dit.precision, run.folder / "logs")
    torch.manual_seed(config.dit.seed)
    model = new_transformer(run.spec)
    if config.start.dit and not (run.folder / "dit.ckpt").exists():
        _published(lambda spec: load_transformer(spec, like=model), run, model, "dit")
    loop = Loop(model, config.dit, run.folder / "dit.ckpt", accelerator)
    loop.resume()
    dtype = torch.bfloat16 if loop.bf16 else torch.float32
    latents = Latents(run.latents())
    decode = _decoder(run, loop.device) if config.dit_loss.pixel else None
    loss = DiTLoss(latents, config.dit_loss, config.dit.batch, loop.device, dtype, decode)
    # One process alone, which draws the pictures, cannot run a spread network.
    drawn = accelerator.log_with and not loop.sharded
    show = show_samples(latents, lambda: trained_vae(run, loop.device)) if drawn else None
    return loop.run(loss, run.until, f"{config.model} DiT", run.folder / "dit.log", show)


def _decoder(run: TrainingRun, device: torch.device) -> Callable[[Tensor], Tensor]:
    """The run's finished VAE as a function of normalised latents that gradients go through."""
    vae = trained_vae(run, device).requires_grad_(False)
    return lambda latents: vae.decode(vae.denormalize(latents), return_dict=False)[0]


def train_vae(run: TrainingRun) -> bool:
    """Train the VAE, or take the published one where the run has no loop for it; returns whether it is complete."""
    if (run.vae_folder / "config.json").exists():
        return True
    if run.config.vae is None:
        first_alone(run.device, lambda: _keep_published_vae(run))
        return True
    _need_shots(run)
    return run_processes(_vae_worker, run, run.workers)


def trained_vae(run: TrainingRun, device: str | torch.device) -> AutoencoderKLISA:
    """The run's finished VAE, in float32. Raises TrainingError when it is not finished."""
    if not (run.vae_folder / "config.json").exists():
        raise TrainingError(f"{run.vae_folder} holds no finished VAE; run 'maquette train vae' to its last step first")
    vae = AutoencoderKLISA.from_pretrained(run.vae_folder, local_files_only=True)
    nn.Module.to(vae, device)
    return vae.eval()


def _claim_latents(run: TrainingRun) -> None:
    """Mark the latents with the VAE that they are encoded by.

    Raises:
        TrainingError: they are another VAE's.
    """
    folder = run.folder / "latents"
    files = sorted(path for path in run.vae_folder.iterdir() if path.is_file())
    mine = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    if read_stamp(folder / "vae.json") == mine:
        return
    if any(folder.glob("*.pt")):
        raise TrainingError(
            f"{folder} holds latents of another VAE than {run.vae_folder}; delete {folder} and, where it is there, "
            f"{run.folder / 'dit.ckpt'}, which was trained on them"
        )
    write_stamp(folder / "vae.json", mine)


def _encode(run: TrainingRun) -> None:
    """Encode the shots that are not encoded yet."""
    vae = trained_vae(run, run.device)
    _need_shots(run)
    _claim_latents(run)
    wanted = set(run.latents())
    for path in (run.folder / "latents").glob("*.pt"):
        if path not in wanted:  # of a shard that has grown since
            path.unlink()
    if all(path.exists() for path in wanted):
        return
    bf16 = in_bfloat16(run.config.dit.precision, torch.device(run.device))
    image_encoder = None
    if (width := run.spec.components["transformer"].get("image_embed_dim")) is not None:
        image_encoder = load_image_encoder(run.spec, width, torch.bfloat16 if bf16 else torch.float32)
        image_encoder.to(run.device)
    shards = run.shards() + run.long_shards()
    pixels = run.config.dit_loss.pixel > 0
    encode_data(vae, shards, run.folder / "latents", bf16, image_encoder, until=run.until, pixels=pixels)


def train_dit(run: TrainingRun) -> bool:
    """Encode what is not encoded yet and train the DiT; returns whether it is complete."""
    first_alone(run.device, lambda: _encode(run))
    if not all(path.exists() for path in run.latents()):
        return False
    return run_processes(_dit_worker, run, run.workers)


def averaged_transformer(run: TrainingRun) -> tuple[ISATransformer3DModel, int]:
    """The DiT with its averaged weights, and the steps it has seen."""
    model = new_transformer(run.spec)
    if not (path := run.folder / "dit.ckpt").exists():
        raise TrainingError(f"{run.folder} holds no dit.ckpt; run 'maquette train dit' first")
    steps = load_averaged(path, model)
    return model.eval(), steps


def export(run: TrainingRun, folder: Path | None = None) -> Path:
    """Write VAE and DiT in float16 where the model's preset looks for them (or to ``folder``).

    A correction of the carried film is written at the strength that helps on fresh shots, see ``strength.temper``.

    Raises:
        TrainingError: there is nothing to write yet, or the preset describes other networks than the run's.
    """
    if run.config.overrides and folder is None:
        raise TrainingError(
            f"[overrides] makes other networks than {run.config.model}'s; name a folder for the weights: --export-to"
        )
    target = folder or run.spec.folder
    vae = trained_vae(run, "cpu")
    transformer, _ = averaged_transformer(run)
    if transformer.config["start"] == "carried" and transformer.config["prediction"] == "residual":
        strength, gain = temper(vae, transformer, run.config.data)
        print(f"the correction ships at {strength:g} of its strength: {gain:+.2f} dB over the carried film")
    made, replaced = target / ".export", target / ".replaced"
    for rest in (made, replaced):
        shutil.rmtree(rest, ignore_errors=True)
    parts: dict[str, Any] = {"vae": vae, "transformer": transformer}
    for name, model in parts.items():
        # In place of the folder that it was read from, which is nobody else's concern.
        model.register_to_config(_name_or_path=run.config.model)
        model.half().save_pretrained(made / name)
    for file in made.rglob("*.safetensors"):
        file.chmod(0o644)
    # Both old ones go before a new one comes: whenever this is cut short, the two that are there belong together.
    replaced.mkdir()
    for name in parts:
        if (target / name).exists():
            (target / name).rename(replaced / name)
    for name in parts:
        (made / name).rename(target / name)
    made.rmdir()
    shutil.rmtree(replaced)
    return target


def train(run: TrainingRun, stages: Sequence[str] = STAGES) -> bool:
    """Run the stages in order; returns whether all are complete. Stops early when the time is up."""
    parts: dict[str, Callable[[TrainingRun], Any]] = {
        "data": make_shots,
        "vae": train_vae,
        "dit": train_dit,
        "export": lambda run: first_alone(run.device, lambda: export(run)),
    }
    first_alone(run.device, lambda: claim(run, stages))
    for stage in stages:
        if parts[stage](run) is False:
            return False
        if run.until is not None and time.time() >= run.until and stage != stages[-1]:
            return False
    return True
