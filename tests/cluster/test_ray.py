"""A server whose engines are actors of a Ray cluster with two nodes, on this computer.

Ray is large, so that ``make setup`` does not install it: ``make test-cluster`` does, and runs this.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import psutil
import pytest
import ray
from maquette.backend.catalogue.models import model_spec
from maquette.backend.media import decode_video, read_mp4_metadata, write_mp4
from maquette.backend.models.engine import load_engine
from maquette.backend.server.config import REGISTRY_ENGINES
from maquette.backend.server.jobs import AGAIN
from maquette.backend.shot import load_shot

# The module is collected where Ray is installed (conftest.py).
from ray.cluster_utils import Cluster
from safetensors.torch import load_file, save_file

from ..server.harness import HERE, Server, free_port, save_shot, until
from ..server.test_serve import maquette, refused


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ray")


@pytest.fixture(scope="module")
def cluster(place: Path) -> Iterator[Cluster]:
    """A head without processors, and two nodes with one each, which find the engines of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH")))))
        patch.setenv("FAKE_LOG", str(place / "fake.log"))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # Ray's workers stand back behind all else on a busy computer, for minutes.
        patch.setenv("RAY_worker_niceness", "0")
        cluster = Cluster(
            True, head_node_args={"num_cpus": 0, "include_dashboard": False, "object_store_memory": 10**8}
        )
        try:
            for _ in range(2):
                cluster.add_node(num_cpus=1, object_store_memory=10**8)
            yield cluster
        finally:
            cluster.shutdown()


@pytest.fixture(scope="module")
def server(cluster: Cluster, place: Path) -> Iterator[Server]:
    with Server(place, "--executor", "ray", "--ray-address", cluster.address, "--workers", "2") as server:
        yield server


def send(client: Any, server: Server, name: str, prompt: str = "", steps: int = 4) -> str:
    return client.submit(save_shot(server.folder / f"{name}.shot", prompt, name=name, steps=steps)).id


def pid(server: Server, name: str) -> int:
    """Of the actor that has begun a job last."""
    return int([line for line in server.noted() if line.startswith(f"begin {name} ")][-1].split()[2])


def test_films_previews_and_the_same_actor_for_the_same_model(server: Server, tmp_path: Path):
    with server.client() as client:
        gate = tmp_path / "gate"
        gate.touch()
        first = send(client, server, "first", f"hold={gate}")
        until(lambda: client.job(first).step, what="it runs in the cluster")
        until(lambda: client.preview(first), what="a preview comes back")
        gate.unlink()
        assert "made of grey" in server.wait_for(first, "completed", "failed").notes
        assert len(client.download(first, tmp_path / "a.mp4").read_bytes()) > 500
        assert client.download(first, tmp_path / "a.zip", "frames").stat().st_size > 500
        second = send(client, server, "second")
        server.wait_for(second, "completed")
        assert pid(server, "second") == pid(server, "first")
        assert "Ray" in client.health()["device"]


def test_a_cancel_stops_within_one_step(server: Server):
    with server.client() as client:
        job = send(client, server, "c", "wait=0.3", steps=1000)
        until(lambda: client.job(job).step, what="first step")
        before = len([line for line in server.noted() if line.startswith("step c ")])
        client.cancel(job)
        server.wait_for(job, "cancelled")
        steps = len([line for line in server.noted() if line.startswith("step c ")])
        assert steps - before <= 2 and any(line.startswith("stopped c") for line in server.noted())


def test_a_lost_actor_and_a_lost_node_cost_no_job(server: Server, cluster: Cluster, tmp_path: Path):
    with server.client() as client:
        gate = tmp_path / "gate"
        gate.touch()
        jobs = {name: send(client, server, name, f"hold={gate}") for name in "ab"}
        until(lambda: all(client.job(job).step for job in jobs.values()), what="both at work")
        assert pid(server, "a") != pid(server, "b")
        os.kill(pid(server, "a"), signal.SIGKILL)
        until(lambda: AGAIN in client.job(jobs["a"]).notes, what="it is back in the queue")
        until(lambda: client.job(jobs["a"]).step, what="at work again")
        cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
        gate.unlink()
        done = [server.wait_for(job, "completed", "failed", seconds=180) for job in jobs.values()]
        assert [job.status for job in done] == ["completed"] * 2
        ends = [
            sum(f"{job}: completed" in line for line in server.log.read_text().splitlines()) for job in jobs.values()
        ]
        assert ends == [1, 1]


