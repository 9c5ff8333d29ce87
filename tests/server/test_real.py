"""The server with the real engines."""

from __future__ import annotations

from pathlib import Path

import pytest
from maquette.backend.media import decode_video, read_mp4_metadata
from maquette.backend.models.registry import list_models
from maquette.backend.server.config import REGISTRY_ENGINES
from maquette.backend.wire import JobView, VideoPlan

from ..models.conftest import model_dir, transformer, vae  # noqa: F401
from .harness import Server, save_shot, until


def make(server: Server, shot: Path, out: Path) -> JobView:
    with server.client() as client:
        job = client.submit(shot).id
        events = list(client.events(job))
        ended = events[-1]
        assert ended.status == "completed", ended.error
        assert {"loading", "encoding", "denoising", "decoding", "writing"} >= {e.stage for e in events} - {None}
        assert client.preview(job).startswith(b"\x89PNG")
        client.download(job, out)
    return ended


def test_a_model_of_the_users_own(tmp_path: Path, model_dir: Path):  # noqa: F811
    with Server(tmp_path, "--models", str(model_dir), "--device", "cpu", MAQUETTE_ENGINES=REGISTRY_ENGINES) as server:
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


def test_the_embedded_model(tmp_path: Path):
    nano = list_models()[0]
    if not nano.available:
        pytest.skip(f"no weights: {nano.reason}")
    with Server(tmp_path, "--device", "cpu", MAQUETTE_ENGINES=REGISTRY_ENGINES) as server:
        shot = save_shot(tmp_path / "s.shot", steps=4, frames=17, points=128)
        job = make(server, shot, tmp_path / "film.mp4")
        assert job.plan == VideoPlan(256, 256, 17, 24.0)
        assert decode_video(tmp_path / "film.mp4")[0].shape == (17, 256, 256, 3)
