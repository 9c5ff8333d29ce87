"""``maquette models``: list the models, fetch and add published weights, check and remove them (no torch at import)."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

from ...catalogue.models import model_spec
from ..registry import ModelStatus, list_models, status
from .component import WeightsError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``maquette models``."""
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
        "--from", dest="folders", action="append", type=Path, required=True, metavar="DIR|GGUF",
        help="where the published files lie; may be repeated. A GGUF file of the transformer takes the place of the "
        "published one",
    )  # fmt: skip
    adding.add_argument("--to", type=Path, metavar="DIR", help="folder for the model's weights instead of its own")
    adding.add_argument("--component", action="append", default=[], metavar="PART", help="only this part; repeatable")
    adding.add_argument(
        "--dtype", choices=("keep", "fp16", "bf16", "fp32"), default="keep",
        help="precision of what is written; as published by default",
    )  # fmt: skip
    adding.add_argument("--force", action="store_true", help="replace parts that are there already")
    adding.set_defaults(run=_add)

    fetching = verbs.add_parser(
        "fetch",
        help="fetch published weights from their hub, with your consent, and add them",
        description="Shows who publishes what, under which licence, how large it is and how much room there is, and "
        "fetches it only when you agree. A run that was stopped goes on where it ended. Tokens are those of "
        "'hf auth login'; HF_ENDPOINT names another hub.",
    )
    fetching.add_argument("model", metavar="NAME", help="id of the model")
    fetching.add_argument("--yes", action="store_true", help="agree to the licences and sizes without being asked")
    fetching.add_argument("--component", action="append", default=[], metavar="PART", help="only this part; repeatable")
    fetching.add_argument("--facts", action="store_true", help="only show what would come")
    fetching.add_argument("--json", action="store_true", help="with --facts: as a program reads it")
    fetching.add_argument(
        "--commit", action="append", default=[], type=_commit, metavar="OWNER/NAME@COMMIT",
        help="of a repository, instead of its newest; repeatable",
    )  # fmt: skip
    fetching.add_argument("--quiet", action="store_true", help="no progress bar")
    fetching.add_argument("--progress-lines", action="store_true", help=argparse.SUPPRESS)
    fetching.set_defaults(run=_fetch)

    checking = verbs.add_parser("check", help="hold a model's files against its networks")
    checking.add_argument("model", metavar="NAME", help="id of the model")
    checking.add_argument("--full", action="store_true", help="also hold every byte against its SHA-256")
    checking.set_defaults(run=_check)

    removing = verbs.add_parser("remove", help="delete a model's weights")
    removing.add_argument("model", metavar="NAME", help="id of the model")
    removing.add_argument("--yes", action="store_true", help="do it; without this it only shows what would go")
    removing.set_defaults(run=_remove)

    for verb in (listing, adding, fetching, checking, removing):
        verb.add_argument(
            "--models", action="append", default=[], metavar="DIR", help="folder with more models; may be repeated"
        )


def _list(args: argparse.Namespace) -> int:
    models = list_models(args.models)
    if args.json:
        from .sizes import model_entry

        print(json.dumps([model_entry(model).to_json() for model in models], indent=2))
        return 0
    for model in models:
        print(f"{model.spec.id:<16} {model.spec.label:<28} {'ready' if model.available else 'cannot run'}")
        for line in _about(model):
            print(f"    {line}")
    return 0


def _about(model: ModelStatus) -> list[str]:
    from .missing import memory_words
    from .sizes import disk_bytes

    spec = model.spec
    lines = [] if model.available else [model.reason]
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


def _fetch(args: argparse.Namespace) -> int:
    from .fetch import clear, fetch, lacking, offers, told

    spec = model_spec(args.model, args.models)
    if status(spec).available and not args.component:
        print(f"{spec.label} is there already; nothing was fetched")
        return 0
    if not spec.sources:
        raise WeightsError(f"{spec.label} ({spec.id}) has no published weights to fetch")
    if not lacking(spec, args.component):
        raise WeightsError(status(spec).reason)
    offered = offers(spec, args.component, dict(args.commit))
    offer = told(spec, offered)
    print(json.dumps(offer.to_json()) if args.json else "\n".join(offer.facts()))
    if args.facts:
        return 0
    if not args.yes and not _agreed():
        print("Nothing was fetched; type yes when asked, or give --yes, to agree", file=sys.stderr)
        return 1
    # Whoever ends the process asks so; what has come stays.
    previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with _Meter(args.quiet, args.progress_lines) as meter:
            folders = fetch(spec, offered, meter.tell)
            meter.tell("Checking and Adding", 1, 1)
    except KeyboardInterrupt:
        print("Stopped; what has come stays, and the same command goes on from there", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, previous)
    from .add import add

    add(spec, folders, only=args.component, force=bool(args.component))
    clear(spec)
    print(f"{spec.label} is in {spec.folder}")
    return 0


def _commit(text: str) -> tuple[str, str]:
    repository, at, commit = text.rpartition("@")
    if not at or not commit.isalnum():
        raise argparse.ArgumentTypeError(f"{text!r}; write OWNER/NAME@COMMIT, as --facts --json tells it")
    return repository, commit


def _agreed() -> bool:
    try:
        return input("Type yes to agree to the licences and fetch this: ").strip().lower() == "yes"
    except EOFError:
        return False


class _Meter:
    """Progress in bytes, as a bar or as lines for another program; both say the time left."""

    def __init__(self, quiet: bool, lines: bool) -> None:
        from tqdm import tqdm

        self._lines, self._told = lines, 0.0
        self._bar = tqdm(total=0, unit="B", unit_scale=True, file=sys.stderr, disable=quiet or lines)
        self._begun: tuple[float, int] | None = None

    def __enter__(self) -> _Meter:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def tell(self, what: str, done: int, count: int) -> None:
        """So many bytes of all are there."""
        now = time.monotonic()
        if self._begun is None:
            self._begun = now, done
            self._bar.initial = done
        self._bar.total, self._bar.n = count, done
        self._bar.set_description(what, refresh=False)
        self._bar.refresh()
        if not self._lines or (now - self._told < 0.5 and done < count):
            return
        self._told = now
        came = done - self._begun[1]
        left = (count - done) * (now - self._begun[0]) / came if came > 0 else 0.0
        words = f"{done / 1e9:.1f} of {count / 1e9:.1f} GB" if count > 1 else ""
        time_left = f", {left / 60:.0f} min left" if left >= 90 else f", {left:.0f} s left" if left >= 1 else ""
        print(f"progress {done / max(count, 1):.4f} {what} {words}{time_left}".rstrip(), flush=True)


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
