"""Shared fixtures. Which half of the tests runs depends on which interpreter runs them."""

from __future__ import annotations

import atexit
import gc
import importlib
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from .fake_backend import FakeBackend, fake_backend

if TYPE_CHECKING:
    from .scene.job_scene import Bench

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"

HAS_BPY = importlib.util.find_spec("bpy") is not None
HAS_TORCH = importlib.util.find_spec("torch") is not None

BLENDER_TESTS = ("scene", "operators", "panels")
BACKEND_TESTS = (
    "batch", "server", "models", "raster", "control", "worlds", "training", "evaluation", "ablation", "media", "parity",
    "test_inspect.py", "catalogue/test_models.py", "tools/test_published_models.py",
)  # fmt: skip

# Blender 4.5 has the backend's Python, which runs what needs no bpy; Blender 5.2 runs it in a newer one.
ELSEWHERE = tuple(
    path.name for path in Path(__file__).parent.glob("*/") if path.name not in (*BLENDER_TESTS, "structure")
) if HAS_BPY and sys.version_info < (3, 12) else ()  # fmt: skip

# What only reads the tree, or starts the plain interpreter, is tested beside the backend.
ONCE = (
    "demo",
    "tools",
    *(f"structure/test_{name}.py" for name in ("architecture", "arrows", "deploy", "models", "packaging")),
)

collect_ignore = [
    *ELSEWHERE,
    *(ONCE if HAS_BPY else ()),
    *(() if HAS_BPY else BLENDER_TESTS),
    *(() if HAS_TORCH else BACKEND_TESTS),
    # With the package that reads them: pip install '.[gguf]'.
    *(() if HAS_TORCH and importlib.util.find_spec("gguf") is not None else ["models/gguf"]),
    # By make test-cluster, which installs it.
    *(() if HAS_TORCH and importlib.util.find_spec("ray") is not None else ["cluster"]),
    "gui",
]

_status: int | None = None


def pytest_sessionfinish(exitstatus: int) -> None:
    """Remember how the session ended, for ``_leave``."""
    global _status
    _status = int(exitstatus)


def _leave() -> None:
    """End a process with Blender in it at once: 4.5 may wait for ever, on its way out, for a thread of its own."""
    if _status is not None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(_status)


if HAS_BPY:
    atexit.register(_leave)  # first, and so last to be called

# Blender's preferences and the extension's own folder: never those of whoever runs the tests.
_BLENDER_USER = tempfile.mkdtemp(prefix="maquette-blender-")
os.environ["BLENDER_USER_RESOURCES"] = _BLENDER_USER
atexit.register(shutil.rmtree, _BLENDER_USER, ignore_errors=True)

# A loaded machine draws slowly, and that is no fault of a test.
settings.register_profile(
    "maquette", deadline=None, max_examples=40, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("maquette")


def _import_package_as_maquette() -> None:
    """Make ``import maquette`` work from the checkout when it is not installed (Blender's environment)."""
    if importlib.util.find_spec("maquette") is not None:
        return
    spec = importlib.util.spec_from_file_location(
        "maquette", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["maquette"] = module
    spec.loader.exec_module(module)


_import_package_as_maquette()


def pytest_collection_finish() -> None:
    """What is imported by now stays: looking through torch for garbage takes half a second each time."""
    gc.collect()
    gc.freeze()


def load_script(name: str) -> ModuleType:
    """A script of the checkout, by its path, as a module of its own."""
    path = ROOT / name
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def shared_data() -> Path:
    """The folder of real motions beside the checkout; skips where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real motions at {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session")
def _extension_parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the checkout under the extension's own id, as an extension repository does."""
    parent = tmp_path_factory.mktemp("extensions")
    os.symlink(ROOT, parent / "maquette", target_is_directory=True)
    return parent


@pytest.fixture
def addon(_extension_parent: Path) -> ModuleType:
    """The extension enabled as ``bl_ext.dev.maquette`` in a new, empty file."""
    import bpy

    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    repos = bpy.context.preferences.extensions.repos
    if not any(repo.module == "dev" for repo in repos):
        repos.new(name="Dev", module="dev", custom_directory=str(_extension_parent))
    name = "bl_ext.dev.maquette"
    if name not in bpy.context.preferences.addons:
        bpy.ops.preferences.addon_enable(module=name)
    return importlib.import_module(name)


@pytest.fixture
def backend() -> Iterator[FakeBackend]:
    """A backend of the tests."""
    with fake_backend() as made:
        yield made


@pytest.fixture
def bench(addon: ModuleType) -> Iterator[Bench]:
    """The add-on's modules and a scene that is captured in a moment."""
    from .scene.job_scene import Bench

    bench = Bench(addon)
    yield bench
    bench.jobs.close()
