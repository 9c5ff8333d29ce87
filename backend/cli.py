"""The command line: ``maquette serve | render | control | inspect | train | models | ...``."""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

from .models.threads import share_cores

_COMMANDS = {
    "serve": ("server.serve", "answer Blender over HTTP"),
    "jobs": ("server.jobs_cli", "list, show and delete a server's jobs"),
    "doctor": ("server.doctor", "check this computer and say what to do"),
    "render": ("models.render", "make the video of a shot without a server"),
    "batch": ("batch.cli", "make the videos of many shots"),
    "farm": ("farm.cli", "write the job bundle of a render farm"),
    "matte": ("control.matte", "give a film the exact outline of its characters as alpha"),
    "control": ("control.cli", "write control films of a shot: depth, normals, pose, masks, ..."),
    "inspect": ("inspect", "say what a .shot file holds"),
    "cameras": ("export_cameras", "write the camera of a shot as JSON or for COLMAP"),
    "body": ("check_body", "say what a body file holds and check how it is posed"),
    "evaluate": ("evaluation.cli", "measure a model on shots whose true film is known"),
    "synth": ("worlds.cli", "make synthetic shots with their true films"),
    "train": ("training.cli", "train a model"),
    "ablate": ("ablation.cli", "measure what interspatial attention is worth"),
    "models": ("models.weights.cli", "list, fetch, add, check and remove models"),
}
"""Module below ``maquette.backend`` whose ``add_arguments`` gives the command its options, and a line of help. Only the
module of the command that is asked for is imported: help must not wait for torch."""

_EXTRAS = {
    "torchmetrics": "evaluate",
    "matplotlib": "evaluate",
    "jinja2": "evaluate",
    "tensorboard": "train",
    "ray": "cluster",
    "gguf": "gguf",
}
"""The extra of the package that brings a module; the others come with ``backend``."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0, or 2 after an error, of which one line is on stderr; ``--debug`` shows the traceback.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    wanted = next((word for word in arguments if not word.startswith("-")), None)
    debug = "--debug" in arguments
    share_cores()
    try:
        args = _parser(wanted).parse_args(arguments)
        return int(args.run(args) or 0)
    except KeyboardInterrupt:
        print("maquette: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of the output is gone, 'maquette ... | head' for instance; keep Python from telling at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if debug:
            raise
        print(f"maquette: {_one_line(error)}", file=sys.stderr)
        return 2


def _parser(wanted: str | None) -> argparse.ArgumentParser:
    """The parser; of the commands only ``wanted`` with its options."""
    parser = argparse.ArgumentParser(
        prog="maquette", description="Bodies and cameras keyed in Blender become video. See 'maquette COMMAND --help'."
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (module, line) in _COMMANDS.items():
        command = commands.add_parser(name, help=line, add_help=name == wanted)
        if name != wanted:
            continue
        importlib.import_module(f".{module}", __package__).add_arguments(command)
        # Also after the command, where people type it.
        command.add_argument(
            "--debug", action="store_true", default=argparse.SUPPRESS, help="show the traceback of an error"
        )
    return parser


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        from importlib import metadata

        try:
            print(f"maquette {metadata.version('maquette')}")
        except metadata.PackageNotFoundError:
            print("maquette (not installed)")
        parser.exit()


def _one_line(error: Exception) -> str:
    """What went wrong, as the one line that people read."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, ModuleNotFoundError):
        extra = _EXTRAS.get(error.name or "", "backend")
        return f"{text}; install what it needs with: pip install 'maquette[{extra}]'"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f" of {error.filename}" if error.filename else " that is written to"
        return f"the disk{where} is full; make room there and run the same command again. Nothing half-written was left"
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    # Errors of this project speak for themselves; of others the kind says more than the text.
    ours = type(error).__module__.startswith(__name__.rpartition(".")[0])
    return text if ours else f"{type(error).__name__}: {text} (--debug shows where)"


if __name__ == "__main__":
    sys.exit(main())
