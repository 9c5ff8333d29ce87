"""Reading body files: the three families in both formats, and files that are wrong, cut short or hostile."""

from __future__ import annotations

import io
import os
import pickle
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from maquette.backend.bodies import JOINT_NAMES, BodyError, list_bodies, load_body

BodyFile = Callable[..., Path]


@pytest.mark.parametrize("suffix", [".npz", ".pkl"])
@pytest.mark.parametrize(("layout", "joints"), [("smpl", 24), ("smplh", 52), ("smplx", 55), ("smplx-old", 55)])
def test_families(body_file: BodyFile, body_arrays: Callable[..., Any], layout: str, joints: int, suffix: str) -> None:
    body = load_body(body_file(layout, suffix))
    arrays = body_arrays(layout)
    family = layout.partition("-")[0]
    assert body.family == family and body.joint_names == JOINT_NAMES[family]
    assert body.id == layout.replace("-", "_") + "_neutral"
    assert len(body.parents) == joints and body.parents[0] == -1 and body.parents.dtype == np.int32
    assert body.faces.dtype == np.int32 and np.array_equal(body.faces, arrays["f"])
    assert np.allclose(body.posedirs, arrays["posedirs"])
    shapes = {"smpl": 10, "smplh": 16, "smplx": 300, "smplx-old": 10}[layout]
    assert np.allclose(body.shapedirs, arrays["shapedirs"][:, :, :shapes])


@pytest.mark.parametrize("layout", ["smpl", "smplh", "smplx"])
def test_smpl_joints_of_every_family(body_file: BodyFile, layout: str) -> None:
    body = load_body(body_file(layout))
    joints = body.joints_rest()
    picked = body.smpl_joints(joints[None])
    assert picked.shape == (1, 24, 3)
    assert np.array_equal(picked[0, :22], joints[:22])
    middle = {"smpl": 22, "smplh": 25, "smplx": 28}[layout]
    assert np.array_equal(picked[0, 22], joints[middle])


def test_what_comes_with_maquette_is_small_and_says_where_it_is_from() -> None:
    for info in list_bodies():
        entry = tomllib.loads(info.path.with_suffix(".toml").read_text(encoding="utf-8"))
        assert entry["license"] == info.license == "CC0-1.0" and entry["source"]
        assert load_body(info.id).family == info.family
    folder = list_bodies()[0].path.parent
    assert sum(path.stat().st_size for path in folder.iterdir() if path.is_file()) <= 3_000_000
    assert "CC0" in (folder / "README.md").read_text(encoding="utf-8")


def test_ids_and_folders(body_file: BodyFile, tmp_path: Path) -> None:
    body_file("smplx")
    body_file("smpl", ".pkl")
    (tmp_path / "amass_clip.npz").write_bytes(b"not a body")
    infos = list_bodies([tmp_path, tmp_path / "absent"])
    assert [info.id for info in infos] == ["maquette_neutral", "smpl_neutral", "smplx_neutral"]
    assert [info.family for info in infos] == ["smpl", "smpl", "smplx"]
    assert load_body("smplx_neutral", [tmp_path]).family == "smplx"
    assert load_body("maquette_neutral").id == "maquette_neutral"
    with pytest.raises(BodyError, match="there is no body named 'smplx_neutral'; there are maquette_neutral"):
        load_body("smplx_neutral")
    with pytest.raises(BodyError, match="there is no file"):
        load_body(tmp_path / "absent.npz")
    with pytest.raises(BodyError, match=r"neither an \.npz nor a \.pkl"):
        load_body(tmp_path / "body.obj")


_NAN = np.full((97, 3), np.nan)
_WRONG = [
    ("v_template", {"v_template": None}),
    ("v_template", {"v_template": _NAN}),
    ("v_template", {"v_template": np.zeros((97, 2))}),
    ("v_template", {"v_template": np.array(["a"])}),
    ("kintree_table", {"kintree_table": np.zeros((3, 24))}),
    ("kintree_table", {"kintree_table": None}),
    ("parents", {"kintree_table": np.array([[4294967295, *range(1, 24)], range(24)])}),  # each its own parent
    ("faces", {"f": np.zeros((4, 4), int)}),
    ("faces", {"f": np.array([[0, 1, 97]])}),
    ("faces", {"f": np.array([[0, 1, -3]])}),
    ("faces", {"f": np.array([[0, 1, 1 << 40]])}),
    ("f", {"f": np.array([[0, 1, 2.5]])}),
    ("weights", {"weights": np.ones((97, 25))}),
    ("weights", {"weights": np.zeros((97, 24))}),
    ("weights", {"weights": -np.ones((97, 24))}),
    ("weights", {"weights": np.full((97, 24), 1e300)}),
    ("shapedirs", {"shapedirs": np.zeros((97, 3))}),
    ("posedirs", {"posedirs": np.zeros((97, 3, 206))}),
    ("J_regressor", {"J_regressor": np.zeros((24, 96))}),
    ("J_regressor", {"J_regressor": np.zeros((24, 97))}),
    ("regions", {"regions": np.full(97, 3, np.uint8), "region_names": np.array(["skin"])}),
]


