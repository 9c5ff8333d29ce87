"""Try every model whose weights are here, as they are published: one film each of a bundled shot, and one report.

    .venv/bin/python bench/published_models.py -o DIR [--model ID ...] [--shot FILE] [--device cuda]

Each model runs in a process of its own, at its default size and length, and leaves ``ID.json`` and ``ID.mp4`` in DIR;
the same command goes on after a stop, and tries again what failed. ``report.md`` and ``report.png`` compare them:
seconds of loading and of the whole, the memory taken against the estimate by which jobs are let in, how well the film's
figures cover the shot's bodies, and how much it jumps where windows meet. A model that refuses the shot is listed with
its reason.
The shot is a synthetic one of the model's shape: a dressed body in a furnished set, under a moving camera.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from maquette.backend.catalogue.models import ModelSpec
from maquette.backend.models.registry import list_models
from maquette.backend.shot import Settings, Shot, load_shot

GB = 1e9
SEED = 2025
_RATE = 24.0


def the_shot(spec: ModelSpec, path: Path | None, frames: int | None, side: int | None) -> Shot:
    """The shot that a model is tried with, at its default shape or as the arguments say."""
    settings = Settings(spec.id, SEED)
    if path is not None:
        shot = load_shot(path)
        return replace(shot, settings=replace(settings, seed=shot.settings.seed))
    from maquette.backend.worlds.sample import make_sample, to_shot

    d = spec.defaults
    wanted = frames or round((d.frames - 1) * _RATE / spec.limits.get("fps", _RATE)) + 1
    size = (d.width, d.height) if side is None else (side, side)
    points = spec.limits.get("points", 512)
    sample = make_sample(SEED, 1 + 4 * -(-(wanted - 1) // 4), size, points, characters=1, references=2, dressed=True)
    prompt = "A person moves through a furnished room, realistic film"
    return replace(to_shot(sample, settings), name=f"{spec.id} trial", prompt=prompt)


def try_model(spec: ModelSpec, shot: Shot, device: str | None, folder: Path) -> dict[str, Any]:
    """Make the film and measure it.

    Returns:
        The record: ``seconds``, ``loading``, bytes in GB, fidelity and what else the film's metadata say; ``error``
        alone where it cannot be made.
    """
    import torch
    from maquette.backend.batch.fidelity import measure_fidelity
    from maquette.backend.models.engine import Engine
    from maquette.backend.models.memory.arrangement import choose, estimate
    from maquette.backend.models.memory.footprint import free_memory, parts_of_files
    from maquette.backend.models.render import write_result

    engine = Engine(spec, device)
    cuda = engine.device.type == "cuda"
    record: dict[str, Any] = {"device": torch.cuda.get_device_name(engine.device) if cuda else "CPU"}
    try:
        plan = engine.plan(shot)
        parts, itemsize = parts_of_files(spec, engine.dtype.itemsize), engine.dtype.itemsize
        strategy, need = choose(spec, plan, free_memory(engine.device), parts, itemsize)
        expected = estimate(need, strategy, cuda)
        record |= {"arrangement": str(strategy), "gpu_expected": expected.gpu / GB, "ram_expected": expected.ram / GB}
        started, spent = time.monotonic(), {"loading": 0.0}
        last: list[Any] = ["", started]

        def tell(progress: Any) -> None:
            now = time.monotonic()
            spent[last[0]] = spent.get(last[0], 0.0) + now - last[1]
            last[:] = progress.stage, now
            print(f"\r{spec.id:>20}: {progress.stage} {progress.step}/{progress.steps}     ", end="", file=sys.stderr)

        result = engine.generate(shot, tell, lambda: False)
        print(file=sys.stderr)
        seconds = time.monotonic() - started
        write_result(shot, result, folder / f"{spec.id}.mp4", None, lambda progress: None)
        found = measure_fidelity(shot, result.frames, str(engine.device))
    except Exception as error:
        # Whatever it is, the next model is tried, and the report says it.
        return record | {"error": f"{type(error).__name__}: {error}"}
    record |= {"seconds": seconds, "loading": spent["loading"], "frames": len(result.frames)}
    record |= {"gpu": torch.cuda.max_memory_reserved(engine.device) / GB if cuda else 0.0, "ram": _peak_ram()}
    record |= {"figure_iou": found.figure_iou, "kept_db": found.kept_db, "notes": list(result.notes)}
    return record | {"metadata": json.loads(json.dumps(dict(result.metadata), default=str))}


def _peak_ram() -> float:
    """GB of main memory that this process has had at its most; 0 where the system does not say."""
    try:
        import resource
    except ImportError:
        return 0.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / GB


def key_of(spec: ModelSpec, arguments: argparse.Namespace) -> str:
    """Changes with the model's files, the shot and the device."""
    files = sorted(path for path in spec.folder.rglob("*") if path.is_file())
    state = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    shot = arguments.shot.read_bytes() if arguments.shot else b""
    asked = [spec.id, state, arguments.frames, arguments.side, arguments.device, hashlib.sha256(shot).hexdigest()]
    return hashlib.sha256(json.dumps(asked, default=str).encode()).hexdigest()[:16]


