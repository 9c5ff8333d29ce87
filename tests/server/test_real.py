"""A server with the real engines: the embedded model, one of the user's own, and every published one.

The published models are tiny; their weights are added by the command line.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from maquette.backend.cli import main
from maquette.backend.media import decode_video, read_mp4_metadata
from maquette.backend.models.registry import list_models
from maquette.backend.server.config import REGISTRY_ENGINES
from maquette.backend.shot import Settings
from maquette.backend.shot import save_shot as write_shot
from maquette.backend.wire import JobView, VideoPlan

from ..models.conftest import model_dir, transformer, vae  # noqa: F401
from ..models.control.builders import animated_shot
from ..models.weights.families import FAMILIES
from .harness import Server, save_shot, until

FRAMES = 6


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, model_dir: Path) -> Iterator[Server]:  # noqa: F811
    """With weights in a home of their own."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAQUETTE_WEIGHTS", str(home / "weights"))
        for name, tiny in FAMILIES.items():
            spec = tiny.describe(home / "models")
            tiny.publish(spec, tiny.states(spec), home / name)
            words = ("models", "add", name, "--from", str(home / name), "--models", str(home / "models"))
            assert main(list(words)) == 0, name
        folders = ("--models", str(home / "models"), "--models", str(model_dir))
        with Server(home, *folders, "--device", "cpu", MAQUETTE_ENGINES=REGISTRY_ENGINES) as server:
            yield server


def make(server: Server, shot: Path, out: Path) -> JobView:
    with server.client() as client:
        job = client.submit(shot).id
        events = list(client.events(job))
        ended = events[-1]
        assert ended.status == "completed", ended.error
        assert {"loading", "encoding", "denoising", "decoding", "writing", "drawing"} >= {e.stage for e in events} - {
            None
        }
        assert client.preview(job).startswith(b"\x89PNG")
        client.download(job, out)
    return ended


def test_a_model_of_the_users_own(server: Server, tmp_path: Path):
    with server.client() as client:
        assert "tiny" in [model["id"] for model in client.models() if model["available"]]
        until(lambda: client.health()["device"] == "cpu", what="device told")
    shot = save_shot(tmp_path / "s.shot", steps=3, frames=6, model="tiny", width=96, height=64, seed=5)
    job = make(server, shot, tmp_path / "film.mp4")
    video, fps = decode_video(tmp_path / "film.mp4")
    plan = job.plan
    assert video.shape == (6, plan.height, plan.width, 3) and plan.frames == 6 and fps == 24
    assert any("6 frames were generated as 9" in note for note in job.notes)
    metadata = read_mp4_metadata(tmp_path / "film.mp4")
    assert (metadata["model"], metadata["steps"], metadata["title"]) == ("tiny", 3, "test")
    # The second finds the model loaded and gives the same video for the same seed.
    make(server, shot, tmp_path / "again.mp4")
    assert (decode_video(tmp_path / "again.mp4")[0] == video).all()
    # Cancelled within a step, by the real pipeline too.
    with server.client() as client:
        slow = client.submit(save_shot(tmp_path / "t.shot", steps=1000, frames=6, model="tiny")).id
        until(lambda: client.job(slow).stage == "denoising", what="denoising")
        client.cancel(slow)
        server.wait_for(slow, "cancelled")


def test_the_embedded_model(server: Server, tmp_path: Path):
    nano = list_models()[0]
    if not nano.available:
        pytest.skip(f"no weights: {nano.reason}")
    shot = save_shot(tmp_path / "s.shot", steps=2, frames=5, points=128)
    job = make(server, shot, tmp_path / "film.mp4")
    assert job.plan == VideoPlan(128, 128, 5, 24.0)
    assert decode_video(tmp_path / "film.mp4")[0].shape == (5, 128, 128, 3)


def test_one_shot_serves_every_model(server: Server, tmp_path: Path):
    shot = FAMILIES["mofa-hybrid"].shot(FRAMES)
    with server.client() as client:
        ready = {model["id"] for model in client.models() if model["available"]}
        assert ready >= {"tiny", *FAMILIES}
        jobs = {}
        for name in ("tiny", *FAMILIES):
            path = tmp_path / f"{name}.shot"
            write_shot(replace(shot, settings=Settings(model=name, seed=3, steps=2)), path)
            jobs[name] = client.submit(path).id
        for name, job in jobs.items():
            ended = server.wait_for(job, "completed", "failed", seconds=300)
            assert ended.status == "completed", (name, ended.error)
            assert client.preview(job).startswith(b"\x89PNG")
            film = tmp_path / f"{name}.mp4"
            client.download(job, film)
            video, fps = decode_video(film)
            plan = ended.plan
            assert video.shape == (FRAMES, plan.height, plan.width, 3) and fps == shot.clip.fps
            assert video.std() > 1 and read_mp4_metadata(film)["model"] == name


def test_wan_animate_puts_somebody_into_the_shot_s_background(server: Server, tmp_path: Path):
    """Its other mode; ``animate`` is among all models above."""
    write_shot(animated_shot(FRAMES, mode="replace", margin=0), tmp_path / "s.shot")
    job = make(server, tmp_path / "s.shot", tmp_path / "film.mp4")
    video, fps = decode_video(tmp_path / "film.mp4")
    plan = job.plan
    assert video.shape == (FRAMES, plan.height, plan.width, 3) and fps == 24
    options = read_mp4_metadata(tmp_path / "film.mp4")["options"]
    assert (options["mode"], options["frame_rate"]) == ("replace", 24)
    # What is not the person stays as it was, as far as the film's coding keeps it.
    plain = np.abs(video.astype(int) - (40, 90, 160)).max(-1) < 30
    assert plain.mean((1, 2)).min() > 0.7


def test_a_cancel_stops_each_model_within_a_step(server: Server, tmp_path: Path):
    shot = FAMILIES["mofa-hybrid"].shot(FRAMES)
    with server.client() as client:
        for name in FAMILIES:
            path = tmp_path / f"{name}.shot"
            write_shot(replace(shot, settings=Settings(model=name, steps=1000)), path)
            job = client.submit(path).id
            until(lambda job=job: client.job(job).stage == "denoising", 120, f"{name} denoising")
            client.cancel(job)
            ended = server.wait_for(job, "cancelled", "failed", "completed")
            assert ended.status == "cancelled", (name, ended)
