"""Flamenco 3: a job type in JavaScript, and the job that is sent to its Manager."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .job import CAPTURE, Job

_SCRIPT = Path(__file__).with_suffix(".js")
_PLATFORMS = {"win32": "windows", "darwin": "darwin"}


def files(job: Job, folder: Path) -> dict[str, Any]:
    """``maquette.js``, the job type, and ``job.json``, as the Manager's API takes it."""
    settings = {
        "bundle": folder.as_posix(),
        "blend": job.blend.as_posix() if job.blend else "",
        "captures": json.dumps([asdict(capture) for capture in job.captures]),
        "films": json.dumps(
            [{"name": name, "shot": film.shot, "draft": film.draft} for film in job.films for name in film.tasks]
        ),
        "gpus": job.gpus,
        "expression": CAPTURE if job.captures else "",
        # The workers' own Blender, by the variable that Flamenco has for it.
        "blender": "{blender}" if job.blender == "blender" else job.blender,
        "maquette": job.maquette,
    }
    sent = {
        "name": job.name,
        "type": "maquette",
        "priority": 50,
        "submitter_platform": _PLATFORMS.get(sys.platform, "linux"),
        "settings": settings,
        "metadata": {},
    }
    return {"maquette.js": _SCRIPT.read_text("utf-8"), "job.json": sent}


def submit(job: Job, folder: Path) -> str:
    """How the bundle is given to the farm."""
    tag = "" if job.gpus == 1 else f"\nGive the job a tag of workers with {job.gpus} GPUs and no other task at a time."
    return (
        f"Once: copy {folder / 'maquette.js'} into the folder 'scripts' beside Flamenco Manager, and restart that.\n"
        f"Then: curl -H 'Content-Type: application/json' -d @{folder / 'job.json'} http://MANAGER:8080/api/v3/jobs{tag}"
    )
