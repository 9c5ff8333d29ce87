"""``maquette evaluate``."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..catalogue.models import DEFAULT_MODEL
from .conditions import CONDITIONS, KNOWN

if TYPE_CHECKING:
    from ..catalogue.models import ModelSpec
    from ..worlds.sample import Sample
    from .evaluate import EvaluationRun

_SETS = ("heldout", "dressed", "real")
WITHOUT = ("light", "meshes", "bodies")
"""What a shot can be handed over without; see ``to_shot``."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``maquette evaluate``."""
    parser.description = (
        "Generate shots whose true film is known and report how near the model comes: figures in JSON "
        "and Markdown, plots, contact sheets."
    )
    parser.add_argument("--model", default=DEFAULT_MODEL, help="id of the model (default %(default)s)")
    parser.add_argument(
        "--set",
        choices=_SETS,
        default="heldout",
        help="heldout: synthetic shots that no training draws; dressed: such with hair, skirts and coats, in furnished "
        "sets and other light than their references; real: windows of the motion files in --motions, on "
        "bare bodies and on such people in turn",
    )
    parser.add_argument("--motions", type=Path, metavar="DIR", help="motion files for --set real")
    parser.add_argument(
        "--shots", type=int, default=32, help="how many (default 32, which has each aspect with each number of people)"
    )
    parser.add_argument(
        "--size",
        type=int,
        metavar="PIXELS",
        help="of the shorter side, a multiple of 16; the shots are 16:9, 9:16, 1:1 and 4:3 in turn (default: the "
        "model's own size)",
    )
    parser.add_argument(
        "--references", type=int, default=1, metavar="N", help="pictures of each character, from all sides (default 1)"
    )
    parser.add_argument(
        "--without",
        nargs="+",
        default=[],
        choices=WITHOUT,
        help="hand the shots over without the pictures of their light, the bodies' meshes or their parameters",
    )
    parser.add_argument(
        "--drop",
        nargs="+",
        default=[],
        choices=[*CONDITIONS, "all"],
        help="also make the first --table-shots shots without each of these conditions in turn, and say what is lost",
    )
    parser.add_argument("--steps", type=int, nargs="+", help="denoising steps, all combined with all of --guidance")
    parser.add_argument("--guidance", type=float, nargs="+", help="guidance scales")
    parser.add_argument(
        "--table-shots", type=int, metavar="N", help="run what is besides the default on the first N shots only"
    )
    parser.add_argument(
        "--backbones",
        type=Path,
        metavar="DIR",
        help="folder with the networks of LPIPS (alexnet-owt-*.pth) and FVD (i3d_torchscript.pt), which is a program: "
        "take it from a source you trust; by default $MAQUETTE_BACKBONES, or backbones/ in the user's data folder",
    )
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="DIR",
        help="keep finished shots here, so that the same command goes on after an interruption; whoever changes the "
        "model's code, and not its weights, names another folder",
    )
    parser.add_argument("--device", help="cpu, cuda, ...; a GPU by default where there is one")
    parser.add_argument("--models", type=Path, action="append", default=[], metavar="DIR", help="more model files")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder of the report")
    parser.set_defaults(run=run_evaluate)


