"""What is published of the wire is what the server does: OpenAPI, the walk-through with curl, the page."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import uuid
from html.parser import HTMLParser
from pathlib import Path

import pytest
import requests
from maquette.backend.server.describe import Health, Jobs, Models, Refusal
from maquette.backend.wire import JobView
from pydantic import TypeAdapter

from ..conftest import ROOT, load_script
from .harness import Server, save_shot, until


def test_the_published_openapi_is_the_servers():
    tool = load_script("tools/openapi.py")
    assert json.loads(tool.openapi()) == json.loads(tool.TARGET.read_text("utf-8")), "run tools/openapi.py"


def test_openapi_has_every_request_of_the_wires_page():
    document = json.loads((ROOT / "docs" / "openapi.json").read_text("utf-8"))
    said = {(m[0], m[1].replace("models/ID", "models/{model_id}").replace("ID", "{job_id}")) for m in re.findall(
        r"^\| `(GET|POST|DELETE) (/v1/[\w/]+)", (ROOT / "docs" / "wire.md").read_text("utf-8"), re.MULTILINE
    )}  # fmt: skip
    described = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    assert said == described and len(said) == 15


def test_answers_are_as_described(server: Server, tmp_path: Path):
    def get(path: str) -> object:
        return requests.get(server.address + path, headers=server.headers(str(uuid.UUID(int=7))), timeout=60).json()

    with server.client(str(uuid.UUID(int=7))) as client:
        job = client.submit(save_shot(tmp_path / "a.shot"), key="key-of-the-upload")
        server.wait_for(job.id, "completed", who=client.client_id)
        found = client.find("key-of-the-upload")
        assert found is not None and found.id == job.id and client.find("another-key") is None
        assert client.submit(tmp_path / "a.shot", key="key-of-the-upload").id == job.id
    for kind, path in (
        (Health, "/v1/health"), (Models, "/v1/models"), (Jobs, "/v1/videos"), (JobView, f"/v1/videos/{job.id}"),
        (Refusal, "/v1/videos/vid_none"), (Refusal, "/v1/videos?limit=0"), (Refusal, "/v1/nowhere"),
    ):  # fmt: skip
        TypeAdapter(kind).validate_python(get(path))


@pytest.mark.skipif(not shutil.which("curl") or not shutil.which("sh"), reason="there is no curl here")
def test_the_walk_through_with_curl(server: Server, tmp_path: Path):
    shot = save_shot(tmp_path / "a.shot")
    done = subprocess.run(
        ["sh", str(ROOT / "docs" / "walkthrough.sh"), str(shot), str(tmp_path)],
        env={"SERVER": server.address, "TOKEN": server.token, "PATH": "/usr/local/bin:/usr/bin:/bin"},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "completed" in done.stdout and done.stdout.split()[-1] == "not_found"
    assert (tmp_path / "film.mp4").stat().st_size > 500 and (tmp_path / "frames.zip").stat().st_size > 200
    assert "event: job" in (tmp_path / "events.txt").read_text()


class Links(HTMLParser):
    """What a page loads from elsewhere, and the code in it."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            assert not name.startswith("on") and name != "style", "the page's rules forbid it"
            if name in ("src", "href"):
                self.links.append(str(value))
            if name == "id":
                self.ids.add(str(value))


def test_the_page_is_whole_and_loads_nothing_from_elsewhere(server: Server):
    page = requests.get(server.address + "/", timeout=60)
    assert page.status_code == 200 and server.token not in page.text
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    links = Links()
    links.feed(page.text)
    assert sorted(links.links) == ["/page.css", "/page.js"]
    script = requests.get(server.address + "/page.js", timeout=60).text
    assert "innerHTML" not in script and "eval" not in script and "//" not in re.sub(r"^// .*", "", script, flags=re.M)
    assert set(re.findall(r'find\("(\w+)"\)', script)) <= links.ids
    other = requests.get(server.address + "/", headers={"Host": "elsewhere.example"}, timeout=60)
    assert other.status_code == 200, "with a token, any name will do"


def test_the_page_is_told_what_goes_on(server: Server, tmp_path: Path):
    gate = tmp_path / "gate"
    gate.touch()

    def status(path: str = "", **headers: str) -> requests.Response:
        return requests.get(f"{server.address}/v1/status{path}", headers={**server.headers(), **headers}, timeout=60)

    assert status(Authorization="Bearer no").status_code == 401 and status("/preview").status_code == 204
    with server.client() as client:
        bad = client.submit(save_shot(tmp_path / "b.shot", "fail=engine", name="bad"))
        server.wait_for(bad.id, "failed")
        running = client.submit(save_shot(tmp_path / "r.shot", f"hold={gate}", name="<b>running</b>"))
        waiting = client.submit(save_shot(tmp_path / "w.shot", name="waits"))
        until(lambda: client.job(running.id).step, what="first step")
        told = status().json()
        assert told["running"]["name"] == "<b>running</b>" and told["running"]["steps"] == 4
        assert [job["name"] for job in told["queue"]] == ["waits"] and told["waiting"] == 1
        assert told["errors"][0]["name"] == "bad" and "too few" in told["errors"][0]["message"]
        assert told["disk"]["total"] > told["disk"]["free"] > 0 and told["memory"]["server"] > 1 << 20
        assert {model["id"]: model["available"] for model in told["models"]} == {"isa-nano": True, "isa-small": False}
        assert told["runner"] == {"alive": True, "doing": "working", "problem": ""}
        picture = until(lambda: status("/preview").content, what="a preview")
        assert picture.startswith(b"\x89PNG")
        text = json.dumps(told)
        assert running.id not in text and waiting.id not in text, "nobody can act on others' jobs by it"
        gate.unlink()
        server.wait_for(waiting.id, "completed")
