"""A figure cut from its ground by a body that stands nearly where it does."""

from __future__ import annotations

import numpy as np
import pytest

from ..builders import module


@pytest.fixture
def cut(addon):
    return module(addon, "scene.capture.cut_out")


def figure(shift: int) -> np.ndarray:
    """(120,90) bool: a trunk with an arm."""
    found = np.zeros((120, 90), dtype=bool)
    found[20 + shift : 100 + shift, 30 + shift : 60 + shift] = True
    found[40 + shift : 52 + shift, 58 + shift : 80 + shift] = True
    return found


def test_colours_say_where_a_figure_ends_that_its_body_misses_by_a_little(cut) -> None:
    true, body = figure(0), figure(3)
    picture = np.where(true[..., None], (0.8, 0.2, 0.1), (0.2, 0.5, 0.7)) + np.random.default_rng(0).normal(
        0, 0.02, (120, 90, 3)
    )
    found = cut.soft_edge(picture, body, 8.0)
    assert ((found > 0.5) != true).mean() < 0.25 * (body != true).mean()
    assert found[:5].max() == 0 and found[60, 45] == 1


def test_where_colours_do_not_tell_the_body_does(cut) -> None:
    body = figure(0)
    found = cut.soft_edge(np.full((120, 90, 3), 0.5), body, 6.0)
    # Less than half of the margin's ring is off.
    assert ((found > 0.5) != body).mean() < 0.045
    assert found[60, 45] == 1 and found[60, 22] == 0
    edge = found[60, 20:35]
    assert (np.diff(edge) >= 0).all() and ((edge > 0.05) & (edge < 0.95)).any(), "the edge is soft"


def test_a_ground_of_many_colours_leaves_nothing_behind_and_the_figure_whole(cut) -> None:
    """Patches of the figure's colours stand behind it: those within the margin that do not touch it stay out."""
    rng = np.random.default_rng(3)
    true = figure(0)
    colours = rng.uniform(0, 1, (2, 4, 3))
    patches = rng.integers(0, 4, (2, 15, 12)).repeat(8, axis=1).repeat(8, axis=2)[:, :120, :90]
    picture = np.where(true[..., None], colours[0][patches[0]], colours[1][patches[1]])
    picture[60:63, 24:27] = colours[0][0]
    found = cut.soft_edge(picture, figure(3), 8.0)
    assert found[60:63, 24:27].max() < 0.1
    assert (found > 0.5)[true].mean() > 0.97 and ((found > 0.5) != true).mean() < 0.02


def test_a_body_out_of_the_picture_has_no_figure(cut) -> None:
    assert not cut.soft_edge(np.zeros((9, 7, 3)), np.zeros((9, 7), dtype=bool), 3.0).any()


def test_opacity_is_brought_to_the_size_of_its_picture(cut) -> None:
    values = np.linspace(0, 1, 5)[None].repeat(3, axis=0)
    larger = cut.enlarged(values, 6, 20)
    assert larger.shape == (6, 20)
    assert (np.diff(larger, axis=1) >= 0).all() and larger.max() == 1
    np.testing.assert_allclose(cut.enlarged(values, 3, 5), values)
