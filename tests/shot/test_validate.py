from __future__ import annotations

import dataclasses
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from maquette.backend.shot import (
    BODY_KEYPOINTS,
    FACE_KEYPOINTS,
    KEYPOINT_NAMES,
    LEFT_HAND_KEYPOINTS,
    RIGHT_HAND_KEYPOINTS,
    Character,
    Media,
    Shot,
    ShotError,
    validate,
)

from ..builders import make_shot, png

CHARACTER_ARRAYS = ("points", "rest_points", "visibility", "joints")


def with_character(shot: Shot, **changes) -> Shot:
    return dataclasses.replace(shot, characters=(dataclasses.replace(shot.characters[0], **changes),))


def test_the_built_shot_is_valid():
    validate(make_shot(characters=3))


@given(st.sampled_from(CHARACTER_ARRAYS), st.sampled_from(["dtype", "rank", "length", "empty", "nan", "none"]))
def test_any_damage_to_an_array_names_its_field(name, damage):
    shot = make_shot(4, 6)
    array = getattr(shot.characters[0], name)
    if damage == "nan" and array.dtype == np.bool_:
        return
    if damage == "none" and name == "joints":
        return
    broken = {
        "dtype": lambda: array.astype(np.float64),
        "rank": lambda: array[None],
        "length": lambda: np.concatenate([array, array]),
        "empty": lambda: array[:0],
        "nan": lambda: np.where(np.arange(array.size).reshape(array.shape) == 5, np.float32(np.nan), array),
        "none": lambda: None,
    }[damage]()
    with pytest.raises(ShotError) as error:
        validate(with_character(shot, **{name: broken}))
    # Twice as many rest or world points contradict each other: either may be named.
    assert error.value.field.startswith("characters[0].")
    if damage != "length":
        assert error.value.field == f"characters[0].{name}"


def test_two_characters_of_one_name_are_refused():
    shot = make_shot(characters=2)
    twin = dataclasses.replace(shot.characters[1], name=shot.characters[0].name)
    with pytest.raises(ShotError, match="used twice"):
        validate(dataclasses.replace(shot, characters=(shot.characters[0], twin)))


def test_a_scaled_or_mirrored_camera_is_refused():
    shot = make_shot()
    for factor in (1.1, -1):
        viewmats = shot.clip.viewmats.copy()
        viewmats[:, :3, :3] *= factor
        with pytest.raises(ShotError, match=r"clip\.viewmats: is not a rotation"):
            validate(dataclasses.replace(shot, clip=dataclasses.replace(shot.clip, viewmats=viewmats)))


def test_a_negative_focal_length_is_refused():
    shot = make_shot()
    Ks = shot.clip.Ks.copy()
    Ks[2, 0, 0] = -1
    with pytest.raises(ShotError, match=r"clip\.Ks: has a focal length"):
        validate(dataclasses.replace(shot, clip=dataclasses.replace(shot.clip, Ks=Ks)))


def test_kilometres_of_scene_units_are_told():
    shot = make_shot()
    with pytest.raises(ShotError, match="units"):
        validate(with_character(shot, points=shot.characters[0].points * np.float32(1e8)))


def test_a_shot_without_characters_says_what_to_do():
    with pytest.raises(ShotError, match="mark at least one mesh"):
        validate(dataclasses.replace(make_shot(), characters=()))


def test_an_array_that_is_a_list_is_refused():
    with pytest.raises(ShotError, match="must be a numpy array, not list"):
        validate(with_character(make_shot(), points=[[0, 0, 0]]))


def test_character_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        make_shot().characters[0].name = "x"  # type: ignore[misc]
    assert isinstance(make_shot().characters[0], Character)


def damaged(shot: Shot, part: str, **changes) -> Shot:
    """The shot with fields of its first mesh, track or keypoints exchanged."""
    if part == "keypoints":
        keypoints = shot.characters[0].keypoints
        assert keypoints is not None
        return with_character(shot, keypoints=dataclasses.replace(keypoints, **changes))
    first, *others = getattr(shot, part)
    return dataclasses.replace(shot, **{part: (dataclasses.replace(first, **changes), *others)})


