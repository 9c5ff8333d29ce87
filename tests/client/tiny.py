"""A package called maquette that installs offline in a moment; its server knows health and models alone."""

from __future__ import annotations

from pathlib import Path

_PYPROJECT = """
[build-system]
requires = []
build-backend = "tiny_build"
backend-path = ["."]

[project]
name = "maquette"
version = "{version}"
"""

_BUILD = """
import os, time, zipfile

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    here = os.path.dirname(os.path.abspath(__file__))
    open(os.environ["TINY_MARK"], "a").close()
    while os.path.exists(os.environ["TINY_MARK"] + ".hold"):
        time.sleep(0.05)
    if os.path.exists(os.environ["TINY_MARK"] + ".fail"):
        raise SystemExit("ERROR: the tiny package cannot be built")
    name = "maquette-{version}-py3-none-any.whl"
    info = "maquette-{version}.dist-info/"
    with zipfile.ZipFile(os.path.join(wheel_directory, name), "w") as wheel:
        wheel.writestr("maquette/__init__.py", "")
        wheel.writestr("maquette/backend/__init__.py", "")
        wheel.write(os.path.join(here, "tiny_cli.py"), "maquette/backend/cli.py")
        head = "Metadata-Version: 2.1\\nName: maquette\\nVersion: {version}\\nProvides-Extra: backend\\n"
        wheel.writestr(info + "METADATA", head)
        tag = "Wheel-Version: 1.0\\nGenerator: tiny\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
        wheel.writestr(info + "WHEEL", tag)
        wheel.writestr(info + "RECORD", "")
    return name
"""

_CLI = """
import argparse, json, os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

parser = argparse.ArgumentParser()
parser.add_argument("command")
for name in ("host", "port", "data", "info-file", "users", "log-file"):
    parser.add_argument("--" + name)
parser.add_argument("--die", action="store_true")
args = parser.parse_args()
print("tiny server begins", flush=True)
if args.die:
    sys.exit("no GPU driver was found")

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        right = self.headers.get("Authorization") == "Bearer " + os.environ["MAQUETTE_TOKEN"]
        if self.path == "/v1/health":
            status, data = 200, {"name": "maquette", "wire": 1, "version": "tiny"}
        elif right:
            status, data = 200, {"data": []}
        else:
            status, data = 401, {"error": {"code": "unauthorized", "message": "No."}}
        body = json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

server = HTTPServer((args.host, int(args.port)), Handler)
info = {"address": "http://%s:%d" % server.server_address, "pid": os.getpid()}
with open(args.info_file + ".new", "w") as stream:
    json.dump(info, stream)
os.replace(args.info_file + ".new", args.info_file)
server.serve_forever()
"""


def write_source(folder: Path, version: str = "0.0.1") -> Path:
    """The package's source, as an extension's folder holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text(_PYPROJECT.format(version=version))
    (folder / "tiny_build.py").write_text(_BUILD.replace("{version}", version))
    (folder / "tiny_cli.py").write_text(_CLI)
    (folder / "tests").mkdir(exist_ok=True)
    (folder / "tests" / "not_needed.py").write_text("")
    return folder