@pytest.mark.parametrize("suffix", [".npz", ".pkl"])
@pytest.mark.parametrize(("field", "changes"), _WRONG)
def test_wrong_arrays_are_named(body_file: BodyFile, field: str, changes: dict[str, Any], suffix: str) -> None:
    if changes.get("weights") is not None and changes["weights"].shape[1] == 25:
        changes = {**changes, "kintree_table": np.zeros((2, 25), int), "J_regressor": np.ones((25, 97)) / 97,
                   "posedirs": None}  # fmt: skip
    path = body_file("smpl", suffix, **changes)
    with pytest.raises(BodyError) as error:
        load_body(path)
    # One array can contradict another; either may be named where both are at fault.
    assert error.value.field == field
    assert "SMPL_NEUTRAL" in str(error.value) or changes.get(field, 0) is None


def test_a_motion_is_not_a_body(tmp_path: Path) -> None:
    path = tmp_path / "walk.npz"
    np.savez(path, poses=np.zeros((5, 72)), trans=np.zeros((5, 3)))
    with pytest.raises(BodyError, match="not a body model of the SMPL family"):
        load_body(path)
    other = tmp_path / "list.pkl"
    other.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(BodyError, match="holds a list"):
        load_body(other)


def test_pickled_arrays_in_an_npz_are_refused(body_file: BodyFile, tmp_path: Path) -> None:
    class Touch:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "trace"),)

    path = body_file("smpl", ".npz", J_regressor=np.array([Touch()], dtype=object))
    with pytest.raises(BodyError, match="J_regressor: is pickled"):
        load_body(path)
    ignored = body_file("smplx", ".npz", part2num=np.array(Touch(), dtype=object))  # such keys are not touched
    assert load_body(ignored).family == "smplx"
    assert not (tmp_path / "trace").exists()


def test_hostile_pickles_are_refused_by_name(tmp_path: Path) -> None:
    class Touch:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "trace"),)

    path = tmp_path / "SMPL_HOSTILE.pkl"
    path.write_bytes(pickle.dumps({"v_template": Touch()}))
    with pytest.raises(BodyError, match=r"(posix|nt)\.mkdir"):
        load_body(path)
    assert not (tmp_path / "trace").exists()


def _with_header(arrays: dict[str, np.ndarray], key: str, shape: tuple[int, ...], kind: str = "<f4") -> bytes:
    """An .npz whose array ``key`` claims a shape that its data do not have."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            if name == key:
                header = {"descr": kind, "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(member, header)
                member.write(b"\0" * 1000)
            else:
                np.save(member, array)
            archive.writestr(name + ".npy", member.getvalue())
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("key", "shape", "kind"),
    [
        ("v_template", (1 << 40, 3), "<f4"),
        ("f", (1 << 30, 3), "<u4"),
        ("shapedirs", (97, 3, 1 << 40), "<f8"),
        ("weights", (97, 24), "<f4"),  # as it should be, but the data are missing
        ("weights", (97, 24), "<U100000"),
        ("region_names", (1 << 40,), "<U8"),
        ("region_names", (6,), "<U90000000"),
    ],
)
def test_sizes_are_checked_before_memory_is_taken(
    body_arrays: Callable[..., Any], tmp_path: Path, key: str, shape: tuple[int, ...], kind: str
) -> None:
    import tracemalloc

    path = tmp_path / "SMPL_LARGE.npz"
    path.write_bytes(
        _with_header({**body_arrays("smpl"), **({key: 0} if key == "region_names" else {})}, key, shape, kind)
    )
    tracemalloc.start()
    try:
        with pytest.raises(BodyError):
            load_body(path)
        assert tracemalloc.get_traced_memory()[1] < 30 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("suffix", [".npz", ".pkl"])
def test_cut_short(body_file: BodyFile, suffix: str) -> None:
    path = body_file("smpl", suffix)
    data = path.read_bytes()
    for share in (0, 0.01, 0.3, 0.7, 0.999):
        path.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(BodyError):
            load_body(path)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.sampled_from([".npz", ".pkl"]))
def test_damage_gives_a_body_or_one_clear_error(body_file: BodyFile, data: st.DataObject, suffix: str) -> None:
    path = body_file("smpl", suffix, posedirs=None)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 5))):
        # Ends and starts of a file hold its structure; the middle is mostly numbers.
        place = data.draw(st.one_of(st.integers(0, 400), st.integers(len(content) - 800, len(content) - 1)))
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content))
    try:
        body = load_body(path)
    except BodyError as error:
        assert error.field and str(error)
    else:
        assert np.isfinite(body.pose(None, np.zeros((1, 24, 3))).vertices).all()
