"""Two processes for real: the same weights in both, the mean of both gradients, and exact resuming."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from maquette.backend.training import launch
from maquette.backend.training.errors import TrainingError
from maquette.backend.training.launch import check_device, in_bfloat16, new_accelerator, processes

from .toys import CONFIG

TOYS = Path(__file__).with_name("toys.py")
RANKS = (0, 1)


def program(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def spawned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spawned")
    found = program(str(TOYS), "both", str(folder))
    assert found.stdout.strip() == "done", found.stderr
    return folder


def test_gradients_are_the_mean_of_both_processes(spawned: Path) -> None:
    one, two = (torch.load(spawned / f"gradients_rank{rank}.pt") for rank in RANKS)
    assert not torch.equal(one["own"][0], two["own"][0])
    for found in (one["mean"], two["mean"]):
        torch.testing.assert_close(found[0], (one["own"][0] + two["own"][0]) / 2, rtol=0, atol=0)
        # The first process did not use the second parameter, and none the third.
        assert one["own"][1] is None
        torch.testing.assert_close(found[1], two["own"][1] / 2, rtol=0, atol=0)
        assert found[2] is None


def test_both_processes_end_with_the_same_weights(spawned: Path) -> None:
    one, two = (torch.load(spawned / f"whole_rank{rank}.pt") for rank in RANKS)
    assert one.keys() == two.keys() and len(one) > 20
    for name, value in one.items():
        assert torch.equal(value, two[name]), name


def test_two_processes_resume_exactly(spawned: Path) -> None:
    for rank in RANKS:
        whole, part = (torch.load(spawned / f"{name}_rank{rank}.pt") for name in ("whole", "part"))
        for name, value in whole.items():
            assert torch.equal(value, part[name]), name


def test_torchrun_does_the_same(spawned: Path, tmp_path: Path) -> None:
    found = program("-m", "torch.distributed.run", "--nproc-per-node", "2", str(TOYS), "both", str(tmp_path))
    # Two processes write to one pipe: their words may run together.
    assert found.stdout.count("done") == 2, found.stderr
    whole, theirs = (torch.load(folder / "whole_rank1.pt") for folder in (spawned, tmp_path))
    for name, value in whole.items():
        assert torch.equal(value, theirs[name]), name


def test_what_one_process_raises_ends_all_with_its_sentence(tmp_path: Path) -> None:
    found = program(str(TOYS), "fail", str(tmp_path))
    assert found.returncode == 1
    assert found.stderr.strip().splitlines()[-1].endswith("TrainingError: the second process lacks its shots")


@pytest.mark.parametrize("device", ["cuda:99", "tpu9", "meta"])
def test_a_device_that_is_not_there_is_named(device: str) -> None:
    with pytest.raises(TrainingError, match=f"--device {device}: "):
        check_device(device)


def test_processes_are_as_many_as_asked_for_or_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch.os, "cpu_count", lambda: 64)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert [processes("cpu", n) for n in (3, None)] == [3, 8]
    assert [processes("cuda", n) for n in (None, 2, 9)] == [4, 2, 4]
    assert processes("cuda:1", None) == 1
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "5")
    assert processes("cpu", 2) == 5


def test_automatic_precision_is_the_devices_own(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    for native, wanted in ((False, False), (True, True)):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda native=native: native, raising=False)
        assert in_bfloat16("auto", cpu) is wanted
        assert new_accelerator("cpu").mixed_precision == ("bf16" if wanted else "no")
        assert in_bfloat16("bf16", cpu)
        assert not in_bfloat16("no", cpu)
    assert in_bfloat16("auto", torch.device("cuda"))


def test_without_tensorboard_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("accelerate.utils.is_tensorboard_available", lambda: False)
    monkeypatch.setattr(launch, "_told", set())
    for _ in range(2):
        assert not new_accelerator("cpu", logs=tmp_path).log_with
    assert capsys.readouterr().err.count("TensorBoard is not installed") == 1


def test_sigterm_ends_the_step_and_keeps_it(tmp_path: Path) -> None:
    """Sent to the command alone, as a queue of jobs does; it passes it on."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(TOYS), "slow", str(tmp_path)]
    with (
        open(tmp_path / "said", "w") as said,
        subprocess.Popen(command, env=environment, stdout=said, stderr=said) as one,
    ):
        try:
            while one.poll() is None and not (tmp_path / "begun").exists():
                time.sleep(0.1)
            one.send_signal(signal.SIGTERM)
            one.wait(timeout=120)
        finally:
            one.kill()
    assert (tmp_path / "said").read_text().splitlines()[-1] == "stopped"
    assert 3 <= torch.load(tmp_path / "slow.ckpt", weights_only=True)["step"] < CONFIG.steps * 1000
