"""Small bodies in the layouts of the licensed model files, filled with random numbers."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from maquette.backend.shot.types import SMPL_PARENTS

VERTICES = 97
_FINGERS = [parent for root in range(0, 15, 3) for parent in (None, root, root + 1)]
# family -> joints before the hands, components of shape and expression
LAYOUTS = {"smpl": (24, 10), "smplh": (22, 16), "smplx": (25, 400), "smplx-old": (25, 20)}


def parents_of(family: str) -> list[int]:
    """Parents of the joints as the official files order them."""
    if family == "smpl":
        return list(SMPL_PARENTS)
    parents = list(SMPL_PARENTS[:22]) + ([15, 15, 15] if family == "smplx" else [])
    for wrist in (20, 21):
        first = len(parents)
        parents += [wrist if parent is None else first + parent for parent in _FINGERS]
    return parents


def make_arrays(layout: str, seed: int = 0, vertices: int = VERTICES) -> dict[str, np.ndarray]:
    """Arrays under the keys, and in the types, of the licensed files."""
    rng = np.random.default_rng(seed)
    family = layout.partition("-")[0]
    parents = parents_of(family)
    joints, shapes = len(parents), LAYOUTS[layout][1]
    weights = rng.random((vertices, joints)) ** 8
    regressor = rng.random((joints, vertices)) ** 8
    table = np.array([parents, range(joints)], np.int64).astype(np.uint32)  # the root's parent is 4294967295
    arrays = {
        "v_template": rng.normal(0, 0.5, (vertices, 3)),
        "f": rng.integers(0, vertices, (150, 3)).astype(np.uint32),
        "weights": weights / weights.sum(1, keepdims=True),
        "shapedirs": rng.normal(0, 0.02, (vertices, 3, shapes)),
        "posedirs": rng.normal(0, 0.01, (vertices, 3, 9 * (joints - 1))),
        "J_regressor": regressor / regressor.sum(1, keepdims=True),
        "kintree_table": table,
    }
    if family != "smpl":
        for side in "lr":
            arrays[f"hands_mean{side}"] = rng.normal(0, 0.3, 45)
            arrays[f"hands_components{side}"] = rng.normal(0, 0.3, (45, 45))
    if family == "smplx":
        arrays["lmk_faces_idx"] = rng.integers(0, 150, 51)
        arrays["lmk_bary_coords"] = np.full((51, 3), 1 / 3)
    return arrays


def write_body(path: Path, arrays: dict[str, Any]) -> Path:
    """Write arrays as .npz or .pkl, by the path's ending."""
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        path.write_bytes(pickle.dumps(arrays, protocol=2))
    return path


@pytest.fixture
def body_arrays() -> Callable[..., dict[str, np.ndarray]]:
    """``make_arrays``."""
    return make_arrays


@pytest.fixture
def body_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes a random body file: layout, ending, and arrays to replace (None takes one away)."""

    def write(layout: str = "smpl", suffix: str = ".npz", **changes: Any) -> Path:
        arrays: dict[str, Any] = {**make_arrays(layout), **changes}
        return write_body(
            tmp_path / f"{layout.upper()}_NEUTRAL{suffix}", {k: v for k, v in arrays.items() if v is not None}
        )

    return write
