"""Control films against Blender's own passes, and against what they promise of ranges, windows and colours.

``passes.shot`` and ``passes.npz`` are written by ``tools/blender_passes.py``.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from maquette.backend.catalogue.control import KINDS
from maquette.backend.control.colours import character_colour, flow_colours
from maquette.backend.control.films import NOTHING, ControlFilms, ControlOptions
from maquette.backend.models.control.inputs import grown
from maquette.backend.shot import KEYPOINT_NAMES, Keypoints, KeypointState, Shot, ShotError, load_shot

HERE = Path(__file__).parent


@cache
def shot() -> Shot:
    return load_shot(HERE / "passes.shot")


@cache
def passes() -> dict[str, np.ndarray]:
    with np.load(HERE / "passes.npz") as file:
        return dict(file)


@cache
def films() -> ControlFilms:
    return ControlFilms(shot())


def posed() -> Shot:
    """The shot with a nose, neck and shoulders on each head; the left one's shoulder is hidden."""
    people = []
    for i, person in enumerate(shot().characters):
        centre = person.points.mean(axis=1)
        points = np.zeros((3, 128, 3), np.float32)
        state = np.zeros((3, 128), np.uint8)
        for name, at in (("nose", (0, 0, 0.3)), ("right_shoulder", (-0.3, 0, 0)), ("left_shoulder", (0.3, 0, 0))):
            points[:, KEYPOINT_NAMES.index(name)] = centre + np.float32(at)
            state[:, KEYPOINT_NAMES.index(name)] = KeypointState.VISIBLE
        if i == 0:
            state[:, KEYPOINT_NAMES.index("left_shoulder")] = KeypointState.HIDDEN
        people.append(replace(person, keypoints=Keypoints(points, state)))
    return replace(shot(), characters=tuple(people))


@pytest.mark.parametrize("frame", range(3))
def test_depth_is_blenders_within_a_thousandth(frame):
    depth, true = films().data("depth", frame)[..., 0], passes()["depth"][frame]
    both = (depth < NOTHING) & (true < 1e9)
    assert (both == (true < 1e9)).mean() > 0.999
    off = np.abs(depth[both] / true[both] - 1)
    # A pixel whose middle lies on an edge may show either side of it.
    assert (off > 1e-3).sum() <= 2 and np.median(off) < 2e-5


@pytest.mark.parametrize("frame", range(3))
def test_normals_are_blenders(frame):
    there = passes()["depth"][frame] < 1e9
    turned = passes()["normal"][frame] / 32767 @ shot().clip.viewmats[frame, :3, :3].T * (1, -1, -1)
    cosine = (films().data("normals", frame) * turned).sum(axis=-1)[there]
    assert np.quantile(cosine, 0.01) > np.cos(np.radians(10)) and np.median(cosine) > np.cos(np.radians(0.5))


@pytest.mark.parametrize("frame", range(3))
def test_edges_are_where_blenders_surfaces_end_or_turn(frame):
    film = films().picture("edges", frame)
    assert set(np.unique(film)) == {0, 255} and (film == film[..., :1]).all()
    lines = film[..., 0] > 0
    index, normal = passes()["index"][frame], passes()["normal"][frame] / 32767
    depth = np.minimum(passes()["depth"][frame], 100)

    def changes(values: np.ndarray, by: float) -> np.ndarray:
        """Where something changes by so much within the eight neighbours."""
        wide = np.pad(values, ((1, 1), (1, 1), *[(0, 0)] * (values.ndim - 2)), mode="edge")
        near = [wide[y : y + len(values), x : x + values.shape[1]] for y in range(3) for x in range(3)]
        apart = np.stack([np.abs(each.astype(np.float64) - values) for each in near])
        return (apart.max(axis=0) > by).reshape(*values.shape[:2], -1).any(axis=-1)

    outline = changes(index, 0.5)
    near = grown(lines[None], 2)[0]
    assert near[outline].mean() > 0.95
    something = outline | changes(normal, 0.2) | changes(np.log(depth), 0.02)
    assert grown(something[None], 2)[0][lines].mean() > 0.98 and 0.01 < lines.mean() < 0.2


