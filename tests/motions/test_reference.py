"""The same motion through any skeleton gives the same body: whatever its zero pose, names, units and axes."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from maquette.backend.bodies import embedded
from maquette.backend.bodies.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from maquette.backend.motions import generate_walk
from maquette.backend.motions.kinematics import JOINT, nearest_rotation, place, swing, to_global
from maquette.backend.motions.retarget import Retarget, retarget
from maquette.backend.motions.skeletons import map_skeleton
from maquette.backend.motions.upright import AXES, turn_to_z
from maquette.backend.motions.zero_pose import is_person
from maquette.backend.shot.types import SMPL_JOINT_NAMES, SMPL_PARENTS

from .writers import SIDES, WORDS, framed_clip, named, with_joint, without_joints

BODY = embedded()
WALK = generate_walk(1.2, 25, body=BODY, radius=1.5, seed=2)
REST = BODY.joints_rest().astype(float)
TURNS = to_global(axis_angle_to_matrix(WALK.poses.astype(float)))
PLACES = place(TURNS, REST, WALK.trans)

_SIGNED = [np.eye(3)[list(order)] * signs for order in permutations(range(3)) for signs in product((-1, 1), repeat=3)]
QUARTERS = np.array([turn for turn in _SIGNED if np.linalg.det(turn) > 0])


TRUNK = (JOINT["spine1"], JOINT["spine2"], JOINT["spine3"], JOINT["left_collar"], JOINT["right_collar"])
TOES = tuple(JOINT[f"{side}_{end}"] for side in ("left", "right") for end in ("foot", "hand"))
FEWER: dict[str, tuple[tuple[int, ...], int | None, float]] = {
    "toes and hands": (TOES, None, 0.01),
    "two spine joints": (TRUNK[:2], None, 0.01),
    "collars": (TRUNK[3:], None, 0.012),
    "neck": ((JOINT["neck"],), None, 0.032),
    "trunk, arms on the neck": (TRUNK, JOINT["neck"], 0.03),
    "trunk, arms on the hips": (TRUNK, JOINT["pelvis"], 0.04),
}
"""Joints left out, what arms hang on then, and metres that others may be off: a trunk's shape is not known entirely."""

POSED = {
    "feet": {"left_ankle": (1, 0, 0), "right_ankle": (1, 0, 0)},
    "collars": {"left_collar": (0, 0, 1), "right_collar": (0, 0, -1)},
    "neck": {"neck": (1, 0, 0)},
    "arms": {"left_shoulder": (0, 0, -1), "right_shoulder": (0, 0, 1)},
    "trunk": {"spine1": (0.5, 0, 0), "spine2": (0.5, 0, 0)},
}
"""Turns by which a zero pose is almost a neutral person."""


def along(axis: np.ndarray) -> np.ndarray:
    """(24,3,3) axes of a skeleton in which each bone lies along ``axis`` of its joint."""
    out = np.empty((24, 3, 3))
    for j in range(24):
        children = [k for k in range(24) if SMPL_PARENTS[k] == j]
        bone = REST[children[-1]] - REST[j] if children else REST[j] - REST[SMPL_PARENTS[j]]
        bone = REST[3] if j == 0 else REST[12] - REST[9] if j == 9 else bone
        out[j] = swing(axis, bone)
    return out


def off(result: Retarget) -> tuple[float, np.ndarray]:
    """Farthest joint in metres, hands apart, and mean turns (24,) in degrees off the walk."""
    got = to_global(axis_angle_to_matrix(result.poses))
    places = place(got, REST, result.trans)
    gaps = np.linalg.norm((places - places[:, :1]) - (PLACES - PLACES[:, :1]), axis=-1)[:, :22]
    return float(gaps.max()), np.degrees(
        np.linalg.norm(matrix_to_axis_angle(np.swapaxes(TURNS, 2, 3) @ got), axis=-1).mean(0)
    )


