"""``maquette cameras``: a shot's camera as JSON (OpenCV's matrices) or as COLMAP's text model."""

from __future__ import annotations

import argparse
from pathlib import Path

from .shot import load_shot
from .shot.camera_files import write_camera_json, write_colmap


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``maquette cameras``."""
    parser.description = __doc__
    parser.add_argument("file", type=Path, metavar="FILE", help="the .shot file")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="OUT",
        help="a file that ends in .json; any other name is a folder for COLMAP's cameras.txt, images.txt, points3D.txt",
    )
    parser.add_argument(
        "--first-frame", type=int, default=1, metavar="N", help="number of the first frame and its picture (default 1)"
    )
    parser.set_defaults(run=run_cameras)


def run_cameras(args: argparse.Namespace) -> int:
    """Write the files and say so. Raises ShotError or OSError."""
    shot = load_shot(args.file)
    frames = range(args.first_frame, args.first_frame + shot.clip.frames)
    if args.output.suffix.lower() == ".json":
        write_camera_json(args.output, shot.clip, shot.name, frames)
    else:
        write_colmap(args.output, shot.clip, frames)
    print(f"{shot.clip.frames} cameras written to {args.output}")
    return 0
