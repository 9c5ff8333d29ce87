"""The main job from start to end, headless: a body, a motion, a camera, a reference, the real server, the video.

Runs in Blender's environment and goes through the operators that an animator presses. Writes ``shot.blend``,
``shot.mp4``, ``sheet.png`` and ``metrics.json`` beside this file.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
WORK = HERE / "work"
BACKEND_PYTHON = ROOT / ".venv" / "bin" / "python"

sys.path.insert(0, str(HERE))
from progress import DemoProgress  # noqa: E402

FRAMES = 17
WIDTH, HEIGHT = 456, 256
FPS = 24
SAMPLES = 8
"""Light paths a pixel: few, as a sun and an even sky need no more, and denoising takes longer than they do."""

STAGES = {
    "Starting Blender": 4,
    "Body": 2,
    "Motion": 4,
    "Camera": 1,
    "Starting the backend": 12,
    "Reading the shot": 40,
    "Generating": 15,
    "Rendering the body": 40,
    "Reading the surfaces": 3,
    "Saving the scene": 2,
    "Measuring": 6,
}


class DemoError(Exception):
    """The demo cannot go on; the message says what to do."""


@contextmanager
def quiet(bar: DemoProgress):
    """Send what Blender prints on its own to a log; the bar keeps the terminal."""
    sys.stdout.flush()
    saved = [os.dup(1), os.dup(2)]
    log = os.open(WORK / "blender.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    bar.stream = os.fdopen(os.dup(saved[1]), "w")
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for target, source in zip((1, 2), saved, strict=True):
            os.dup2(source, target)
            os.close(source)
        bar.stream.close()
        bar.stream = sys.stderr
        os.close(log)


def start_blender(parent: Path) -> tuple[ModuleType, str]:
    """Enable the extension from the checkout, in settings of its own; returns bpy and the package's name."""
    # The animator's own Blender settings and extensions stay out of this.
    os.environ["BLENDER_USER_RESOURCES"] = str(WORK / "blender")
    import bpy

    (parent / "maquette").symlink_to(ROOT, target_is_directory=True)
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    bpy.context.preferences.extensions.repos.new(name="Demo", module="demo", custom_directory=str(parent))
    name = "bl_ext.demo.maquette"
    bpy.ops.preferences.addon_enable(module=name)
    if name not in bpy.context.preferences.addons:
        raise DemoError(f"The extension could not be enabled; see {WORK / 'blender.log'}")
    preferences = bpy.context.preferences.addons[name].preferences
    preferences.mode = "LOCAL"
    preferences.local_python = str(BACKEND_PYTHON)
    preferences.results_folder = str(WORK / "results")
    return bpy, name


def set_stage(bpy: ModuleType) -> None:
    """Size, rate, range, a set that shows the camera's motion, and light that shows the bodies' shapes."""
    scene = bpy.context.scene
    scene.render.resolution_x, scene.render.resolution_y = WIDTH, HEIGHT
    scene.render.resolution_percentage = 100
    scene.render.fps, scene.render.fps_base = FPS, 1.0
    scene.frame_start, scene.frame_end = 1, FRAMES
    scene.frame_set(1)
    scene.render.engine = "CYCLES"
    scene.cycles.samples, scene.cycles.use_denoising = SAMPLES, False
    # The video's colours on the plane as they are.
    scene.view_settings.view_transform = "Standard"
    _lay_floor(bpy, scene)
    world = bpy.data.worlds.new("Backdrop")
    world.color = _SKY
    if bpy.app.version < (5, 0):
        world.use_nodes = True
    background = next(node for node in world.node_tree.nodes if node.type == "BACKGROUND")
    background.inputs["Color"].default_value = (*_SKY, 1.0)
    background.inputs["Strength"].default_value = 0.7
    scene.world = world
    light = bpy.data.lights.new("Sun", "SUN")
    light.energy, light.angle, light.color = 3.0, 0.1, (1.0, 0.94, 0.84)
    sun = bpy.data.objects.new("Sun", light)
    sun.rotation_euler = (0.75, 0.25, 0.6)
    scene.collection.objects.link(sun)


_SKY = (0.36, 0.42, 0.52)


def _lay_floor(bpy: ModuleType, scene) -> None:
    """A chequered floor of one-metre tiles."""
    tiles, half = 24, 12
    row = tiles + 1
    corners = [(x - half, y - half, 0.0) for y in range(row) for x in range(row)]
    squares = [(x, y) for y in range(tiles) for x in range(tiles)]
    faces = [(y * row + x, y * row + x + 1, (y + 1) * row + x + 1, (y + 1) * row + x) for x, y in squares]
    mesh = bpy.data.meshes.new("Floor")
    mesh.from_pydata(corners, [], faces)
    for name, level in (("Light Tile", 0.42), ("Dark Tile", 0.26)):
        material = bpy.data.materials.new(name)
        material.diffuse_color = (level, level, 1.05 * level, 1.0)
        if bpy.app.version < (5, 0):
            material.use_nodes = True
        shader = next(node for node in material.node_tree.nodes if node.type == "BSDF_PRINCIPLED")
        shader.inputs["Base Color"].default_value = (level, level, 1.05 * level, 1.0)
        shader.inputs["Roughness"].default_value = 0.8
        mesh.materials.append(material)
    for polygon, (x, y) in zip(mesh.polygons, squares, strict=True):
        polygon.material_index = (x + y) % 2
    scene.collection.objects.link(bpy.data.objects.new("Floor", mesh))


