"""``maquette control``: the control films of a shot, for any tool that is led by such films."""

from __future__ import annotations

import argparse
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..catalogue.control import FORMATS, KINDS
from ..shot import ShotError, load_shot

if TYPE_CHECKING:
    from .films import ControlFilms

_CRF = 4
_BAR = "{desc:>24}{percentage:3.0f}%|{bar}|"
_NUMBERED = re.compile(r"\d{5}\.\w+")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``maquette control``."""
    parser.add_argument("shot", type=Path, help=".shot file")
    parser.add_argument(
        "--kind",
        action="append",
        required=True,
        choices=["all", *KINDS],
        metavar="KIND",
        help=f"{', '.join(KINDS)}, or all; may be repeated",
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OUT", help="OUT.mp4 of one kind, else a folder"
    )
    parser.add_argument("--format", choices=list(FORMATS), help="mp4 by default; png and exr are folders of files")
    parser.add_argument("--size", metavar="WxH", help="pixels; the shot's by default, cut to shape in the middle")
    parser.add_argument("--multiple", type=int, default=2, metavar="N", help="make both sides multiples of N (2)")
    parser.add_argument("--fps", type=float, help="resample to this rate, over the same time")
    parser.add_argument(
        "--depth", choices=["disparity", "metres"], default="disparity", help="grey by 1/metres (default) or by metres"
    )
    parser.add_argument("--near", type=float, metavar="M", help="metres that are white; the shot's nearest by default")
    parser.add_argument("--far", type=float, metavar="M", help="metres that are black; the shot's farthest by default")
    parser.add_argument(
        "--normals", choices=["bae", "opengl"], default="bae", help="red is left, as Normal BAE has it, or right"
    )
    parser.add_argument(
        "--flow", choices=["shot", "frame"], default="shot", help="strongest colour: longest motion of which"
    )
    parser.add_argument(
        "--pose", default="body,hands,face", metavar="PARTS", help="of body, hands, face; all by default"
    )
    parser.add_argument(
        "--character", action="append", default=[], metavar="NAME", help="silhouettes, masks, pose of these alone"
    )
    parser.add_argument("--invert", action="store_true", help="black on white: silhouettes and the known mask")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ...; a GPU by default where there is one")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument("--progress-lines", action="store_true", help=argparse.SUPPRESS)
    parser.set_defaults(run=run_control)


@contextmanager
def ended_in_order() -> Iterator[None]:
    """In the block SIGTERM, by which Blender ends the process, is an exit: half a film is taken away again."""
    previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def run_control(args: argparse.Namespace) -> int:
    """Run ``maquette control``. Returns 0."""
    with ended_in_order():
        return _run(args)


def _run(args: argparse.Namespace) -> int:
    from dataclasses import replace

    import torch

    from .films import ControlFilms, ControlOptions
    from .fitting import fit_size, reframed, resampled
    from .pose_drawing import DWPOSE

    kinds = list(KINDS) if "all" in args.kind else list(dict.fromkeys(args.kind))
    form = args.format or "mp4"
    single = args.output.suffix.lower() == ".mp4"
    _check_output(args.output, kinds, form, single)
    parts = tuple(part.strip() for part in args.pose.split(",") if part.strip())
    if not parts or not set(parts) <= {"body", "hands", "face"}:
        raise ValueError(f"--pose {args.pose}: choose from body, hands, face, with commas between them")

    shot = load_shot(args.shot)
    width, height = _size(args.size)
    if args.multiple < 1:
        raise ValueError(f"--multiple {args.multiple}: choose 1 or more")
    width, height, notes = fit_size(shot, width, height, max(2, args.multiple + args.multiple % 2))
    shot, more = resampled(shot, args.fps)
    notes += more
    shot, more = reframed(shot, width, height)
    notes += more
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    options = ControlOptions(
        depth=args.depth,
        near=args.near,
        far=args.far,
        normals=args.normals,
        flow=args.flow,
        pose=replace(DWPOSE, parts=parts),
        characters=tuple(args.character),
        invert=args.invert,
    )
    bar = Bar(quiet=args.quiet, lines=args.progress_lines)
    films = ControlFilms(shot, options, device, bar.looked)
    films.notes[:0] = notes
    drawn = []
    for kind in kinds:
        if form == "exr" and not KINDS[kind].data:
            if "all" not in args.kind:
                films.data(kind, 0)
            films.notes.append(f"{kind} is a picture, not a quantity: there is no EXR of it")
            continue
        try:
            films.check(kind)
        except ShotError as error:
            if "all" not in args.kind:
                raise
            films.notes.append(f"No {KINDS[kind].label.lower()}: {error}")
            continue
        drawn.append(kind)
    if not drawn:
        raise ShotError("kind", "the shot holds what none of these films is drawn from: " + " ".join(films.notes))
    targets = [_target(args.output, kind, form, single, len(drawn)) for kind in drawn]
    for target in targets:
        target.parent.mkdir(exist_ok=True)
    with bar, torch.no_grad(), ExitStack() as open_films:
        writers = [
            open_films.enter_context(_writer(films, kind, form, target))
            for kind, target in zip(drawn, targets, strict=True)
        ]
        for frame in range(shot.clip.frames):
            for write in writers:
                write(frame)
            bar.frame(frame + 1, shot.clip.frames)
    for kind, target in zip(drawn, targets, strict=True):
        wide, high = films.size(kind)
        print(f"{target}: {shot.clip.frames} frames of {wide} x {high} at {shot.clip.fps:g} per second")
    for note in dict.fromkeys(films.notes):
        print(f"Note: {note}", file=sys.stderr)
    return 0


def _check_output(output: Path, kinds: list[str], form: str, single: bool) -> None:
    """Fail before the work, not after it."""
    if single and (len(kinds) > 1 or form != "mp4"):
        what = f"{len(kinds)} kinds" if len(kinds) > 1 else f"a sequence of {form} files"
        raise ValueError(f"{output}: {what} need a folder; give a name without .mp4")
    if not output.parent.is_dir():
        raise FileNotFoundError(2, "no such folder; make it first", str(output.parent))
    if not single and output.exists() and not output.is_dir():
        raise ValueError(f"{output}: is a file; give a folder, or a name that ends in .mp4")


def _size(text: str | None) -> tuple[int | None, int | None]:
    if text is None:
        return None, None
    width, by, height = text.lower().partition("x")
    if not by or not width.isdigit() or not height.isdigit():
        raise ValueError(f"--size {text}: write WIDTHxHEIGHT, such as 832x480")
    return int(width), int(height)


def _target(output: Path, kind: str, form: str, single: bool, count: int) -> Path:
    """Where a film goes: its file, or its folder."""
    if single or (count == 1 and form != "mp4"):
        return output
    return output / (f"{kind}.mp4" if form == "mp4" else kind)


@contextmanager
def _writer(films: ControlFilms, kind: str, form: str, target: Path) -> Iterator[Callable[[int], None]]:
    """A function that draws and writes a frame. The film appears under its name only when complete."""
    from ..media import encode_exr, encode_png, mp4_writer

    metadata = {"generator": "Maquette", "title": films.shot.name, "control": kind}
    if form == "mp4":
        with mp4_writer(target, *films.size(kind), films.shot.clip.fps, metadata, _CRF) as write:
            yield lambda frame: write(films.picture(kind, frame))
        return
    with numbered_files(target, form) as write_file:

        def draw(frame: int) -> None:
            if form == "exr":
                write_file(frame, encode_exr(films.data(kind, frame)))
            else:
                write_file(frame, encode_png(films.picture(kind, frame), metadata).data)

        yield draw


@contextmanager
def numbered_files(target: Path, ending: str) -> Iterator[Callable[[int, bytes], None]]:
    """A function that writes frame t as ``target/0000t.ENDING``, counted from 1. They appear only when complete."""
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as part:

        def write(frame: int, data: bytes) -> None:
            (Path(part) / f"{frame + 1:05d}.{ending}").write_bytes(data)

        yield write
        target.mkdir(exist_ok=True)
        # Frames of an earlier, longer film would go on after this one's.
        for old in target.glob(f"*.{ending}"):
            if _NUMBERED.fullmatch(old.name):
                old.unlink()
        for made in sorted(Path(part).iterdir()):
            made.replace(target / made.name)


class Bar:
    """Progress, as a bar or as lines for another program. Looking through the shot counts as a quarter."""

    def __init__(self, quiet: bool, lines: bool) -> None:
        self._quiet, self._lines = quiet, lines
        self._bar: Any = None

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def looked(self, done: int, frames: int) -> None:
        """A frame is looked at, before any is written."""
        self._tell(0.25 * done / max(frames, 1), "Looking through the Shot")

    def frame(self, done: int, frames: int) -> None:
        """A frame is written."""
        self._tell(0.25 + 0.75 * done / frames, "Drawing")

    def _tell(self, share: float, label: str) -> None:
        if self._lines:
            print(f"progress {share:.4f} {label}", flush=True)
            return
        from tqdm import tqdm

        if self._bar is None:
            self._bar = tqdm(
                total=100, disable=self._quiet, file=sys.stderr, bar_format="{desc:>24}{percentage:3.0f}%|{bar}|"
            )
        self._bar.set_description(label, refresh=False)
        self._bar.n = round(100 * share)
        self._bar.refresh()
