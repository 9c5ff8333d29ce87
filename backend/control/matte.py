"""``maquette matte``: a finished film with the exact outline of its characters as its alpha, to be composited."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..shot import Shot, ShotError, load_shot

if TYPE_CHECKING:
    from ..media import StreamedFilm

FILM = ".mov"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``maquette matte``."""
    parser.add_argument("shot", type=Path, help=".shot file")
    parser.add_argument("film", type=Path, help="the film that was made of it")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OUT", help="OUT.mov (ProRes 4444), else a folder of PNG"
    )
    parser.add_argument("--character", action="append", default=[], metavar="NAME", help="these alone; repeatable")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ...; a GPU by default where there is one")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument("--progress-lines", action="store_true", help=argparse.SUPPRESS)
    parser.set_defaults(run=run_matte)


def run_matte(args: argparse.Namespace) -> int:
    """Run ``maquette matte``. Returns 0."""
    from ..media import open_video
    from .cli import Bar, ended_in_order

    with ended_in_order():
        check_output(args.output)
        shot = load_shot(args.shot)
        frames, _ = open_video(args.film, str(args.film))
        with Bar(quiet=args.quiet, lines=args.progress_lines) as bar:
            notes = write_matte(shot, frames, args.output, tuple(args.character), args.device, bar.frame)
    high, wide = frames.shape[1:3]
    print(f"{args.output}: {len(frames)} frames of {wide} x {high} with alpha at {shot.clip.fps:g} per second")
    for note in notes:
        print(f"Note: {note}", file=sys.stderr)
    return 0


def check_output(output: Path) -> None:
    """Fail before the work, not after it. Raises ValueError or FileNotFoundError."""
    if not output.parent.is_dir():
        raise FileNotFoundError(2, "no such folder; make it first", str(output.parent))
    if output.suffix.lower() != FILM and (output.suffix or (output.exists() and not output.is_dir())):
        raise ValueError(f"{output}: a matte is a {FILM} film or a folder of PNG files; give such a name")


def write_matte(
    shot: Shot,
    frames: np.ndarray | StreamedFilm,
    output: Path,
    characters: tuple[str, ...] = (),
    device: str | None = None,
    tell: Callable[[int, int], None] = lambda done, count: None,
) -> list[str]:
    """Write a film (T,H,W,3) uint8 of a shot with straight alpha: 1 on the characters, soft at their edges.

    Args:
        characters: names of those that count; all by default. What hides them, the set and others, cuts them out.
        tell: called with frames done and their number; may raise to stop.

    Returns:
        Notes for the animator.

    Raises:
        ShotError: the film is not of this shot, or nothing is there to be drawn.
    """
    import torch

    from ..media import alpha_writer, encode_png
    from .cli import numbered_files
    from .films import ControlFilms, ControlOptions
    from .fitting import squeezed

    count, high, wide = frames.shape[:3]
    clip = shot.clip
    if count != clip.frames:
        raise ShotError("clip", f"the shot has {clip.frames} frames and the film {count}; give the shot that made it")
    if abs(wide / high * clip.height / clip.width - 1) > 0.05:
        raise ShotError(
            "clip", f"the shot is {clip.width} x {clip.height} and the film {wide} x {high}; give the shot that made it"
        )
    named = device or ("cuda" if torch.cuda.is_available() else "cpu")
    films = ControlFilms(squeezed(shot, wide, high), ControlOptions(characters=characters), named)
    films.check("silhouettes")
    metadata = {"generator": "Maquette", "title": shot.name}
    is_film = output.suffix.lower() == FILM
    writer: Any = alpha_writer(output, wide, high, clip.fps) if is_film else numbered_files(output, "png")
    with torch.no_grad(), writer as write:
        for frame, picture in enumerate(frames):
            alpha = films.picture("silhouettes", frame)[..., :1]
            rgba = np.concatenate([picture, alpha], axis=-1)
            if is_film:
                write(rgba)
            else:
                write(frame, encode_png(rgba, metadata).data)
            tell(frame + 1, count)
    return films.notes
