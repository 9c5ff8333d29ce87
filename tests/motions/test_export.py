"""What is written comes back: a body's motion as BVH and as AMASS .npz."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from maquette.backend.motions import BodyMotion, load_motion
from maquette.backend.motions.export import WRITERS


@pytest.mark.parametrize("ending", sorted(WRITERS))
def test_the_same_joints_come_back(tmp_path: Path, walk: BodyMotion, body, ending: str) -> None:
    path = tmp_path / f"walk{ending}"
    motion = replace(walk, fps=30000 / 1001)
    WRITERS[ending](path, motion, body)
    back = load_motion(path, body=body)
    assert back.fps == pytest.approx(motion.fps, rel=1e-9) and back.frames == motion.frames
    got, want = (body.pose(None, m.poses, m.trans, subset=np.arange(1)).joints[:, :22] for m in (back, motion))
    np.testing.assert_allclose(got - got[:, :1], want - want[:, :1], atol=1e-3)
    # Heights: what is read is put on the floor again, which the walk stands on within millimetres.
    np.testing.assert_allclose(got, want, atol=6e-3)
