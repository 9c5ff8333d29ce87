"""The face drawn close up, from where it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from maquette.backend.control import films
from maquette.backend.control.face import face_boxes, face_film
from maquette.backend.shot import FACE_KEYPOINTS, SMPL_JOINT_NAMES, KeypointState, Shot, ShotError

from ..builders import make_shot


@pytest.fixture(scope="module")
def shot() -> Shot:
    """A person whose face is a square of 20 cm before the box of its body, facing the camera at rest."""
    shot = make_shot(3, full=True)
    view = np.repeat(shot.clip.viewmats[:1], 3, axis=0)
    person = shot.characters[0]
    assert person.keypoints is not None and person.joints is not None
    middle = shot.meshes[0].vertices[0].mean(axis=0) + (0, -0.15, 0.5)
    square = np.array([[x, 0, z] for x in np.linspace(-0.1, 0.1, 17) for z in np.linspace(-0.1, 0.1, 4)])
    points, state = person.keypoints.points.copy(), person.keypoints.state.copy()
    points[:, FACE_KEYPOINTS], state[:, FACE_KEYPOINTS] = middle + square, KeypointState.VISIBLE
    joints = person.joints.copy()
    for name, up in (("neck", -0.15), ("head", -0.05)):
        joints[:, SMPL_JOINT_NAMES.index(name)] = middle + (0, 0, up)
    keypoints = replace(person.keypoints, points=points.astype(np.float32), state=state)
    meshes = tuple(replace(mesh, vertices=mesh.vertices[:1]) for mesh in shot.meshes)
    return replace(
        shot,
        clip=replace(shot.clip, viewmats=view),
        characters=(replace(person, keypoints=keypoints, joints=joints),),
        meshes=meshes,
    )


def test_the_cut_is_the_face_grown_upwards(shot):
    (left, top, right, bottom), *_ = face_boxes(shot.characters[0], shot.clip)
    focal = shot.clip.Ks[0, 0, 0]
    wide, high = right - left, bottom - top
    assert wide == pytest.approx(high, rel=0.01) and wide == pytest.approx(1.3**0.5 * 0.2 * focal / 3.87, rel=0.05)
    # Without a face that is known the head's joint tells about as much.
    plain = replace(shot.characters[0], keypoints=None)
    apart = np.abs(face_boxes(plain, shot.clip)[0] - (left, top, right, bottom)) / wide
    assert apart.max() < 0.25
    assert np.isnan(face_boxes(replace(plain, joints=None), shot.clip)).all()


def test_it_is_drawn_as_sharp_wherever_it_is(shot):
    """Half as large, and beyond the picture's edge, it is the same face; behind the camera there is none."""
    film = face_film(shot, 32)
    assert film.shape == (3, 32, 32, 3) and film[0].std() > 1
    small = shot.clip.Ks * np.array([[0.5], [0.5], [1]], np.float32)
    small[:, 0, 2] -= 300
    found = face_film(replace(shot, clip=replace(shot.clip, Ks=small)), 32)
    assert np.abs(found.astype(int) - film).mean() < 2
    away = shot.clip.viewmats.copy()
    away[1] = np.diag([-1, 1, -1, 1]) @ away[1]
    turned = face_film(replace(shot, clip=replace(shot.clip, viewmats=away)), 32)
    assert not turned[1].any() and turned[0].any() and turned[2].any()


def test_it_is_a_control_film_of_its_own_size(shot, monkeypatch):
    monkeypatch.setattr(films, "FACE_SIDE", 32)
    found = films.ControlFilms(shot)
    assert found.size("face") == (32, 32) and found.size("depth") == (128, 128)
    np.testing.assert_array_equal(found.picture("face", 1), face_film(shot, 32)[1])
    faceless = replace(shot, characters=(replace(shot.characters[0], keypoints=None, joints=None),))
    with pytest.raises(ShotError, match="no face of Body 1"):
        films.ControlFilms(faceless).check("face")