def run_evaluate(args: argparse.Namespace) -> int:
    """Run ``maquette evaluate``. Returns 0."""
    from ..catalogue.models import model_spec
    from ..models.engine import load_engine
    from .backbones import backbones_home, find_backbones
    from .evaluate import carried_films, run_autoencoder, run_model, true_films
    from .pictures import sheet_shots
    from .report import EvaluationReport
    from .store import Store, store_key

    spec = model_spec(args.model, args.models)
    _check(args, spec)
    engine: Any = load_engine(spec.id, args.device, args.models)
    device = str(getattr(engine, "device", args.device or "cpu"))
    backbones = find_backbones(args.backbones or backbones_home(), device)
    for text in backbones.absent:
        print(f"not measured: {text}", file=sys.stderr)
    samples = _samples(args, spec)
    store = Store(args.keep, store_key(spec, device, backbones.digests) if args.keep else "")
    keep = frozenset(sheet_shots(samples))

    def with_bar(title: str, run: Callable[..., EvaluationRun], shots: Sequence[Sample], **more: Any) -> EvaluationRun:
        from tqdm import tqdm

        with tqdm(total=len(shots), desc=title, file=sys.stderr) as bar:
            return run(samples=shots, backbones=backbones, store=store, bar=bar, **more)

    # The default is what most people run: it leads the report, whatever else is asked for.
    default = (spec.defaults.steps, spec.defaults.guidance)
    asked = itertools.product(args.steps or [default[0]], args.guidance or [default[1]])
    truth = with_bar("true films", true_films, samples, keep=keep)
    carried = with_bar("carried films", carried_films, samples, keep=keep, device=device, without=args.without)
    code: Callable[[np.ndarray], np.ndarray] | None = getattr(engine, "reconstruct", None)
    alone = None
    if code is not None:
        alone = with_bar("autoencoder", run_autoencoder, samples, code=code)
    runs = []
    for steps, guidance in dict.fromkeys([default, *asked]):
        leads = (steps, guidance) == default
        shots = samples if leads else samples[: args.table_shots]
        settings = {"engine": engine, "model": spec.id, "steps": steps, "guidance": guidance, "without": args.without}
        title = f"{steps} steps, guidance {guidance:g}"
        runs.append(with_bar(title, run_model, shots, keep=keep if leads else frozenset(), **settings))
    dropped: dict[str, dict[str, EvaluationRun]] = {"carried": {}, "model": {}}
    everything = [name for name in CONDITIONS if name != KNOWN or spec.engine == "isa"]
    for name in everything if "all" in args.drop else dict.fromkeys(args.drop):
        lacking = {"without": args.without, "dropped": name}
        settings = {"engine": engine, "model": spec.id, "steps": default[0], "guidance": default[1]}
        shots, title = samples[: args.table_shots], f"without {name}"
        dropped["carried"][name] = with_bar(f"carried {title}", carried_films, shots, device=device, **lacking)
        # A model that gives the carried film as it is gives it without the condition, too.
        if not runs[0].same(carried):
            dropped["model"][name] = with_bar(title, run_model, shots, **lacking, **settings)
    report = EvaluationReport(
        spec.id, args.set, samples, device, runs, truth, carried, alone, backbones.absent, args.without, dropped
    )
    report.write(args.output)
    print(report.as_markdown())
    print(f"report written to {args.output}")
    return 0


def _check(args: argparse.Namespace, spec: ModelSpec) -> None:
    """Raises SetError: options that do not go together."""
    from ..shot.validate import MAX_REFERENCES
    from .sets import SetError

    if args.shots < 1:
        raise SetError(f"--shots {args.shots}: choose at least 1")
    if args.table_shots is not None and not 1 <= args.table_shots <= args.shots:
        raise SetError(f"--table-shots {args.table_shots}: choose 1 to {args.shots}, the number of --shots")
    if args.size is not None and (args.size < 16 or args.size % 16):
        raise SetError(f"--size {args.size}: choose a multiple of 16")
    if not 1 <= args.references <= 1 + MAX_REFERENCES:
        raise SetError(f"--references {args.references}: choose 1 to {1 + MAX_REFERENCES}")
    if args.set == "real" and args.motions is None:
        raise SetError("--set real needs --motions DIR, a folder of motion files")
    if KNOWN in args.drop and spec.engine != "isa":
        raise SetError(f"--drop {KNOWN}: {spec.label} is not told how far the carried film is known; leave it out")
    if any(steps < 1 for steps in args.steps or ()):
        raise SetError(f"--steps {min(args.steps)}: choose at least 1")
    if any(guidance < 1 for guidance in args.guidance or ()):
        raise SetError(f"--guidance {min(args.guidance):g}: choose at least 1, which turns guidance off")


def _samples(args: argparse.Namespace, spec: ModelSpec) -> Sequence[Sample]:
    from .sets import held_out, real_motions

    size = args.size or min(spec.defaults.width, spec.defaults.height)
    points = spec.limits.get("points", 128)
    if args.set != "real":
        dressed = args.set == "dressed"
        return held_out(args.shots, spec.defaults.frames, size, points, references=args.references, dressed=dressed)
    return real_motions(args.motions, args.shots, spec.defaults.frames, size, points, args.references)
