"""The command line around the server."""

from __future__ import annotations

import io
import json
import shutil
import socket
import subprocess
import sys
import zipfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import requests
from maquette.backend import cli
from maquette.backend.client import BackendClient, BackendError
from maquette.backend.media import write_mp4
from maquette.backend.server.files import JobFiles
from PIL import Image

from .harness import ALICE, Server, save_shot


def maquette(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command that ends by itself, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        for name, value in {"MAQUETTE_TOKEN": "", **environment}.items():
            patch.setenv(name, value)
        try:
            code = cli.main(arguments)
        except SystemExit as end:
            code = int(end.code or 0)
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def started(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own."""
    command = [sys.executable, "-m", "maquette.backend.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("maquette: ")
    for word in words:
        assert word in done.stderr


def test_help_is_quick_and_complete():
    code = (
        "import sys\nfrom maquette.backend import cli\n"
        "try:\n    cli.main(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "heavy = {'torch', 'numpy', 'fastapi', 'uvicorn', 'requests', 'PIL', 'av', 'diffusers'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    for command in ("serve", "render", "inspect", "train", "models"):
        assert f"    {command} " in done.stdout


@pytest.mark.parametrize("command", ["serve", "inspect", "models"])
def test_help_of_a_command_needs_no_torch(command: str):
    code = (
        f"import sys\nfrom maquette.backend import cli\ntry:\n    cli.main([{command!r}, '--help'])\n"
        "except SystemExit as end:\n    assert end.code == 0\nassert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert f"maquette {command}" in done.stdout and "--debug" in done.stdout


def test_errors_are_one_line():
    refused(started("inspect", "/nowhere/a.shot"), "/nowhere/a.shot: No such file or directory")
    assert "Traceback" in started("--debug", "inspect", "/nowhere/a.shot").stderr
    with pytest.raises(FileNotFoundError):
        maquette("inspect", "/nowhere/a.shot", "--debug")
    done = maquette("fly")
    assert done.returncode == 2 and "invalid choice: 'fly'" in done.stderr and "Traceback" not in done.stderr
    assert maquette("--version").stdout.startswith("maquette 0")


def test_models_are_listed():
    done = maquette("models", "list", "--json")
    models = json.loads(done.stdout)
    assert models[0]["id"] == "isa-nano" and {"available", "missing", "reason", "license"} <= set(models[0])
    assert "isa-4b" in maquette("models", "list").stdout


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "some-host"])
def test_others_are_let_in_only_with_a_token(host: str, tmp_path: Path):
    done = maquette("serve", "--host", host, "--data", str(tmp_path / "d"))
    refused(done, f"--host {host} lets other computers in, but there is no token", "--token-file", "--insecure")
    assert not (tmp_path / "d").exists()


def test_what_cannot_be_listened_on(server: Server, tmp_path: Path):
    data = ["--data", str(tmp_path / "d")]
    refused(
        maquette("serve", "--port", str(server.port), *data),
        f"Port {server.port} of 127.0.0.1 cannot be used",
        "--port",
    )
    refused(
        maquette("serve", "--host", "no.such.host.invalid", *data, MAQUETTE_TOKEN="x"), "is no address to listen on"
    )
    refused(maquette("serve", "--port", "70000", *data), "a port is a number from 1 to 65535")
    refused(maquette("serve", "--port", "0", "--tls-cert", "/x", *data), "go together")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mine.toml").write_text("id = 'other'\n")
    refused(maquette("serve", "--models", str(tmp_path / "models"), *data), "--models: ", "mine.toml")
    refused(
        maquette("serve", "--port", "0", "--tls-cert", "/x", "--tls-key", "/y", *data), "certificate cannot be used"
    )
    (tmp_path / "file").write_text("")
    refused(maquette("serve", "--port", "0", "--data", str(tmp_path / "file")), "cannot be used")


@pytest.mark.parametrize(
    ("content", "words"), [("", "is empty"), ("two words", "one word of plain characters"), ("schlüssel", "plain")]
)
def test_token_files_that_hold_none(tmp_path: Path, content: str, words: str):
    path = tmp_path / "token"
    path.write_text(content)
    refused(maquette("serve", "--port", "0", "--token-file", str(path), "--data", str(tmp_path / "d")), words)


def test_a_token_file_is_made_and_used(tmp_path: Path):
    path = tmp_path / "token"
    with Server(tmp_path, "--host", "0.0.0.0", "--token-file", str(path), token="") as server:
        token = path.read_text().strip()
        assert server.announced == f"http://0.0.0.0:{server.port}"
        assert len(token) > 30 and path.stat().st_mode & 0o777 == 0o600
        assert token not in server.log.read_text()
        assert BackendClient(server.address, token, ALICE).models()
        assert BackendClient(server.address, "", ALICE).health()["token_required"] is True


def test_a_web_page_cannot_use_a_backend_without_a_token(tmp_path: Path):
    with Server(tmp_path, token="") as server:
        url = server.address + "/v1/models"
        wire = {"X-Maquette-Wire": "1"}
        assert requests.get(url, headers=wire, timeout=60).status_code == 200
        assert requests.get(url, headers={**wire, "Host": "localhost:1"}, timeout=60).status_code == 200
        # A page's own name that points at this computer (DNS rebinding).
        assert requests.get(url, headers={**wire, "Host": "evil.example"}, timeout=60).status_code == 403
        # A form of another page cannot set the header, and its script is not allowed to.
        assert requests.post(server.address + "/v1/videos", files={"shot": b"x"}, timeout=60).status_code == 426
        asked = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
        answer = requests.options(server.address + "/v1/videos", headers=asked, timeout=60)
        assert answer.status_code == 405 and "Access-Control-Allow-Origin" not in answer.headers


def test_a_signal_ends_it_in_order_though_somebody_listens(tmp_path: Path):
    with Server(tmp_path) as server, server.client() as client:
        info = tmp_path / "info.json"
        assert server.process and json.loads(info.read_text())["pid"] == server.process.pid
        job = client.submit(save_shot(tmp_path / "s.shot", "wait=0.1", steps=1000)).id
        events = client.events(job)
        next(events)
        assert server.stop() == 0 and not info.exists()
        with pytest.raises(BackendError) as caught:
            while next(events, None):
                pass
            client.job(job)
        assert caught.value.transient
        assert "Traceback" not in server.log.read_text()


def test_the_address_may_be_of_the_newer_kind(tmp_path: Path):
    if not socket.has_ipv6:
        pytest.skip("this computer has no IPv6")
    with Server(tmp_path, "--host", "::1") as server:
        assert server.announced == server.address == f"http://[::1]:{server.port}"
        assert server.client().models()


def test_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make a certificate with")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    make = [
        openssl,
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]
    make += ["-keyout", str(key), "-out", str(cert), "-subj", "/CN=localhost"]
    make += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run(make, check=True, capture_output=True)
    with Server(tmp_path, "--tls-cert", str(cert), "--tls-key", str(key)) as server:
        assert server.address == f"https://127.0.0.1:{server.port}"
        with pytest.raises(BackendError, match="is not trusted by this computer") as caught:
            server.client().health()
        assert caught.value.code == "tls"
        with pytest.raises(BackendError) as caught:
            BackendClient(f"http://127.0.0.1:{server.port}").health()
        assert caught.value.code in ("interrupted", "not_maquette")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(cert))
        assert server.client().models()


def test_the_zip_of_frames_is_made_when_asked_for_and_never_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    files = JobFiles(tmp_path)
    result = files.folder("vid_1") / "result"
    result.mkdir(parents=True)
    assert not files.frames_zip("vid_1").exists(), "there is nothing to make it of"
    frames = np.random.default_rng(1).integers(0, 256, (3, 16, 24, 3), np.uint8)
    np.save(result / "frames.npy", frames)
    write_mp4(result / "video.mp4", frames, 24.0, {"seed": 7})

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    with pytest.raises(OSError):
        files.frames_zip("vid_1")
    assert [p.name for p in files.folder("vid_1").iterdir()] == ["result"] and (result / "frames.npy").exists()
    monkeypatch.undo()
    for _ in range(2):
        with zipfile.ZipFile(files.frames_zip("vid_1")) as archive:
            pictures = [Image.open(io.BytesIO(archive.read(f"{i:05d}.png"))) for i in (1, 2, 3)]
        assert all((np.asarray(picture) == frame).all() for picture, frame in zip(pictures, frames, strict=True))
        assert pictures[0].info["seed"] == "7"
        assert [p.name for p in result.iterdir()] == ["video.mp4"], "what the zip is made of goes"


def test_ballast_makes_room_once(tmp_path: Path):
    files = JobFiles(tmp_path)
    assert not files.drop_ballast()
    files.hold_ballast()
    assert (tmp_path / "ballast").stat().st_size == 4 << 20
    assert files.drop_ballast() and not files.drop_ballast()
