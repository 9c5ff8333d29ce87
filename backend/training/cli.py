"""``maquette train``."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any


def add_train_parser(subparsers: Any) -> None:
    """Add ``train`` to the command line."""
    from .motion_tokens import is_token_run
    from .run import PRESETS, STAGES

    token_runs = sorted(path.stem for path in PRESETS.glob("*.toml") if is_token_run(path))
    runs = sorted(path.stem for path in PRESETS.glob("*.toml") if path.stem not in token_runs)
    parser = subparsers.add_parser(
        "train",
        help="train a model",
        description="Train a model on synthetic shots. A run's name does everything: data, VAE, DiT and export; "
        "a part's name does that part of it. 4dmot trains MTVCrafter's motion tokenizer, on made-up motions or on "
        "those of --data.",
    )
    parser.add_argument(
        "what",
        choices=[*runs, *token_runs, *STAGES],
        help="a run (a file of presets/training), or one part of it",
    )
    parser.add_argument("--of", default="nano", choices=runs, help="the run that a part belongs to (default nano)")
    parser.add_argument("--config", type=Path, help="another file like those of presets/training")
    parser.add_argument("--folder", type=Path, help="where the run keeps its files (default runs/NAME)")
    parser.add_argument("--resume", action="store_true", help="go on with a run that is there already")
    parser.add_argument("--minutes", type=float, help="stop the loops after this time, with a checkpoint")
    parser.add_argument("--device", help="cpu or cuda; a GPU where there is one by default")
    parser.add_argument("--workers", type=int, help="processes on a CPU; as many as it has cores by default, up to 8")
    parser.add_argument("--export-to", type=Path, help="write the weights here instead of the model's preset")
    parser.add_argument("--data", type=Path, help="4dmot: a folder of motion files to train on")
    parser.add_argument("--held-out", type=Path, help="4dmot: a folder of motion files to measure on")
    parser.set_defaults(run=_train)


def _train(args: argparse.Namespace) -> int:
    import os

    import torch

    from .motion_tokens import is_token_run
    from .run import PRESETS, STAGES, Run, TrainingError, export, read_config, train

    if is_token_run(args.config or PRESETS / f"{args.what}.toml"):
        return _train_tokens(args)
    for option in ("data", "held_out"):
        if getattr(args, option) is not None:
            raise TrainingError(f"--{option.replace('_', '-')} belongs to 'train 4dmot'; leave it out")
    name = args.what if args.what not in STAGES else args.of
    config = read_config(args.config or PRESETS / f"{name}.toml")
    folder = args.folder or Path("runs") / name
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    workers = args.workers or min(os.cpu_count() or 1, 8)
    if not args.resume and any((folder / f"{part}.ckpt").exists() for part in ("vae", "dit")) and args.what != "export":
        raise TrainingError(f"{folder} holds a run already; add --resume to go on with it, or name another --folder")
    until = time.time() + 60 * args.minutes if args.minutes is not None else None
    run = Run(config, folder, device, workers if device == "cpu" else 1, until)
    if args.what == "export":
        print(f"weights written to {export(run, args.export_to)}")
        return 0
    stages = STAGES[:-1] if args.what not in STAGES else (args.what,)
    done = train(run, stages)
    if args.what not in STAGES and (folder / "dit.ckpt").exists():
        print(f"weights written to {export(run, args.export_to)}")
    if not done:
        print("stopped before the last step; the same command with --resume goes on", file=sys.stderr)
    return 0


def _train_tokens(args: argparse.Namespace) -> int:
    """Train the motion tokenizer, measure it on held-out motions and export it."""
    import torch

    from .motion_tokens import CHECKPOINT, TokenRun, read_token_config, train_command
    from .run import PRESETS, TrainingError

    config = read_token_config(args.config or PRESETS / f"{args.what}.toml")
    folder = args.folder or Path("runs") / args.what
    if not args.resume and (folder / CHECKPOINT).exists():
        raise TrainingError(f"{folder} holds a run already; add --resume to go on with it, or name another --folder")
    for option, path in (("--data", args.data), ("--held-out", args.held_out)):
        if path is not None and not path.is_dir():
            raise TrainingError(f"{option}: {path} is no folder")
    until = time.time() + 60 * args.minutes if args.minutes is not None else None
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    run = TokenRun(config, folder, args.data, args.held_out, device, until)
    if not train_command(run, args.export_to):
        print("stopped before the last step; the same command with --resume goes on", file=sys.stderr)
    return 0