@pytest.mark.parametrize("frame", range(3))
def test_masks_are_blenders_object_indices(frame):
    film, index = films().picture("masks", frame), passes()["index"][frame]
    colours = np.array([(0, 0, 0), character_colour(0), character_colour(1)], np.uint8)
    assert (film != colours[index]).any(axis=-1).sum() <= 2
    cover = films().picture("silhouettes", frame)[..., 0]
    assert ((cover > 127) == (index > 0)).mean() > 0.99


def test_the_flow_carries_each_spot_to_itself():
    """Depth of the spot in the next frame, found along the flow, is what the moved surface has there."""
    flow = films().data("flow", 0)
    seen = flow[..., 2] > 0
    height, width = seen.shape
    rows, columns = np.mgrid[:height, :width]
    to = np.stack([columns + flow[..., 0], rows + flow[..., 1]], axis=-1).round().astype(int)
    inside = seen & (to >= 1).all(axis=-1) & (to[..., 0] < width - 1) & (to[..., 1] < height - 1)
    index = passes()["index"]
    same = index[1][to[inside][:, 1], to[inside][:, 0]] == index[0][inside]
    assert inside.mean() > 0.6 and same.mean() > 0.98
    assert not seen[index[0] == 2].all(), "the farther head is partly hidden in the next frame"
    assert (films().data("flow", 2)[..., :2] == 0).all(), "nothing comes after the last frame"


def test_a_sky_moves_as_the_camera_turns():
    clip = shot().clip
    turned = clip.viewmats.copy()
    turned[1, :3, :3] = (
        np.array([[np.cos(0.1), 0, -np.sin(0.1)], [0, 1, 0], [np.sin(0.1), 0, np.cos(0.1)]]) @ (turned[0, :3, :3])
    )
    turned[1, :3, 3] = turned[1, :3, :3] @ np.linalg.solve(turned[0, :3, :3], turned[0, :3, 3])
    sky = films().data("depth", 0)[..., 0] == NOTHING
    flow = ControlFilms(replace(shot(), clip=replace(clip, viewmats=turned))).data("flow", 0)[sky]
    assert sky.any() and abs(np.median(flow[:, 0]) + np.tan(0.1) * clip.Ks[0, 0, 0]) < 2


def test_one_range_for_the_whole_shot():
    """A shorter shot in the given range agrees with the whole to the grey level, frame by frame."""
    near, far = films().depth_range
    part = replace(
        shot(),
        clip=replace(shot().clip, viewmats=shot().clip.viewmats[1:2], Ks=shot().clip.Ks[1:2]),
        meshes=tuple(
            replace(m, vertices=m.vertices[1:2] if len(m.vertices) > 1 else m.vertices) for m in shot().meshes
        ),
        characters=tuple(
            replace(c, points=c.points[1:2], visibility=c.visibility[1:2], joints=None) for c in shot().characters
        ),
    )
    again = ControlFilms(part, ControlOptions(near=near, far=far))
    for kind in ("depth", "normals", "masks", "silhouettes"):
        np.testing.assert_array_equal(again.picture(kind, 0), films().picture(kind, 1))


def test_near_is_white_and_grey_is_linear_in_disparity():
    near, far = films().depth_range
    grey = np.concatenate([films().picture("depth", t)[..., 0].ravel() for t in range(3)]).astype(float)
    true = np.concatenate([films().data("depth", t)[..., 0].ravel() for t in range(3)])
    expected = 255 * np.clip((1 / true - 1 / far) / (1 / near - 1 / far), 0, 1)
    assert grey.max() >= 253 and np.median(np.abs(grey - expected)) < 1
    metres = ControlFilms(shot(), ControlOptions(depth="metres", near=near, far=far)).picture("depth", 0)[..., 0]
    true = films().data("depth", 0)[..., 0]
    assert np.median(np.abs(metres - 255 * np.clip((far - true) / (far - near), 0, 1))) < 1


