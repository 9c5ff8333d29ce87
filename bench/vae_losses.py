"""What each term of the VAE's training costs, against the plain pixel loss, in the same run.

    .venv/bin/python bench/vae_losses.py [--frames 9] [--repeats 2] [--json OUT]

One training step of the embedded model's VAE at batch 1, without the optimiser: clips, losses, gradients of the VAE
and, where there are any, of the auxiliary networks. The clips are noise, which costs as much as films. The terms run in
turn and are measured in processor time, so that other work on the machine weighs little; best of the repeats.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from maquette.backend.catalogue.models import model_spec
from maquette.backend.models.isa.build import new_vae
from maquette.backend.training.clips import Films
from maquette.backend.training.schedule import step_generator
from maquette.backend.training.vae import VAELossConfig, VAEObjective
from tqdm import tqdm

TERMS: dict[str, dict[str, float]] = {
    "plain": {},
    "perceptual": {"perceptual": 1.0},
    "adversary2d": {"adversary2d": 0.1},
    "adversary3d": {"adversary3d": 0.1},
    "image_decoding": {"image_decoding": 1.0},
    "latent_noise": {"latent_noise": 0.1},
    "structured_motion": {"structured_motion": 1.0},
    "dynamic_speed": {"dynamic_speed": 1.0},
}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="time of a VAE training step with each of its losses")
    parser.add_argument("--frames", type=int, default=9)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()

    spec = model_spec("isa-nano")
    size = spec.defaults.width
    torch.manual_seed(0)
    vae = new_vae(spec).train()
    noise = np.random.default_rng(0).integers(0, 256, (2, arguments.frames, size, size, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "shard.npz", video=noise, background=noise, mask=np.ones(noise.shape[:-1], bool))
        films = Films([Path(folder) / "shard.npz"])
    plain = VAELossConfig(frames=(arguments.frames,), bf16=False)
    changes = {**TERMS, "all": {name: weight for term in TERMS.values() for name, weight in term.items()}}
    objectives = {
        name: VAEObjective(films, replace(plain, **change), 1, torch.device("cpu"), vae)
        for name, change in changes.items()
    }
    seconds = dict.fromkeys(objectives, float("inf"))
    with tqdm(total=(1 + arguments.repeats) * len(objectives), desc="steps") as bar:
        for step in range(1 + arguments.repeats):
            for name, objective in objectives.items():
                players = {"model": [vae, *objective.companions.values()]}
                players |= {rival: [module] for rival, module in objective.rivals.items()}
                start = time.process_time()
                given = objective(vae, step, step_generator(0, step))
                for player, loss, _ in [("model", *given)] if isinstance(given, tuple) else given:
                    loss.backward(inputs=[p for module in players[player] for p in module.parameters()])
                if step:  # the first warms up
                    seconds[name] = min(seconds[name], time.process_time() - start)
                for modules in players.values():
                    for module in modules:
                        module.zero_grad()
                bar.update()
    figures = {
        "frames": arguments.frames,
        "size": size,
        "threads": torch.get_num_threads(),
        "plain_step_processor_ms": round(1000 * seconds["plain"], 1),
        "ratio_to_plain": {name: round(value / seconds["plain"], 2) for name, value in seconds.items()},
    }
    print(json.dumps(figures, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
