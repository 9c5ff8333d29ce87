"""The ablation of the paper (Sec. 6.4, Tab. 4, Fig. 14; Sec. 4.3, Fig. 6) at equal budget.

Every network is trained on the same shots with the same seeds of batches, noise and times, for as many steps by the
same optimiser, and measured on the same held-out shots:

- ``isa``: the ISA-DiT.
- ``no_ispe``: without ISPE in its interspatial attention. Tokens keep what they carry by themselves: a point's own
  coordinates are features of its token, and video tokens their place in the picture, which they get where they enter.
- ``control``: normal maps through a 2D ControlNet of as many parameters, no points (``ablation_network``).
- a video VAE with and without the image-decoding regularisation and, where asked for, an ISA-DiT on the latents of
  each.

Everything is resumable: loops by their checkpoints, the rest by the files that are there.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..catalogue.models import ModelSpec, model_spec
from ..models.isa.build import load_vae, new_vae
from ..models.isa.inputs import ISAInputs
from ..models.isa.transformer import ISATransformer3DModel
from ..models.isa.vae import AutoencoderKLISA
from ..training.clips import Films
from ..training.config import PRESETS, check_network, check_shots, read_section
from ..training.data import DataConfig, shard_paths
from ..training.dit import DiTLoss, DiTLossConfig, Latents, flow_loss
from ..training.encode import unpack
from ..training.errors import TrainingError
from ..training.launch import new_accelerator
from ..training.loop import Loop
from ..training.schedule import LoopConfig
from ..training.stamp import differences, read_stamp, write_stamp
from ..training.vae import VAELossConfig, VAEObjective, latent_statistics, save_whole, start_from_components
from .network import VARIANTS, variant_network

ABLATIONS = PRESETS / "ablation"
GIVEN = "given"
"""The VAE that all variants of the DiT are trained with."""
VAES = {"regularised": True, "unregularised": False}
"""VAEs that the ablation trains itself, and whether with the image-decoding regularisation."""
_STATISTICS_SHARDS = 2


@dataclass(frozen=True)
class MeasureConfig:
    """How the trained networks are measured.

    Attributes:
        shots: held-out ones. steps, guidance: of the sampler.
        validate_every: training steps between two points of the validation curve.
    """

    shots: int = 24
    steps: int = 8
    guidance: float = 1.5
    validate_every: int = 100

    def __post_init__(self) -> None:
        for name in ("shots", "steps", "validate_every"):
            if getattr(self, name) < 1:
                raise TrainingError(f"[measure] {name} = {getattr(self, name)}: choose at least 1")


@dataclass(frozen=True)
class AblationConfig:
    """One file of ``presets/training/ablation``.

    Attributes:
        model: id in presets/models, whose configuration and VAE are used.
        transformer, vae_model: entries that replace those of the model's configuration.
        variants: of ``VARIANTS``. seeds: each variant is trained once with each.
        data: the shots; their normal maps are always drawn, and no carried film.
        dit: the loop of every variant. dit_loss: what they minimise.
        vae: the loop of the two VAEs, or None to leave them out. vae_loss: what they minimise; its ``image_decoding``
            is what one of them goes without.
        vae_dit: also train an ISA-DiT on the latents of each of the two.
        measure: how the networks are measured.
    """

    model: str
    data: DataConfig
    dit: LoopConfig
    dit_loss: DiTLossConfig
    measure: MeasureConfig
    variants: tuple[str, ...] = VARIANTS
    seeds: tuple[int, ...] = (0,)
    transformer: Mapping[str, Any] = field(default_factory=dict)
    vae: LoopConfig | None = None
    vae_model: Mapping[str, Any] = field(default_factory=dict)
    vae_loss: VAELossConfig = field(default_factory=VAELossConfig)
    vae_dit: bool = False

    def __post_init__(self) -> None:
        for variant in self.variants:
            if variant not in VARIANTS:
                raise TrainingError(f"variants: {variant!r} is not known; choose from {', '.join(VARIANTS)}")
        if not self.variants or not self.seeds:
            raise TrainingError("variants and seeds must each have at least one entry")
        if self.vae is not None and not self.vae_loss.image_decoding:
            raise TrainingError("[vae_loss] image_decoding is 0, so both VAEs would be the same; give it a weight")

    def lasting(self) -> dict[str, Any]:
        """What results depend on, as JSON: one folder holds one such configuration."""
        table = dataclasses.asdict(self)
        for name in ("variants", "seeds", "vae_dit"):
            del table[name]
        return json.loads(json.dumps(table))


def read_ablation(path: Path) -> AblationConfig:
    """Read a file like those of ``presets/training/ablation``. Raises TrainingError that names the entry at fault."""
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TrainingError(f"{path}: not a readable ablation file ({error})") from error
    kinds = {
        "data": DataConfig,
        "dit": LoopConfig,
        "dit_loss": DiTLossConfig,
        "measure": MeasureConfig,
        "vae_loss": VAELossConfig,
    }
    given: dict[str, Any] = {name: read_section(kind, table.pop(name, {}), name, path) for name, kind in kinds.items()}
    # What bodies teach is measured without the carried film, which would tell everything already.
    given["data"] = replace(given["data"], maps=True, carried=False)
    check_shots(given["data"], "data", path)
    for section, network in (("transformer", "transformer"), ("vae_model", "vae")):
        if not isinstance(entries := table.get(section, {}), dict):
            raise TrainingError(f"{path}: {section} = {entries!r} is no section; write [{section}]")
        check_network(entries, network, section, path)
    if "vae" in table:
        given["vae"] = read_section(LoopConfig, table.pop("vae"), "vae", path)
    for name in ("variants", "seeds"):
        if name in table:
            given[name] = tuple(table.pop(name))
    known = {entry.name for entry in dataclasses.fields(AblationConfig)}
    if unknown := sorted(set(table) - known):
        raise TrainingError(f"{path}: {unknown[0]} is not known; see presets/training/ablation/cpu.toml")
    if "model" not in table:
        raise TrainingError(f"{path}: model is missing; see presets/training/ablation/cpu.toml")
    return AblationConfig(**given, **table)


@dataclass(frozen=True)
class Ablation:
    """Where and how an ablation happens; what its processes are given.

    Attributes:
        config: what to train.
        folder: of everything it writes.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        workers: processes that share each step; 1 on a GPU.
        until: ``time.time()`` at which the loops stop with a checkpoint, or None.
    """

    config: AblationConfig
    folder: Path
    device: str = "cpu"
    workers: int = 1
    until: float | None = None

    @property
    def spec(self) -> ModelSpec:
        """The model whose configuration is used."""
        return model_spec(self.config.model)

    @property
    def transformer(self) -> dict[str, Any]:
        """Arguments of the ISA variant."""
        return {**self.spec.components["transformer"], "start": "noise", **self.config.transformer}

    def shards(self) -> list[Path]:
        """Files of the shots that are trained on."""
        return shard_paths(self.folder / "data", self.config.data)

    def latents(self, vae: str) -> list[Path]:
        """Those shots, encoded by one of the VAEs."""
        return [self.folder / "latents" / vae / (path.stem + ".pt") for path in self.shards()]

    def held_out(self, vae: str) -> Path:
        """The held-out shots, encoded by one of the VAEs: a list of what ``encode_shots`` gives, one a shot."""
        return self.folder / "latents" / vae / f"heldout_{self.config.measure.shots}.pt"

    def vae_folder(self, vae: str) -> Path:
        """Where a VAE is kept."""
        return self.folder / "vae" / vae

    def jobs(self) -> list[Job]:
        """All DiTs to train, every seed's variants next to each other."""
        jobs = [Job(variant, seed) for seed in self.config.seeds for variant in self.config.variants]
        if self.config.vae is not None and self.config.vae_dit:
            jobs += [Job("isa", seed, vae) for seed in self.config.seeds for vae in VAES]
        return jobs

    def checkpoint(self, job: Job) -> Path:
        """The state of a DiT's training."""
        return self.folder / "dit" / f"{job.key}.ckpt"

    def curve(self, job: Job) -> Path:
        """A DiT's validation curve, a line of JSON a point."""
        return self.folder / "dit" / f"{job.key}.curve.jsonl"


