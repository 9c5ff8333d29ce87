"""Getting published files from a hub: what is said first, what comes, and how it ends when something goes wrong."""

from __future__ import annotations

import errno
import io
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import file_download
from maquette.backend.catalogue.models import ModelSpec
from maquette.backend.cli import main
from maquette.backend.models.registry import status
from maquette.backend.models.weights import fetch as module
from safetensors.torch import load_file

from .conftest import weights
from .hub import Hub, repository

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def hub(tree: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub({"somebody/paper": repository(tree, "ckpt", "data"), "somebody/base": repository(tree, "vae")}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        monkeypatch.setenv("HF_TOKEN", "hf_bad")
        # Between its own attempts the library waits a second.
        monkeypatch.setattr(file_download, "time", SimpleNamespace(sleep=lambda seconds: None))
        yield hub


@pytest.fixture
def run(models: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: str) -> tuple[int, str]:
        code = main(["models", "fetch", "paper", "--models", str(models), *words])
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


def nothing_installed(spec: ModelSpec) -> bool:
    return not spec.folder.exists() and not status(spec).available


def test_facts_come_first_and_nothing_without_consent(hub, run, spec, monkeypatch):
    code, said = run("--facts")
    assert code == 0
    for words in ("somebody/paper: 2 files", "licence: MIT; its text: " + hub.address, "blob/main/LICENSE.txt",
                  "ask them first", "somebody/base: 2 files", "GB are free there", "licence: Community"):  # fmt: skip
        assert words in said, words
    for answer in ("", "no\n", "y\n"):
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        code, said = run()
        assert code == 1 and "Nothing was fetched" in said
    assert hub.asked == [] and nothing_installed(spec) and not module.place(spec).exists()


def test_agreed_to_it_fetches_only_what_is_needed_and_adds_it(hub, run, spec, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("yes\n"))
    code, said = run("--progress-lines")
    assert code == 0, said
    shards = [f"vae/diffusion_pytorch_model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    assert sorted(path for path, _ in hub.asked) == ["ckpt/Paper.pth", "data/mean.npy", *shards]
    assert status(spec).available and not module.place(spec).exists()
    stored = load_file(spec.folder / "vae" / "diffusion_pytorch_model.safetensors")
    assert all((stored[key] == value).all() for key, value in weights(spec, "vae").items())
    shares = [float(line.split()[1]) for line in said.splitlines() if line.startswith("progress ")]
    assert shares == sorted(shares) and shares[-1] == 1
    hub.asked.clear()
    assert "nothing was fetched" in run("--yes")[1] and hub.asked == []


def test_what_is_there_does_not_come_again(hub, run, spec):
    """Not even what was taken from elsewhere, such as a GGUF file."""
    assert run("--yes", "--quiet", "--component", "vae")[0] == 0
    vae = spec.folder / "vae" / "diffusion_pytorch_model.safetensors"
    before = vae.stat().st_mtime_ns
    hub.asked.clear()
    assert "somebody/base" not in run("--facts")[1]
    assert run("--yes", "--quiet")[0] == 0 and status(spec).available
    assert {path for path, _ in hub.asked} == {"ckpt/Paper.pth", "data/mean.npy"} and vae.stat().st_mtime_ns == before
    # A part that has lost a file is made anew.
    (spec.folder / "tables" / "mean.npy").unlink()
    hub.asked.clear()
    assert run("--yes", "--quiet")[0] == 0 and status(spec).available
    assert [path for path, _ in hub.asked] == ["data/mean.npy"]


def test_a_cut_connection_goes_on_where_it_ended(hub, run, spec, monkeypatch):
    """Once by the library itself; and where it gives up, by the next run."""
    monkeypatch.setattr(file_download.constants, "DOWNLOAD_CHUNK_SIZE", 100)
    size = len(hub.repositories["somebody/paper"]["ckpt/Paper.pth"])
    hub.cut, hub.cuts = size // 2, 1
    assert run("--yes", "--component", "body", "--quiet")[0] == 0
    assert hub.asked == [("ckpt/Paper.pth", 0), ("ckpt/Paper.pth", size // 200 * 100)]
    shutil.rmtree(spec.folder)
    hub.asked.clear()
    hub.cut, hub.cuts = 300, 1
    dead = ConnectionError("away")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_download, "time", SimpleNamespace(sleep=lambda seconds: (_ for _ in ()).throw(dead)))
        code, said = run("--yes", "--quiet")
    assert code == 2 and "the connection to" in said and "goes on from there" in said and nothing_installed(spec)
    assert run("--yes", "--quiet")[0] == 0 and status(spec).available
    assert hub.asked[:2] == [("ckpt/Paper.pth", 0), ("ckpt/Paper.pth", 300)]


def test_no_hub_at_all(hub, run, spec, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    code, said = run("--yes")
    assert code == 2 and "the connection to http://127.0.0.1:9 failed" in said and nothing_installed(spec)


def test_a_full_disk_is_told_before_and_on_the_way(hub, run, spec, monkeypatch):
    usage = shutil.disk_usage(spec.folder.parent.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    code, said = run("--yes")
    assert code == 2 and "are needed and 0.00 GB are free; make room" in said and hub.asked == []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)

    def full(*arguments: object, **named: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_download, "http_get", full)
        code, said = run("--yes", "--quiet")
    assert code == 2 and "the disk is full; what has come stays" in said and nothing_installed(spec)
    assert run("--yes", "--quiet")[0] == 0


@pytest.mark.parametrize("path", ["ckpt/Paper.pth", "data/mean.npy"])
def test_a_changed_checksum(hub, run, spec, path):
    hub.wrong = {path}
    code, said = run("--yes", "--quiet")
    assert code == 2 and f"{path} arrived otherwise than its publisher has it" in said and nothing_installed(spec)
    assert not list(module.place(spec).rglob(f"{Path(path).name}*")), "nothing of it is left"
    hub.wrong = set()
    assert run("--yes", "--quiet")[0] == 0 and status(spec).available


def test_a_gated_repository(hub, run, spec, monkeypatch):
    hub.gated = {"somebody/base"}
    code, said = run("--facts")
    assert "somebody/base: 2 files" in said and "wants an account and consent first" in said
    code, said = run("--yes", "--quiet")
    assert code == 2 and f"accept its licence: do so at {hub.address}/somebody/base" in said and "hf auth login" in said
    assert nothing_installed(spec)
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    assert run("--yes", "--quiet")[0] == 0 and status(spec).available


def test_what_is_gone_is_told(hub, run, spec):
    kept = dict(hub.repositories)
    hub.repositories = {**kept, "somebody/base": {}}
    code, said = run("--yes")
    assert code == 2 and "somebody/base has no vae/diffusion_pytorch_model-00001-of-00002.safetensors any more" in said
    hub.repositories = {"somebody/base": kept["somebody/base"]}
    code, said = run("--yes")
    assert code == 2 and "somebody/paper is not there, or not for everybody" in said and nothing_installed(spec)
    assert "--component head2" in run("--yes", "--component", "head2")[1]


def test_a_stop_keeps_what_has_come(hub, run, spec, monkeypatch):
    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_is_right", stop)
        code, said = run("--yes", "--quiet")
    assert code == 130 and "goes on from there" in said and nothing_installed(spec)
    came = list(module.place(spec).rglob("*.part"))
    assert len(came) == 1 and came[0].stat().st_size > 0
    before = len(hub.asked)
    assert run("--yes", "--quiet")[0] == 0 and status(spec).available
    assert [path for path, _ in hub.asked].count("ckpt/Paper.pth") == 1 and before == 1
