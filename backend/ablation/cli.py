"""``maquette ablate``."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``maquette ablate``."""
    parser.description = (
        "Train the ISA-DiT, the same without its position encoding and a 2D ControlNet on normal maps at "
        "equal budget, on the carried film and without it, and a VAE with and without the image-decoding "
        "regularisation; measure all on both held-out sets and report. What is done is not done again: the same "
        "command with --resume goes on."
    )
    parser.add_argument(
        "name", nargs="?", default="cpu", help="a file of presets/training/ablation: cpu (default) or gpu"
    )
    parser.add_argument("--config", type=Path, help="another file like those")
    parser.add_argument("--folder", type=Path, help="where the runs are kept (default runs/ablation-NAME)")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="folder of the report (default FOLDER/report)")
    parser.add_argument("--resume", action="store_true", help="go on with what is in the folder")
    parser.add_argument("--minutes", type=float, help="stop the loops after this time, with a checkpoint")
    parser.add_argument("--device", help="cpu or cuda; a GPU where there is one by default")
    parser.add_argument("--workers", type=int, default=1, help="processes on a CPU (default 1)")
    parser.set_defaults(run=run_ablate)


def run_ablate(args: argparse.Namespace) -> int:
    """Run ``maquette ablate``. Returns 0."""
    import torch

    from ..training.errors import TrainingError
    from ..training.launch import check_device, launched
    from .config import ABLATIONS, Ablation, read_ablation
    from .measure import ablate
    from .report import AblationReport

    names = sorted(path.stem for path in ABLATIONS.glob("*.toml"))
    if args.config is None and args.name not in names:
        raise TrainingError(f"no ablation is called {args.name!r}; choose from {', '.join(names)}, or give --config")
    config = read_ablation(args.config or ABLATIONS / f"{args.name}.toml")
    folder = args.folder or Path("runs") / f"ablation-{args.config.stem if args.config else args.name}"
    if not args.resume and (folder / "config.json").exists():
        raise TrainingError(
            f"{folder} holds an ablation already; add --resume to go on with it, or name another --folder"
        )
    if launched():
        raise TrainingError("an ablation starts its own processes; start it by itself, with --workers N on a CPU")
    if args.minutes is not None and not args.minutes >= 0:
        raise TrainingError(f"--minutes {args.minutes}: give at least 0")
    if args.workers < 1:
        raise TrainingError(f"--workers {args.workers}: choose at least 1")
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    workers = args.workers if check_device(device).type == "cpu" else 1
    until = time.time() + 60 * args.minutes if args.minutes is not None else None
    run = Ablation(config, folder, device, workers, until)
    report = AblationReport(run, ablate(run))
    output = args.output or folder / "report"
    report.write(output)
    print(report.as_markdown())
    print(f"report written to {output}")
    if report.missing:
        print("stopped before the last step; the same command with --resume goes on", file=sys.stderr)
    return 0
