"""The BVH parser: what it reads, and how it says no."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from maquette.backend.bodies.rotations import axis_angle_to_matrix
from maquette.backend.motions import MotionError
from maquette.backend.motions.bvh import parse_bvh

from .writers import bvh_text

GOOD = """HIERARCHY
ROOT Hips
{
  OFFSET 0 0 0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  JOINT Left Leg
  {
    OFFSET 0 -1 0
    CHANNELS 3 Zrotation Xrotation Yrotation
    End Site
    {
      OFFSET 0 -1 0
    }
  }
}
MOTION
Frames: 2
Frame Time: 0.04
1 2 3 90 0 0 0 0 0
1 2 4 0 0 0 0 90 0
"""


def test_reads_names_places_and_rate() -> None:
    clip = parse_bvh(GOOD)
    assert clip.names == ("Hips", "Left Leg")
    assert clip.frame_time == 0.04
    turns, places = clip.world()
    np.testing.assert_allclose(places[:, 0], [[1, 2, 3], [1, 2, 4]])
    # A quarter turn about z takes the leg, which hangs along -y, to +x.
    np.testing.assert_allclose(places[0, 1], [2, 2, 3], atol=1e-12)
    np.testing.assert_allclose(turns[1, 1] @ clip.sites[0], [0, 0, -1], atol=1e-12)


@st.composite
def clips(draw):
    count = draw(st.integers(1, 7))
    parents = [-1] + [draw(st.integers(0, j - 1)) for j in range(1, count)]
    number = st.floats(-3, 3, allow_nan=False, width=32)
    offsets = np.array([[draw(number) for _ in range(3)] for _ in range(count)])
    frames = draw(st.integers(1, 3))
    seed = draw(st.integers(0, 2**31))
    rng = np.random.default_rng(seed)
    local = axis_angle_to_matrix(rng.uniform(-1.5, 1.5, (frames, count, 3)))
    root = rng.uniform(-5, 5, (frames, 3))
    order = draw(st.sampled_from(["XYZ", "XZY", "YXZ", "YZX", "ZXY", "ZYX"]))
    newline, indent = draw(st.sampled_from(["\n", "\r\n"])), draw(st.sampled_from(["\t", "  "]))
    return parents, offsets, local, root, order, newline, indent


@given(clips())
def test_any_tree_and_channel_order_comes_back(clip) -> None:
    parents, offsets, local, root, order, newline, indent = clip
    names = [f"joint {j}" for j in range(len(parents))]
    text = bvh_text(names, parents, offsets, local, root, order=order, newline=newline, indent=indent)
    read = parse_bvh(text)
    # The file lists joints depth first; names tell which is which.
    at = [read.names.index(n) for n in names]
    np.testing.assert_allclose(read.offsets[at], offsets, atol=1e-6)
    np.testing.assert_allclose(read.rotations[:, at], local, atol=1e-6)
    np.testing.assert_allclose(read.translations[:, at[0]], root, atol=1e-5)
    assert [read.names[p] if p >= 0 else "" for p in read.parents[at]] == [names[p] if p >= 0 else "" for p in parents]


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        (lambda t: t.replace("HIERARCHY", "HELLO"), "file", "HIERARCHY"),
        (lambda t: t[: t.index("MOTION")], "MOTION", "missing"),
        (lambda t: t[: t.index("1 2 4")], "MOTION", "truncated"),
        (lambda t: t[: t.rindex("90")], "MOTION", "truncated"),
        (lambda t: t[: t.index("Frames")] + "Frames: 2\n", "MOTION", "truncated"),
        (lambda t: t.replace("Frames: 2", "Frames: zwei"), "MOTION", "not a number"),
        (lambda t: t.replace("Frames: 2", "Frames: 0"), "MOTION", "no frame"),
        (lambda t: t.replace("1 2 3", "1 nan 3"), "MOTION", "NaN"),
        (lambda t: t.replace("1 2 3", "1 x 3"), "MOTION", "not a number"),
        (lambda t: t.replace("CHANNELS 3", "CHANNELS 4"), "HIERARCHY", "Left Leg"),
        (lambda t: t.replace("CHANNELS 3 Zrotation", "CHANNELS 3 Wrotation"), "HIERARCHY", "wrotation"),
        (lambda t: t.replace("OFFSET 0 -1 0", "OFFSET 0 -1", 1), "HIERARCHY", "OFFSET"),
        (lambda t: t.replace("OFFSET 0 -1 0", "OFFSET 0 inf 0", 1), "HIERARCHY", "OFFSET"),
        (lambda t: t.replace("}\nMOTION", "MOTION"), "HIERARCHY", "truncated"),
        (lambda t: t.replace("}\nMOTION", "}\nROOT Second\n{\nOFFSET 0 0 0\n}\nMOTION"), "HIERARCHY", "second root"),
        (lambda t: t.replace("JOINT Left Leg", "BONE Left Leg"), "HIERARCHY", "BONE"),
    ],
)
def test_bad_files_are_refused_with_the_part_at_fault(change, field: str, words: str) -> None:
    with pytest.raises(MotionError) as caught:
        parse_bvh(change(GOOD))
    assert caught.value.field == field
    assert words in str(caught.value)


@given(st.integers(0, len(GOOD) - 1), st.text(max_size=3), st.integers(0, 40))
def test_damage_never_escapes_as_another_error(at: int, put: str, cut: int) -> None:
    text = GOOD[:at] + put + GOOD[at + cut :]
    try:
        clip = parse_bvh(text)
    except MotionError:
        return
    assert np.isfinite(clip.rotations).all() and np.isfinite(clip.translations).all()


def test_empty_position_channels_below_the_root_keep_the_offset() -> None:
    six = GOOD.replace("CHANNELS 3 ", "CHANNELS 6 Xposition Yposition Zposition ").replace(
        "90 0 0 0 0 0", "0 0 0 0 0 0 0 0 0"
    )
    kept = parse_bvh(six.replace("0 0 0 0 90 0", "0 0 0 0 0 0 0 0 0"))
    np.testing.assert_allclose(kept.translations[:, 1], [[0, -1, 0]] * 2)
    moved = parse_bvh(six.replace("0 0 0 0 90 0", "0 0 0 0 -2 0 0 0 0"))
    np.testing.assert_allclose(moved.translations[1, 1], [0, -2, 0])
