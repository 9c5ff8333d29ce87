"""The container file and the systemd unit call the command line as it is."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import shutil
import subprocess

import pytest

from ..conftest import HAS_TORCH, ROOT


def commands() -> list[list[str]]:
    """The arguments of ``maquette`` in the files of deploy/."""
    unit = (ROOT / "deploy" / "maquette.service").read_text("utf-8")
    container = (ROOT / "deploy" / "Containerfile").read_text("utf-8")
    found = [shlex.split(line)[1:] for line in re.findall(r"^ExecStart=(.*)", unit, re.MULTILINE)]
    found += [json.loads(line)[1:] for line in re.findall(r"^CMD (.*)", container, re.MULTILINE)]
    return found


@pytest.mark.skipif(not HAS_TORCH, reason="needs the backend")
def test_they_start_a_server_that_asks_for_a_token():
    from maquette.backend.server.serve import add_arguments

    parser = argparse.ArgumentParser()
    add_arguments(parser)
    given = [parser.parse_args(rest) for name, *rest in commands() if name == "serve"]
    assert len(given) == 2
    for args in given:
        assert args.token_file and args.data and not args.insecure


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd here")
def test_systemd_reads_the_unit():
    command = ["systemd-analyze", "verify", str(ROOT / "deploy" / "maquette.service")]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60).stderr
    assert not [line for line in said.splitlines() if "maquette.service" in line and "is not executable" not in line]
