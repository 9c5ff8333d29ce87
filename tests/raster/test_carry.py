"""The carried film against true films, and what it makes of shots that lack something."""

from __future__ import annotations

import io
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from maquette.backend.media import MediaError, encode_png
from maquette.backend.raster.carry import NOBODY, carry_shot
from maquette.backend.shot import Background, Media, Mesh, Shot
from maquette.backend.shot.cameras import look_at
from maquette.backend.worlds.sample import to_shot
from PIL import Image

from .conftest import OTHER, SEED, figure_psnr, iou, sample, shot, with_person, with_reference

SIZE = (96, 96)


@pytest.mark.parametrize(("seed", "least"), [(SEED, 27.0), (OTHER, 25.0)])
def test_it_comes_near_the_true_film(seed, least):
    one, film = sample(seed), carry_shot(shot(seed), *SIZE)
    assert film.frames.shape == one.video.shape and film.frames.dtype == np.uint8
    assert figure_psnr(film.frames, one) > least
    assert iou(film.frames, one) > 0.95
    assert not film.notes


def test_light_brings_it_nearer():
    one = sample(OTHER)
    relit, plain = (figure_psnr(carry_shot(shot(OTHER, light=lit), *SIZE).frames, one) for lit in (True, False))
    assert relit > plain + 1.5


def test_less_geometry_gives_less_and_says_so():
    one = sample()
    whole = carry_shot(shot(), *SIZE)
    body, points = carry_shot(shot(meshes=False), *SIZE), carry_shot(shot(meshes=False, bodies=False), *SIZE)
    assert iou(whole.frames, one) >= iou(body.frames, one) - 0.01 > 0.85
    assert iou(points.frames, one) > 0.6
    assert "body without clothes" in body.notes[0] and "from its 256 points" in points.notes[0]


def test_the_maps_say_what_shows():
    one, film = sample(), carry_shot(shot(), *SIZE)
    truth = one.truth
    body = (truth.character == 0) & (film.character == 0)
    assert (film.character == truth.character).mean() > 0.98
    assert np.abs(film.depth[body] - truth.depth[body]).mean() < 0.02
    assert np.isinf(film.depth[film.character == NOBODY]).all()
    normals = one.normals[body] / 127.5 - 1
    agree = (normals / np.linalg.norm(normals, axis=-1, keepdims=True) * film.normal[body]).sum(-1)
    assert np.median(agree) > 0.98
    assert np.abs(np.linalg.norm(film.normal[body], axis=-1) - 1).max() < 1e-3
    assert film.known.min() >= 0 and film.known.max() <= 1 and film.known[~one.mask].mean() < 0.02
    seen = film.known > 0.95
    error = np.abs(film.frames.astype(int) - one.video).max(-1)
    assert seen.any() and np.median(error[seen]) <= np.median(error[body & (film.known < 0.2)])


