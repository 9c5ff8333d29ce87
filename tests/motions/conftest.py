"""Ground truth for the motion tests: a generated walk, and writers of the file formats."""

from __future__ import annotations

import numpy as np
import pytest
from maquette.backend.bodies import BodyModel, embedded
from maquette.backend.motions import BodyMotion, generate_walk


@pytest.fixture(scope="session")
def body() -> BodyModel:
    return embedded()


@pytest.fixture(scope="session")
def walk(body: BodyModel) -> BodyMotion:
    """Two seconds at 30 fps along a small circle, so that no direction is special."""
    return generate_walk(2.0, 30, body=body, radius=1.2, seed=3)


@pytest.fixture(scope="session")
def walk_joints(walk: BodyMotion, body: BodyModel) -> np.ndarray:
    """(T,24,3) world positions of the walk."""
    return body.pose(None, walk.poses, walk.trans, subset=np.arange(1)).joints.astype(float)
