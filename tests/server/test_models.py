"""What the server says of models with published weights, and what it does about shots for them."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from maquette.backend.catalogue.models import find_specs
from maquette.backend.client.errors import BackendError
from maquette.backend.server.config import REGISTRY_ENGINES

from ..models.conftest import model_dir, transformer, vae  # noqa: F401
from .harness import Server, save_shot


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, model_dir: Path) -> Iterator[Server]:  # noqa: F811
    """The real models, none of the published weights, a model that no computer has the memory for, and a hub that
    does not answer."""
    folder = tmp_path_factory.mktemp("server")
    models = folder / "models"
    models.mkdir()
    text = (model_dir / "tiny.toml").read_text("utf-8").replace('id = "tiny"', 'id = "huge"', 1)
    (models / "huge.toml").write_text(f"{text}\n[memory]\ndenoising_gb_per_mpf = 1e6\n", "utf-8")
    shutil.copytree(model_dir / "tiny", models / "huge")
    arguments = ("--models", str(models), "--device", "cpu")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hub = f"http://127.0.0.1:{silent.getsockname()[1]}"
        weights = str(folder / "weights")
        with Server(
            folder, *arguments, MAQUETTE_ENGINES=REGISTRY_ENGINES, MAQUETTE_WEIGHTS=weights, HF_ENDPOINT=hub
        ) as server:
            yield server


PUBLISHED = [spec.id for spec in find_specs().values() if spec.sources]


def test_a_model_without_its_weights_says_what_cures_it(server: Server):
    with server.client() as client:
        models = {model["id"]: model for model in client.models()}
    assert len(PUBLISHED) >= 5 and set(PUBLISHED) <= set(models)
    for name in PUBLISHED:
        model = models[name]
        assert model["available"] is False
        assert model["reason"].startswith(f"{model['label']} cannot run: its weights are not here")
        assert f"'maquette models add {name} --from DIR'" in model["reason"]
        assert model["missing"] and model["license"]
        for source in model["sources"]:
            assert source["repository"].count("/") == 1 and source["files"] and source["license"]
            assert source["gigabytes"] >= 0 and isinstance(source["optional"], bool)
        # Every folder with a missing weights file is published somewhere.
        lacking = {path.partition("/")[0] for path in model["missing"]}
        assert lacking <= {source["component"] for source in model["sources"]}
        assert model["memory"]["gpu_gb"] >= model["memory"]["gpu_gb_least"] > 1
        assert model["memory"]["disk_gb"] > 1
        assert model["inputs"]["reference"] in ("required", "optional") and model["limits"]["max_frames"] > 0


def test_a_model_on_its_way_says_so(server: Server):
    name = "mimicmotion"
    with server.client() as client:
        entry = next(model for model in client.models() if model["id"] == name)
        client.begin_download(name, {source["repository"]: "c0ffee" for source in entry["sources"]})
        with pytest.raises(BackendError, match=f"downloads {name} just now; try again afterwards"):
            client.begin_download("vace-1.3b", {"Wan-AI/Wan2.1-VACE-1.3B-diffusers": "c0ffee"})
        reasons = {model["id"]: model["reason"] for model in client.models()}
        assert reasons[name] == "MimicMotion cannot run yet: its weights are being downloaded (Asking the Hub)"
        assert client.cancel_download(name).status == "cancelled"
        assert next(model for model in client.models() if model["id"] == name)["reason"] == entry["reason"]


def test_a_model_that_can_run_says_what_it_takes(server: Server):
    with server.client() as client:
        nano = next(model for model in client.models() if model["id"] == "isa-nano")
    assert nano["available"] and nano["reason"] == "" and nano["sources"] == [] and nano["options"] == {}
    assert nano["memory"]["disk_gb"] > 0.01 and nano["memory"]["gpu_gb"] < 2


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_shot_for_a_model_without_weights_is_refused(server: Server, tmp_path: Path, name: str):
    with server.client() as client, pytest.raises(BackendError) as caught:
        client.submit(save_shot(tmp_path / "s.shot", model=name))
    assert f"maquette models add {name}" in str(caught.value) and "Models that are ready: isa-nano" in str(caught.value)


def test_a_job_that_cannot_fit_is_refused_with_advice_before_it_starts(server: Server, tmp_path: Path):
    with server.client() as client:
        job = client.submit(save_shot(tmp_path / "s.shot", model="huge", frames=6)).id
        events = list(client.events(job))
    error = events[-1].error
    assert events[-1].status == "failed" and error.code == "invalid_shot"
    assert "Tiny would take about" in error.message and "use a computer with a GPU" in error.message
    assert {event.stage for event in events} <= {None, "loading"}
