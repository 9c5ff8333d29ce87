"""``maquette models``: list the models, add published weights, check and remove them (no torch at import)."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...catalogue.models import model_spec
from ..registry import ModelStatus, list_models


def add_models_parser(subparsers: Any) -> None:
    """Add ``models`` to the command line."""
    parser = subparsers.add_parser("models", help="list the models; add, check and remove published weights")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    listing = verbs.add_parser("list", help="every model, whether it can run, what it takes and what it needs")
    listing.add_argument("--json", action="store_true", help="as a program reads it")
    listing.set_defaults(run=_list)

    adding = verbs.add_parser(
        "add",
        help="bring published weights in",
        description="Checks published files that you have downloaded, key by key, and rewrites them as the model's "
        "folder. Downloads nothing. Without all of its files it says which are missing and where they are published.",
    )
    adding.add_argument("model", metavar="NAME", help="id of the model")
    adding.add_argument(
        "--from", dest="folders", action="append", type=Path, required=True, metavar="DIR",
        help="where the published files lie; may be repeated",
    )  # fmt: skip
    adding.add_argument("--to", type=Path, metavar="DIR", help="folder for the model's weights instead of its own")
    adding.add_argument("--component", action="append", default=[], metavar="PART", help="only this part; repeatable")
    adding.add_argument(
        "--dtype", choices=("keep", "fp16", "bf16", "fp32"), default="keep",
        help="precision of what is written; as published by default",
    )  # fmt: skip
    adding.add_argument("--force", action="store_true", help="replace parts that are there already")
    adding.set_defaults(run=_add)

    checking = verbs.add_parser("check", help="hold a model's files against its networks")
    checking.add_argument("model", metavar="NAME", help="id of the model")
    checking.add_argument("--full", action="store_true", help="also hold every byte against its SHA-256")
    checking.set_defaults(run=_check)

    removing = verbs.add_parser("remove", help="delete a model's weights")
    removing.add_argument("model", metavar="NAME", help="id of the model")
    removing.add_argument("--yes", action="store_true", help="do it; without this it only shows what would go")
    removing.set_defaults(run=_remove)

    for verb in (listing, adding, checking, removing):
        verb.add_argument(
            "--models", action="append", default=[], metavar="DIR", help="folder with more models; may be repeated"
        )


def _list(args: argparse.Namespace) -> int:
    models = list_models(args.models)
    if args.json:
        from .sizes import model_entry

        print(json.dumps([model_entry(status).to_json() for status in models], indent=2))
        return 0
    for status in models:
        print(f"{status.spec.id:<16} {status.spec.label:<28} {'ready' if status.available else 'cannot run'}")
        for line in _about(status):
            print(f"    {line}")
    return 0


def _about(status: ModelStatus) -> list[str]:
    from .missing import memory_words
    from .sizes import disk_bytes

    spec = status.spec
    lines = [] if status.available else [status.reason]
    taken = [
        f"{name}" if level == "required" else f"({name})" for name, level in spec.inputs.items() if level != "ignored"
    ]
    lines.append(f"takes {', '.join(filter(None, taken))}")
    lines.append("limits " + ", ".join(f"{name} {value}" for name, value in spec.limits.items()))
    lines.append(f"licence {spec.license}")
    size = disk_bytes(spec)
    fetch = sum(source.gigabytes for source in spec.sources if not source.optional)
    if size:
        lines.append(f"{size / 1e9:.2f} GB on disk in {spec.folder}")
    elif fetch:
        lines.append(f"{fetch:.1f} GB to fetch")
    if memory := memory_words(spec):
        lines.append(memory)
    return lines


def _add(args: argparse.Namespace) -> int:
    from ...catalogue.models import weights_home
    from .add import add
    from .missing import Missing

    spec = model_spec(args.model, args.models)
    if args.to is not None:
        spec = replace(spec, folder=args.to)
    try:
        written = add(spec, args.folders, only=args.component, dtype=args.dtype, force=args.force)
    except Missing as error:
        print("\n".join(error.lines), file=sys.stderr)
        return 1
    if not written:
        print(f"{spec.label} is there already; nothing was written")
    else:
        print(f"{spec.label} is in {spec.folder}")
    if args.to is not None and args.to.absolute() != (weights_home() / args.model).absolute():
        print(f"To be found there, MAQUETTE_WEIGHTS must be its parent folder and {args.model!r} its name")
    return 0


def _check(args: argparse.Namespace) -> int:
    from .check import check

    spec = model_spec(args.model, args.models)
    problems = check(spec, args.full, log=print)
    for problem in problems:
        print(problem, file=sys.stderr)
    if not problems:
        print(f"{spec.label} can run")
    return 1 if problems else 0


def _remove(args: argparse.Namespace) -> int:
    from .check import removable, remove
    from .sizes import disk_bytes

    spec = model_spec(args.model, args.models)
    files = removable(spec)
    if not args.yes:
        for path in files:
            print(path)
        print(f"{disk_bytes(spec) / 1e9:.2f} GB would go; give --yes to delete them")
        return 0
    print(f"{spec.label}: {remove(spec) / 1e9:.2f} GB deleted from {spec.folder}")
    return 0