def write_walk(package: str, path: Path) -> Path:
    """A walk that the project generates itself, as an AMASS file."""
    import numpy as np

    motions = importlib.import_module(f"{package}.backend.motions")
    walk = motions.generate_walk(seconds=(FRAMES + 7) / FPS, fps=120.0)
    np.savez(
        path,
        poses=walk.poses.reshape(len(walk.poses), -1).astype(np.float32),
        trans=walk.trans.astype(np.float32),
        betas=np.zeros(10, np.float32),
        gender="neutral",
        mocap_framerate=walk.fps,
    )
    return path


def run(operator, **arguments) -> None:
    """Call an operator; a report of an error becomes ours."""
    try:
        result = operator(**arguments)
    except RuntimeError as error:
        raise DemoError(str(error).strip().removeprefix("Error: ")) from error
    if result != {"FINISHED"}:
        raise DemoError(f"{operator.idname()} did not finish: {result}")


def start_backend(bpy: ModuleType, jobs: ModuleType, bar: DemoProgress) -> None:
    """Start the local backend from its button and wait until it answers."""
    run(bpy.ops.maquette.start_backend)
    view = bpy.context.window_manager.maquette.backend
    began = time.monotonic()
    while view.local_state != "RUNNING":
        jobs.poll()
        if view.local_state in ("DEAD", "FAILED", "ABSENT") or time.monotonic() - began > 120:
            raise DemoError(f"The backend did not start: {view.local_message}")
        bar.update((time.monotonic() - began) / 15, view.local_message)
        time.sleep(0.05)


def generate(bpy: ModuleType, jobs: ModuleType, bar: DemoProgress) -> float:
    """Press Generate and follow the job as the panel does; returns the seconds from request to video."""
    run(bpy.ops.maquette.generate)
    view = bpy.context.window_manager.maquette
    stage, sent = "Reading the shot", time.monotonic()
    while jobs.runner.state.busy:
        with quiet(bar):
            jobs.poll()
        if view.state == "capturing":
            sent = time.monotonic()
        elif stage == "Reading the shot":
            stage = "Generating"
            bar.start(stage)
        detail = f"{view.stage} {view.step}/{view.steps}" if view.steps else view.message
        bar.update(view.progress, detail)
        time.sleep(0.02)
    seconds = time.monotonic() - sent
    jobs.poll()
    if view.state != "done":
        raise DemoError(f"The video was not made: {view.message}")
    return seconds


def render_truth(bpy: ModuleType, package: str, bar: DemoProgress) -> None:
    """Render the scene as it stands, its characters alone, and what is behind them, for the sheet and the metrics."""
    stages = importlib.import_module(f"{package}.scene.stage")
    render = importlib.import_module(f"{package}.scene.capture.render")
    marks = importlib.import_module(f"{package}.scene.marks")
    scene = bpy.context.scene
    layer = bpy.context.view_layer
    bodies = [o for o in scene.objects if o.maquette.is_character]
    everything = [o for o in scene.objects if not marks.is_screen(o)]
    kinds = {
        "rendered": (everything, "SCENE"),
        "background": ([o for o in everything if o not in bodies], "SCENE"),
        "mask": (bodies, "WORKBENCH"),
    }
    done = 0
    for kind, (objects, engine) in kinds.items():
        folder = WORK / kind
        folder.mkdir()
        with stages.scene_kept(scene, layer) as keeper, tempfile.TemporaryDirectory() as scratch:
            stage = stages.open_stage(scene, layer, keeper.changes, objects, f"Demo {kind}")
            render.set_up(stage, engine, transparent=kind == "mask", side=max(WIDTH, HEIGHT))
            for i, frame in enumerate(range(scene.frame_start, scene.frame_end + 1), 1):
                stage.at(frame)
                picture = render.render(stage, Path(scratch), kind)
                (folder / f"{i:05d}.png").write_bytes(picture)
                done += 1
                bar.update(done / (3 * FRAMES))


