"""What this machine must have before anything is downloaded: the shared libraries that Blender loads.

    python3 tools/check_system.py [--need PACKAGE ...] [--only-look]

Standard library alone, for any Python 3.8: it runs before there is an environment. Installs what is missing by
apt-get as root, or by sudo where it asks for no password; otherwise names it all and exits with 1.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import shutil
import subprocess
import sys

LIBRARIES = {
    "libX11.so.6": "libx11-6",
    "libXext.so.6": "libxext6",
    "libXfixes.so.3": "libxfixes3",
    "libXi.so.6": "libxi6",
    "libXrender.so.1": "libxrender1",
    "libxkbcommon.so.0": "libxkbcommon0",
    "libICE.so.6": "libice6",
    "libSM.so.6": "libsm6",
    "libGL.so.1": "libgl1",
    # Not linked: Blender opens it at its first render, and aborts where it is not there.
    "libEGL.so.1": "libegl1",
}
"""What bpy 4.5 and 5.2 load beyond their wheels and the C and C++ runtimes, and the Debian package of each. The torch
environment brings all of its own."""


def missing_libraries() -> list[str]:
    """The names that the dynamic loader does not find."""
    missing = []
    for name in LIBRARIES:
        try:
            ctypes.CDLL(name)
        except OSError:
            missing.append(name)
    return missing


def apt_prefix() -> list[str] | None:
    """What goes before ``apt-get`` for it to install: nothing, sudo, or None where neither may."""
    if not shutil.which("apt-get"):
        return None
    if os.geteuid() == 0:
        return []
    sudo = shutil.which("sudo")
    if sudo and subprocess.run([sudo, "-n", "true"], stdin=subprocess.DEVNULL, capture_output=True).returncode == 0:
        return [sudo, "-n"]
    return None


def install(prefix: list[str], packages: list[str]) -> None:
    """Install packages; where that fails, apt-get says why."""
    quiet = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]
    # The lists of a new machine are empty; without a network those there are may do.
    subprocess.run([*quiet, "update"], stdin=subprocess.DEVNULL)
    command = [*quiet, "install", "-y", "--no-install-recommends", *packages]
    subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def main(arguments: list[str] | None = None) -> int:
    """Command line. Returns 0 when no library is missing, or none any more."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--need", nargs="*", default=[], metavar="PACKAGE", help="install these too")
    parser.add_argument("--only-look", action="store_true", help="install nothing")
    options = parser.parse_args(arguments)
    missing = [*options.need, *(missing_libraries() if sys.platform == "linux" else [])]
    if not missing:
        return 0
    packages = [LIBRARIES.get(name, name) for name in missing]
    prefix = None if options.only_look else apt_prefix()
    if prefix is not None:
        print(f"==> This machine lacks {', '.join(missing)}: apt-get installs {' '.join(packages)}", flush=True)
        install(prefix, packages)
        # A new process, as this one's loader has read its cache already.
        return subprocess.run([sys.executable, os.path.abspath(__file__), "--only-look"]).returncode
    cure = f"Run: sudo apt-get install {' '.join(packages)}" if shutil.which("apt-get") else "Install them"
    print(f"Maquette needs {', '.join(missing)}, which this machine lacks. {cure}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