@pytest.fixture(scope="module")
def group(cluster: Cluster, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One engine of two actors, which make each film together by the real engine."""
    # Its actors keep their places.
    server.stop()
    while len(cluster.worker_nodes) < 2:
        cluster.add_node(num_cpus=1, object_store_memory=10**8)
    place = tmp_path_factory.mktemp("group")
    write_leaning(place / "models")
    options = ("--executor", "ray", "--ray-address", cluster.address, "--members", "2")
    with Server(place, *options, "--models", str(place / "models"), MAQUETTE_ENGINES=REGISTRY_ENGINES) as server:
        yield server


def write_leaning(folder: Path) -> None:
    """The embedded model with a correction of some kind: as it ships it has none, and no network is run."""
    spec = model_spec("isa-nano")
    copytree(spec.folder, folder / "leaning")
    text = spec.folder.with_name("isa-nano.toml").read_text()
    (folder / "leaning.toml").write_text(text.replace('"isa-nano"', '"leaning"'))
    path = folder / "leaning" / "transformer" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    weights["patch_out.bias"].fill_(0.1)
    save_file(weights, path)


def film_of(server: Server, job: str, path: Path) -> np.ndarray:
    with server.client() as client:
        return decode_video(client.download(job, path))[0]


def members() -> list[int]:
    """Process numbers of the cluster's actors."""
    found = []
    for each in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if " ".join(each.cmdline()).startswith("ray::EngineActor"):
                found.append(each.pid)
    return sorted(found)


def test_two_actors_make_the_film_of_one(group: Server, tmp_path: Path):
    path = save_shot(group.folder / "real.shot", steps=3, model="leaning", width=64, height=64, full=True)
    with group.client() as client:
        job = client.submit(path).id
        done = group.wait_for(job, "completed", "failed")
        assert done.status == "completed", done.error
        film = film_of(group, job, tmp_path / "together.mp4")
        assert read_mp4_metadata(tmp_path / "together.mp4")["members"] == 2
        assert " + " in client.health()["device"]
    engine = load_engine("leaning", "cpu", [group.folder / "models"])
    alone = engine.generate(load_shot(path), lambda _: None, lambda: False).frames
    write_mp4(tmp_path / "alone.mp4", alone, 24)
    assert np.array_equal(film, decode_video(tmp_path / "alone.mp4")[0])


@pytest.mark.parametrize("lost", ["process", "node"])
def test_a_member_lost_in_the_middle_costs_no_job(group: Server, cluster: Cluster, lost: str):
    path = save_shot(group.folder / f"{lost}.shot", steps=60, model="leaning", width=64, height=64, full=True)
    with group.client() as client:
        job = client.submit(path).id
        until(lambda: client.job(job).stage == "denoising", what="they are at work")
        before = members()
        assert len(before) == 2
        if lost == "process":
            os.kill(before[1], signal.SIGKILL)
        else:
            cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
        until(lambda: AGAIN in client.job(job).notes, what="it is back in the queue")
        if lost == "node":
            cluster.add_node(num_cpus=1, object_store_memory=10**8)
        until(lambda: client.job(job).stage == "denoising", what="they are at work again")
        assert len(members()) == 2 and not set(members()) & set(before), "all are new"
        client.cancel(job)
        group.wait_for(job, "cancelled")
        assert len(members()) == 2, "a cancel ends nobody"
    assert "It was one of 2 that make each film together" in group.log.read_text()


def test_a_job_says_for_which_node_it_waits(group: Server, server: Server, cluster: Cluster):
    group.stop()
    for node in list(cluster.worker_nodes):
        cluster.remove_node(node)
    server.start()
    with server.client() as client:
        job = send(client, server, "waits")
        until(lambda: any("no node for isa-nano, which asks for 1 core" in note for note in client.job(job).notes))
        for _ in range(2):
            cluster.add_node(num_cpus=1, object_store_memory=10**8)
        server.wait_for(job, "completed")


def test_a_cluster_that_is_too_small_for_a_group(cluster: Cluster):
    address = cluster.address
    try:
        done = maquette("serve", "--port", "0", "--executor", "ray", "--ray-address", address, "--members", "3")
    finally:
        # It was asked by this process.
        ray.shutdown()
    refused(done, "--members 3", "the cluster has 2 cores", "or say --members 2")


def test_a_cluster_that_is_not_there():
    address = f"127.0.0.1:{free_port()}"
    done = maquette("serve", "--port", "0", "--executor", "ray", "--ray-address", address)
    refused(done, f"--ray-address {address}", "no cluster can be joined", "ray start --head")
    refused(maquette("serve", "--ray-address", "a:1"), "goes with --executor ray")
    refused(maquette("serve", "--executor", "ray", "--ray-address", "head"), "write HOST:PORT")
