"""Download as the animator calls it, with a stand-in for the backend's Python."""

from __future__ import annotations

import importlib
import json
import sys
import time

import bpy
import pytest

_PYTHON = """#!{python}
import json, sys, time
from pathlib import Path
Path({record!r}).write_text(json.dumps(sys.argv[1:]))
print("progress 0.2500 Fetching 1.0 of 4.0 GB, 3 min left", flush=True)
exec({body!r})
"""

ENTRY = {
    "id": "big", "label": "Big", "available": False, "reason": "Big cannot run",
    "sources": [
        {"name": "all", "component": "net", "repository": "somebody/big", "files": ["a"], "license": "MIT",
         "gigabytes": 4.0, "note": "ask them first"},
        {"name": "more", "component": "lora", "repository": "somebody/more", "files": ["b"], "license": "MIT",
         "gigabytes": 1.0, "optional": True},
    ],
}  # fmt: skip


@pytest.fixture
def stand(addon, tmp_path, monkeypatch):
    module = lambda name: importlib.import_module(f"{addon.__name__}.{name}")  # noqa: E731
    fetching, backends = module("scene.job.fetching"), module("scene.job.backends")
    preferences = bpy.context.preferences.addons[addon.__name__].preferences

    def install(body: str) -> None:
        path = tmp_path / "python"
        path.write_text(_PYTHON.format(python=sys.executable, record=str(tmp_path / "asked.json"), body=body))
        path.chmod(0o755)
        preferences.local_python = str(path)
        # What another backend has said is forgotten.
        backends.show_models([ENTRY, {"id": "ready", "available": True}])

    preferences.mode = "LOCAL"
    backends.show_models([ENTRY])
    fetching.install, fetching.asked = install, lambda: json.loads((tmp_path / "asked.json").read_text())
    fetching.find = module("scene.job.models").find
    monkeypatch.setattr(bpy.context.preferences.system, "use_online_access", True)
    yield fetching
    fetching.close()
    preferences.local_python = ""
    backends.show_models([])


def ended(fetching) -> tuple[str, str]:
    end = time.monotonic() + 60
    while fetching.busy() and time.monotonic() < end:
        fetching.poll()
        time.sleep(0.02)
    return fetching.outcome()


def test_the_facts_name_publisher_licence_size_and_room(stand):
    said = "\n".join(stand.facts(stand.find("big")))
    for words in (
        "huggingface.co/somebody/big: 4.0 GB",
        "Licence: MIT",
        "ask them first",
        "GB are free in",
    ):
        assert words in said, words
    assert "somebody/more" not in said and not stand.lack(stand.find("big"))


def test_too_little_room_is_told_before_anything_comes(stand, monkeypatch):
    monkeypatch.setattr(stand.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1e9})())
    assert stand.lack(stand.find("big")) == "Not enough room: free 4 GB first"


def test_a_download_runs_beside_blender_and_says_how_it_ended(stand):
    stand.install("pass")
    assert stand.can(stand.find("big")) and not stand.can(stand.find("ready"))
    assert bpy.ops.maquette.fetch_model(model="big") == {"FINISHED"}
    assert ended(stand) == ("INFO", "Big is here")
    assert stand.asked()[:5] == ["-m", "maquette.backend.cli", "models", "fetch", "big"]
    assert "--yes" in stand.asked() and "--progress-lines" in stand.asked()
    stand.install("print('maquette: the disk is full; make room'); sys.exit(2)")
    bpy.ops.maquette.fetch_model(model="big")
    assert ended(stand) == ("ERROR", "Big was not fetched: the disk is full; make room")


def test_it_can_be_cancelled_and_one_goes_at_a_time(stand):
    stand.install("time.sleep(60)")
    bpy.ops.maquette.fetch_model(model="big")
    end = time.monotonic() + 60
    while stand.report.share < 0.25 and time.monotonic() < end:
        stand.poll()
        time.sleep(0.02)
    assert stand.report.label == "Fetching 1.0 of 4.0 GB, 3 min left"
    with pytest.raises(RuntimeError, match="poll"):
        bpy.ops.maquette.fetch_model(model="big")
    bpy.ops.maquette.cancel_fetch()
    assert ended(stand)[0] == "WARNING"


def test_nothing_starts_offline_or_for_a_model_that_is_here(stand):
    stand.install("pass")
    with pytest.raises(RuntimeError, match="is here already"):
        bpy.ops.maquette.fetch_model(model="ready")
    bpy.context.preferences.system.use_online_access = False
    with pytest.raises(RuntimeError, match="Blender is offline"):
        bpy.ops.maquette.fetch_model(model="big")
    assert not stand.busy()
