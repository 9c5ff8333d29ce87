"""Download as the animator calls it, with a stand-in for the backend's Python."""

from __future__ import annotations

import importlib
import json
import sys
import time
from types import SimpleNamespace

import bpy
import pytest

from ..client.double import TOKEN, Double, running, say

_PYTHON = """#!{python}
import json, sys, time
from pathlib import Path
Path({record!r}).write_text(json.dumps(sys.argv[1:]))
if "--facts" in sys.argv:
    print({offer!r})
    sys.exit()
print("progress 0.2500 Fetching 1.0 of 4.0 GB, 3 min left", flush=True)
exec({body!r})
"""

OFFER = {
    "model": "big", "folder": "/somewhere", "needed": 8 * 10**9, "free": 9 * 10**9,
    "repositories": [
        {"repository": "somebody/big", "commit": "c0ffee", "files": 3, "bytes": 4 * 10**9, "license": "MIT",
         "license_url": "https://hub.example/somebody/big/LICENSE", "gated": True, "notes": ["ask them first"]},
    ],
}  # fmt: skip

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

    def install(body: str = "pass", offer: object = OFFER) -> None:
        path = tmp_path / "python"
        path.write_text(_PYTHON.format(
            python=sys.executable, record=str(tmp_path / "asked.json"), body=body, offer=json.dumps(offer)
        ))  # fmt: skip
        path.chmod(0o755)
        preferences.local_python = str(path)
        # What another backend has said is forgotten.
        backends.show_models([ENTRY, {"id": "ready", "available": True}])

    def connect(double: Double) -> None:
        preferences.mode, preferences.address, preferences.token = "SERVER", double.address, TOKEN
        backends.show_models([ENTRY])

    preferences.mode = "LOCAL"
    backends.show_models([ENTRY])
    fetching.install, fetching.asked = install, lambda: json.loads((tmp_path / "asked.json").read_text())
    fetching.find, fetching.connect = module("scene.job.models").find, connect
    fetching.show = lambda: drawn(module("panels.preferences"))
    monkeypatch.setattr(bpy.context.preferences.system, "use_online_access", True)
    yield fetching
    fetching.beside.close()
    fetching.dismiss()
    preferences.local_python, preferences.mode, preferences.token = "", "LOCAL", ""
    backends.show_models([])


def drawn(panel) -> str:
    """All that the preferences' part about models says, and its buttons."""
    said = []

    class Layout:
        def panel(self, *_: object, **__: object) -> tuple[Layout, Layout]:
            return self, self

        def label(self, text: str = "", **_: object) -> None:
            said.append(text)

        def progress(self, factor: float, text: str) -> None:
            said.append(f"{factor:.0%} {text}")

        def operator(self, name: str, **_: object) -> SimpleNamespace:
            said.append(name)
            return SimpleNamespace()

        def row(self, **_: object) -> Layout:
            return self

        split = column = box = row

    window = SimpleNamespace(
        region=SimpleNamespace(width=1500.0),
        window_manager=bpy.context.window_manager,
        preferences=bpy.context.preferences,
    )
    panel._draw_models(Layout(), window)
    return "\n".join(said)


def ended(fetching) -> tuple[str, str]:
    end = time.monotonic() + 60
    while fetching.beside.busy() and time.monotonic() < end:
        fetching.beside.poll()
        time.sleep(0.02)
    return fetching.beside.outcome()


def agreed(fetching, model: str = "big") -> None:
    """Download pressed, the facts read, and agreed to."""
    bpy.ops.maquette.fetch_model(model=model)
    ended(fetching)
    bpy.ops.maquette.agree_fetch()


def test_the_facts_are_shown_before_anything_comes(stand):
    stand.install()
    assert "maquette.fetch_model" in stand.show() and stand.can(stand.find("big"))
    assert bpy.ops.maquette.fetch_model(model="big") == {"FINISHED"}
    assert "maquette.cancel_fetch" in stand.show()
    ended(stand)
    assert stand.asked() == [
        "-m", "maquette.backend.cli", "models", "fetch", "big", "--facts", "--json", "--quiet", "--progress-lines"
    ]  # fmt: skip
    said = stand.show()
    for words in (
        "somebody/big: 3 files, 4.00 GB; its publisher wants an account",
        "licence: MIT; its text: https://hub.example/somebody/big/LICENSE",
        "ask them first",
        "9.00 GB are free there",
        "maquette.agree_fetch",
    ):
        assert words in said, words
    assert "Not enough room" not in said
    bpy.ops.maquette.dismiss_fetch()
    assert "maquette.agree_fetch" not in stand.show()
    with pytest.raises(RuntimeError, match="Press Download first"):
        bpy.ops.maquette.agree_fetch()


