"""Shards: which samples they hold, what their files are called, and that no two share a seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from maquette.backend.raster.carry import carry_shot
from maquette.backend.training import data as data_module
from maquette.backend.training.data import (
    CARRIED,
    FIELDS,
    HELD_OUT,
    MAPS,
    SHARD,
    DataConfig,
    made_paths,
    make_data,
    make_shard,
    shard_path,
    shard_paths,
    shard_seeds,
)
from maquette.backend.training.errors import TrainingError
from maquette.backend.worlds.sample import make_sample, to_shot

shard = st.tuples(st.integers(1, 199), st.integers(1, 3), st.integers(0, 26040))


@given(shard, shard)
def test_seeds_of_two_shards_never_meet(first, second):
    a, b = shard_seeds(*first), shard_seeds(*second)
    assert len(a) == len(b) == SHARD
    assert (a == b) if first == second else not (set(a) & set(b))


@given(shard)
def test_seeds_never_meet_the_held_out_ones(which):
    seeds = shard_seeds(*which)
    assert seeds[0] >= 0 and seeds[-1] < HELD_OUT


@pytest.mark.parametrize(("frames", "number"), [(200, 0), (0, 0), (9, 26041)])
def test_shards_whose_seeds_would_meet_others_are_refused(frames, number):
    with pytest.raises(ValueError, match="choose"):
        shard_seeds(frames, 3, number)


def test_shards_take_turns_in_shape_at_equal_area():
    config = DataConfig(size=256, shards=5, pair_shards=2, aspects=True)
    sizes = [config.size_of(i) for i in range(7)]
    assert sizes == [(256, 256), (336, 192), (192, 336), (288, 224), (256, 256), (256, 256), (336, 192)]
    assert all(abs(w * h / 256**2 - 1) < 0.05 for w, h in sizes)
    assert {DataConfig(size=72, shards=5).size_of(i) for i in range(5)} == {(72, 72)}


def test_a_shard_holds_the_carried_film(tmp_path, monkeypatch):
    """As the engine draws it of the shot, in the shard's own shape; every fifth seed without its light."""
    monkeypatch.setattr(data_module, "SHARD", 2)
    config = DataConfig(frames=1, size=32, points=16, shards=2, pair_shards=0, aspects=True)
    path = make_shard(tmp_path, config, 1)
    assert "48x32" in path.name
    with np.load(path) as kept:
        assert set(kept.files) == {*FIELDS, *CARRIED}
        assert kept["carried"].shape == kept["video"].shape == (2, 1, 32, 48, 3)
        assert kept["known"].shape == (2, 1, 32, 48) and kept["known"].dtype == np.uint8
        for i, seed in enumerate(shard_seeds(1, 1, 1)):
            shot = to_shot(make_sample(seed, 1, (48, 32), 16, 1), light=seed % 5 > 0)
            film = carry_shot(shot, 48, 32)
            np.testing.assert_array_equal(kept["carried"][i], film.frames)
            assert np.abs(kept["known"][i] / 255 - film.known).max() < 0.003


@given(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5), st.booleans(), st.booleans())
def test_every_shard_has_a_file_of_its_own(one, two, three, maps, aspects):
    config = DataConfig(shards=one, pair_shards=two, trio_shards=three, maps=maps, aspects=aspects)
    paths = shard_paths(Path("x"), config)
    assert len(set(paths)) == config.count == one + two + three
    kinds = [path.name.split("_")[0] for path in paths]
    assert kinds == ["one"] * one + ["two"] * two + ["three"] * three
    with pytest.raises(IndexError):
        shard_path(Path("x"), config, config.count)


def test_a_shard_holds_its_samples(tmp_path, monkeypatch):
    monkeypatch.setattr(data_module, "SHARD", 2)
    config = DataConfig(frames=2, size=32, points=16, shards=1, pair_shards=1, trio_shards=1, maps=True, carried=False)
    paths = make_data(tmp_path, config, workers=1)
    assert sorted(paths) == sorted(tmp_path.glob("*.npz")) and len(paths) == 3
    for characters, path in enumerate(paths, start=1):
        with np.load(path) as kept:
            assert set(kept.files) == {*FIELDS, *MAPS}
            assert kept["points"].shape == (2, characters, 2, 16, 3)
            assert kept["normals"].shape == kept["canonical"].shape == (2, 2, 32, 32, 3)
    seed = shard_seeds(2, 3, 0)[1]
    sample = make_sample(seed, 2, 32, 16, 3, maps=True)
    with np.load(paths[2]) as kept:
        for name in config.fields:
            np.testing.assert_array_equal(kept[name][1], getattr(sample, name))


def test_a_shard_grows_over_several_calls(tmp_path, monkeypatch):
    """Time for one sample a call; in the end it is what one call makes."""
    monkeypatch.setattr(data_module, "SHARD", 3)
    config = DataConfig(frames=1, size=32, points=16, shards=1, pair_shards=0, carried=False)
    for name in ("whole", "grown"):
        (tmp_path / name).mkdir()
    whole = make_shard(tmp_path / "whole", config, 0)
    assert whole is not None
    monkeypatch.setattr(data_module, "time_is_up", lambda until: next(clock, True))
    names = []
    for asked in ((True,), (False, True), (True,), (False, True), (False,)):
        clock = iter(asked)
        make_shard(tmp_path / "grown", config, 0, until=0.0)
        names.append([path.name for path in made_paths(tmp_path / "grown", config)])
        assert names[-1] == [path.name for path in (tmp_path / "grown").iterdir()]
    stem = whole.stem
    assert names == [[], [f"{stem}_first1.npz"], [f"{stem}_first1.npz"], [f"{stem}_first2.npz"], [whole.name]]
    with np.load(whole) as a, np.load(tmp_path / "grown" / whole.name) as b:
        for name in config.fields:
            np.testing.assert_array_equal(a[name], b[name])


def test_some_shards_are_dressed(tmp_path, monkeypatch):
    monkeypatch.setattr(data_module, "SHARD", 1)
    config = DataConfig(frames=1, size=32, points=16, shards=4, pair_shards=0, carried=False, dressed=0.5)
    assert [config.dressed_at(i) for i in range(4)] == [False, True, False, True]
    bare, dressed = (make_shard(tmp_path, config, i) for i in (0, 1))
    assert "dressed" in dressed.name and "dressed" not in bare.name
    for number, path in enumerate((bare, dressed)):
        sample = make_sample(shard_seeds(1, 1, number)[0], 1, 32, 16, 1, dressed=number == 1)
        with np.load(path) as kept:
            np.testing.assert_array_equal(kept["video"][0], sample.video)
    with pytest.raises(TrainingError, match=r"dressed = 1\.5"):
        DataConfig(dressed=1.5)


def test_a_shard_that_is_there_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(data_module, "SHARD", 1)
    config = DataConfig(frames=1, size=32, points=16, shards=1, pair_shards=0)
    path = make_shard(tmp_path, config, 0)
    path.write_bytes(b"mine")
    assert make_shard(tmp_path, config, 0) == path and path.read_bytes() == b"mine"
    with np.load(make_shard(tmp_path, DataConfig(1, 32, 16, 1, 0, maps=True), 0)) as kept:
        assert "normals" in kept.files
