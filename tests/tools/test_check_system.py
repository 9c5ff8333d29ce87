"""What set-up looks for before it downloads anything, and what it does about it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from ..conftest import ROOT, load_script

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the libraries are Linux's")

ABSENT = "libnobody-has-this.so.1"


@pytest.fixture
def check() -> ModuleType:
    return load_script("tools/check_system.py")


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Put scripts on a PATH that holds nothing else but the system's own tools that they need."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("env", "sh", "cat"):
        os.symlink(next(p for p in (f"/usr/bin/{tool}", f"/bin/{tool}") if os.path.exists(p)), folder / tool)
    monkeypatch.setenv("PATH", str(folder))

    def add(name: str, script: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)

    return add


def test_a_machine_that_has_everything_passes_at_once(check: ModuleType):
    # Blender's own tests run here, so its libraries are there.
    assert check.missing_libraries() == [] and check.main([]) == 0


def test_what_is_missing_is_named_in_one_line_with_the_command(check: ModuleType, commands, monkeypatch, capfd):
    commands("apt-get", "exit 1")
    commands("sudo", "exit 1")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setitem(check.LIBRARIES, ABSENT, "libnobody1")
    assert check.main(["--need", "python3.11-venv"]) == 1
    out, err = capfd.readouterr()
    assert out == "" and err.count("\n") == 1
    assert ABSENT in err and err.endswith("Run: sudo apt-get install python3.11-venv libnobody1\n")


def test_without_apt_the_libraries_are_named(check: ModuleType, commands, monkeypatch, capfd):
    monkeypatch.setitem(check.LIBRARIES, ABSENT, "libnobody1")
    assert check.main([]) == 1
    err = capfd.readouterr().err
    assert ABSENT in err and "apt" not in err


@pytest.mark.parametrize("who", ["root", "sudo"])
def test_what_may_be_installed_is_installed_after_saying_so(
    check: ModuleType, commands, tmp_path, monkeypatch, capfd, who
):
    log = tmp_path / "log"
    commands("apt-get", f'echo "$DEBIAN_FRONTEND apt-get $*" >> {log}')
    commands("sudo", f'echo "sudo $1" >> {log}; shift; [ "$1" = true ] || "$@"')
    monkeypatch.setattr(os, "geteuid", lambda: 0 if who == "root" else 1000)
    monkeypatch.setitem(check.LIBRARIES, ABSENT, "libnobody1")
    # The look afterwards is a new process, whose list has only real libraries: all are there.
    assert check.main([]) == 0
    assert re.search(rf"lacks {ABSENT}.* installs libnobody1", capfd.readouterr().out)
    lines = log.read_text().splitlines()
    assert [line for line in lines if "apt-get" in line] == [
        "noninteractive apt-get -qq update",
        "noninteractive apt-get -qq install -y --no-install-recommends libnobody1",
    ]
    assert ("sudo -n" in lines) == (who == "sudo")


def test_a_failed_installation_ends_with_the_command(commands, tmp_path):
    """As set-up runs it, with a library that no package brings."""
    commands("apt-get", "echo 'no network' >&2; exit 100")
    commands("sudo", 'shift; [ "$1" = true ] || "$@"')
    script = tmp_path / "check_system.py"
    text = (ROOT / "tools" / "check_system.py").read_text()
    script.write_text(text.replace('"libegl1",\n}', f'"libegl1",\n    "{ABSENT}": "libnobody1",\n}}'))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "no network" in done.stderr
    assert done.stderr.splitlines()[-1].endswith("Run: sudo apt-get install libnobody1")


def test_readme_and_setup_agree():
    """Set-up shows README's line where there is no Python that could look."""
    line = re.search(r"sudo apt install (.*)", (ROOT / "README.md").read_text())
    assert line is not None and {"libegl1", "libgl1", "python3", "python3-venv"} <= set(line[1].split())
    assert "sudo apt install .*' README.md" in (ROOT / "tools" / "setup.sh").read_text()