def test_what_is_wrong_is_shown_where_the_facts_would_be(stand):
    stand.install(offer={**OFFER, "free": 10**9})
    bpy.ops.maquette.fetch_model(model="big")
    ended(stand)
    said = stand.show()
    assert "Not enough room: free 7.00 GB more first" in said and "maquette.agree_fetch" not in said
    stand.install(offer={"model": 3})
    bpy.ops.maquette.fetch_model(model="big")
    assert ended(stand)[0] == "ERROR" and "offer: " in stand.show() and "maquette.agree_fetch" not in stand.show()


def test_a_download_runs_beside_blender_and_says_how_it_ended(stand):
    stand.install()
    assert not stand.can(stand.find("ready"))
    agreed(stand)
    assert ended(stand) == ("INFO", "Big is here")
    assert stand.asked()[2:7] == ["models", "fetch", "big", "--yes", "--commit=somebody/big@c0ffee"]
    stand.install("print('maquette: the disk is full; make room'); sys.exit(2)")
    agreed(stand)
    assert ended(stand) == ("ERROR", "Big was not fetched: the disk is full; make room")


def test_it_can_be_cancelled_and_one_goes_at_a_time(stand):
    stand.install("time.sleep(60)")
    agreed(stand)
    end = time.monotonic() + 60
    while stand.beside.report.share < 0.25 and time.monotonic() < end:
        stand.beside.poll()
        time.sleep(0.02)
    assert "25% Fetching 1.0 of 4.0 GB, 3 min left" in stand.show()
    with pytest.raises(RuntimeError, match="poll"):
        bpy.ops.maquette.fetch_model(model="big")
    bpy.ops.maquette.cancel_fetch()
    assert ended(stand)[0] == "WARNING"


def test_nothing_starts_offline_or_for_a_model_that_is_here(stand):
    stand.install()
    with pytest.raises(RuntimeError, match="is here already"):
        bpy.ops.maquette.fetch_model(model="ready")
    bpy.ops.maquette.fetch_model(model="big")
    ended(stand)
    bpy.context.preferences.system.use_online_access = False
    for press in (bpy.ops.maquette.agree_fetch, lambda: bpy.ops.maquette.fetch_model(model="big")):
        with pytest.raises(RuntimeError, match="Blender is offline"):
            press()
    assert not stand.beside.busy()


def test_a_backend_elsewhere_fetches_by_itself(stand):
    """What it says is shown, what was agreed to is sent, and it is followed to its end."""
    shares = iter((10.0, 60.0))

    def how_far(handler) -> None:
        progress = next(shares, None)
        ended = {"status": "completed", "progress": 100.0} if progress is None else {"status": "in_progress"}
        label = f"Fetching {progress}"
        say(handler, 200, {"model": "big", "progress": progress, "label": label, **ended})

    with running(Double()) as double:
        stand.connect(double)
        double.answers["GET /v1/models/big/offer"] = lambda handler: say(handler, 200, OFFER)
        double.answers["GET /v1/models/big/download"] = how_far
        double.answers["POST /v1/models/big/download"] = lambda handler: say(
            handler, 202, {"model": "big", "status": "in_progress"}
        )
        bpy.ops.maquette.fetch_model(model="big")
        ended(stand)
        assert "9.00 GB are free there" in stand.show()
        bpy.ops.maquette.agree_fetch()
        assert ended(stand) == ("INFO", "Big is here")
        posted = next(body for line, _, body in double.requests if line.startswith("POST"))
        assert json.loads(posted) == {"commits": {"somebody/big": "c0ffee"}}
        # Another backend's offer is no offer of this one.
        bpy.ops.maquette.fetch_model(model="big")
        ended(stand)
        with running(Double()) as other:
            stand.connect(other)
            assert "maquette.agree_fetch" not in stand.show()
            # One that cannot be asked yet has no such path.
            path = "GET /v1/models/big/offer"
            other.answers[path] = lambda handler: say(
                handler, 404, {"error": {"code": "not_found", "message": f"{path}: Not Found."}}
            )
            bpy.ops.maquette.fetch_model(model="big")
            assert ended(stand)[0] == "ERROR" and "update it, or run 'maquette models fetch big' there" in stand.show()
