"""``maquette farm``."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from ..catalogue.models import find_specs
from ..catalogue.quality import list_quality
from ..shot import ShotError, load_shot
from .bundle import FLAVOURS, write_bundle
from .job import CHUNK, Capture, FarmError, Job, Source, distinct, make_films

_SCENE = re.compile(r"(?P<scene>.+):(?P<start>-?\d+)-(?P<end>-?\d+)")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``maquette farm``."""
    parser.description = (
        "Write a folder that a render farm takes: Blender captures the shots of a .blend file, a film is "
        "made of each, by one task or, of long drafts, by several; a table and a contact sheet tell of all. It is "
        "printed how it is submitted. The farm's machines must reach the folder by the same path, and have Maquette "
        "installed."
    )
    parser.add_argument("flavour", choices=list(FLAVOURS), help="openjd is for AWS Deadline Cloud too")
    parser.add_argument("folder", type=Path, metavar="DIR", help="where the bundle goes")
    parser.add_argument("--shots", type=Path, nargs="+", default=[], metavar="SHOT", help=".shot files, or folders")
    parser.add_argument("--blend", type=Path, metavar="FILE", help="a .blend file whose scenes the farm captures")
    parser.add_argument(
        "--scene", nargs="+", default=[], metavar="NAME:START-END", help="a scene of it and its frames, a shot each"
    )
    parser.add_argument("--model", nargs="+", default=[], metavar="ID", help="each shot's own by default")
    parser.add_argument("--seed", type=int, nargs="+", default=[], metavar="N", help="each shot's own by default")
    parser.add_argument("--quality", choices=list(list_quality()), default="", help="each shot's own by default")
    parser.add_argument(
        "--gpu", type=float, default=0.0, metavar="GB", help="memory of each GPU that a film needs (openjd)"
    )
    parser.add_argument(
        "--gpus-per-task", type=int, default=1, metavar="N", help="GPUs of a machine that make each film together"
    )
    parser.add_argument(
        "--chunk", type=int, default=CHUNK, metavar="FRAMES",
        help="frames of a draft that a task makes at most, 0 for all (default %(default)s); a model's film is one task",
    )  # fmt: skip
    parser.add_argument("--name", default="", help="of the job, in the farm's list")
    parser.add_argument("--blender", default="blender", metavar="PROGRAM", help="on the farm's machines")
    parser.add_argument("--maquette", default="maquette", metavar="PROGRAM", help="on the farm's machines")
    parser.set_defaults(run=run_farm)


def run_farm(args: argparse.Namespace) -> int:
    """Run ``maquette farm``. Raises FarmError, OSError."""
    if bool(args.blend) != bool(args.scene):
        raise FarmError("--blend and --scene go together: which scenes of which file")
    if args.blend and not args.blend.is_file():
        raise FarmError(f"--blend {args.blend}: there is no such file")
    if any(not 0 <= seed < 2**32 for seed in args.seed):
        raise FarmError(f"--seed: choose 0 to {2**32 - 1}")
    if args.gpus_per_task < 1:
        raise FarmError(f"--gpus-per-task {args.gpus_per_task}: choose 1 or more")
    if unknown := [model for model in args.model if model not in (known := find_specs(()))]:
        raise FarmError(f"--model {unknown[0]}: no such model; choose from {', '.join(known)}")
    scenes = [_scene(text) for text in args.scene]
    files = [path for given in args.shots for path in _files(given)]
    names = distinct([path.stem for path in files] + [scene for scene, _, _ in scenes])
    captures = tuple(Capture(name, *scene) for name, scene in zip(names[len(files) :], scenes, strict=True))
    sources = [_source(name, path) for name, path in zip(names, files, strict=False)]
    sources += [Source(one.shot, one.end - one.start + 1) for one in captures]
    job = Job(
        name=args.name or f"Maquette {(args.blend or args.folder).resolve().stem}",
        captures=captures,
        films=make_films(sources, args.model, args.seed, args.quality, args.chunk),
        blend=args.blend.resolve() if args.blend else None,
        gpu_gb=args.gpu,
        gpus=args.gpus_per_task,
        blender=args.blender,
        maquette=args.maquette,
    )
    told = write_bundle(args.flavour, args.folder, job, dict(zip(names, files, strict=False)))
    print(f"{len(job.films)} films in {args.folder}.\n{told}")
    return 0


def _scene(text: str) -> tuple[str, int, int]:
    found = _SCENE.fullmatch(text)
    if found is None or int(found["start"]) > int(found["end"]):
        raise FarmError(f"--scene {text}: write NAME:START-END, such as Scene:1-48")
    return found["scene"], int(found["start"]), int(found["end"])


def _source(name: str, path: Path) -> Source:
    try:
        shot = load_shot(path)
    except ShotError as error:
        raise FarmError(f"--shots {path}: {error}") from error
    return Source(name, shot.clip.frames, shot.settings.quality or "")


def _files(path: Path) -> Sequence[Path]:
    found = sorted(path.glob("*.shot")) if path.is_dir() else [path]
    if not found or not all(one.is_file() and one.suffix == ".shot" for one in found):
        raise FarmError(f"--shots {path}: there is no .shot file")
    return found
