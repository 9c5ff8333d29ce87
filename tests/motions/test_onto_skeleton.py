"""A body's motion on a foreign skeleton."""

from __future__ import annotations

import numpy as np
import pytest
from maquette.backend.bodies import embedded
from maquette.backend.bodies.rotations import axis_angle_to_matrix
from maquette.backend.motions import BodyMotion, MotionError
from maquette.backend.motions.bvh import BvhClip
from maquette.backend.motions.kinematics import JOINT, place, to_global
from maquette.backend.motions.onto_skeleton import onto_skeleton
from maquette.backend.motions.types import FAMILY_JOINTS
from maquette.backend.shot.types import SMPL_PARENTS

BODY = embedded()
REST = BODY.smpl_joints(BODY.joints_rest(None)).astype(float)
UP = axis_angle_to_matrix(np.array([np.pi / 2, 0, 0]))


def skeleton(turn: np.ndarray, scale: float) -> BvhClip:
    """The body's own joints at rest, turned and scaled in a world of Z up."""
    places = scale * REST @ (turn @ UP).T
    parents = np.array(SMPL_PARENTS)
    offsets = places - np.where(parents[:, None] >= 0, places[parents], 0.0)
    still = np.broadcast_to(np.eye(3), (1, 24, 3, 3))
    return BvhClip(tuple(JOINT), parents, offsets, np.zeros((0, 3)), np.zeros(0, int), still, offsets[None], 0.0)


def motion(frames: int = 6) -> BodyMotion:
    random = np.random.default_rng(4)
    poses = np.zeros((frames, FAMILY_JOINTS[BODY.family], 3))
    poses[:, :22] = 0.5 * random.normal(size=(frames, 22, 3))
    poses[:, 0] = (np.pi / 2, 0, 0)
    return BodyMotion(24.0, poses, random.normal(size=(frames, 3)), family=BODY.family, body=BODY.id)


def test_a_turned_and_scaled_body_shows_the_same_figure_with_its_soles_as_high() -> None:
    made, scale = motion(), 0.4
    clip = skeleton(axis_angle_to_matrix(np.array([0.0, 0.0, 2.0])), scale)
    ground = clip.world()[1][0, :, 2].min()
    found = onto_skeleton(clip, made, BODY, ground)
    assert set(found.places) == {0}
    goal = to_global(axis_angle_to_matrix(made.poses[:, :24].astype(float)))
    wanted = scale * place(goal, REST, made.trans.astype(float))
    zero = clip.world()[1][0]
    at = dict(found.places)
    for joint, parent in enumerate(SMPL_PARENTS):
        if joint in found.turns and joint not in at:
            at[joint] = at[parent] + found.turns[parent] @ (zero[joint] - zero[parent])
    off = np.array([at[joint] - wanted[:, joint] for joint in found.turns])
    assert np.abs(off - off[0, 0]).max() < 1e-9 and np.abs(off[0, 0, :2]).max() < 1e-9
    # Its lowest joint lies on the ground; the body's skin reaches lower.
    assert -0.05 < off[0, 0, 2] < 0.0


def test_a_skeleton_that_does_not_rest_as_a_person_is_refused() -> None:
    clip = skeleton(np.eye(3), 1.0)
    bent = clip.offsets.copy()
    bent[JOINT["left_knee"]] = (0.0, -0.4, 0.1)
    sits = BvhClip(clip.names, clip.parents, bent, clip.sites, clip.site_parents, clip.rotations, bent[None], 0.0)
    with pytest.raises(MotionError, match="apply that as its rest pose"):
        onto_skeleton(sits, motion(), BODY, 0.0)