@dataclass(frozen=True)
class Job:
    """One DiT to train: a variant, with a seed, on the latents of a VAE."""

    variant: str
    seed: int
    vae: str = GIVEN

    @property
    def key(self) -> str:
        """Its name in files."""
        return f"{self.variant}-{self.vae}-{self.seed}"


def claim(run: Ablation) -> None:
    """Make the folder this configuration's, and keep the VAE that all variants share in it.

    Raises:
        TrainingError: the folder holds results of another configuration.
    """
    stamp = run.folder / "config.json"
    # Processes share out a step's batch, so their number belongs to what is trained.
    mine = {**run.config.lasting(), "workers": run.workers}
    if (theirs := read_stamp(stamp)) is None:
        write_stamp(stamp, mine)
    elif differing := differences({name: theirs[name] for name in theirs if name in mine}, mine):
        raise TrainingError(
            f"{run.folder} holds an ablation of another configuration: {differing}; name another --folder or give "
            "the old values"
        )
    if not (run.vae_folder(GIVEN) / "config.json").exists():
        # A copy: later weights of the model must not mix with what was encoded with these.
        save_whole(load_vae(run.spec), run.vae_folder(GIVEN))


def kept_vae(run: Ablation, vae: str) -> AutoencoderKLISA:
    """A VAE of the ablation with its weights, on the run's device."""
    model = AutoencoderKLISA.from_pretrained(run.vae_folder(vae), local_files_only=True)
    nn.Module.to(model, run.device)
    return model.eval()


