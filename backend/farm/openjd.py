"""Open Job Description (jobtemplate-2023-09), which AWS Deadline Cloud and ``openjd`` read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .job import CAPTURE, FarmError, Job

_MOST_TASKS = 1024

_BUNDLE, _BLEND = "{{Param.Bundle}}", "{{Param.Blend}}"


def files(job: Job, folder: Path) -> dict[str, Any]:
    """``template.json``, and the values that Deadline Cloud fills in."""
    values = [{"name": "Blend", "value": str(job.blend)}] if job.blend else []
    return {"template.json": template(job), "parameter_values.json": {"parameterValues": values}}


def submit(job: Job, folder: Path) -> str:
    """How the bundle is given to the farm."""
    local = f" --parameter Blend={job.blend}" if job.blend else ""
    return (
        f"Deadline Cloud: deadline bundle submit {folder}\n"
        f"On this computer: openjd run {folder / 'template.json'}{local} --run-dependencies --step Collect"
    )


def template(job: Job) -> dict[str, Any]:
    """The job template."""
    programs = {"Blender": job.blender, "Maquette": job.maquette}
    parameters: list[dict[str, Any]] = [
        {"name": "Bundle", "type": "PATH", "objectType": "DIRECTORY", "dataFlow": "INOUT", "default": ".",
         "description": "Shots and films lie here"},
        *({"name": name, "type": "STRING", "default": program, "description": f"{name} on the farm's machines"}
          for name, program in programs.items() if name != "Blender" or job.captures),
    ]  # fmt: skip
    steps = []
    if job.captures:
        parameters.append({"name": "Blend", "type": "PATH", "objectType": "FILE", "dataFlow": "IN"})
        columns = {
            "Shot": [one.shot for one in job.captures],
            "Scene": [one.scene for one in job.captures],
            "Start": [one.start for one in job.captures],
            "End": [one.end for one in job.captures],
        }
        space = {
            "taskParameterDefinitions": [
                {"name": name, "type": "INT" if name in ("Start", "End") else "STRING", "range": column}
                for name, column in columns.items()
            ],
            "combination": f"({', '.join(columns)})",
        }
        arguments = [
            *("-b", _BLEND, "-S", "{{Task.Param.Scene}}", "-s", "{{Task.Param.Start}}", "-e", "{{Task.Param.End}}"),
            *("--python-exit-code", "1", "--python-expr", CAPTURE, "--"),
            f"{_BUNDLE}/shots/{{{{Task.Param.Shot}}}}.shot",
        ]
        steps.append({"name": "Capture", "parameterSpace": space, **_script("{{Param.Blender}}", arguments)})
    after = {"dependencies": [{"dependsOn": "Capture"}]} if job.captures else {}
    made = []
    for name, drafts in (("Generate", False), ("Draft", True)):
        if tasks := [task for film in job.films if film.draft == drafts for task in film.tasks]:
            if len(tasks) > _MOST_TASKS:
                raise FarmError(
                    f"{len(tasks)} tasks are more than the {_MOST_TASKS} that Open Job Description allows a step: "
                    "choose fewer shots, or more frames a task"
                )
            films = [{"name": "Film", "type": "STRING", "range": tasks}]
            list_of = f"{_BUNDLE}/tasks/{{{{Task.Param.Film}}}}.txt"
            more = () if drafts or job.gpus == 1 else ("--gpus", "+".join(map(str, range(job.gpus))))
            step = {"name": name, "parameterSpace": {"taskParameterDefinitions": films}, **after}
            made.append({**step, **({} if drafts else _needs(job)), **_batch(list_of, "--no-report", *more)})
    collect = {
        "name": "Collect",
        "dependencies": [{"dependsOn": step["name"]} for step in made],
        **_batch(f"{_BUNDLE}/films.txt"),
    }
    return {
        "specificationVersion": "jobtemplate-2023-09",
        "name": job.name,
        "parameterDefinitions": parameters,
        "steps": [*steps, *made, collect],
    }


def _needs(job: Job) -> dict[str, Any]:
    """What a machine must have to make a model's film."""
    needs = {"amount.worker.gpu": job.gpus if job.gpu_gb or job.gpus > 1 else 0}
    needs["amount.worker.gpu.memory"] = round(job.gpu_gb * 1024)
    amounts = [{"name": name, "min": least} for name, least in needs.items() if least]
    return {"hostRequirements": {"amounts": amounts}} if amounts else {}


def _batch(films: str, *more: str) -> dict[str, Any]:
    return _script("{{Param.Maquette}}", ["batch", films, "-o", f"{_BUNDLE}/films", "--quiet", *more])


def _script(command: str, arguments: list[str]) -> dict[str, Any]:
    return {"script": {"actions": {"onRun": {"command": command, "args": arguments}}}}
