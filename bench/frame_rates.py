"""Films at a third of their rate brought back: along surfaces and estimated flow, by estimated flow alone, and mixed.

    .venv/bin/python bench/frame_rates.py [--films 6]

Synthetic films of bodies before a set that the shots do not hold, most of them dressed: PSNR in dB of the frames that
were left out, over the whole picture and on the figures.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
import torch
from maquette.backend.evaluation.silhouette import psnr
from maquette.backend.models.control.retime import at_scene_rate
from maquette.backend.worlds.sample import make_sample, to_shot

FRAMES, EVERY, SIZE = 13, 3, (320, 192)


def measure(seed: int, dressed: bool) -> dict[str, tuple[float, float]]:
    """PSNR of the whole picture and of the figures, by the way."""
    sample = make_sample(seed, FRAMES, SIZE, 64, characters=1, dressed=dressed)
    shot, film = to_shot(sample), sample.video
    kept, left = film[::EVERY], np.arange(FRAMES) % EVERY != 0
    at = np.arange(FRAMES) / EVERY
    low = np.minimum(at.astype(int), len(kept) - 2)
    share = (at - low)[:, None, None, None]
    bare = replace(shot, meshes=(), characters=())

    def along(one: object) -> np.ndarray:
        return at_scene_rate(kept, one, sample.fps / EVERY, torch.device("cpu"), lambda done, count: None)  # type: ignore[arg-type]

    ways = {
        "surfaces and estimated flow": along(shot),
        "estimated flow": along(bare),
        "mixed": np.rint(kept[low] * (1 - share) + kept[low + 1] * share).astype(np.uint8),
    }
    return {
        name: (psnr(made[left], film[left]), psnr(made[left], film[left], sample.mask[left]))
        for name, made in ways.items()
    }


def main() -> None:
    """Print the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=int, default=6)
    count = parser.parse_args().films
    found = [measure(11 + i, dressed=i % 3 != 2) for i in range(count)]
    for name in found[0]:
        whole, figures = np.mean([each[name] for each in found], axis=0)
        print(f"{name:>28}: {whole:.1f} dB, figures {figures:.1f} dB")


if __name__ == "__main__":
    main()
