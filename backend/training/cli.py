"""``maquette train``."""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config import RunConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``maquette train``."""
    from .head import is_head_run
    from .motion_tokens import is_token_run
    from .run import PRESETS, STAGES

    whole = sorted(path.stem for path in PRESETS.glob("*.toml") if is_token_run(path) or is_head_run(path))
    runs = sorted(path.stem for path in PRESETS.glob("*.toml") if path.stem not in whole)
    parser.description = (
        "Train a model on synthetic shots. A run's name does everything: data, VAE, DiT and export; "
        "a part's name does that part of it. Ctrl-C and SIGTERM keep what is done. 4dmot trains MTVCrafter's motion "
        "tokenizer, on made-up motions or on those of --data; nano-head the embedded model's head for dressed people."
    )
    parser.add_argument(
        "what",
        choices=[*runs, *whole, *STAGES],
        help="a run (a file of presets/training), or one part of it",
    )
    parser.add_argument("--of", default="nano", choices=runs, help="the run that a part belongs to (default nano)")
    parser.add_argument("--config", type=Path, help="another file like those of presets/training")
    parser.add_argument("--folder", type=Path, help="where the run keeps its files (default runs/NAME)")
    parser.add_argument("--resume", action="store_true", help="go on with a run that is there already")
    parser.add_argument("--minutes", type=float, help="stop the loops after this time, with a checkpoint")
    parser.add_argument("--steps", type=int, help="make every loop so long, instead of what the run's file says")
    parser.add_argument("--device", help="cpu, cuda (all GPUs) or cuda:N; GPUs where there are some by default")
    parser.add_argument(
        "--workers",
        type=int,
        help="processes that share each step; by default one a GPU, or one a CPU core up to 8. Under 'accelerate "
        "launch' and torchrun it is their number",
    )
    parser.add_argument("--estimate", action="store_true", help="only say how much memory the DiT's training takes")
    parser.add_argument("--export-to", type=Path, help="write the weights here instead of the model's preset")
    parser.add_argument("--data", type=Path, help="4dmot: a folder of motion files to train on")
    parser.add_argument("--held-out", type=Path, help="4dmot: a folder of motion files to measure on")
    parser.set_defaults(run=_train)


def _train(args: argparse.Namespace) -> int:
    from .head import is_head_run
    from .launch import check_device, first_alone, processes
    from .motion_tokens import is_token_run
    from .run import PRESETS, STAGES, TrainingError, TrainingRun, export, read_config, train

    _check_numbers(args)
    file = args.config or PRESETS / f"{args.what}.toml"
    if is_token_run(file):
        return _train_tokens(args)
    for option in ("data", "held_out"):
        if getattr(args, option) is not None:
            raise TrainingError(f"--{option.replace('_', '-')} belongs to 'train 4dmot'; leave it out")
    if is_head_run(file):
        return _train_head(args, file)
    name = args.what if args.what not in STAGES else args.of
    config = read_config(args.config or PRESETS / f"{name}.toml")
    if args.steps is not None:
        config = config.with_steps(args.steps)
    folder = args.folder or Path("runs") / name
    if args.estimate:
        return _estimate(args, config)
    device = _device(args)
    check_device(device)
    parts = [f"{part}.ckpt" for part in ("vae", "vae_long", "dit")]
    if not args.resume and any((folder / part).exists() for part in parts) and args.what != "export":
        raise TrainingError(f"{folder} holds a run already; add --resume to go on with it, or name another --folder")
    until = time.time() + 60 * args.minutes if args.minutes is not None else None
    run = TrainingRun(config, folder, device, processes(device, args.workers), until)
    if args.what == "export":
        _say(f"weights written to {export(run, args.export_to)}")
        return 0
    whole = args.what not in STAGES
    if config.overrides and whole and args.export_to is None:
        raise TrainingError(f"[overrides] makes other networks than {config.model}'s; add --export-to FOLDER")
    if not train(run, STAGES[:-1] if whole else (args.what,)):
        said = "stopped before the last step; the same command with --resume goes on"
        if (folder / "dit.ckpt").exists():
            command = f"maquette train export --of {name} --folder {folder} --export-to {folder / 'weights'}"
            command += f" --config {args.config}" if args.config else ""
            said += f", and '{command}' writes the weights so far"
        _say(said, sys.stderr)
    elif whole:
        first_alone(device, lambda: export(run, args.export_to))
        _say(f"weights written to {args.export_to or run.spec.folder}")
    return 0


def _estimate(args: argparse.Namespace, config: RunConfig) -> int:
    """Say what training takes, on a machine that need not be this one."""
    from .estimate import as_text, estimate

    bf16 = config.dit.precision == "bf16" or (config.dit.precision == "auto" and args.device != "cpu")
    count = args.workers or 1
    print(as_text(config, estimate(config, count, bf16), count, bf16))
    return 0


def _device(args: argparse.Namespace) -> str:
    import torch

    return args.device or ("cuda" if torch.cuda.is_available() else "cpu")


def _check_numbers(args: argparse.Namespace) -> None:
    from .errors import TrainingError

    for option, least in (("steps", 1), ("workers", 1), ("minutes", 0)):
        value = getattr(args, option)
        if value is not None and not value >= least:
            raise TrainingError(f"--{option} {value}: give at least {least}")


def _say(text: str, file: Any = None) -> None:
    """Print it, once where several processes run the command."""
    if os.environ.get("RANK", "0") == "0":
        print(text, file=file)


def _train_head(args: argparse.Namespace, file: Path) -> int:
    """Train a model's head and export it."""
    from .errors import TrainingError
    from .head import CHECKPOINT, HeadRun, export_head, read_head_config, train_head
    from .launch import check_device, launched

    config = read_head_config(file)
    if args.steps is not None:
        config = replace(config, loop=replace(config.loop, steps=args.steps))
    folder, device = args.folder or Path("runs") / args.what, _device(args)
    if launched() or (args.workers or 1) > 1:
        raise TrainingError("a head trains in one process; start it without --workers and by itself")
    if not args.resume and (folder / CHECKPOINT).exists():
        raise TrainingError(f"{folder} holds a run already; add --resume to go on with it, or name another --folder")
    check_device(device)
    run = HeadRun(config, folder, device, time.time() + 60 * args.minutes if args.minutes is not None else None)
    done, head = train_head(run)
    # Unfinished weights do not take the place of the published ones.
    target = args.export_to or (run.spec.folder if done else folder)
    if (folder / CHECKPOINT).exists():
        print(f"weights written to {export_head(head, target, config.model)}")
    if not done:
        print("stopped before the last step; the same command with --resume goes on", file=sys.stderr)
    return 0


