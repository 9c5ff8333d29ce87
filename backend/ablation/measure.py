"""Train and measure everything of an ablation that is not there yet.

Shape letters: T frames, H W image, L latent frames, h w latent.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..evaluation.evaluate import EvaluationRun, run_films
from ..evaluation.pictures import sheet_shots
from ..evaluation.sets import held_out
from ..models.isa.vae import AutoencoderKLISA
from ..training.clips import to_model, to_pixels
from ..training.data import FIELDS, MAPS, carry_sample, make_data
from ..training.dit import sample_latents
from ..training.encode import encode_data, encode_shots, unpack
from ..training.errors import TrainingError
from ..training.launch import in_bfloat16, run_processes
from ..training.schedule import step_generator
from ..worlds.sample import Sample
from .config import CARRIED_ALONE, GIVEN, SETS, VAES, Ablation, Trial, claim
from .network import FROM_CARRIED, parameter_count
from .train import kept_vae, read_curve, train_vae_variant, train_variant, trained_variant

SHEET_SHOTS = 3
"""Shots of each set whose films are kept to be looked at."""


@dataclass(frozen=True)
class TrialResult:
    """What was measured of one network.

    Attributes:
        run: its figures, and films of a few shots.
        parameters: trainable numbers.
        gflop: of one evaluation for one clip with one character, forward; 0 where it was not counted.
        curve: points of the validation curve: ``step``, ``seconds_per_step`` and, by set, the loss.
    """

    run: EvaluationRun
    parameters: int
    gflop: float = 0.0
    curve: Sequence[dict[str, float]] = ()


@dataclass(frozen=True)
class AblationResults:
    """All that an ablation measured so far.

    Attributes:
        samples: the held-out shots, equally many of each of ``SETS`` one after the other.
        dits: by trial. vaes: by name, reconstruction of the true films.
    """

    samples: Sequence[Sample]
    dits: dict[Trial, TrialResult]
    vaes: dict[str, TrialResult]


def ablate(run: Ablation) -> AblationResults:
    """Do what is left to do; a folder that holds everything is only read.

    Returns:
        What is finished; trials that the time did not suffice for are not in it, nor those after one that was stopped.

    Raises:
        TrainingError: the folder holds an ablation of another configuration.
    """
    claim(run)
    config = run.config
    make_data(run.folder / "data", config.data, max(run.workers, 1), run.device, run.until)
    data = config.data
    samples = [
        sample
        for name in SETS
        for sample in held_out(
            config.measure.shots, data.frames, data.size, data.points, True, True, dressed=name == "dressed"
        )
    ]
    _same_shots(run, samples)
    outcomes = AblationResults(samples, {}, {})
    going = True

    def trained(work: Callable[[Any], bool], argument: object) -> bool:
        """Train, unless the time is up or an earlier loop was stopped; returns whether the loop is complete."""
        nonlocal going
        going = going and _in_time(run) and run_processes(work, argument, run.workers)
        return going

    def ready(name: str) -> bool:
        """Whether a VAE is trained, now or before; its reconstructions are measured when it is first asked for."""
        if name not in outcomes.vaes:
            there = name == GIVEN or (run.vae_folder(name) / "config.json").exists()
            if not there and not trained(train_vae_variant, (run, name)):
                return False
            outcomes.vaes[name] = _measured_vae(run, name, samples)
        return True

    # The variants first: where time is short, they are what it is for.
    for trial in run.trials():
        measured = _result(run, trial.key).exists()
        if not ready(trial.vae) or not (measured or (going and _in_time(run))):
            continue
        if not measured:
            _encode(run, trial.vae, samples)
        if trial.variant == CARRIED_ALONE:
            outcomes.dits[trial] = _measured(
                run, trial.key, samples, lambda sample: _carried(sample)["carried"], lambda: {"parameters": 0}
            )
        elif measured or trained(train_variant, (run, trial)):
            outcomes.dits[trial] = _measured_variant(run, trial, samples)
    if config.vae is not None:
        for name in VAES:
            ready(name)
    return outcomes


def _same_shots(run: Ablation, samples: Sequence[Sample]) -> None:
    """Raises TrainingError when the shots are not those that the folder's results were measured on."""
    digest = hashlib.sha256(b"".join(sample.video.tobytes() for sample in samples)).hexdigest()
    path = run.folder / f"heldout_{len(samples)}.sha256"
    if not path.exists():
        path.write_text(digest + "\n", "utf-8")
    elif path.read_text("utf-8").strip() != digest:
        raise TrainingError(
            f"{run.folder}: the held-out shots are drawn otherwise than when it was begun; name another --folder"
        )


def _in_time(run: Ablation) -> bool:
    return run.until is None or time.time() < run.until


def _encode(run: Ablation, name: str, samples: Sequence[Sample]) -> None:
    """Encode the shots by a VAE, those to train on and those to measure on."""
    target = run.held_out(name)
    if target.exists() and all(path.exists() for path in run.latents(name)):
        return
    vae = kept_vae(run, name)
    bf16 = in_bfloat16(run.config.dit.precision, torch.device(run.device))
    encode_data(vae, run.shards(), target.parent, bf16, control=True)
    shots = []
    for sample in samples:
        arrays = {field: getattr(sample, field)[None] for field in FIELDS + MAPS}
        arrays |= {field: value[None] for field, value in _carried(sample).items()}
        shots.append(encode_shots(vae, arrays, bf16, control=True))
    torch.save(shots, target.with_suffix(".partial"))
    os.replace(target.with_suffix(".partial"), target)