def test_normal_colours():
    """Red is left with Normal BAE, right with OpenGL; green is up in both, and the sky faces the camera."""
    normals = films().data("normals", 0)
    bae = films().picture("normals", 0).astype(int)
    opengl = ControlFilms(shot(), ControlOptions(normals="opengl")).picture("normals", 0).astype(int)
    left, up = normals[..., 0] < -0.7, normals[..., 1] > 0.9
    assert left.any() and bae[left, 0].mean() > 200 and opengl[left, 0].mean() < 60
    assert up.any() and bae[up, 1].mean() > 230
    assert tuple(bae[films().data("depth", 0)[..., 0] == NOTHING][0]) == (128, 128, 255)


def test_flow_colours_are_middleburys():
    flow = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0], [0.5, 0.0]]])
    found = flow_colours(flow, 1.0)[0].numpy().astype(int)
    assert tuple(found[0]) == (255, 255, 255)
    # Right is red, left cyan, down yellow to green, up blue; half as long is half as strong.
    assert tuple(found[1]) == (255, 0, 0) and found[2][0] < 60 and min(found[2][1:]) > 180
    assert found[3][0] > 180 > found[3][2] and found[4][2] == 255 and tuple(found[5]) == (255, 127, 127)


def test_poses_show_what_is_seen_in_dwposes_colours():
    films = ControlFilms(posed(), ControlOptions(characters=("Right",)))
    both = ControlFilms(posed())
    right, all_ = films.picture("pose", 0), both.picture("pose", 0)
    assert right.any() and (all_ != right).any()
    # The neck is the middle of two shoulders; without one, there are neither neck nor limbs.
    left = ControlFilms(posed(), ControlOptions(characters=("Left",))).picture("pose", 0)
    assert set(map(tuple, left[left.any(axis=-1)])) == {(255, 0, 0), (255, 170, 0)}
    assert (153, 0, 0) in set(map(tuple, right[right.any(axis=-1)]))


def test_characters_left_out_still_hide():
    alone = ControlFilms(shot(), ControlOptions(characters=("Right",)))
    index = passes()["index"][1]
    film = alone.picture("masks", 1)
    assert not film[index == 1].any() and film[index == 2].any()
    inverted = ControlFilms(shot(), ControlOptions(invert=True)).picture("silhouettes", 0)
    np.testing.assert_array_equal(inverted, 255 - films().picture("silhouettes", 0))


@pytest.mark.parametrize(
    ("made", "kind", "words"),
    [
        (lambda: shot(), "clay", "clay: the shot was captured without it"),
        (lambda: shot(), "pose", r"characters\[0\].keypoints: Left has neither keypoints nor joints"),
        (lambda: shot(), "known", "background: neither a background nor looks"),
        (lambda: shot(), "outlines", "kind: no control film 'outlines'; choose from depth, normals"),
        (lambda: replace(shot(), characters=(), meshes=()), "depth", "meshes: the shot has neither"),
        (lambda: replace(shot(), characters=()), "masks", "characters: the shot has none"),
    ],
)
def test_says_what_a_shot_lacks(made, kind, words):
    with pytest.raises(ShotError, match=words):
        ControlFilms(made()).picture(kind, 0)


def test_bad_options_are_told():
    with pytest.raises(ShotError, match="no 'Nobody'; choose from Left, Right"):
        ControlFilms(shot(), ControlOptions(characters=("Nobody",)))
    with pytest.raises(ShotError, match="choose near above 0 and far beyond it"):
        ControlFilms(shot(), ControlOptions(near=4.0, far=2.0))
    with pytest.raises(ShotError, match="masks is a picture, not a quantity; as EXR there are depth, normals, flow"):
        films().data("masks", 0)


def test_without_a_set_the_farthest_limb_is_not_black():
    alone = ControlFilms(replace(shot(), meshes=tuple(m for m in shot().meshes if m.character >= 0)))
    film, index = alone.picture("depth", 0)[..., 0], passes()["index"][0]
    assert film[index > 0].min() > 20 and (film == 0).any()
    assert any("holds no set" in note for note in alone.notes)


def test_every_kind_has_a_drawing():
    """The carried film needs no looks: it is plaster then."""
    made = films().picture("carried", 0)
    assert made.shape == (96, 128, 3) and made.dtype == np.uint8
    assert [kind for kind in KINDS if KINDS[kind].data] == ["depth", "normals", "flow"]