@pytest.mark.parametrize(
    ("part", "changes", "field"),
    [
        ("keypoints", {"points": np.zeros((4, 127, 3), np.float32)}, "characters[0].keypoints.points"),
        ("keypoints", {"state": np.full((4, 128), 4, np.uint8)}, "characters[0].keypoints.state"),
        ("keypoints", {"state": np.zeros((4, 128), np.float32)}, "characters[0].keypoints.state"),
        ("meshes", {"character": 1}, "meshes[0].character"),
        ("meshes", {"character": -2}, "meshes[0].character"),
        ("meshes", {"vertices": np.zeros((3, 8, 3), np.float32)}, "meshes[0].vertices"),
        ("meshes", {"triangles": np.array([[0, 1, 8]], np.int32)}, "meshes[0].triangles"),
        ("meshes", {"triangles": np.array([[0, -1, 2]], np.int32)}, "meshes[0].triangles"),
        ("meshes", {"triangles": np.zeros((1, 3), np.int64)}, "meshes[0].triangles"),
        ("tracks", {"points": np.full((4, 3), np.nan, np.float32)}, "tracks[0].points"),
        ("tracks", {"visibility": np.ones(5, np.bool_)}, "tracks[0].visibility"),
    ],
)
def test_geometry_that_cannot_be_is_refused(part, changes, field):
    shot = make_shot(4, full=True)
    validate(shot)
    with pytest.raises(ShotError) as error:
        validate(damaged(shot, part, **changes))
    assert error.value.field == field


def test_options_are_plain_values():
    shot = make_shot()
    for options in ({"a": None}, {"a": [1]}, {"a": float("nan")}, {"x" * 65: 1}, {"a": "x" * 1001}, "text"):
        with pytest.raises(ShotError, match=r"settings\.options"):
            validate(dataclasses.replace(shot, settings=dataclasses.replace(shot.settings, options=options)))


def test_keypoints_have_their_places():
    assert len(KEYPOINT_NAMES) == len(set(KEYPOINT_NAMES)) == 128
    assert KEYPOINT_NAMES[LEFT_HAND_KEYPOINTS][0] == "left_hand_wrist"
    assert KEYPOINT_NAMES[RIGHT_HAND_KEYPOINTS][-1] == "right_hand_little_4"
    assert KEYPOINT_NAMES[FACE_KEYPOINTS] == tuple(f"face_{i}" for i in range(68))
    assert KEYPOINT_NAMES[BODY_KEYPOINTS][1:3] == ("neck", "right_shoulder")


def test_a_reference_has_as_many_vertices_as_the_meshes():
    shot = make_shot(full=True)
    person = shot.characters[0]
    fewer = replace(person.further_references[0], vertices=person.further_references[0].vertices[:-1])
    shot = replace(shot, characters=(replace(person, further_references=(fewer,)),))
    with pytest.raises(ShotError, match=r"further_references\[0\]\.vertices: has 7 where .* have 8; disable"):
        validate(shot)
    validate(replace(shot, meshes=()))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"media": ()}, r"clay\.media: must be one picture, or 5"),
        ({"media": (png(),) * 4}, r"clay\.media: must be one picture, or 5, one a frame, not 4"),
        ({"surroundings": 1}, r"clay\.surroundings: must be true or false"),
        ({"media": (Media(b"nothing", "image/png"),)}, r"clay\.media\[0\]: is not a image/png file"),
    ],
)
def test_clay_that_cannot_be_is_refused(changes, says):
    shot = make_shot(full=True)
    with pytest.raises(ShotError, match=says):
        validate(replace(shot, clay=replace(shot.clay, **changes)))


def test_further_references_follow_a_first_one():
    shot = make_shot(full=True)
    with pytest.raises(ShotError, match=r"characters\[0\]\.reference: is missing, but there are further"):
        validate(replace(shot, characters=(replace(shot.characters[0], reference=None),)))