@functools.lru_cache(maxsize=256)
def _carried(sample: Sample) -> dict[str, np.ndarray]:
    """The carried film of a held-out shot, which every correction starts from."""
    return carry_sample(sample)


def _result(run: Ablation, name: str) -> Path:
    return run.folder / "results" / f"{name}.json"


def _measured_vae(run: Ablation, name: str, samples: Sequence[Sample]) -> TrialResult:
    """A VAE's reconstructions of the true films."""
    vae = kept_vae(run, name)

    @torch.no_grad()
    def rebuild(sample: Sample) -> np.ndarray:
        x = to_model(sample.video[None]).to(run.device)
        return _film(vae, vae.encode(x, return_dict=False)[0].mode())

    return _measured(run, f"vae-{name}", samples, rebuild, lambda: {"parameters": parameter_count(vae)})


def _measured_variant(run: Ablation, trial: Trial, samples: Sequence[Sample]) -> TrialResult:
    """A DiT's films of the held-out shots: from the same noise, or the carried films with its correction."""
    measure = run.config.measure
    if _result(run, trial.key).exists():
        found = _measured(run, trial.key, samples, None, dict)
        return replace(found, curve=read_curve(run.curve(trial)))
    model, vae = trained_variant(run, trial), kept_vae(run, trial.vae)
    shots = torch.load(run.held_out(trial.vae), weights_only=True)
    packed = {sample.seed: shot for sample, shot in zip(samples, shots, strict=True)}

    @torch.no_grad()
    def generate(sample: Sample) -> np.ndarray:
        clean, _, inputs = unpack(packed[sample.seed], run.device)
        if trial.variant in FROM_CARRIED:
            base = inputs.base()
            made, plain = (
                vae.decode(vae.denormalize(z).to(vae.dtype), return_dict=False)[0]
                for z in (sample_latents(model, inputs, base, 1), base)
            )
            return to_pixels(to_model(_carried(sample)["carried"][None]).to(run.device) + made - plain)[0]
        noise = torch.randn(clean.shape, generator=step_generator(sample.seed, 0)).to(run.device)
        inputs = inputs.drop(carried=True)
        latents = sample_latents(model, inputs, noise, measure.steps, measure.guidance)
        return _film(vae, vae.denormalize(latents))

    def cost() -> dict[str, float]:
        clean, _, inputs = unpack(shots[0], run.device)
        return {"parameters": parameter_count(model), "gflop": forward_gflop(model, clean, inputs)}

    found = _measured(run, trial.key, samples, generate, cost)
    return replace(found, curve=read_curve(run.curve(trial)))


@torch.no_grad()
def forward_gflop(model: torch.nn.Module, latents: torch.Tensor, inputs: Any) -> float:
    """Billions of floating point operations of one evaluation, conditions included, counted in its matrix products."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        model(latents, torch.full((len(latents),), 500.0, device=latents.device), inputs)
    return counter.get_total_flops() / 1e9


def _film(vae: AutoencoderKLISA, latents: torch.Tensor) -> np.ndarray:
    """(1,16,L,h,w), not normalised, to (T,H,W,3) uint8."""
    return to_pixels(vae.decode(latents.to(vae.dtype), return_dict=False)[0])[0]


def _measured(
    run: Ablation,
    name: str,
    samples: Sequence[Sample],
    make: Callable[[Sample], np.ndarray] | None,
    cost: Callable[[], dict[str, float]],
) -> TrialResult:
    """Measure by ``make``, or read what was measured before."""
    path = _result(run, name)
    each = len(samples) // len(SETS)
    keep = frozenset(i + each * number for number in range(len(SETS)) for i in sheet_shots(samples[:each], SHEET_SHOTS))
    if not path.exists():
        from tqdm import tqdm

        assert make is not None
        with tqdm(total=len(samples), desc=f"measuring {name}", unit="shot") as bar:
            measured = run_films(name, samples, make, keep=keep, bar=bar)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path.with_suffix(".npz"), **{str(i): film for i, film in measured.films.items()})  # type: ignore[arg-type]
        table = {
            "seeds": [sample.seed for sample in samples],
            "values": {key: values.tolist() for key, values in measured.values.items()},
            "places": measured.places.tolist(),
            "seconds": measured.seconds.tolist(),
            "cost": cost(),
        }
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(table) + "\n", "utf-8")
        os.replace(partial, path)
    table = json.loads(path.read_text("utf-8"))
    with np.load(path.with_suffix(".npz")) as file:
        films = {int(key): file[key] for key in file.files}
    found = EvaluationRun(
        None,
        None,
        {key: np.array(values, float) for key, values in table["values"].items()},
        np.array(table["seconds"]),
        films,
        np.array(table["places"]),
    )
    return TrialResult(found, int(table["cost"]["parameters"]), table["cost"].get("gflop", 0.0))
