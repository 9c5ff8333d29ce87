"""From shots to tensors."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from maquette.backend.catalogue.models import model_spec
from maquette.backend.models.family import EngineError
from maquette.backend.models.mtvcrafter.inputs import hold_last, onto_canvas, shot_inputs
from maquette.backend.models.mtvcrafter.plan import make_plan
from maquette.backend.models.previews import LatentColours
from maquette.backend.shot import Media
from maquette.backend.shot.framing import read_statistics
from PIL import Image

from ...builders import png
from .builders import dancing

B7, B17 = model_spec("mtvcrafter-7b"), model_spec("mtvcrafter-17b")


def encoded(picture: np.ndarray) -> Media:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    return Media(stream.getvalue(), "image/png")


def test_joints_are_millimetres_of_the_trained_camera_and_the_last_pose_is_held():
    shot = dancing(20, model=B7.id, sway=0.1)
    inputs = shot_inputs(shot, make_plan(B7, shot))
    assert inputs.joints.shape == (49, 24, 3) and inputs.joints.dtype == np.float32
    away = inputs.joints[0] - read_statistics().mean
    np.testing.assert_allclose(away[:, 1:], 0, atol=0.5)
    np.testing.assert_allclose(away[:, 0], 100 * np.sin(np.arange(24) / 10), atol=0.5)
    np.testing.assert_array_equal(inputs.joints[20:], np.repeat(inputs.joints[19:20], 29, axis=0))
    assert np.abs(inputs.joints[19] - inputs.joints[18]).max() > 1


def test_hold_last():
    np.testing.assert_array_equal(hold_last(np.array([1, 2, 3]), 5), [1, 2, 3, 3, 3])
    np.testing.assert_array_equal(hold_last(np.array([1, 2, 3]), 2), [1, 2])


def test_the_reference_is_cut_by_its_own_shape_and_not_stretched():
    """The published program resizes by the driving video's shape, which stretches other references."""
    stripes = np.zeros((60, 120, 3), np.uint8)
    stripes[:, 30:90] = 255
    shot = dancing(49, model=B7.id, width=512, height=512, reference=encoded(stripes))
    inputs = shot_inputs(shot, make_plan(B7, shot))
    assert inputs.reference.shape == (512, 512, 3)
    assert inputs.reference[10:-10, 10:-10].min() > 200
    assert any("50% of it was cut off" in note for note in inputs.notes)
    square = shot_inputs(dancing(49, model=B7.id), make_plan(B7, dancing(49, model=B7.id)))
    assert not square.notes


def test_a_damaged_reference_is_refused():
    media = png(64, 64)
    shot = dancing(9, model=B7.id, reference=replace(media, data=media.data[:40]))
    with pytest.raises(EngineError) as caught:
        shot_inputs(shot, make_plan(B7, shot))
    assert caught.value.field == "characters[0].reference.image"


@pytest.mark.parametrize(("width", "height"), [(20, 8), (8, 20), (8, 8)])
def test_a_square_lies_in_the_middle(width, height):
    frames = np.full((2, 8, 8, 3), 9, np.uint8)
    laid = onto_canvas(frames, width, height)
    assert laid.shape == (2, height, width, 3) and (laid == 9).sum() == frames.size
    assert (laid[:, height // 2 - 4 : height // 2 + 4, width // 2 - 4 : width // 2 + 4] == 9).all()


def test_latent_colours_recover_a_linear_picture():
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(6, 12, 12, generator=generator)
    mix = torch.randn(3, 6, generator=generator) * 0.2
    picture = torch.einsum("kc,chw->khw", mix, latents)
    large = picture.repeat_interleave(8, 1).repeat_interleave(8, 2)
    shown = LatentColours(latents, large)(latents, 12, 12)
    expected = ((picture.clamp(-1, 1) + 1) * 127.5).permute(1, 2, 0).numpy()
    assert shown.shape == (12, 12, 3) and shown.dtype == np.uint8
    assert np.abs(shown - expected).max() < 8
    assert LatentColours(latents, large)(latents * float("nan"), 24, 16).shape == (16, 24, 3)
