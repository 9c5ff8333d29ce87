"""``maquette body``: what a body file holds, and whether it is posed here as the smplx package poses it."""

from __future__ import annotations

import argparse
import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from .bodies import BodyModel, load_body

TOLERANCE = 1e-5
"""Metres by which our vertices and joints, of single precision, may differ from smplx's of double precision."""

_FRAMES = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``maquette body``."""
    parser.description = (
        "Read a body file of the SMPL family and print what it holds, as JSON. Where the smplx package is "
        "installed, random poses, shapes and expressions are posed by both; exit status 1 where they differ."
    )
    parser.add_argument("file", type=Path, help="an .npz or .pkl file of SMPL, SMPL-H or SMPL-X")
    parser.set_defaults(run=run_body)


def run_body(args: argparse.Namespace) -> int:
    """Run ``maquette body``. Returns 0, or 1 where smplx poses the body otherwise. Raises BodyError."""
    body = load_body(args.file)
    facts = summarize(body)
    apart = compare(body) if find_spec("smplx") else None
    if apart is not None:
        facts["millimetres_from_smplx"] = {name: round(1000 * value, 5) for name, value in apart.items()}
    print(json.dumps(facts, indent=2))
    if apart is None:
        print("Not compared with smplx, which is not installed: pip install 'maquette[smplx]'", file=sys.stderr)
    elif max(apart.values()) > TOLERANCE:
        print("maquette: smplx poses this body otherwise; please report the file's origin", file=sys.stderr)
        return 1
    return 0


def summarize(body: BodyModel) -> dict[str, Any]:
    """Facts of a body; everything is a plain JSON value."""
    return {
        "id": body.id,
        "family": body.family,
        "vertices": len(body.v_template),
        "triangles": len(body.faces),
        "joints": len(body.parents),
        "shapes": body.shapedirs.shape[2],
        "expressions": 0 if body.expressiondirs is None else body.expressiondirs.shape[2],
        "pose_correctives": body.posedirs is not None,
        "hands_mean": body.hands_mean is not None,
        "landmarks": body.landmarks is not None,
    }


def compare(body: BodyModel, seed: int = 0) -> dict[str, float]:
    """Largest distance in metres of our ``vertices`` and ``joints`` from smplx's, over random poses, one shape and one
    expression.

    Raises:
        ModuleNotFoundError: smplx is not installed.
    """
    import torch
    from smplx.lbs import lbs

    rng = np.random.default_rng(seed)
    poses, trans = rng.normal(0, 0.7, (_FRAMES, len(body.parents), 3)), rng.normal(0, 1, (_FRAMES, 3))
    betas = rng.normal(0, 1.5, body.shapedirs.shape[2])
    directions, coefficients, expression = body.shapedirs, betas, None
    if body.expressiondirs is not None:
        expression = rng.normal(0, 1.5, body.expressiondirs.shape[2])
        directions = np.concatenate([directions, body.expressiondirs], axis=2)
        coefficients = np.concatenate([betas, expression])
    correctives = np.zeros((*body.v_template.shape, 9 * (len(body.parents) - 1)))
    if body.posedirs is not None:
        correctives = body.posedirs

    def tensor(array: np.ndarray, dtype: torch.dtype = torch.float64) -> Any:
        return torch.tensor(array, dtype=dtype)

    vertices, joints = lbs(
        tensor(coefficients).expand(_FRAMES, -1),
        tensor(poses.reshape(_FRAMES, -1)),
        tensor(body.v_template).expand(_FRAMES, -1, -1),
        tensor(directions),
        tensor(correctives.reshape(-1, correctives.shape[-1]).T),
        tensor(body.J_regressor),
        tensor(body.parents, torch.long),
        tensor(body.weights),
    )
    ours = body.pose(betas, poses, trans, expression)
    return {
        name: float(np.linalg.norm(mine - (theirs.numpy() + trans[:, None]), axis=-1).max())
        for name, mine, theirs in (("vertices", ours.vertices, vertices), ("joints", ours.joints, joints))
    }
