"""One shot, every published model, through a real server: weights added by the command line, then jobs over HTTP."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from maquette.backend.cli import main
from maquette.backend.media import decode_video, read_mp4_metadata
from maquette.backend.server.config import REGISTRY_ENGINES
from maquette.backend.shot import Settings, load_shot, save_shot

from ..models.conftest import model_dir, transformer, vae  # noqa: F401
from ..models.weights.families import FAMILIES
from .harness import Server, until

FRAMES = 6


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Path:
    """Descriptions of the tiny models in ``models``, their weights added to a home of their own."""
    monkeypatch.setenv("MAQUETTE_WEIGHTS", str(tmp_path / "weights"))
    for name, tiny in FAMILIES.items():
        spec = tiny.describe(tmp_path / "models")
        tiny.publish(spec, tiny.states(spec), tmp_path / name)
        words = ("models", "add", name, "--from", str(tmp_path / name), "--models", str(tmp_path / "models"))
        assert main(list(words)) == 0, capsys.readouterr()
    return tmp_path


def test_one_shot_serves_every_model(home: Path, model_dir: Path):  # noqa: F811
    save_shot(FAMILIES["mofa-hybrid"].shot(FRAMES), home / "one.shot")
    folders = ("--models", str(home / "models"), "--models", str(model_dir))
    with (
        Server(home, *folders, "--device", "cpu", MAQUETTE_ENGINES=REGISTRY_ENGINES) as server,
        server.client() as client,
    ):
        ready = {model["id"] for model in client.models() if model["available"]}
        assert ready >= {"tiny", *FAMILIES}
        shot = load_shot(home / "one.shot")
        jobs = {}
        for name in ("tiny", *FAMILIES):
            path = home / f"{name}.shot"
            save_shot(replace(shot, settings=Settings(model=name, seed=3, steps=2)), path)
            jobs[name] = client.submit(path).id
        for name, job in jobs.items():
            ended = server.wait_for(job, "completed", "failed", seconds=300)
            assert ended.status == "completed", (name, ended.error)
            assert client.preview(job).startswith(b"\x89PNG")
            film = home / f"{name}.mp4"
            client.download(job, film)
            video, fps = decode_video(film)
            plan = ended.plan
            assert video.shape == (FRAMES, plan.height, plan.width, 3) and fps == shot.clip.fps
            assert video.std() > 1 and read_mp4_metadata(film)["model"] == name


def test_a_cancel_stops_each_model_within_a_step(home: Path):
    shot = FAMILIES["mofa-hybrid"].shot(FRAMES)
    with (
        Server(home, "--models", str(home / "models"), "--device", "cpu", MAQUETTE_ENGINES=REGISTRY_ENGINES) as server,
        server.client() as client,
    ):
        for name in FAMILIES:
            path = home / f"{name}.shot"
            save_shot(replace(shot, settings=Settings(model=name, steps=1000)), path)
            job = client.submit(path).id
            until(lambda job=job: client.job(job).stage == "denoising", 120, f"{name} denoising")
            client.cancel(job)
            ended = server.wait_for(job, "cancelled", "failed", "completed")
            assert ended.status == "cancelled", (name, ended)