def write_report(folder: Path, rows: dict[str, dict[str, Any]], absent: Sequence[str]) -> None:
    """``report.md`` and, where any film was made, ``report.png``."""
    columns = (
        "model", "seconds", "loading", "frames", "GPU GB (expected)", "RAM GB (expected)", "figure IoU", "kept dB",
        "window seam", "arrangement",
    )  # fmt: skip
    lines = ["# Published models", "", f"| {' | '.join(columns)} |", "| --- " * len(columns) + "|"]
    for name, row in rows.items():
        if row.get("error"):
            lines.append(f"| {name} | {row['error'].replace('|', '/')} |" + " |" * (len(columns) - 2))
            continue
        cells = [
            name, f"{row['seconds']:.1f}", f"{row['loading']:.1f}", str(row["frames"]),
            f"{row['gpu']:.1f} ({row['gpu_expected']:.1f})", f"{row['ram']:.1f} ({row['ram_expected']:.1f})",
            _number(row["figure_iou"], 2), _number(row["kept_db"], 1), _number(row["metadata"].get("window_seam"), 2),
            row["arrangement"],
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    devices = sorted({row["device"] for row in rows.values() if "device" in row})
    lines += ["", f"On {', '.join(devices) or 'no device'}."]
    lines += ["", f"Not tried, as their weights are not here: {', '.join(absent)}."] if absent else []
    (folder / "report.md").write_text("\n".join(lines) + "\n", "utf-8")
    _draw(folder, [name for name, row in rows.items() if not row.get("error")])


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _draw(folder: Path, made: Sequence[str]) -> None:
    import imageio.v3 as iio
    from maquette.backend.media import contact_sheet, decode_video

    films = {name: folder / f"{name}.mp4" for name in made}
    rows = [(name, decode_video(path, str(path))[0]) for name, path in films.items() if path.is_file()]
    if rows:
        iio.imwrite(folder / "report.png", contact_sheet(rows, 6))


def main(given: Sequence[str] | None = None) -> int:
    """Command line. Returns 0, or 1 when a model failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--model", nargs="+", default=[], metavar="ID", help="these alone; all that can run by default")
    parser.add_argument("--shot", type=Path, metavar="FILE", help="a .shot of your own in place of the synthetic ones")
    parser.add_argument("--frames", type=int, help="of the synthetic shot; the model's default length by default")
    parser.add_argument("--side", type=int, help="pixels of its sides; the model's default size by default")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ...; a GPU by default where there is one")
    parser.add_argument("--models", action="append", default=[], metavar="DIR", help="folder with more models")
    parser.add_argument("--one", metavar="ID", help=argparse.SUPPRESS)
    arguments = parser.parse_args(given)
    arguments.output.mkdir(parents=True, exist_ok=True)
    there = {found.spec.id: found for found in list_models(arguments.models)}
    if unknown := [name for name in arguments.model if name not in there]:
        parser.error(f"no model {unknown[0]!r}; choose from {', '.join(there)}")
    if arguments.one:
        spec = there[arguments.one].spec
        shot = the_shot(spec, arguments.shot, arguments.frames, arguments.side)
        record = try_model(spec, shot, arguments.device, arguments.output) | {"key": key_of(spec, arguments)}
        (arguments.output / f"{spec.id}.json").write_text(json.dumps(record, indent=1), "utf-8")
        return 0
    wanted = [name for name in there if name in (arguments.model or there)]
    ready = [name for name in wanted if there[name].available]
    rows: dict[str, dict[str, Any]] = {}
    for name in ready:
        path = arguments.output / f"{name}.json"
        key = key_of(there[name].spec, arguments)
        if _read(path).get("key") != key or _read(path).get("error"):
            path.unlink(missing_ok=True)
            code = subprocess.call(
                [sys.executable, __file__, "--one", name, *(sys.argv[1:] if given is None else given)]
            )
            if not path.is_file():
                path.write_text(json.dumps({"key": key, "error": f"its process ended with status {code}"}), "utf-8")
        rows[name] = _read(path)
        write_report(arguments.output, rows, [each for each in wanted if each not in ready])
    if not ready:
        print("No model's weights are here; 'maquette models list' says how to get them", file=sys.stderr)
        return 1
    print((arguments.output / "report.md").read_text("utf-8"))
    return int(any(row.get("error") for row in rows.values()))


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}


if __name__ == "__main__":
    sys.exit(main())
