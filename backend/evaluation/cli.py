"""``maquette evaluate``."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

_SETS = ("heldout", "real")


def add_evaluate_parser(subparsers: Any) -> None:
    """Add ``evaluate`` to the command line."""
    parser = subparsers.add_parser(
        "evaluate",
        help="measure a model on shots whose true film is known",
        description="Generate shots whose true film is known and report how near the model comes: figures in JSON "
        "and Markdown, plots, contact sheets.",
    )
    parser.add_argument("--model", default="isa-nano", help="id of the model (default isa-nano)")
    parser.add_argument(
        "--set",
        choices=_SETS,
        default="heldout",
        help="heldout: synthetic shots that no training draws; real: windows of the motion files in --motions",
    )
    parser.add_argument("--motions", type=Path, metavar="DIR", help="motion files for --set real")
    parser.add_argument("--shots", type=int, default=24, help="how many (default 24)")
    parser.add_argument("--steps", type=int, nargs="+", help="denoising steps, all combined with all of --guidance")
    parser.add_argument("--guidance", type=float, nargs="+", help="guidance scales")
    parser.add_argument("--device", help="cpu, cuda, ...; a GPU by default where there is one")
    parser.add_argument("--models", type=Path, action="append", default=[], metavar="DIR", help="more model files")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder of the report")
    parser.set_defaults(run=run_evaluate)


def run_evaluate(args: argparse.Namespace) -> int:
    """Run ``maquette evaluate``. Returns 0."""
    from tqdm import tqdm

    from ..models.registry import load_engine, model_spec
    from .evaluate import run_autoencoder, run_model, true_films
    from .report import Report
    from .sets import SetError, held_out, real_motions

    if args.shots < 1:
        raise SetError(f"--shots {args.shots}: choose at least 1")
    if args.set == "real" and args.motions is None:
        raise SetError("--set real needs --motions DIR, a folder of motion files")
    spec = model_spec(args.model, args.models)
    engine: Any = load_engine(spec.id, args.device, args.models)
    frames, size = spec.defaults.frames, spec.defaults.width
    if args.set == "heldout":
        samples = held_out(args.shots, frames, size)
    else:
        samples = real_motions(args.motions, args.shots, frames, size)
    # The default is what most people run: it leads the report, whatever else is asked for.
    default = (spec.defaults.steps, spec.defaults.guidance)
    asked = itertools.product(args.steps or [default[0]], args.guidance or [default[1]])
    runs = []
    for steps, guidance in dict.fromkeys([default, *asked]):
        with tqdm(total=len(samples), desc=f"{steps} steps, guidance {guidance:g}", file=sys.stderr) as bar:
            runs.append(run_model(engine, samples, spec.id, steps, guidance, bar))
    code = _autoencoder(engine)
    report = Report(
        spec.id,
        args.set,
        samples,
        str(getattr(engine, "device", args.device or "cpu")),
        runs,
        true_films(samples),
        None if code is None else run_autoencoder(code, samples),
        _absent(),
    )
    report.write(args.output)
    print(report.as_markdown())
    print(f"report written to {args.output}")
    return 0


def _autoencoder(engine: Any) -> Callable[[np.ndarray], np.ndarray] | None:
    """The engine's video autoencoder as film (T,H,W,3) in, film out; None when it has none of its own."""
    return getattr(engine, "reconstruct", None)


def _absent() -> list[str]:
    """Measures that need trained networks which are not part of this project; nothing is put in their place."""
    return [
        "LPIPS: it needs a network trained on ImageNet",
        "FVD: it needs the I3D network trained on Kinetics",
    ]
