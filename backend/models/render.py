"""``maquette render``: a shot to a video without a server."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..catalogue.loras import OPTION as LORAS
from ..catalogue.models import ModelError, ModelSpec, model_spec
from ..catalogue.quality import list_quality
from ..control.matte import check_output, write_matte
from ..shot import Shot, load_shot
from .engine import shot_engine
from .family import Cancelled, Progress, Result
from .group import here, join_torchrun
from .registry import plan_shot
from .shot_arguments import add_lora_argument, add_upscale_argument, given_loras

_STAGES = {
    "loading": "Loading",
    "encoding": "Encoding",
    "denoising": "Denoising",
    "decoding": "Decoding",
    "upscaling": "Upscaling",
    "writing": "Writing",
    "drawing": "Drawing",
    "matte": "Matte",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``maquette render``."""
    parser.description = (
        "Several GPUs make it together where torchrun starts a process for each: "
        "torchrun --nproc-per-node 2 -m maquette.backend.cli render SHOT -o OUT.mp4"
    )
    parser.add_argument("shot", type=Path, help=".shot file")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.mp4", help="where the video goes")
    parser.add_argument("--model", help="id of a model; the shot's by default")
    parser.add_argument("--seed", type=int, help="0 to 4294967295; the shot's by default")
    parser.add_argument("--steps", type=int, help="denoising steps")
    parser.add_argument("--guidance", type=float, help="guidance scale; 1 turns it off")
    parser.add_argument(
        "--quality",
        choices=list(list_quality()),
        help="draft: the carried film, without a network; the others: more or fewer steps",
    )
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the model ('maquette models list --json' names them); may be repeated",
    )
    add_lora_argument(parser)
    add_upscale_argument(parser)
    parser.add_argument("--frames-dir", type=Path, metavar="FOLDER", help="also write every frame as PNG here")
    parser.add_argument(
        "--matte",
        type=Path,
        metavar="OUT",
        help="also with the characters' outline as alpha: OUT.mov or a folder",
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ...; a GPU by default where there is one")
    parser.add_argument(
        "--models", action="append", default=[], metavar="DIR", help="folder with more models; may be repeated"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=run_render)


def run_render(args: argparse.Namespace) -> int:
    """Run ``maquette render``. Returns 0, or 130 when interrupted."""
    own = join_torchrun()
    args.device = args.device or own
    leads = here().leads
    shot = load_shot(args.shot)
    changes = {name: getattr(args, name) for name in ("model", "seed", "steps", "guidance", "upscale")}
    changes = {name: value for name, value in changes.items() if value is not None}
    if not 0 <= changes.get("seed", 0) < 2**32:
        raise ValueError(f"--seed {args.seed}: choose 0 to 4294967295")
    # Another model's options would mean nothing to this one.
    kept = shot.settings.options if changes.get("model", shot.settings.model) == shot.settings.model else {}
    changes["options"] = {
        **kept,
        **_options(model_spec(changes.get("model", shot.settings.model), args.models), args.option),
        **({LORAS: given_loras(args.lora)} if args.lora else {}),
    }
    if args.quality is not None:
        changes["quality"] = args.quality
    shot = replace(shot, settings=replace(shot.settings, **changes))
    _check_output(args.output)
    if args.matte is not None:
        check_output(args.matte)
    plan = plan_shot(shot, args.models)
    for note in plan.notes if leads else ():
        print(f"Note: {note}", file=sys.stderr)

    interrupted: list[bool] = []
    began = time.monotonic()
    previous = signal.signal(signal.SIGINT, lambda *_: interrupted.append(True))
    try:
        with ProgressBar(quiet=args.quiet or not leads) as bar:
            engine = shot_engine(shot, args.device, args.models)
            result = engine.generate(shot, bar.update, lambda: bool(interrupted))
            if not leads:
                return 0
            write_result(shot, result, args.output, args.frames_dir, bar.update)
            if args.matte is not None:
                write_matte(
                    shot,
                    result.frames,
                    args.matte,
                    device=args.device,
                    tell=lambda done, count: bar.update(Progress("matte", done, count)),
                )
    except Cancelled:
        print("maquette: interrupted; nothing was written", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGINT, previous)
    height, width = result.frames.shape[1:3]
    print(f"{args.output}: {len(result.frames)} frames of {width} x {height}, {time.monotonic() - began:.2f} s")
    return 0


def _options(spec: ModelSpec, given: list[str]) -> dict[str, Any]:
    """``NAME=VALUE`` as values of the model's options. Raises ModelError that names the option."""
    values: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if name not in spec.options or not equals:
            known = ", ".join(spec.options) or "none"
            raise ModelError(f"--option {text}: write NAME=VALUE; the options of {spec.label} are: {known}")
        option = spec.options[name]
        try:
            values[name] = _PARSE[option.type](value)
        except (ValueError, KeyError) as error:
            raise ModelError(f"--option {text}: {option.label} is of the kind {option.type}") from error
        if why := option.problem(values[name]):
            raise ModelError(f"--option {text}: {option.label} is {why}")
    return values


_PARSE: dict[str, Callable[[str], Any]] = {
    "bool": lambda text: {"true": True, "false": False}[text.lower()],
    "int": int,
    "float": float,
    "choice": str,
    "text": str,
    "loras": str,
}


def write_result(
    shot: Shot, result: Result, output: Path, frames_dir: Path | None, on_progress: Callable[[Progress], None]
) -> None:
    """Write the mp4, and the PNG sequence where asked, with how they were made in their metadata."""
    from ..media import write_mp4, write_png_sequence

    metadata = {"generator": "Maquette", "title": shot.name, "prompt": shot.prompt, **result.metadata}
    count = len(result.frames)
    write_mp4(
        output,
        result.frames,
        result.fps,
        metadata,
        on_frame=lambda i: on_progress(Progress(result.stage, i + 1, count)),
    )
    if frames_dir is not None:
        write_png_sequence(frames_dir, result.frames, metadata)


class ProgressBar:
    """One bar on stderr that starts again with each stage."""

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._bar: Any = None
        self._stage = ""

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def update(self, progress: Progress) -> None:
        """Show a report of the engine."""
        from tqdm import tqdm

        if progress.stage != self._stage:
            if self._bar is not None:
                self._bar.close()
            self._stage = progress.stage
            label = _STAGES.get(progress.stage, progress.stage)
            self._bar = tqdm(total=max(progress.steps, 1), desc=f"{label:>9}", disable=self._quiet, file=sys.stderr)
        self._bar.total = max(progress.steps, 1)
        self._bar.update(progress.step - self._bar.n)


def _check_output(path: Path) -> None:
    """Fail before the work, not after it."""
    if path.suffix.lower() != ".mp4":
        raise ValueError(f"{path}: the video is an mp4; give a name that ends in .mp4")
    if not path.parent.is_dir():
        raise FileNotFoundError(2, "no such folder; make it first", str(path.parent))
