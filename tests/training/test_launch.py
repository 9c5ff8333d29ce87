"""Two processes for real: the same weights in both, the mean of both gradients, and exact resuming."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from maquette.backend.training import launch
from maquette.backend.training.errors import TrainingError
from maquette.backend.training.launch import check_device, in_bfloat16, new_accelerator, processes, run_processes

from .toys import CONFIG, fail, forking

TOYS = Path(__file__).with_name("toys.py")
RANKS = (0, 1)


@pytest.fixture(scope="module")
def toys() -> Iterator[ModuleType]:
    """The toys under a name that the processes can import as well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TOYS.parent)
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        yield importlib.import_module("toys")
        del sys.modules["toys"]


@pytest.fixture(scope="module")
def spawned(toys: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes found that train, stop and go on; and train at length until SIGTERM reaches this one alone."""
    folder = tmp_path_factory.mktemp("spawned")
    ended = threading.Event()

    def terminate() -> None:
        while not (folder / "begun").exists():
            if ended.wait(0.05):
                return
        os.kill(os.getpid(), signal.SIGTERM)

    unheard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: unheard.append(number))
    watch = threading.Thread(target=terminate)
    watch.start()
    try:
        done = run_processes(toys.in_turn, folder, 2)
    finally:
        ended.set()
        watch.join()
        signal.signal(signal.SIGTERM, before)
    assert not done and not unheard
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


def test_sigterm_ends_the_step_and_keeps_it(spawned: Path) -> None:
    """Sent to the command alone, as a queue of jobs does; it passes it on."""
    assert 3 <= torch.load(spawned / "slow.ckpt", weights_only=True)["step"] < CONFIG.steps * 200


def test_torchrun_does_the_same(spawned: Path, tmp_path: Path) -> None:
    command = ["-m", "torch.distributed.run", "--nproc-per-node", "2", str(TOYS), str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    found = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, timeout=300)
    # Two processes write to one pipe: their words may run together.
    assert found.stdout.count("done") == 2, found.stderr
    for rank in RANKS:
        ours, theirs = (torch.load(folder / f"gradients_rank{rank}.pt") for folder in (spawned, tmp_path))
        assert ours["spawned"] and not theirs["spawned"]
        torch.testing.assert_close(theirs["mean"], ours["mean"], rtol=0, atol=0)


def test_what_one_process_raises_ends_all_with_its_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    forking(monkeypatch)
    with pytest.raises(TrainingError, match="^the second process lacks its shots$"):
        run_processes(fail, tmp_path, 2)


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
