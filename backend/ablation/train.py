"""Training of an ablation's networks, and their validation curves."""

from __future__ import annotations

import itertools
import json
import statistics
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ..models.isa.build import new_vae
from ..models.isa.inputs import ISAInputs
from ..models.isa.transformer import ISATransformer3DModel
from ..models.isa.vae import AutoencoderKLISA
from ..training.clips import Films
from ..training.dit import DiTLoss, DiTLossConfig, Latents, flow_loss
from ..training.encode import unpack
from ..training.errors import TrainingError
from ..training.launch import new_accelerator
from ..training.loop import Loop
from ..training.vae import VAEObjective, latent_statistics, save_whole, start_from_components
from .config import SETS, VAES, Ablation, Trial
from .network import variant_network

_STATISTICS_SHARDS = 2


def kept_vae(run: Ablation, vae: str) -> AutoencoderKLISA:
    """A VAE of the ablation with its weights, on the run's device."""
    model = AutoencoderKLISA.from_pretrained(run.vae_folder(vae), local_files_only=True)
    nn.Module.to(model, run.device)
    return model.eval()


class Validation:
    """The loss on the shots of each set at fixed times and noise, nothing withheld: one point of Fig. 14's curves.

    Measured are the averaged weights, with which films are generated.
    """

    def __init__(self, held_out: Path, config: DiTLossConfig, device: torch.device) -> None:
        shots = torch.load(held_out, weights_only=True)
        self.config = config
        self.groups: list[tuple[str, Tensor, Tensor, Tensor, Tensor, ISAInputs]] = []
        each = len(shots) // len(SETS)
        times = (torch.arange(each) + 0.5) / each
        # Shuffled, so that shots with one and with two characters both span all times; each set has the same.
        times = times[torch.randperm(each, generator=torch.Generator().manual_seed(0))]
        if config.time_start == 1:
            times = torch.ones(each)
        counts = sorted({shot["points"].shape[1] for shot in shots})
        for number, (name, count) in enumerate(itertools.product(SETS, counts)):
            mine = range(SETS.index(name) * each, (SETS.index(name) + 1) * each)
            if not (chosen := [i for i in mine if shots[i]["points"].shape[1] == count]):
                continue
            clean, cover, inputs = unpack({field: torch.cat([shots[i][field] for i in chosen]) for field in shots[0]})
            noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(number))
            inputs = inputs.drop(carried=config.drop_carried == 1)
            if config.time_start == 1:
                noise = inputs.base()
            at = times[[i - mine.start for i in chosen]]
            group = (clean.to(device), noise.to(device), at.to(device), cover.to(device))
            self.groups.append((name, *group, inputs.to(device)))

    @torch.no_grad()
    def __call__(self, model: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, float]:
        """By set, the mean of ``flow_loss`` over its shots under other weights of ``model``."""
        total = dict.fromkeys(SETS, 0.0)
        each = sum(len(clean) for _, clean, *_ in self.groups) / len(SETS)
        for name, clean, noise, times, cover, inputs in self.groups:
            t = times.view(-1, 1, 1, 1, 1)
            given = ((1 - t) * clean + t * noise, 1000 * times, inputs)
            flow = torch.func.functional_call(model, dict(weights), given, {"return_dict": False})[0]
            loss, _ = flow_loss(flow, clean, noise, times, cover, self.config)
            total[name] += float(loss) * len(clean) / each
        return total


def read_curve(path: Path) -> list[dict[str, float]]:
    """Points of a validation curve, by step; of steps that were done twice after an interruption the last."""
    points = [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []
    return [point for _, point in sorted({point["step"]: point for point in points}.items())]


def train_variant(argument: tuple[Ablation, Trial]) -> bool:
    """Train one DiT; returns whether it is complete. Run by every process of ``launch.spread``."""
    run, trial = argument
    config = run.config
    accelerator = new_accelerator(run.device, config.dit.precision, run.folder / "logs" / trial.key)
    torch.manual_seed(trial.seed)
    model = variant_network(trial.variant, run.transformer)
    loop = Loop(model, replace(config.dit, seed=trial.seed), run.checkpoint(trial), accelerator)
    loop.resume()
    if loop.step >= config.dit.steps and any(point["step"] == loop.step for point in read_curve(run.curve(trial))):
        return True
    dtype = torch.bfloat16 if loop.bf16 else torch.float32
    aim = config.loss(trial.variant)
    loss = DiTLoss(Latents(run.latents(trial.vae)), aim, config.dit.batch, loop.device, dtype)
    validation = Validation(run.held_out(trial.vae), aim, loop.device)
    pace: list[float] = []
    last = 0.0

    def note(step: int) -> None:
        point = {"step": step, **validation(model, loop.ema.weights)}
        if pace:
            point["seconds_per_step"] = statistics.median(pace)
        with open(run.curve(trial), "a", encoding="utf-8") as file:
            file.write(json.dumps(point) + "\n")
        pace.clear()

    def watched(model: nn.Module, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        nonlocal last
        if last:
            pace.append(time.monotonic() - last)
        if step % config.measure.validate_every == 0 and accelerator.is_main_process:
            note(step)
        last = time.monotonic()
        return loss(model, step, generator)

    run.curve(trial).parent.mkdir(parents=True, exist_ok=True)
    done = loop.run(watched, run.until, trial.key, run.folder / "dit" / f"{trial.key}.log")
    if done and accelerator.is_main_process:
        note(loop.step)
    return done


def trained_variant(run: Ablation, trial: Trial) -> ISATransformer3DModel:
    """A finished DiT with its averaged weights. Raises TrainingError when it is not finished."""
    model = variant_network(trial.variant, run.transformer)
    accelerator = new_accelerator(run.device, run.config.dit.precision)
    loop = Loop(model, replace(run.config.dit, seed=trial.seed), run.checkpoint(trial), accelerator)
    if not loop.resume() or loop.step < run.config.dit.steps:
        raise TrainingError(f"{run.checkpoint(trial)}: not trained to its last step; go on with --resume")
    loop.ema.copy_to(model)
    return model.eval()


def train_vae_variant(argument: tuple[Ablation, str]) -> bool:
    """Train a VAE with or without the image-decoding regularisation; see ``train_variant``."""
    run, name = argument
    config, loop_config = run.config, run.config.vae
    assert loop_config is not None
    accelerator = new_accelerator(run.device, loop_config.precision, run.folder / "logs" / f"vae-{name}")
    torch.manual_seed(loop_config.seed)
    model = new_vae(run.spec, **config.vae_model)
    films = Films(run.shards())
    objective = replace(
        config.vae_loss,
        image_decoding=config.vae_loss.image_decoding if VAES[name] else 0.0,
        bf16=accelerator.mixed_precision == "bf16",
    )
    loss = VAEObjective(films, objective, loop_config.batch, accelerator.device, model)
    checkpoint = run.folder / "vae" / f"{name}.ckpt"
    loop = Loop(model, loop_config, checkpoint, accelerator, loss.companions, loss.rivals)
    if not loop.resume():
        if model.config["linear_shortcut"]:
            start_from_components(model, films)
        loop.ema.reset(model)
    done = loop.run(loss, run.until, f"VAE, {name}", run.folder / "vae" / f"{name}.log")
    if done and accelerator.is_main_process:
        loop.ema.copy_to(model)
        model.eval()
        model.register_to_config(**latent_statistics(model, Films(run.shards()[:_STATISTICS_SHARDS])))
        save_whole(model, run.vae_folder(name))
    return done