@settings(max_examples=18)
@given(
    seed=st.integers(0, 2**31),
    words=st.sampled_from(sorted(WORDS)),
    sides=st.sampled_from(sorted(SIDES)),
    prefix=st.sampled_from(["", "mixamorig:", "Actor1_", "CC_Base_", "Bip001 "]),
    scale=st.sampled_from([1.0, 100.0, 39.37, 1000.0, 7.3]),
    axis=st.sampled_from(AXES),
    kind=st.sampled_from(["random", "quarter", "along", "person"]),
)
def test_any_skeleton_gives_the_same_body(seed, words, sides, prefix, scale, axis, kind) -> None:
    rng = np.random.default_rng(seed)
    if kind == "random":
        axes = nearest_rotation(rng.normal(size=(24, 3, 3)))
    elif kind == "quarter":
        axes = QUARTERS[rng.integers(0, 24, 24)]
    elif kind == "along":
        axes = along(np.eye(3)[rng.integers(3)] * rng.choice([-1, 1]))
    else:
        axes = np.broadcast_to(nearest_rotation(rng.normal(size=(3, 3))), (24, 3, 3))
    clip = framed_clip(BODY, WALK, named(words, sides, prefix), axes, scale=scale, turn=turn_to_z(axis).T)
    result = retarget(clip, BODY, up=axis)
    gap, turns = off(result)
    assert gap < 0.01
    assert turns[: JOINT["left_hand"]].max() < 15
    assert max(angles.max() for angles in result.errors.values()) < 3
    assert is_person(map_skeleton(clip), clip.zero_pose()) == (kind == "person")


@pytest.mark.parametrize("fewer", FEWER)
@pytest.mark.parametrize("kind", ["person", "random"])
def test_fewer_joints_give_the_same_body(fewer, kind) -> None:
    drop, arms_on, most = FEWER[fewer]
    axes = np.broadcast_to(np.eye(3), (24, 3, 3))
    if kind == "random":
        axes = nearest_rotation(np.random.default_rng(3).normal(size=(24, 3, 3)))
    clip = without_joints(framed_clip(BODY, WALK, named("mixamo", "Left"), axes), drop, arms_on)
    result = retarget(clip, BODY)
    places = place(to_global(axis_angle_to_matrix(result.poses)), REST, result.trans)
    gaps = np.linalg.norm((places - places[:, :1]) - (PLACES - PLACES[:, :1]), axis=-1)
    assert np.delete(gaps, [*drop, *TOES], axis=1).max() < most


@settings(max_examples=12)
@given(part=st.sampled_from(sorted(POSED)), degrees=st.floats(-45, 45), seed=st.integers(0, 2**31))
def test_an_almost_neutral_zero_pose_gives_the_same_body(part, degrees, seed) -> None:
    """Feet pointed, shoulders shrugged, the trunk bent: in the zero pose alone, or in no frame at all."""
    if (part == "trunk" and abs(degrees) < 28) or (part == "collars" and abs(degrees) < 18):
        degrees *= 0.35  # within what a build explains
    local = np.broadcast_to(np.eye(3), (1, 24, 3, 3)).copy()
    for name, axis in POSED[part].items():
        local[0, JOINT[name]] = axis_angle_to_matrix(np.radians(degrees) * np.array(axis))
    whole = nearest_rotation(np.random.default_rng(seed).normal(size=(3, 3)))
    axes = np.swapaxes(to_global(local)[0], 1, 2) @ whole
    result = retarget(framed_clip(BODY, WALK, named("mixamo", "Left"), axes), BODY)
    assert off(result)[0] < (0.02 if part == "trunk" else 0.013)
    assert max(angles.max() for angles in result.errors.values()) < 8


