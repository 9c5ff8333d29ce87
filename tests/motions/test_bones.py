"""Skeletons that nothing explains: guesses, mirrored joints, and a choice that the next file finds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from maquette.backend.bodies import embedded
from maquette.backend.bodies.rotations import axis_angle_to_matrix
from maquette.backend.catalogue.reader import CatalogueError
from maquette.backend.catalogue.rig import write_scheme
from maquette.backend.motions import MotionError, generate_walk, load_motion, naming
from maquette.backend.motions.bones import PARTS, faults_of, guess_parts, mirror_joints, scheme_of
from maquette.backend.motions.bvh import BvhClip, parse_bvh
from maquette.backend.motions.kinematics import SMPL_PARENTS, place, to_global
from maquette.backend.motions.naming import joint_labels
from maquette.backend.motions.retarget import retarget
from maquette.backend.motions.skeletons import UnknownSkeleton, map_skeleton
from maquette.backend.shot.types import SMPL_JOINT_NAMES

from .writers import bvh_text, euler, named

BODY = embedded()
SMPL = dict(zip(SMPL_JOINT_NAMES, range(24), strict=True))


@pytest.fixture(scope="module")
def walk():
    return generate_walk(0.5, 30, body=BODY)


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.setattr(naming, "OWN", [tmp_path / "skeletons"])
    return tmp_path / "skeletons"


def strange(walk, names) -> str:
    """A walk whose joints all hang on one root, as those of control rigs do: no limb is a line of the tree."""
    turn = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    rest = BODY.joints_rest().astype(float)
    turns = to_global(axis_angle_to_matrix(walk.poses.astype(float)))
    places = 100 * place(turns, rest, walk.trans) @ turn.T
    rows = np.concatenate([places, euler(turn @ turns, "ZXY")], axis=-1).reshape(walk.frames, -1)
    channels = "CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation"
    lines = ["HIERARCHY", "ROOT World", "{", "OFFSET 0 0 0", "CHANNELS 0"]
    for name, offset in zip(names, 100 * rest, strict=True):
        lines += [f"JOINT {name}", "{", f"OFFSET {offset[0]:.6f} {offset[1]:.6f} {offset[2]:.6f}", channels, "}"]
    lines += ["}", "MOTION", f"Frames: {walk.frames}", "Frame Time: 0.0333333"]
    return "\n".join([*lines, *(" ".join(f"{v:.6f}" for v in row) for row in rows)]) + "\n"


def tree(names) -> BvhClip:
    still = np.tile(np.eye(3), (1, 24, 1, 1))
    return parse_bvh(bvh_text(names, SMPL_PARENTS, np.ones((24, 3)), still, np.zeros((1, 3))))


def chosen(labels) -> dict[str, str]:
    parts = {part: labels[SMPL[part]] for part in PARTS if part in SMPL}
    return parts | {"spine": labels[SMPL["spine1"]], "chest": labels[SMPL["spine3"]]}


def test_a_choice_by_hand_is_found_by_the_next_file(walk, own, tmp_path) -> None:
    names = named("nonsense", "none")
    path = tmp_path / "walk.bvh"
    path.write_text(strange(walk, [f"rig:{name}" for name in names]))
    with pytest.raises(UnknownSkeleton, match="Map Bones"):
        load_motion(path)
    clip = parse_bvh(path.read_text())
    labels = joint_labels(clip.names, clip.parents)
    parts = chosen(names)
    assert not faults_of(parts)
    joints = scheme_of(labels, clip.parents, parts)
    assert joints["spine"] == [parts["spine"], parts["chest"]] and joints["neck"] == [parts["neck"]]
    write_scheme(own, "Mine", joints)
    path.write_text(path.read_text().replace("rig:", "other:"))
    motion = load_motion(path, body=BODY)
    assert motion.notes[0].startswith("skeleton: Mine") and motion.source_error["worst_deg"] < 6
    found = map_skeleton(clip)
    assert [found.joints[part] for part in ("head", "left_knee", "right_hand")] == [
        labels.index(parts[part]) for part in ("head", "left_knee", "right_hand")
    ]


def test_the_newest_choice_wins_over_schemes_and_older_ones(walk, own) -> None:
    clip = parse_bvh(strange(walk, named("mixamo", "Left")))
    legs = tree(named("mixamo", "Left"))
    assert map_skeleton(legs).label == "Mixamo"
    labels = joint_labels(clip.names, clip.parents)
    for label in ("Older", "Newer"):
        path = write_scheme(own, label, scheme_of(labels, clip.parents, chosen(labels[1:])))
    assert path.stem == "newer" and map_skeleton(legs).label in ("Older", "Newer")
    write_scheme(own, "Newer Still", scheme_of(labels, clip.parents, chosen(labels[1:])), "older")
    assert {file.stem for file in own.glob("*.toml")} == {"older", "newer"}
    assert map_skeleton(replace(clip, names=tuple(f"ns:{name}" for name in clip.names))).label == "Newer Still"


def test_guesses_take_what_single_names_tell(walk) -> None:
    clip = parse_bvh(strange(walk, named("mixamo", "Left")))
    told, parts = guess_parts(clip)
    assert not told
    wanted = chosen(clip.names[1:])
    assert {part: clip.names[joint] for part, joint in parts.items()} == wanted


@pytest.mark.parametrize("sides", ["Left", "none"])
def test_joints_find_their_mirror_by_name_or_tree(sides: str) -> None:
    names = named("nonsense", sides)
    clip = tree(names)
    mirrors = {
        name: clip.names[joint] for name, joint in zip(clip.names, mirror_joints(clip), strict=True) if joint >= 0
    }
    pairs = {names[SMPL[f"left_{n}"]]: names[SMPL[f"right_{n}"]] for n in ("hip", "knee", "foot", "collar", "hand")}
    assert {left: mirrors[left] for left in pairs} == pairs and all(mirrors[mirrors[left]] == left for left in pairs)
    assert names[SMPL["head"]] not in mirrors and names[SMPL["spine1"]] not in mirrors


def test_faults_are_told(own) -> None:
    labels = [str(k) for k in range(24)]
    parts = chosen(labels)
    assert faults_of(parts | {"left_knee": ""}) == ["Left Knee is not chosen"]
    assert faults_of(parts | {"left_knee": parts["right_knee"]}) == [
        f"Left Knee and Right Knee are both {SMPL['right_knee']}"
    ]
    assert not faults_of(parts | {"spine": parts["pelvis"], "chest": parts["pelvis"]})
    joints = scheme_of(labels, list(SMPL_PARENTS), parts)
    with pytest.raises(CatalogueError, match="head"):
        write_scheme(own, "Half", {role: names for role, names in joints.items() if role != "head"})
    assert not own.exists()


def test_a_damaged_preset_blocks_no_import_and_is_named_where_nothing_fits(walk, own) -> None:
    own.mkdir()
    (own / "broken.toml").write_text("label = ")
    (own / "odd.toml").write_text('label = "a\\u0007\\"b"\n')
    clip = parse_bvh(strange(walk, named("nonsense", "none")))
    with pytest.raises(MotionError, match=r"broken\.toml.*odd\.toml"):
        map_skeleton(clip)
    labels = [f'{name}"\\ \t\u00e9' for name in joint_labels(clip.names, clip.parents)]
    write_scheme(own, 'Quotes "and" \x7f', scheme_of(labels, clip.parents, chosen(labels[1:])))
    assert map_skeleton(replace(clip, names=tuple(labels))).label == 'Quotes "and" \x7f'


def test_alike_names_and_ends_have_labels_of_their_own() -> None:
    assert joint_labels(["a:Leg", "b:Leg", "", ""], [-1, 0, 1, 1]) == ["Leg", "Leg #2", "Leg #2 End", "Leg #2 End #2"]


def test_a_choice_that_is_no_tree_retargets_as_the_tree_does(walk, own) -> None:
    clip = parse_bvh(strange(walk, named("nonsense", "none")))
    labels = joint_labels(clip.names, clip.parents)
    write_scheme(own, "Mine", scheme_of(labels, clip.parents, chosen(labels[1:])))
    np.testing.assert_allclose(retarget(clip, BODY).poses[:, 1:8], walk.poses[:, 1:8], atol=0.02)