def _train_tokens(args: argparse.Namespace) -> int:
    """Train the motion tokenizer, measure it on held-out motions and export it."""
    from .launch import check_device, launched
    from .motion_tokens import CHECKPOINT, TokenRun, read_token_config, train_command
    from .run import PRESETS, TrainingError

    config = read_token_config(args.config or PRESETS / f"{args.what}.toml")
    if args.steps is not None:
        config = replace(config, loop=replace(config.loop, steps=args.steps))
    folder = args.folder or Path("runs") / args.what
    if launched() or (args.workers or 1) > 1:
        raise TrainingError("the motion tokenizer trains in one process; start it without --workers and by itself")
    if not args.resume and (folder / CHECKPOINT).exists():
        raise TrainingError(f"{folder} holds a run already; add --resume to go on with it, or name another --folder")
    for option, path in (("--data", args.data), ("--held-out", args.held_out)):
        if path is not None and not path.is_dir():
            raise TrainingError(f"{option}: {path} is no folder")
    until = time.time() + 60 * args.minutes if args.minutes is not None else None
    device = _device(args)
    check_device(device)
    run = TokenRun(config, folder, args.data, args.held_out, device, until)
    if not train_command(run, args.export_to):
        print("stopped before the last step; the same command with --resume goes on", file=sys.stderr)
    return 0