class Validation:
    """The loss on held-out shots at fixed times and noise, nothing withheld: one point of Fig. 14's curves.

    The averaged weights are measured, which are the ones that generate.
    """

    def __init__(self, held_out: Path, config: DiTLossConfig, device: torch.device) -> None:
        shots = torch.load(held_out, weights_only=True)
        self.config = config
        self.groups: list[tuple[Tensor, Tensor, Tensor, Tensor, ISAInputs]] = []
        times = (torch.arange(len(shots)) + 0.5) / len(shots)
        # Shuffled, so that shots with one and with two characters both span all times.
        times = times[torch.randperm(len(shots), generator=torch.Generator().manual_seed(0))]
        for count in sorted({shot["points"].shape[1] for shot in shots}):
            chosen = [i for i, shot in enumerate(shots) if shot["points"].shape[1] == count]
            clean, cover, inputs = unpack({name: torch.cat([shots[i][name] for i in chosen]) for name in shots[0]})
            noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(count))
            group = (clean.to(device), noise.to(device), times[chosen].to(device), cover.to(device))
            self.groups.append((*group, inputs.to(device)))

    @torch.no_grad()
    def __call__(self, model: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, float]:
        """Mean ``loss`` over the shots and their ``figure`` (see ``flow_loss``) under other weights of ``model``."""
        total = {"loss": 0.0, "figure": 0.0}
        shots = sum(len(clean) for clean, *_ in self.groups)
        for clean, noise, times, cover, inputs in self.groups:
            t = times.view(-1, 1, 1, 1, 1)
            given = ((1 - t) * clean + t * noise, 1000 * times, inputs)
            flow = torch.func.functional_call(model, dict(weights), given, {"return_dict": False})[0]
            for name, value in zip(total, flow_loss(flow, clean, noise, times, cover, self.config), strict=True):
                total[name] += float(value) * len(clean) / shots
        return total


def read_curve(path: Path) -> list[dict[str, float]]:
    """Points of a validation curve, by step; of steps that were done twice after an interruption the last."""
    points = [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []
    return [point for _, point in sorted({point["step"]: point for point in points}.items())]


def train_variant(argument: tuple[Ablation, Job]) -> bool:
    """Train one DiT; returns whether it is complete. Run by every process of ``launch.spread``."""
    run, job = argument
    config = run.config
    accelerator = new_accelerator(run.device, config.dit.precision, run.folder / "logs" / job.key)
    torch.manual_seed(job.seed)
    model = variant_network(job.variant, run.transformer)
    loop = Loop(model, replace(config.dit, seed=job.seed), run.checkpoint(job), accelerator)
    loop.resume()
    if loop.step >= config.dit.steps and any(point["step"] == loop.step for point in read_curve(run.curve(job))):
        return True
    dtype = torch.bfloat16 if loop.bf16 else torch.float32
    loss = DiTLoss(Latents(run.latents(job.vae)), config.dit_loss, config.dit.batch, loop.device, dtype)
    validation = Validation(run.held_out(job.vae), config.dit_loss, loop.device)
    pace: list[float] = []
    last = 0.0

    def note(step: int) -> None:
        point = {"step": step, **validation(model, loop.ema.weights)}
        if pace:
            point["seconds_per_step"] = statistics.median(pace)
        with open(run.curve(job), "a", encoding="utf-8") as file:
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

    run.curve(job).parent.mkdir(parents=True, exist_ok=True)
    done = loop.run(watched, run.until, job.key, run.folder / "dit" / f"{job.key}.log")
    if done and accelerator.is_main_process:
        note(loop.step)
    return done


def trained_variant(run: Ablation, job: Job) -> ISATransformer3DModel:
    """A finished DiT with its averaged weights. Raises TrainingError when it is not finished."""
    model = variant_network(job.variant, run.transformer)
    accelerator = new_accelerator(run.device, run.config.dit.precision)
    loop = Loop(model, replace(run.config.dit, seed=job.seed), run.checkpoint(job), accelerator)
    if not loop.resume() or loop.step < run.config.dit.steps:
        raise TrainingError(f"{run.checkpoint(job)}: not trained to its last step; go on with --resume")
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