@pytest.mark.parametrize("fold", [("left_elbow", "right_elbow"), ("left_knee", "right_knee"), ("left_shoulder",)])
def test_a_folded_zero_pose_is_no_person(fold) -> None:
    axes = np.broadcast_to(np.eye(3), (24, 3, 3)).copy()
    for name in fold:
        turn = axis_angle_to_matrix(np.array([0, 0, 2.4]) if "knee" not in name else np.array([2.4, 0, 0]))
        for j in range(24):
            line = [j]
            while line[-1] > 0:
                line.append(SMPL_PARENTS[line[-1]])
            if JOINT[name] in line:
                axes[j] = turn @ axes[j]
    clip = framed_clip(BODY, WALK, named("mixamo", "Left"), np.swapaxes(axes, 1, 2))
    assert not is_person(map_skeleton(clip), clip.zero_pose())
    assert off(retarget(clip, BODY))[0] < 0.01


def test_one_standing_frame_is_enough() -> None:
    clip = framed_clip(BODY, WALK, named("mixamo", "Left"), along(np.array([1.0, 0, 0])))
    one = type(clip)(**{**vars(clip), "rotations": clip.rotations[:1], "translations": clip.translations[:1]})
    result = retarget(one, BODY)
    places = place(to_global(axis_angle_to_matrix(result.poses)), REST, result.trans)
    assert np.linalg.norm((places - places[:, :1]) - (PLACES - PLACES[:, :1])[:1], axis=-1)[:, :22].max() < 0.01


