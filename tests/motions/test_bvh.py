"""The BVH parser: what it reads, and how it says no."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from maquette.backend.bodies.rotations import axis_angle_to_matrix
from maquette.backend.motions import MotionError, load_motion
from maquette.backend.motions.bvh import parse_bvh
from maquette.backend.motions.reading import read_bytes
from maquette.backend.shot.types import SMPL_JOINT_NAMES

from .writers import body_bvh, bvh_text

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
        (lambda t: t[: t.index("1 2 4")].replace("Frames: 2", "Frames: 3"), "MOTION", "truncated"),
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


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.replace("0.04", "0,04").replace("90 ", "90,0 "),
        lambda t: t.replace("0.04", "0.04\n# rows follow").replace(" 0 90 0", ", 0, 90, 0"),
        lambda t: "# exported by hand\n// twice\n\n" + t,
        lambda t: t.replace("Frames: 2", "Frames: 2.0"),
        lambda t: "\ufeff" + t.replace("\n", "\r\n"),
    ],
)
def test_dialects_of_numbers_and_comments_are_read(change) -> None:
    clip, same = parse_bvh(change(GOOD)), parse_bvh(GOOD)
    assert clip.frame_time == same.frame_time
    np.testing.assert_allclose(clip.rotations, same.rotations)
    np.testing.assert_allclose(clip.translations, same.translations)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_text_in_other_encodings_is_read(encoding: str) -> None:
    kind, text = read_bytes(GOOD.encode(encoding), "walk.bvh")
    assert kind == "bvh" and parse_bvh(text).names == ("Hips", "Left Leg")


@pytest.mark.parametrize("promised", [1, 2, 3])
def test_whole_rows_count_more_than_a_miscounted_header(promised: int) -> None:
    clip = parse_bvh(GOOD.replace("Frames: 2", f"Frames: {promised}"))
    assert len(clip.rotations) == 2
    assert bool(clip.notes) == (promised != 2)


@pytest.mark.parametrize(
    ("written", "fps"),
    [("0.0333333", 30), ("0.0333667", 30000 / 1001), ("0.033367", 30000 / 1001), ("0.0417083", 24000 / 1001),
     ("0.0416667", 24), ("0.0166833", 60000 / 1001), ("0.008333", 120), ("0.0333", 30), ("0.01", 100), ("0.013", 77)],
)  # fmt: skip
def test_rates_are_exact(tmp_path, walk, body, written: str, fps: float) -> None:
    path = tmp_path / "walk.bvh"
    path.write_text(re.sub("Frame Time: .*", f"Frame Time: {written}", body_bvh(body, walk, SMPL_JOINT_NAMES)))
    assert load_motion(path, body=body).fps == pytest.approx(fps, rel=1e-9)


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