def test_what_bodies_cast_stays_around_them():
    made = shot()
    picture = np.full((96, 96, 3), 200, np.uint8)
    picture[80:, :40] = 60
    one = carry_shot(
        replace(made, background=Background("still", (encode_png(picture // 2),)), clay=_clay(made, picture)), *SIZE
    )
    around = one.character == NOBODY
    away = around & (one.known == 0)
    shown = np.abs(one.frames.astype(int) - picture).max(-1)
    assert np.median(shown[away]) == 0 and (shown[away] > 8).mean() < 0.06


def _clay(made: Shot, picture: np.ndarray):
    return replace(made.clay, media=(encode_png(picture),), surroundings=True)


def test_the_set_hides_bodies_and_floors_do_not():
    made = shot()
    plate = np.zeros((96, 96, 3), np.uint8)
    plate[...] = (0, 255, 0)
    eye = -made.clip.viewmats[0, :3, :3].T @ made.clip.viewmats[0, :3, 3]
    middle = made.meshes[0].vertices[0].mean(axis=0)
    toward = (eye - middle) / np.linalg.norm(eye - middle)
    side = np.cross(toward, [0, 0, 1])
    side /= np.linalg.norm(side)
    up = np.cross(side, toward)
    centre = middle + 0.8 * toward
    corners = np.stack([centre + 3 * (a * side) + b * up for a in (-1, 1) for b in (0.0, 3.0)])[None].astype(np.float32)
    wall = Mesh("Wall", -1, corners, np.array([[0, 1, 2], [2, 1, 3]], np.int32))
    low = made.meshes[0].vertices[..., 2].min()
    ground = np.array([[[-9, -9, low], [9, -9, low], [-9, 9, low], [9, 9, low]]], np.float32)
    floor = Mesh("Floor", -1, ground, np.array([[0, 1, 2], [2, 1, 3]], np.int32))
    bare = replace(made, background=Background("still", (encode_png(plate),)), clay=None)
    whole, hidden = (
        carry_shot(replace(bare, meshes=(*made.meshes, *more)), *SIZE) for more in ((floor,), (wall, floor))
    )
    assert np.array_equal(whole.frames, carry_shot(bare, *SIZE).frames)
    lost = (whole.character == 0) & (hidden.character == NOBODY)
    assert 0.25 < lost.sum() / (whole.character == 0).sum() < 0.85
    gone = (whole.known > 0) & (hidden.depth == np.inf) & (hidden.known == 0)
    assert (hidden.frames[gone] == (0, 255, 0)).all(axis=-1).mean() > 0.95


def test_two_references_know_more_than_one():
    from maquette.backend.worlds.sample import make_sample, to_shot

    one = make_sample(OTHER + 1, 3, 96, 256, 1, truth=True, references=2)
    both = to_shot(one)
    assert len(both.characters[0].references) == 2
    alone = with_person(both, further_references=())
    two, first = carry_shot(both, *SIZE), carry_shot(alone, *SIZE)
    assert two.known.sum() > 1.03 * first.known.sum()
    assert figure_psnr(two.frames, one) > figure_psnr(first.frames, one)


def test_frames_do_not_depend_on_how_many_there_are():
    made = shot()
    film = carry_shot(made, *SIZE)
    clip = replace(made.clip, viewmats=made.clip.viewmats[3:4], Ks=made.clip.Ks[3:4])
    people = tuple(
        replace(
            p,
            points=p.points[3:4],
            visibility=p.visibility[3:4],
            joints=p.joints[3:4],
            body=replace(p.body, poses=p.body.poses[3:4], trans=p.body.trans[3:4]),
        )
        for p in made.characters
    )
    single = replace(
        made,
        clip=clip,
        characters=people,
        meshes=tuple(replace(m, vertices=m.vertices[3:4]) for m in made.meshes),
        background=Background("still", made.background.media[3:4]),
        clay=replace(made.clay, media=made.clay.media[3:4]),
    )
    assert np.abs(carry_shot(single, *SIZE).frames[0].astype(int) - film.frames[3]).mean() < 0.2


@pytest.mark.parametrize("only", [range(5, 10), range(8, 11)])
def test_some_frames_are_those_of_the_whole_film(only):
    made = to_shot(sample(SEED, 11, 48))
    assert len(made.clay.media) == len(made.background.media) == 11
    film, part = whole_film(), carry_shot(made, *SIZE, only=only)
    for name in ("frames", "known", "depth", "canonical", "lit"):
        assert np.array_equal(getattr(part, name), getattr(film, name)[only.start : only.stop]), name


@cache
def whole_film():
    return carry_shot(to_shot(sample(SEED, 11, 48)), *SIZE)


# -- what is missing or wrong ------------------------------------------------------------------------------------------


def test_no_reference_is_plain_grey_in_the_right_light():
    one = sample()
    film = carry_shot(with_person(shot(), reference=None), *SIZE)
    assert "No reference picture for body0" in film.notes[0]
    assert (film.known == 0).all()
    body = film.frames[film.character == 0].astype(int)
    clay = one.clay[film.character == 0].astype(int)
    assert np.corrcoef(body.mean(-1), clay.mean(-1))[0, 1] > 0.8
    dark = carry_shot(replace(with_person(shot(light=False), reference=None)), *SIZE)
    assert dark.frames[dark.character == 0].std() > 3


def test_a_reference_that_shows_nothing_of_the_body():
    made = shot()
    away = look_at(np.array([0.0, -4.0, 1.0]), np.array([0.0, -8.0, 1.0])).astype(np.float32)
    film = carry_shot(with_reference(made, viewmat=away), *SIZE)
    assert "does not show its body" in film.notes[0]
    assert (film.known == 0).all() and (film.character == 0).any()


def test_a_cut_out_of_another_pose_is_told():
    one = sample()
    rgba = np.concatenate([one.ref_image[0], np.zeros((96, 96, 1), np.uint8)], axis=-1)
    rgba[:20, :20, 3] = 255
    film = carry_shot(with_reference(shot(), image=_png(rgba)), *SIZE)
    assert any("does not fit its pose" in note for note in film.notes)


def test_a_cut_out_is_taken_inside_its_outline_only():
    one = sample()
    cover = one.ref_image[0].copy()
    film = carry_shot(shot(), *SIZE)
    outline = film_mask(one)
    cover[~outline] = (255, 0, 255)
    rgba = np.concatenate([cover, (outline * 255).astype(np.uint8)[..., None]], axis=-1)
    cut = carry_shot(with_reference(shot(), image=_png(rgba)), *SIZE)
    assert figure_psnr(cut.frames, one) > figure_psnr(film.frames, one) - 1.5


def film_mask(one) -> np.ndarray:
    """Where the body shows in its reference, which is a frame of the film."""
    frame = next(t for t in range(len(one.video)) if np.array_equal(one.video[t], one.ref_image[0]))
    return one.mask[frame]


def _png(pixels: np.ndarray) -> Media:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return Media(stream.getvalue(), "image/png")


def test_a_body_behind_the_camera_leaves_the_background():
    made = shot()
    turned = made.clip.viewmats.copy()
    turned[2:, :3] = np.diag([-1, 1, -1]).astype(np.float32) @ turned[2:, :3]
    film = carry_shot(replace(made, clip=replace(made.clip, viewmats=turned), clay=None), *SIZE)
    assert (film.character[:2] == 0).any() and (film.character[2:] == NOBODY).all()
    assert np.array_equal(film.frames[2:], sample().background[2:])


def test_tiny_figures_plates_of_other_sizes_and_odd_sizes():
    made = shot()
    far = made.clip.Ks.copy()
    far[:, :2, :2] *= 0.1
    small = carry_shot(replace(made, clip=replace(made.clip, Ks=far), clay=None), *SIZE)
    assert 4 < (small.character[0] == 0).sum() < 200
    plate = Background("still", (encode_png(np.full((33, 71, 3), 90, np.uint8)),))
    film = carry_shot(replace(made, background=plate, clay=None), 61, 47)
    assert film.frames.shape == (5, 47, 61, 3) and (film.frames[:, 0, 0] == 90).all()
    none = carry_shot(replace(made, background=Background(), clay=None), *SIZE)
    assert (none.frames[:, 0, 0] == 128).all()


def test_a_damaged_picture_is_named():
    made = shot()
    broken = Media(made.characters[0].reference.image.data[:60], "image/png")
    with pytest.raises(MediaError, match=r"characters\[0\]\.reference\.image"):
        carry_shot(with_reference(made, image=broken), *SIZE)
    with pytest.raises(MediaError, match=r"characters\[0\]\.reference\.clay"):
        carry_shot(with_reference(made, clay=broken), *SIZE)
    with pytest.raises(MediaError, match=r"clay\.media\[0\]"):
        carry_shot(replace(made, clay=replace(made.clay, media=(broken,))), *SIZE)


def test_it_tells_its_progress_and_can_be_stopped():
    told = []

    def stop(done, count):
        told.append((done, count))
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        carry_shot(shot(), *SIZE, on_frames=stop)
    assert told == [(0, 5), (5, 5)]
