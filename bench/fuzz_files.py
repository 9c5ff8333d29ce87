"""Damage files at random and read them: one documented error, in bounded time and memory, or a good result.

python bench/fuzz_files.py {shot,motion,body,weights} [--count 1000] [--seed 0]
"""

from __future__ import annotations

import argparse
import collections
import io
import pickle
import random
import resource
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Reader = Callable[[Path], Any]
MOST_SECONDS, MOST_MB = 2.0, 512


def shot(folder: Path) -> tuple[list[Path], Reader, type[Exception]]:
    """Shots."""
    from maquette.backend.shot import ShotError, load_shot, save_shot
    from maquette.tests.builders import make_shot

    save_shot(make_shot(frames=3, points=8), folder / "a.shot")
    return [folder / "a.shot"], load_shot, ShotError


def motion(folder: Path) -> tuple[list[Path], Reader, type[Exception]]:
    """BVH, .npz and .pkl."""
    from maquette.backend.motions.load import load_motion
    from maquette.backend.motions.types import MotionError

    rng = np.random.default_rng(0)
    arrays = {"poses": rng.normal(size=(6, 72)).astype("f4"), "trans": np.zeros((6, 3), "f4"), "mocap_framerate": 30.0}
    np.savez(folder / "a.npz", **arrays)  # pyright: ignore[reportArgumentType]
    (folder / "a.pkl").write_bytes(pickle.dumps(arrays, 2))
    np.save(folder / "a.npy", rng.normal(size=(6, 24, 3)).astype("f4"))
    rows = "\n".join(" ".join("0.5" for _ in range(9)) for _ in range(6))
    joint = "OFFSET 0 1 0\nCHANNELS 3 Zrotation Xrotation Yrotation\n"
    (folder / "a.bvh").write_text(
        f"HIERARCHY\nROOT Hips\n{{\nOFFSET 0 0 0\nCHANNELS 3 Zrotation Xrotation Yrotation\nJOINT Spine\n{{\n{joint}"
        f"JOINT Head\n{{\n{joint}End Site\n{{\nOFFSET 0 1 0\n}}\n}}\n}}\n}}\n"
        f"MOTION\nFrames: 6\nFrame Time: 0.033333\n{rows}\n"
    )
    return sorted(folder.iterdir()), load_motion, MotionError


def body(folder: Path) -> tuple[list[Path], Reader, type[Exception]]:
    """A small SMPL-like body as .npz and .pkl."""
    from maquette.backend.bodies.io import load_body
    from maquette.backend.bodies.types import BodyError

    rng = np.random.default_rng(0)
    weights = np.abs(rng.normal(size=(40, 24))).astype("f4")
    arrays = {
        "v_template": rng.normal(size=(40, 3)).astype("f4"), "f": rng.integers(0, 40, (60, 3)).astype("u4"),
        "weights": weights / weights.sum(1, keepdims=True), "shapedirs": rng.normal(size=(40, 3, 10)).astype("f4"),
        "posedirs": rng.normal(size=(40, 3, 207)).astype("f2").astype("f4"),
        "J_regressor": np.full((24, 40), 1 / 40, "f4"),
        "kintree_table": np.array([[0, *range(23)], range(24)], "u4"),
    }  # fmt: skip
    np.savez_compressed(folder / "SMPL_a.npz", **arrays)  # pyright: ignore[reportArgumentType]
    (folder / "SMPL_a.pkl").write_bytes(pickle.dumps(arrays, 2))
    return sorted(folder.iterdir()), load_body, BodyError


def weights(folder: Path) -> tuple[list[Path], Reader, type[Exception]]:
    """safetensors, and torch's two formats."""
    import torch
    from maquette.backend.models.weights.component import WeightsError
    from maquette.backend.models.weights.reading import read_state
    from safetensors.torch import save_file

    state = {"a.weight": torch.arange(12.0).reshape(3, 4), "b": torch.ones(5, dtype=torch.float16)}
    save_file(state, folder / "a.safetensors")
    torch.save({"state_dict": state, "epoch": 3}, folder / "a.pt")
    torch.save(state, folder / "a.pth", _use_new_zipfile_serialization=False)
    return sorted(folder.iterdir()), lambda path: read_state([path]), WeightsError


def damaged(good: bytes, rng: random.Random) -> bytes:
    """Bytes changed, cut out, doubled; of an archive its entries too, so that the damage comes past the checksums."""
    if good[:2] == b"PK" and rng.random() < 0.7:
        packed = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(good)) as source, zipfile.ZipFile(packed, "w") as target:
            names = source.namelist()
            chosen = rng.choice(names)
            for name in names:
                data = source.read(name)
                method = rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
                target.writestr(name, damaged(data, rng) if name == chosen else data, method)
        return packed.getvalue()
    data = bytearray(good)
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        at, size = rng.randrange(max(len(data), 1)), rng.choice([1, 1, 1, 4, 60])
        what = rng.random()
        if what < 0.5:
            data[at : at + size] = rng.randbytes(size)
        elif what < 0.6:
            data[at : at + size] = rng.choice([b"\0", b"\xff", b"9", b"(", b"["]) * size
        elif what < 0.75:
            del data[at : at + size]
        elif what < 0.9:
            data[at:at] = data[at : at + size]
        else:
            data = data[:at]
    return bytes(data)


def main() -> int:
    """Returns 1 when anything but the documented error was raised, or it took too much."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kinds = {"shot": shot, "motion": motion, "body": body, "weights": weights}
    parser.add_argument("kind", choices=kinds)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the files that went wrong")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    rng = random.Random(args.seed)
    told: collections.Counter[str] = collections.Counter()
    longest = 0.0
    with tempfile.TemporaryDirectory() as place:
        good = Path(place, "good")
        good.mkdir()
        sources, read, documented = kinds[args.kind](good)
        originals = {path: path.read_bytes() for path in sources}
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        began = time.monotonic()
        for _ in range(args.count):
            source = rng.choice(sources)
            path = Path(place, f"SMPL_m{source.suffix}")
            path.write_bytes(damaged(originals[source], rng))
            start = time.process_time()
            try:
                read(path)
                what = "read"
            except documented as error:
                what = "refused" if len(str(error)) < 2000 else "!! long message"
            except Exception as error:
                what = f"!! {source.suffix} {type(error).__name__}"
            seconds = time.process_time() - start
            longest = max(longest, seconds)
            what = "!! slow" if seconds > MOST_SECONDS else what
            if what.startswith("!!") and args.keep and not told[what]:
                args.keep.mkdir(parents=True, exist_ok=True)
                (args.keep / f"{what[3:].replace(' ', '_')}{source.suffix}").write_bytes(path.read_bytes())
            told[what] += 1
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10) - before
    print(f"{args.count} {args.kind} files, {time.monotonic() - began:.0f} s: {dict(told)}")
    print(f"longest {longest:.2f} s; at most {memory} MB more than before")
    return int(any(what.startswith("!!") for what in told) or memory > MOST_MB)


if __name__ == "__main__":
    sys.exit(main())
