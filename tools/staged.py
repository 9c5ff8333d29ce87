"""A scene that a picture of the docs shows: built and captured in Blender, drawn by the backend."""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def make_scene(folder: Path, build: Callable[[ModuleType, Any], None], size: tuple[int, int], frames: int) -> None:
    """Everything that needs Blender; its own messages go to ``blender.log``.

    Args:
        build: builds the scene, of bpy and of the demo's ``run``, by which operators are pressed.
        size: pixels of its render. frames: its length.
    """
    sys.path.insert(0, str(ROOT / "demo"))
    demo = importlib.import_module("demo")
    demo.WORK, demo.FRAMES = folder, frames
    bar = demo.DemoProgress({"Building the scene": 4, "Reading the shot": 6})
    bar.start("Building the scene")
    with demo.quiet(bar):
        bpy, package = demo.start_blender(folder)
        demo.set_stage(bpy)
        bpy.context.scene.render.resolution_x, bpy.context.scene.render.resolution_y = size
        build(bpy, demo.run)
    bar.start("Reading the shot")
    with demo.quiet(bar):
        capture(bpy, package, folder, size)
    bar.finish()


def capture(bpy: ModuleType, package: str, folder: Path, size: tuple[int, int]) -> None:
    """Write ``one.shot`` with everything that any model takes, and Blender's picture of each frame."""
    module = lambda name: importlib.import_module(f"{package}.scene.{name}")  # noqa: E731
    wants = module("capture.wants").Wants()
    shot = module("capture.shot").capture_shot(bpy.context, wants=wants)
    importlib.import_module(f"{package}.backend.shot").save_shot(shot, folder / "one.shot")
    state, render, scene = module("stage"), module("capture.render"), bpy.context.scene
    with state.scene_kept(scene, bpy.context.view_layer) as keeper:
        stage = state.open_stage(scene, bpy.context.view_layer, keeper.changes, list(scene.objects), "Model Inputs")
        render.set_up(stage, "WORKBENCH", transparent=False, side=max(size))
        for frame in range(scene.frame_start, scene.frame_end + 1):
            stage.at(frame)
            (folder / f"{frame:04d}.png").write_bytes(render.render(stage, folder, "render"))
            (folder / f"{frame:06d}.png").unlink(missing_ok=True)


def main(
    script: Path,
    picture: str,
    build: Callable[[ModuleType, Any], None],
    draw: Callable[[Path, Path], None],
    size: tuple[int, int],
    frames: int,
) -> int:
    """The command line of a script that draws a picture of the docs. Returns the exit status.

    Args:
        build, size, frames: see ``make_scene``.
        draw: draws the picture of a captured scene's folder, in the backend's environment, where the script calls
            itself.
    """
    parser = argparse.ArgumentParser(description=f"Draw docs/{picture}.")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "docs" / picture)
    parser.add_argument("--python", type=Path, default=ROOT / ".venv" / "bin" / "python", help="the backend's")
    parser.add_argument("--draw", type=Path, metavar="DIR", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.draw is not None:
        draw(args.draw, args.output)
        return 0
    with tempfile.TemporaryDirectory(prefix="maquette-picture-") as name:
        make_scene(Path(name), build, size, frames)
        return subprocess.call([args.python, script, "--draw", name, "-o", str(args.output.resolve())])
