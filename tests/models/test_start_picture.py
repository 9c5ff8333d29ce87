"""Whole first pictures from references and backgrounds."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from maquette.backend.models.family import EngineError
from maquette.backend.models.start_picture import first_picture, is_first_view, reference_picture
from maquette.backend.shot import Background, Media
from PIL import Image

from ..builders import make_shot, png


def cut_out(color, left: int, right: int, width: int = 32, height: int = 32) -> Media:
    """A block of colour from column ``left`` to ``right``, transparent elsewhere."""
    pixels = np.zeros((height, width, 4), np.uint8)
    pixels[:, left:right] = (*color, 255)
    buffer = io.BytesIO()
    Image.fromarray(pixels, "RGBA").save(buffer, "PNG")
    return Media(buffer.getvalue(), "image/png")


def with_references(shot, *images, **changes):
    people = tuple(
        replace(person, reference=replace(person.reference, image=image, **changes))
        for person, image in zip(shot.characters, images, strict=True)
    )
    return replace(shot, characters=people)


def scaled(shot, side: int):
    """The references' intrinsics for pictures of ``side`` pixels."""
    people = []
    for person in shot.characters:
        K = person.reference.K * np.array([[side / shot.clip.width], [side / shot.clip.height], [1]], np.float32)
        people.append(replace(person, reference=replace(person.reference, K=K)))
    return replace(shot, characters=tuple(people))


def test_an_opaque_picture_is_taken_as_it_is():
    shot = with_references(make_shot(), png(32, 32, (10, 20, 30)))
    picture = reference_picture(shot)
    assert not picture.cut_out and picture.notes == ()
    assert (picture.rgb == (10, 20, 30)).all()


def test_a_cut_out_stands_before_the_background():
    still = Background("still", (png(64, 64, (0, 0, 200)),))
    shot = scaled(with_references(make_shot(background=still), cut_out((250, 0, 0), 8, 16)), 32)
    picture = reference_picture(shot)
    assert picture.cut_out and picture.notes == ()
    assert (picture.rgb[:, 8:16] == (250, 0, 0)).all() and (picture.rgb[:, 16:] == (0, 0, 200)).all()


def test_without_a_background_it_stands_on_grey_and_that_is_said():
    shot = with_references(make_shot(background=Background()), cut_out((250, 0, 0), 8, 16))
    picture = reference_picture(shot)
    assert (picture.rgb[:, :8] == 128).all()
    assert "plain grey" in picture.notes[0]


def test_the_nearer_of_two_covers_the_other():
    shot = make_shot(characters=2, background=Background("still", (png(),)))
    shot = scaled(with_references(shot, cut_out((250, 0, 0), 0, 20), cut_out((0, 250, 0), 10, 32)), 32)
    near = replace(shot.characters[1].reference, points=shot.characters[1].reference.points * [1, 1, 1] + [0, -1.5, 0])
    near = replace(near, points=near.points.astype(np.float32))
    shot = replace(shot, characters=(shot.characters[0], replace(shot.characters[1], reference=near)))
    rgb = reference_picture(shot, (0, 1)).rgb
    assert (rgb[:, :10] == (250, 0, 0)).all() and (rgb[:, 10:] == (0, 250, 0)).all()


def test_two_cut_outs_by_different_cameras_are_refused():
    shot = make_shot(characters=2)
    shot = with_references(shot, cut_out((250, 0, 0), 0, 20), cut_out((0, 250, 0), 10, 32))
    moved = shot.clip.viewmats[-1]
    other = replace(shot.characters[1], reference=replace(shot.characters[1].reference, viewmat=moved))
    shot = replace(shot, characters=(shot.characters[0], other))
    with pytest.raises(EngineError, match=r"characters\[1\]\.reference: .*one camera"):
        reference_picture(shot, (0, 1))


def test_another_camera_than_the_first_frames_is_noticed():
    still = Background("still", (png(64, 64),))
    shot = scaled(with_references(make_shot(background=still), cut_out((250, 0, 0), 8, 16)), 32)
    assert is_first_view(shot, shot.characters[0].reference, (32, 32))
    person = shot.characters[0]
    later = replace(person, reference=replace(person.reference, viewmat=shot.clip.viewmats[-1]))
    shot = replace(shot, characters=(later,))
    assert not is_first_view(shot, later.reference, (32, 32))
    assert "another camera" in reference_picture(shot).notes[0]


def test_a_missing_or_damaged_reference_names_its_field():
    shot = make_shot()
    bare = replace(shot, characters=(replace(shot.characters[0], reference=None),))
    with pytest.raises(EngineError, match=r"characters\[0\]\.reference: Body 1 has no reference"):
        reference_picture(bare)
    broken = with_references(shot, Media(png().data[:40], "image/png"))
    with pytest.raises(EngineError, match=r"characters\[0\]\.reference\.image"):
        reference_picture(broken)


def test_the_first_frame_is_the_references_own_where_they_show_it():
    still = Background("still", (png(64, 64, (0, 0, 200)),))
    shot = scaled(with_references(make_shot(background=still), cut_out((250, 0, 0), 8, 16)), 32)
    first = first_picture(shot)
    assert first is not None and first.shape == (128, 128, 3)
    np.testing.assert_allclose(first[64, 40:56], [(250, 0, 0)] * 16, atol=6)
    np.testing.assert_allclose(first[64, 80:], [(0, 0, 200)] * 48, atol=6)
    person = shot.characters[0]

    def changed(**changes):
        return replace(shot, characters=(replace(person, reference=replace(person.reference, **changes)),))

    # Of another moment, by another camera, of other spots, or without surroundings.
    assert first_picture(changed(points=person.points[-1])) is None
    assert first_picture(changed(viewmat=shot.clip.viewmats[-1])) is None
    assert first_picture(changed(points=person.points[0, :5])) is None
    assert first_picture(replace(shot, background=Background())) is None
    assert first_picture(replace(shot, characters=(replace(person, reference=None),))) is None
    # A whole picture has its own, but shows one person.
    own = scaled(with_references(make_shot(background=Background()), png(32, 32, (10, 20, 30))), 32)
    assert (first_picture(own) == (10, 20, 30)).all()
    two = scaled(with_references(make_shot(characters=2, background=still), *[png(32, 32)] * 2), 32)
    assert first_picture(two) is None
    assert first_picture(replace(shot, characters=())) is None
    with pytest.raises(EngineError, match=r"characters\[0\]\.reference\.image"):
        first_picture(with_references(make_shot(), Media(png().data[:40], "image/png")))
