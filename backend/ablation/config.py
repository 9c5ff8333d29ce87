"""The ablation of the paper (Sec. 6.4, Tab. 4, Fig. 14; Sec. 4.3, Fig. 6) at equal budget.

Every network is trained on the same shots with the same seeds of batches, noise and times, for as many steps by the
same optimiser, and measured on the same shots of both held-out sets:

- ``carried``: the carried film alone, no network.
- ``isa``: the ISA-DiT from noise, without the carried film.
- ``no_ispe``: without ISPE in its interspatial attention. Tokens keep what they carry by themselves: a point's own
  coordinates are features of its token, and video tokens their place in the picture, which they get where they enter.
- ``control``: normal maps through a 2D ControlNet of as many parameters, no points (``network.py``).
- ``isa_carried``, ``isa_carried_no_ispe``, ``control_carried``: these three as corrections of the carried film, in one
  step; of what they give the difference alone is decoded.
- a video VAE with and without the image-decoding regularisation and, where asked for, an ISA-DiT on the latents of
  each.

Everything is resumable: loops by their checkpoints, the rest by the files that are there.
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..catalogue.models import ModelSpec, model_spec
from ..models.isa.build import load_vae
from ..training.config import PRESETS, check_network, check_shots, read_section
from ..training.data import DataConfig, shard_paths
from ..training.dit import DiTLossConfig
from ..training.errors import TrainingError
from ..training.schedule import LoopConfig
from ..training.stamp import differences, read_stamp, write_stamp
from ..training.vae import VAELossConfig, save_whole
from .network import FROM_CARRIED, VARIANTS

ABLATIONS = PRESETS / "ablation"
SETS: tuple[str, ...] = ("heldout", "dressed")
"""What is measured on, see ``evaluation.sets``."""
CARRIED_ALONE = "carried"
"""The variant that needs no training."""
GIVEN = "given"
"""The VAE that all variants of the DiT are trained with."""
VAES = {"regularised": True, "unregularised": False}
"""VAEs that the ablation trains itself, and whether with the image-decoding regularisation."""


@dataclass(frozen=True)
class MeasureConfig:
    """How the trained networks are measured.

    Attributes:
        shots: of each of ``SETS``. steps, guidance: of the sampler from noise; a correction takes one step.
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
        variants: ``CARRIED_ALONE`` or of ``VARIANTS``. seeds: each variant is trained once with each.
        data: the shots; their normal maps are always drawn, and their carried films.
        dit: the loop of every variant. dit_loss: what they minimise; see ``loss``.
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
    variants: tuple[str, ...] = (CARRIED_ALONE, *VARIANTS)
    seeds: tuple[int, ...] = (0,)
    transformer: Mapping[str, Any] = field(default_factory=dict)
    vae: LoopConfig | None = None
    vae_model: Mapping[str, Any] = field(default_factory=dict)
    vae_loss: VAELossConfig = field(default_factory=VAELossConfig)
    vae_dit: bool = False

    def __post_init__(self) -> None:
        for variant in self.variants:
            if variant not in (known := (CARRIED_ALONE, *VARIANTS)):
                raise TrainingError(f"variants: {variant!r} is not known; choose from {', '.join(known)}")
        if not self.variants or not self.seeds:
            raise TrainingError("variants and seeds must each have at least one entry")
        if self.vae is not None and not self.vae_loss.image_decoding:
            raise TrainingError("[vae_loss] image_decoding is 0, so both VAEs would be the same; give it a weight")

    def loss(self, variant: str) -> DiTLossConfig:
        """What a variant minimises: a correction starts at the carried film always, the others never see it."""
        if variant in FROM_CARRIED:
            return replace(self.dit_loss, time_start=1.0, drop_carried=0.0)
        return replace(self.dit_loss, drop_carried=1.0)

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
    given["data"] = replace(given["data"], maps=True, carried=True)
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
        """Arguments of ``variant_network``."""
        return {**self.spec.components["transformer"], **self.config.transformer}

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

    def trials(self) -> list[Trial]:
        """All DiTs to train, every seed's variants next to each other."""
        trials = [
            Trial(variant, seed)
            for seed in self.config.seeds
            for variant in self.config.variants
            if variant != CARRIED_ALONE or seed == self.config.seeds[0]
        ]
        if self.config.vae is not None and self.config.vae_dit:
            trials += [Trial("isa", seed, vae) for seed in self.config.seeds for vae in VAES]
        return trials

    def checkpoint(self, trial: Trial) -> Path:
        """The state of a DiT's training."""
        return self.folder / "dit" / f"{trial.key}.ckpt"

    def curve(self, trial: Trial) -> Path:
        """A DiT's validation curve, a line of JSON a point."""
        return self.folder / "dit" / f"{trial.key}.curve.jsonl"


@dataclass(frozen=True)
class Trial:
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
