"""Run the demo as a child, and tell how it ended: Blender runs inside it, and takes it along when it crashes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
LOG = HERE / "work" / "blender.log"

CURES = (
    ("cannot open shared object file", "Install the library named there; 'make setup' looks for those that are known."),
    ("No space left on device", "Make room on the disk, and run it again."),
)
"""What the log may say, and what helps."""

KILLED = "Most often the machine has run out of memory: close what else uses it, and run it again."
UNKNOWN = "Run it again; if it ends so every time, report it with the whole log."

_FATAL = "Fatal Python error"
_NOISE = ("could not get a list of mounted file-systems", "Fra:", "Saved:", "Time:", "Info:", "Read blend")
"""How lines begin that Blender writes when all is well."""

_ASKED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(command: Sequence[str], log: Path) -> int:
    """Run a command to its end; explain the end where a signal that nobody sent was its cause.

    Args:
        log: where the child's libraries write.

    Returns:
        The exit status for the shell: the child's, or 128 and the signal that ended it.
    """
    asked: list[int] = []
    # Ctrl-C reaches the child from the terminal, and this process waits until it has put things in order.
    signal.signal(signal.SIGINT, lambda *_: None)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda got, _: asked.append(got))
    # Python writes into the log where it was when Blender crashed.
    child = subprocess.Popen(command, env={**os.environ, "PYTHONFAULTHANDLER": "1"})
    # In short turns: a signal that comes just before a wait begins would not end it.
    while (code := child.poll()) is None:
        while asked:
            child.send_signal(asked.pop(0))
        time.sleep(0.05)
    if code < 0 and -code not in _ASKED:
        print(f"\n{explain(-code, log)}", file=sys.stderr)
    return code if code >= 0 else 128 - code


def explain(number: int, log: Path) -> str:
    """What happened, the last that the log says, and the cure."""
    name = signal.Signals(number).name
    words = last_words(log)
    text = "\n".join(words)
    killed = number == signal.SIGKILL
    cure = next((cure for what, cure in CURES if what in text), KILLED if killed else UNKNOWN)
    what = f"The demo was ended from outside ({name})" if killed else f"Blender crashed in the demo ({name})"
    shown = [f"{what}. The last lines of {log}:", *(f"    {line}" for line in words)] if words else [f"{what}."]
    return "\n".join([*shown, cure])


def last_words(log: Path, count: int = 5) -> list[str]:
    """The last lines that say something, and the place in the demo, of a log."""
    try:
        lines = [line.strip() for line in log.read_text("utf-8", "replace").splitlines()]
    except OSError:
        return []
    fatal = next((i for i, line in enumerate(lines) if line.startswith(_FATAL)), len(lines))
    words = [line for line in lines[:fatal] if line and not line.startswith(_NOISE)][-count:]
    return words + [line for line in lines[fatal:] if line.startswith("File") and str(HERE) in line][:1]


if __name__ == "__main__":
    sys.exit(run([sys.executable, str(HERE / "demo.py"), *sys.argv[1:]], LOG))
