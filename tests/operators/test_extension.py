"""The extension as people get it: built into a zip by Blender's own tool, installed from there, and enabled."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import bpy
import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOL = Path(bpy.utils.resource_path("LOCAL")) / "scripts" / "addons_core" / "bl_pkg" / "cli" / "blender_ext.py"

_INSTALL = """
import glob, os, sys
import bpy
bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
bpy.ops.extensions.package_install_files(filepath=sys.argv[-1], repo="user_default", enable_on_install=True)
assert "bl_ext.user_default.maquette" in bpy.context.preferences.addons.keys()
wheels = os.path.join(os.environ["BLENDER_USER_RESOURCES"], "extensions", ".local", "lib", "*", "site-packages")
assert glob.glob(os.path.join(wheels, "trimesh", "__init__.py"))
bpy.ops.maquette.add_body()
from bl_ext.user_default.maquette.scene import folders
from bl_ext.user_default.maquette.scene.job import backends
assert backends.local().source.joinpath("pyproject.toml").is_file()
assert backends.local().poll().state == "absent"
assert folders.user_folder().is_dir()
bpy.ops.preferences.addon_disable(module="bl_ext.user_default.maquette")
print("installed")
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    wheels = [line for line in (ROOT / "blender_manifest.toml").read_text("utf-8").splitlines() if "wheels = " in line]
    wheel = ROOT / wheels[0].split('"')[1]
    if not wheel.is_file():
        pytest.skip(f"{wheel.name} has not been fetched; 'make setup' does it")
    folder = tmp_path_factory.mktemp("package")
    command = [sys.executable, str(TOOL), "build", "--source-dir", str(ROOT), "--output-dir", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (made,) = folder.glob("*.zip")
    return made


def test_the_manifest_is_valid() -> None:
    done = subprocess.run(
        [sys.executable, str(TOOL), "validate", str(ROOT)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in (done.stdout + done.stderr).lower()


def test_the_zip_holds_what_is_needed_and_nothing_else(package: Path) -> None:
    with zipfile.ZipFile(package) as archive:
        names = set(archive.namelist())
    needed = {
        "__init__.py", "blender_manifest.toml", "pyproject.toml", "setup.py", "LICENSE", "README.md", "backend/cli.py",
        "backend/server/serve.py", "backend/client/worker.py", "backend/client/start.py", "backend/wire.py",
        "presets/bodies/maquette_neutral.npz", "presets/models/isa-nano.toml", "panels/shot.py",
        "scene/job/backends.py", "backend/evaluation/report.md.jinja",
    }  # fmt: skip
    assert needed <= names
    weights = {str(path.relative_to(ROOT).as_posix()) for path in (ROOT / "presets" / "models").rglob("*.safetensors")}
    assert weights <= names
    tops = {name.split("/")[0] for name in names}
    assert not tops & {"tests", "docs", "bench", "demo", "runs", "dist", "tools", "build", "Makefile"}
    assert not [name for name in names if "__pycache__" in name or name.startswith(".") or ".egg-info" in name]


def test_it_installs_and_enables(package: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "BLENDER_USER_RESOURCES": str(tmp_path / "user")}
    done = subprocess.run(
        [sys.executable, "-c", _INSTALL, str(package)],
        capture_output=True, text=True, env=environment, timeout=300, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert "installed" in done.stdout and done.returncode == 0, done.stdout + done.stderr
