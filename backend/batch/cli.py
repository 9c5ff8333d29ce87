"""``maquette batch``."""

from __future__ import annotations

import argparse
import csv
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ..catalogue.models import find_specs
from ..catalogue.quality import list_quality
from ..models.shot_arguments import add_lora_argument, add_upscale_argument, given_loras
from .own import own_backend
from .tasks import BatchError, Record, Task, done, film_path, make_tasks, read_record

_SHEET_ROWS = 40
_COLUMNS = (
    "name",
    "model",
    "seed",
    "quality",
    "frames",
    "width",
    "height",
    "seconds",
    "figure_iou",
    "kept_db",
    "error",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``maquette batch``."""
    parser.description = (
        "Make every shot with every model and seed. The same command goes on after a stop, tries again "
        "what failed, and makes anew what has changed. At the end: batch.csv, and batch.png to look at."
    )
    parser.add_argument(
        "shots",
        type=Path,
        nargs="+",
        help=".shot files, folders of them, or lists (.txt): a line a shot, then model=ID, seed=N, quality=LEVEL as "
        "wanted",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder of the videos")
    parser.add_argument("--model", nargs="+", default=[], metavar="ID", help="each shot's own by default")
    parser.add_argument("--seed", type=int, nargs="+", default=[], metavar="N", help="each shot's own by default")
    parser.add_argument("--quality", choices=list(list_quality()), default="", help="each shot's own by default")
    add_lora_argument(parser)
    add_upscale_argument(parser)
    parser.add_argument("--server", metavar="ADDRESS", help="have a backend make them, which may be another computer")
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="its token; $MAQUETTE_TOKEN by default")
    parser.add_argument(
        "--at-once",
        type=int,
        metavar="N",
        help="shots that it has at a time (default: one more than engines, 4 or more)",
    )
    for name, metavar, about in (
        ("gpus", "N,N...", "an engine on each of these GPUs; 0+1,2+3: on two each, which make each film together"),
        ("workers", "N", "so many engines on one device"),
        ("members", "N", "so many processes of each engine, on the processor, which make each film together"),
    ):
        parser.add_argument(f"--{name}", metavar=metavar, help=f"{about} (as of 'maquette serve')")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ...; a GPU by default where there is one")
    parser.add_argument("--models", action="append", default=[], metavar="DIR", help="more models; may be repeated")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument(
        "--no-report", action="store_true", help="films alone, for several commands at a time into one folder"
    )
    parser.set_defaults(run=run_batch)


def run_batch(args: argparse.Namespace) -> int:
    """Run ``maquette batch``. Returns 0, 1 when a shot failed, or 130 when interrupted."""
    from .run import Stopped

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise BatchError(
            "batch starts the processes that make a film together itself: leave torchrun out, and say --gpus 0+1"
        )
    tasks = make_tasks(args.shots, args.model, args.seed, args.quality, given_loras(args.lora), args.upscale)
    args.output.mkdir(parents=True, exist_ok=True)
    todo = [task for task in tasks if done(args.output, task) is None]
    if len(todo) < len(tasks):
        print(f"{len(tasks) - len(todo)} of {len(tasks)} are done already", file=sys.stderr)
    interrupted: list[bool] = []
    previous = signal.signal(signal.SIGINT, lambda *_: interrupted.append(True))
    try:
        with _runner(args, tasks, bool(todo)) as runner, Bar(len(todo), args.quiet) as bar:
            for record in runner.run(todo, lambda: bool(interrupted), bar.tell):
                record.write(args.output)
                bar.ended(record)
    except Stopped:
        print("maquette: interrupted; the same command goes on", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGINT, previous)
        records = [record for task in tasks if (record := read_record(args.output, task.name)) is not None]
        if records and not args.no_report:
            write_table(args.output / "batch.csv", records)
    made = [record for record in records if not record.error]
    about = ""
    if not args.no_report:
        _write_sheets(args.output, made)
        print(_table(records))
        about = "; batch.csv tells of them, batch.png shows them" if made else "; batch.csv says why"
    print(f"{len(made)} of {len(tasks)} films are in {args.output}{about}")
    return 0 if len(made) == len(tasks) else 1


@contextmanager
def _runner(args: argparse.Namespace, tasks: Sequence[Task], needed: bool) -> Iterator[Any]:
    """What carries the tasks out, once it is known that the models can run.

    Args:
        needed: whether any is to be carried out.

    Raises:
        BatchError, BackendError: it cannot.
    """
    from .run import Here, There

    own = [f"--{name}={getattr(args, name)}" for name in ("gpus", "workers", "members") if getattr(args, name)]
    if own and args.server:
        raise BatchError(f"{own[0]} is of this computer: the backend at {args.server} has engines of its own")
    if args.at_once is not None and args.at_once < 1:
        raise BatchError(f"--at-once {args.at_once}: choose 1 or more")
    with ExitStack() as stack:
        if args.server is not None:
            runner: Any = There(args.output, args.server, _token(args.token_file), args.at_once)
            can = runner.available()
        elif own and needed:
            own += [f"--models={folder}" for folder in args.models] + ([f"--device={args.device}"] * bool(args.device))
            address, token, scratch = stack.enter_context(own_backend(own))
            runner = There(args.output, address, token, args.at_once, scratch)
            can = runner.available()
        else:
            from ..models.registry import list_models

            runner = Here(args.output, args.device, args.models)
            can = {found.spec.id: "" if found.available else found.reason for found in list_models(args.models)}
        for model in sorted({task.model for task in tasks if task.model}):
            if model not in can:
                raise BatchError(f"{model}: no such model; choose from {', '.join(can or find_specs(args.models))}")
            if can[model] and any(task.model == model and task.quality != "draft" for task in tasks):
                raise BatchError(can[model])
        yield runner


def _token(path: Path | None) -> str:
    return os.environ.get("MAQUETTE_TOKEN", "") if path is None else path.read_text("utf-8").strip()


class Bar:
    """One bar on stderr for the whole batch, with the time that is left."""

    def __init__(self, count: int, quiet: bool) -> None:
        from tqdm import tqdm

        form = "{desc}{percentage:3.0f}% |{bar}| {n:.1f} of {total} films, {elapsed} gone, {remaining} left {postfix}"
        self._bar = tqdm(total=count, disable=quiet or not count, file=sys.stderr, bar_format=form)
        self._ended = 0
        self._shares: dict[Task, float] = {}

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def tell(self, task: Task, share: float, doing: str) -> None:
        """Show how far a task is."""
        self._shares[task] = min(share, 0.99)
        self._bar.set_postfix_str(f"{task.name} {doing}", refresh=False)
        self._show()

    def ended(self, record: Record) -> None:
        """Show that a task has ended, and why it failed."""
        self._ended += 1
        self._shares = {task: share for task, share in self._shares.items() if task.name != record.name}
        self._show()
        if record.error:
            self._bar.write(f"{record.name}: {record.error}", file=sys.stderr)

    def _show(self) -> None:
        self._bar.update(self._ended + sum(self._shares.values()) - self._bar.n)


def write_table(path: Path, records: Iterable[Record]) -> None:
    """Write the records as CSV."""
    part = path.with_suffix(".part")
    with open(part, "w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(_COLUMNS)
        rows.writerows([getattr(record, column) for column in _COLUMNS] for record in records)
    os.replace(part, path)


def _table(records: Sequence[Record]) -> str:
    """The records for a person to read."""

    def shown(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    rows = [("film", "model", "frames", "seconds", "figure IoU", "kept dB")]
    for one in records:
        if one.error:
            rows.append((one.name, one.model, "-", "-", "-", one.error))
        else:
            found = (shown(one.figure_iou, ".2f"), shown(one.kept_db, ".1f"))
            rows.append((one.name, one.model, str(one.frames), f"{one.seconds:.1f}", *found))
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    return "\n".join("  ".join([*(f"{row[i]:<{widths[i]}}" for i in range(5)), row[5]]) for row in rows)


def _write_sheets(folder: Path, records: Sequence[Record]) -> None:
    """Contact sheets of all films: batch.png, batch-2.png and so on."""
    from PIL import Image

    from ..media import decode_video
    from ..media.sheet import contact_sheet

    for number, start in enumerate(range(0, len(records), _SHEET_ROWS), 1):
        rows = [
            (one.name, _some(decode_video(film_path(folder, one.name))[0])) for one in records[start:][:_SHEET_ROWS]
        ]
        name = "batch.png" if number == 1 else f"batch-{number}.png"
        Image.fromarray(contact_sheet(rows)).save(folder / name)


def _some(film: Any, count: int = 8) -> Any:
    """Evenly spread frames: whole films of a whole night would not fit into memory."""
    return film[[round(i * (len(film) - 1) / max(count - 1, 1)) for i in range(count)]].copy()