def capture_surfaces(bpy: ModuleType, package: str) -> None:
    """Write ``demo.shot`` with every moving mesh of the scene, from which the truth of every pixel follows."""
    capture = importlib.import_module(f"{package}.scene.capture.shot")
    Wants = importlib.import_module(f"{package}.scene.capture.wants").Wants
    settings = bpy.context.scene.maquette
    kept = settings.background, settings.render_engine
    settings.background, settings.render_engine = "NONE", "WORKBENCH"
    try:
        wants = Wants(keypoints=False, tracks=False, clay=False)
        shot = capture.capture_shot(bpy.context, wants=wants)
        importlib.import_module(f"{package}.backend.shot").save_shot(shot, WORK / "demo.shot")
    finally:
        settings.background, settings.render_engine = kept


def measure() -> dict:
    """Compare the video with the render, in the backend's environment."""
    done = subprocess.run(
        [str(BACKEND_PYTHON), str(HERE / "measure.py")], capture_output=True, text=True, cwd=ROOT, check=False
    )
    if done.returncode:
        raise DemoError(f"The video could not be measured:\n{done.stderr[-2000:]}")
    return json.loads((HERE / "metrics.json").read_text())


def perform(motion: Path | None, bar: DemoProgress) -> dict:
    """Everything, in order; returns the metrics."""
    timing: dict[str, float] = {}
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="maquette-demo-") as parent:
        bar.start("Starting Blender")
        with quiet(bar):
            bpy, package = start_blender(Path(parent))
            set_stage(bpy)
        jobs = importlib.import_module(f"{package}.scene.job.effects")
        try:
            bar.start("Body")
            with quiet(bar):
                run(bpy.ops.maquette.add_body)
            bar.start("Motion")
            path = motion or write_walk(package, WORK / "walk.npz")
            with quiet(bar):
                run(bpy.ops.maquette.import_motion, filepath=str(path))
            bar.start("Camera")
            with quiet(bar):
                run(bpy.ops.maquette.add_camera_move, move="ORBIT")
            settings = bpy.context.scene.maquette
            settings.background, settings.render_engine = "SCENE", "SCENE"
            bar.start("Starting the backend")
            with quiet(bar):
                start_backend(bpy, jobs, bar)
            timing["until_backend_seconds"] = round(time.monotonic() - began, 2)
            bar.start("Reading the shot")
            timing["generate_seconds"] = round(generate(bpy, jobs, bar), 2)
            bar.start("Rendering the body")
            with quiet(bar):
                render_truth(bpy, package, bar)
            bar.start("Reading the surfaces")
            with quiet(bar):
                capture_surfaces(bpy, package)
            bar.start("Saving the scene")
            result = settings.results[settings.active_result]
            shutil.copyfile(bpy.path.abspath(result.filepath), HERE / "shot.mp4")
            with quiet(bar):
                save_scene(bpy)
                run(bpy.ops.maquette.stop_backend)
        finally:
            jobs.close()
        bar.start("Measuring")
        timing["motion"] = path.name
        (WORK / "timing.json").write_text(json.dumps(timing))
        metrics = measure()
        bar.finish()
    return metrics


def table(metrics: dict) -> list[str]:
    """The metrics as lines for the terminal."""
    measures = metrics["measures"]
    lines = [f"{'':16} {'the video':>14} {'the render':>12}"]
    for name, one in measures.items():
        made, best = (_figure(one[key]) for key in ("video", "render"))
        unit = f" {one['unit']}" if one["unit"] and made != "n/a" else ""
        lines.append(f"{name:16} {made + unit:>14} {best:>12}  {one['about']}")
    rest = {key: value for key, value in metrics.items() if key != "measures"}
    return [*lines, "", ", ".join(f"{key} {value}" for key, value in rest.items())]


def _figure(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4g}"


def save_scene(bpy: ModuleType) -> None:
    """Load the finished film once more from beside the scene, so that both can be moved together, and save."""
    scene = bpy.context.scene
    result = scene.maquette.results[scene.maquette.active_result]
    bpy.ops.wm.save_as_mainfile(filepath=str(HERE / "shot.blend"))
    run(bpy.ops.maquette.load_result, filepath=str(HERE / "shot.mp4"), job=result.job)
    scene.frame_set(scene.frame_start)
    bpy.ops.wm.save_as_mainfile(filepath=str(HERE / "shot.blend"), compress=True)


def main() -> int:
    """Command line. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--motion", type=Path, help="BVH, AMASS or SMPL-X .npz, tracker .pkl/.npz, or joint positions")
    args = parser.parse_args()
    if args.motion is not None and not args.motion.is_file():
        print(f"There is no motion file at {args.motion}", file=sys.stderr)
        return 2
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    bar = DemoProgress(STAGES)
    try:
        metrics = perform(args.motion.resolve() if args.motion else None, bar)
    except DemoError as error:
        print(f"\n{error}\nThe backend's log and Blender's own messages are in {WORK}", file=sys.stderr)
        return 1
    print("\n".join(table(metrics)))
    print(f"\nWritten: {', '.join(str(HERE / n) for n in ('shot.blend', 'shot.mp4', 'sheet.png', 'metrics.json'))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
