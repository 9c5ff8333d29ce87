"""How the demo's end is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ..conftest import ROOT

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the demo runs from a Makefile")

CHILD = """
import os, signal, sys, time
log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
os.dup2(log, 2)
os.write(2, {words!r})
{act}
"""


def start(tmp_path: Path, act: str, words: str = "") -> tuple[subprocess.Popen[str], Path]:
    log, script = tmp_path / "blender.log", tmp_path / "child.py"
    script.write_text(CHILD.format(words=words.encode(), act=act))
    # What a shell starts in the background would not hear Ctrl-C.
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code += "from pathlib import Path; import run; "
    code += f"sys.exit(run.run([sys.executable, {str(script)!r}, {str(log)!r}], Path({str(log)!r})))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "demo")}
    # A group of its own: what Ctrl-C in a terminal reaches.
    return subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    ), log


def test_a_crash_is_told_with_its_cause_and_cure(tmp_path: Path):
    words = "Fra:1 Mem:1\ncould not get a list of mounted file-systems\n"
    words += "Couldn't open libEGL.so.1: libEGL.so.1: cannot open shared object file: No such file or directory\n"
    process, log = start(tmp_path, "os.abort()", words)
    err = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + signal.SIGABRT
    assert err.strip().splitlines() == [
        f"Blender crashed in the demo (SIGABRT). The last lines of {log}:",
        "    Couldn't open libEGL.so.1: libEGL.so.1: cannot open shared object file: No such file or directory",
        "Install the library named there; 'make setup' looks for those that are known.",
    ]
    assert "Fatal Python error: Aborted" in log.read_text()


def test_what_the_system_kills_is_told(tmp_path: Path):
    process, _ = start(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)")
    err = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + signal.SIGKILL and "SIGKILL" in err and "out of memory" in err


def test_an_end_in_order_says_nothing_more(tmp_path: Path):
    for code in (0, 1, 2):
        process, _ = start(tmp_path, f"sys.exit({code})", "libx.so: cannot open shared object file\n")
        assert process.communicate(timeout=60)[1] == "" and process.returncode == code


@pytest.mark.parametrize("how", ["terminal", "kill"])
def test_the_child_ends_in_order_when_it_is_stopped(tmp_path: Path, how: str):
    tidy = tmp_path / "tidy"
    act = f"signal.signal(signal.SIGTERM, signal.default_int_handler)\ntry:\n    open({str(tmp_path / 'up')!r}, 'w')\n"
    # In short turns: a signal that comes just before a sleep begins does not end it.
    act += f"    for _ in range(3000): time.sleep(0.02)\nfinally:\n    time.sleep(0.2)\n    open({str(tidy)!r}, 'w')"
    process, _ = start(tmp_path, act)
    while not (tmp_path / "up").exists():
        assert process.poll() is None
        time.sleep(0.01)
    if how == "terminal":
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.terminate()
    err = process.communicate(timeout=60)[1]
    assert tidy.exists() and "crashed" not in err and process.returncode == 128 + signal.SIGINT
