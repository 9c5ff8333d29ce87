"""Faces are drawn as the landmark adapter knows them, and heads are where the faces are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from maquette.backend.models.mofa.landmarks import draw_faces, head_masks, project_face
from maquette.backend.models.mofa.plan import PictureFit, has_face
from maquette.backend.models.mofa.view import model_view
from maquette.backend.shot import KeypointState
from maquette.backend.shot.keypoints import FACE_KEYPOINTS

from ...builders import make_shot
from .shots import face_keypoints, face_shape, with_person

WIDTH, HEIGHT = 192, 128


def flat_face(x: float, y: float, size: float) -> np.ndarray:
    """68 landmarks (68,2) in pixels about (x, y); ``size`` pixels a metre of ``face_shape``."""
    shape = face_shape()
    return np.stack([x + size * shape[:, 0], y - size * shape[:, 2]], axis=-1)


def face(*places: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    return np.stack([flat_face(*place) for place in places]), np.ones(len(places), bool)


def test_parts_have_their_colours() -> None:
    points, shown = face((96, 64, 320))
    drawing = draw_faces([(points, shown)], WIDTH, HEIGHT)[0]
    assert drawing.shape == (HEIGHT, WIDTH, 3)
    assert drawing.dtype == np.float32
    assert 0 <= drawing.min() <= drawing.max() <= 1

    def between(a: int, b: int) -> np.ndarray:
        column, row = (points[0, a] + points[0, b]) / 2
        patch = drawing[int(row) - 1 : int(row) + 2, int(column) - 1 : int(column) + 2].reshape(-1, 3)
        return patch[patch.sum(axis=1).argmax()] * 255

    # Two pixels of 320 on 128 rows: lines are thinner than a pixel there, so the hue is what counts.
    for a, b, colour in (
        (2, 3, (10, 200, 10)),
        (27, 28, (10, 200, 250)),
        (24, 25, (180, 220, 10)),
        (18, 19, (10, 220, 180)),
    ):
        found = between(a, b)
        assert found.max() > 60
        np.testing.assert_allclose(found / np.linalg.norm(found), colour / np.linalg.norm(colour), atol=0.06)


def test_the_canvas_is_a_square_whatever_the_picture() -> None:
    """On a picture of 320 x 320 lines are drawn as they are: whole pixels, two thick."""
    points = np.zeros((1, 68, 2))
    points[0, :17] = np.stack([np.linspace(20.9, 300.9, 17), np.full(17, 100.9)], axis=-1)
    drawing = draw_faces([(points, np.array([True]))], 320, 320)[0]
    green = np.isclose(drawing * 255, (10, 200, 10), atol=0.01).all(axis=-1)
    rows, columns = np.nonzero(green)
    assert set(rows) <= {99, 100, 101}
    assert 100 in rows
    assert columns.min() <= 20
    assert columns.max() >= 300
    # On another picture the same canvas is stretched, so that lines are wider than high.
    wide = draw_faces([(points * (2, 1), np.array([True]))], 640, 320)[0]
    np.testing.assert_allclose(wide[:, ::2].sum(), drawing.sum(), rtol=0.02)


def test_faces_that_are_not_seen_are_not_drawn() -> None:
    points, _ = face((96, 64, 320), (60, 64, 320))
    shown = np.array([True, False])
    drawings, masks = draw_faces([(points, shown)], WIDTH, HEIGHT), head_masks([(points, shown)], WIDTH, HEIGHT)
    assert drawings[0].any()
    assert masks[0].any()
    assert not drawings[1].any()
    assert not masks[1].any()


def test_two_faces_are_both_there() -> None:
    first, second = face((50, 64, 200)), face((140, 64, 200))
    both = draw_faces([first, second], WIDTH, HEIGHT)[0]
    alone = [draw_faces([one], WIDTH, HEIGHT)[0] for one in (first, second)]
    np.testing.assert_allclose(both, alone[0] + alone[1], atol=1e-5)
    masks = head_masks([first, second], WIDTH, HEIGHT)[0]
    assert masks[64, 50] == masks[64, 140] == 1
    assert masks[64, 96] == 0


@given(x=st.floats(-50, 250), y=st.floats(-50, 180), size=st.floats(30, 400))
def test_the_head_holds_its_landmarks_and_a_crown(x: float, y: float, size: float) -> None:
    points, shown = face((x, y, size))
    mask = head_masks([(points, shown)], WIDTH, HEIGHT)[0]
    column, row = np.floor(points[0]).astype(int).T
    inside = (column >= 0) & (column < WIDTH) & (row >= 0) & (row < HEIGHT)
    assert mask[row[inside], column[inside]].all()
    height = np.ptp(points[0, :, 1])
    crown = (int(x), int(points[0, :, 1].min() - 0.3 * height))
    if 0 <= crown[0] < WIDTH and 0 <= crown[1] < HEIGHT:
        assert mask[crown[1], crown[0]] == 1
    assert mask.sum() < 4.5 * height**2 + 30


def test_a_face_far_outside_does_no_harm() -> None:
    points, shown = face((1e7, -1e7, 320))
    assert not draw_faces([(points, shown)], WIDTH, HEIGHT).any()
    assert not head_masks([(points, shown)], WIDTH, HEIGHT).any()


def test_faces_are_projected_and_turned_away_ones_left_out() -> None:
    shot = make_shot(4, width=96, height=64)
    assert not has_face(shot.characters[0])
    keypoints = face_keypoints(shot.characters[0].points)
    state = keypoints.state.copy()
    state[1, FACE_KEYPOINTS] = KeypointState.SELF_OCCLUDED
    state[2, 60:100] = KeypointState.HIDDEN
    state[3, 60] = KeypointState.ABSENT
    shot = with_person(shot, keypoints=replace(keypoints, state=state))
    assert has_face(shot.characters[0])
    view = model_view(shot, PictureFit((192, 128), (192, 128), (192, 128)), 6)
    points, shown = project_face(shot.characters[0], view)
    assert shown.tolist() == [True, False, True, False]
    from maquette.backend.shot.cameras import project

    uv, _ = project(keypoints.points[0, 60:], shot.clip.viewmats[0], shot.clip.Ks[0])
    np.testing.assert_allclose(points[0], uv * 2, rtol=1e-4)


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_views_hold_the_last_frame(frames: int) -> None:
    shot = make_shot(frames, width=96, height=64)
    view = model_view(shot, PictureFit((64, 64), (96, 64), (64, 64)), 5)
    assert len(view.viewmats) == max(frames, 2)
    assert view.held.tolist() == [min(i, max(frames, 2) - 2) for i in range(4)]
    # 16 columns are cut off on the left.
    assert view.Ks[0, 0, 2] == shot.clip.Ks[0, 0, 2] - 16