@pytest.mark.parametrize("kind", ["person", "random"])
@pytest.mark.parametrize(("words", "sides"), [("mixamo", "Left"), ("nonsense", "none"), ("daz", "lThigh")])
def test_more_joints_than_the_body_s_change_nothing(words: str, sides: str, kind: str) -> None:
    axes = np.broadcast_to(np.eye(3), (24, 3, 3))
    if kind == "random":
        axes = nearest_rotation(np.random.default_rng(5).normal(size=(24, 3, 3)))
    names = dict(zip(SMPL_JOINT_NAMES, named(words, sides), strict=True))
    clip = framed_clip(BODY, WALK, list(names.values()), axes)
    for above, below in (("spine1", "spine2"), ("spine2", "spine3"), ("spine3", "neck"), ("neck", "head")):
        clip = with_joint(clip, f"x{below}", names[above], names[below])
    for side in ("left", "right"):
        for above, below in (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist")):
            upper, lower = names[f"{side}_{above}"], names[f"{side}_{below}"]
            clip = with_joint(clip, f"{upper}Roll", upper, lower)
        clip = with_joint(clip, f"{side}Eye", names["head"])
        clip = with_joint(clip, f"{side}Thumb", names[f"{side}_wrist"])
    clip = with_joint(clip, "Root", "", names["pelvis"])
    result = retarget(clip, BODY)
    gap, turns = off(result)
    assert gap < 0.01
    assert turns[: JOINT["left_hand"]].max() < 15


@pytest.mark.parametrize("kind", ["stiff knees", "props"])
def test_stiff_limbs_and_still_props_without_names(kind: str) -> None:
    clip = framed_clip(BODY, WALK, named("nonsense", "none"), np.broadcast_to(np.eye(3), (24, 3, 3)))
    wanted = retarget(clip, BODY)
    if kind == "props":
        wings = [("d", "A", -40), ("d", "B", 40), ("f", "A", -12), ("f", "B", 12), ("o", "B", 50)]  # hair, a prop
        for holder, side, size in wings:
            above = holder + (side if holder == "o" else "")
            for k in range(4):
                name = f"{holder}{side}{k}"
                clip = with_joint(clip, name, above)
                clip.translations[:, clip.names.index(name)] = clip.offsets[clip.names.index(name)] = (size, 5, -9)
                above = name
    else:
        turns, offsets = clip.rotations.copy(), clip.translations.copy()
        for side in ("left", "right"):
            knee, ankle = JOINT[f"{side}_knee"], JOINT[f"{side}_ankle"]
            turns[:, knee] = np.eye(3)
            offsets[:, ankle] = 0.9 * offsets[:, knee]
        clip = replace(clip, rotations=turns, offsets=offsets[0], translations=offsets)
        wanted = retarget(replace(clip, names=tuple(named("mixamo", "Left"))), BODY)
    np.testing.assert_allclose(retarget(clip, BODY).poses[:, :22], wanted.poses[:, :22], atol=0.01)


@pytest.mark.parametrize("kind", ["person", "random"])
@pytest.mark.parametrize("last", ["wrist", "ankle"])
def test_a_limb_may_end_in_an_end_site(last: str, kind: str) -> None:
    axes = np.broadcast_to(np.eye(3), (24, 3, 3))
    if kind == "random":
        axes = nearest_rotation(np.random.default_rng(7).normal(size=(24, 3, 3)))
    clip = framed_clip(BODY, WALK, named("mixamo", "Left"), axes)
    ends = [JOINT[f"{side}_{last}"] for side in ("left", "right")]
    beyond = [j for j in range(24) if SMPL_PARENTS[j] in ends]
    keep = [j for j in range(24) if j not in (*ends, *beyond)]
    holders = [keep.index(SMPL_PARENTS[j]) for j in ends]
    cut = replace(clip.part(keep), sites=clip.offsets[ends], site_parents=np.array(holders))
    got = retarget(cut, BODY)
    places = place(to_global(axis_angle_to_matrix(got.poses)), REST, got.trans)
    gaps = np.linalg.norm((places - places[:, :1]) - (PLACES - PLACES[:, :1]), axis=-1)[:, :22]
    assert np.delete(gaps, beyond[:2] if last == "ankle" else [], axis=1).max() < 0.01


@pytest.mark.parametrize("kind", ["person", "random"])
def test_a_ball_under_the_ankle_is_not_where_the_foot_points(kind: str) -> None:
    axes = np.broadcast_to(np.eye(3), (24, 3, 3)).copy()
    if kind == "random":
        axes = nearest_rotation(np.random.default_rng(7).normal(size=(24, 3, 3)))
    clip = framed_clip(BODY, WALK, named("mixamo", "Left"), axes)
    balls, offsets, sites = [JOINT["left_foot"], JOINT["right_foot"]], clip.translations.copy(), []
    for ball in balls:
        ankle = SMPL_PARENTS[ball]
        turn = axes[ball].T @ axes[ankle]
        sites.append(turn @ (clip.offsets[ball] + axes[ankle].T @ (0, 3.0, 0)))
        offsets[:, ball] = axes[ankle].T @ (0, -3.0, 0)
        clip.rotations[:, ball] = axes[ankle].T @ axes[ball]
    got = retarget(
        replace(clip, offsets=offsets[0], translations=offsets, sites=np.array(sites), site_parents=np.array(balls)),
        BODY,
    )
    places = place(to_global(axis_angle_to_matrix(got.poses)), REST, got.trans)
    gaps = np.linalg.norm((places - places[:, :1]) - (PLACES - PLACES[:, :1]), axis=-1)[:, :22]
    assert gaps.max() < 0.02


def test_a_pelvis_beside_the_spine() -> None:
    clip = framed_clip(BODY, WALK, named("mixamo", "Left"), np.broadcast_to(np.eye(3), (24, 3, 3)))
    clip = with_joint(clip, "Waist", "Hips", "Spine", part=0.0)
    clip = with_joint(clip, "Pelvis", "Hips", "LeftUpLeg", part=0.0)
    parents = clip.parents.copy()
    parents[clip.names.index("RightUpLeg")] = clip.names.index("Pelvis")
    # Parents come first.
    order = sorted(range(len(parents)), key=lambda j: clip.names[j] not in ("Hips", "Pelvis"))
    parents = np.array([order.index(parents[j]) if parents[j] >= 0 else -1 for j in order])
    beside = replace(clip.part(order), parents=parents)
    assert off(retarget(beside, BODY))[0] < 0.01
