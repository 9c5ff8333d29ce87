from __future__ import annotations

import dataclasses
import io
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from maquette.backend.shot import Background, Media, Settings, ShotError, load_shot, save_shot

from ..builders import make_shot, png


def assert_same(a: object, b: object) -> None:
    if dataclasses.is_dataclass(a):
        assert type(a) is type(b)
        for f in dataclasses.fields(a):
            assert_same(getattr(a, f.name), getattr(b, f.name))
    elif isinstance(a, np.ndarray):
        assert isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b)
    elif isinstance(a, tuple):
        assert isinstance(b, tuple) and len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    else:
        assert a == b


def rewrite(path: Path, *, json_edit=None, arrays=None, drop=(), add=None) -> None:
    """Write the file again with parts exchanged, as a careless or hostile program would."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist() if name not in drop}
    if json_edit:
        header = json.loads(entries["shot.json"])
        json_edit(header)
        entries["shot.json"] = json.dumps(header).encode()
    if arrays is not None:
        entries["arrays.npz"] = arrays
    entries.update(add or {})
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    target = tmp_path / "a.shot"
    save_shot(make_shot(), target)
    return target


@given(
    frames=st.integers(1, 6),
    points=st.integers(1, 20),
    characters=st.integers(1, 3),
    prompt=st.text(max_size=40),
    steps=st.none() | st.integers(1, 1000),
    guidance=st.none() | st.floats(0, 100),
    full=st.booleans(),
    options=st.dictionaries(st.text(max_size=8), st.booleans() | st.integers(-9, 9) | st.floats(0, 1) | st.text()),
)
def test_a_shot_survives_the_file(tmp_path_factory, frames, points, characters, prompt, steps, guidance, full, options):
    shot = dataclasses.replace(
        make_shot(frames, points, characters, full=full),
        prompt=prompt,
        settings=Settings(steps=steps, guidance=guidance, options=options),
    )
    target = tmp_path_factory.mktemp("shots") / "a.shot"
    save_shot(shot, target)
    assert_same(shot, load_shot(target))


def test_a_file_of_version_1_is_read(path):
    def older(header):
        header["version"] = 1
        del header["meshes"], header["tracks"], header["settings"]["options"]
        before_version_3(header)

    rewrite(path, json_edit=older)
    assert_same(make_shot(), load_shot(path))


def before_version_3(header):
    del header["clay"], header["settings"]["quality"]
    for character in header["characters"]:
        del character["further_references"]
        character["reference"] = character["reference"]["image"]


def test_a_file_of_version_2_is_read(tmp_path):
    def older(header):
        header["version"] = 2
        before_version_3(header)

    shot = make_shot(full=True)
    people = tuple(
        dataclasses.replace(
            person,
            reference=dataclasses.replace(person.reference, vertices=None, clay=None),
            further_references=(),
        )
        for person in shot.characters
    )
    settings = dataclasses.replace(shot.settings, quality=None)
    shot = dataclasses.replace(shot, characters=people, clay=None, settings=settings)
    save_shot(shot, tmp_path / "a.shot")
    rewrite(tmp_path / "a.shot", json_edit=older)
    assert_same(shot, load_shot(tmp_path / "a.shot"))


def test_optional_parts_may_be_absent(tmp_path):
    shot = make_shot()
    bare = dataclasses.replace(shot.characters[0], joints=None, body=None, reference=None)
    shot = dataclasses.replace(shot, characters=(bare,), background=Background())
    save_shot(shot, tmp_path / "a.shot")
    assert_same(shot, load_shot(tmp_path / "a.shot"))


def test_one_picture_per_frame_is_a_video_background(tmp_path):
    shot = make_shot(3, background=Background("video", (png(), png(), png())))
    save_shot(shot, tmp_path / "a.shot")
    assert len(load_shot(tmp_path / "a.shot").background.media) == 3


def test_a_failed_save_leaves_the_old_file_and_nothing_else(path, monkeypatch):
    before = path.read_bytes()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    with pytest.raises(OSError, match="No space"):
        save_shot(make_shot(), path)
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("keep", [0, 10, 500, -1, -30])
def test_a_truncated_file_says_so(path, keep):
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(
        ShotError, match=r"file: 'a\.shot' is (not a .shot file or is cut short|damaged); export it again"
    ):
        load_shot(path)


@given(position=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255))
def test_a_flipped_byte_is_an_error_or_harmless(tmp_path_factory, position, value):
    target = tmp_path_factory.mktemp("shots") / "a.shot"
    save_shot(make_shot(2, 4), target)
    data = bytearray(target.read_bytes())
    data[int(position * len(data))] = value
    target.write_bytes(bytes(data))
    try:
        load_shot(target)
    except ShotError:
        pass


def test_a_newer_version_asks_for_an_update(path):
    rewrite(path, json_edit=lambda h: h.update(version=99))
    with pytest.raises(ShotError, match="newer Maquette.*update"):
        load_shot(path)


def npz(**arrays) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def test_pickled_arrays_are_never_opened(path, tmp_path):
    mark = tmp_path / "mark"

    class Evil:
        def __reduce__(self):
            return (Path.touch, (mark,))

    stream = io.BytesIO()
    np.savez(stream, **{"clip.viewmats": np.array([Evil()], dtype=object)}, allow_pickle=True)
    rewrite(path, arrays=stream.getvalue())
    with pytest.raises(ShotError, match=r"clip\.viewmats: has dtype object"):
        load_shot(path)
    rewrite(path, arrays=pickle.dumps({"clip.viewmats": 1}))
    with pytest.raises(ShotError, match=r"arrays\.npz"):
        load_shot(path)
    assert not mark.exists()


def test_a_header_that_claims_too_much_is_refused_before_allocation(path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000, 1000000), }"
        body = b"\x93NUMPY\x01\x00" + (len(header) + 1).to_bytes(2, "little") + header.encode() + b"\n"
        archive.writestr("clip.viewmats.npy", body)
    rewrite(path, arrays=stream.getvalue())
    with pytest.raises(ShotError, match=r"clip\.viewmats: claims shape"):
        load_shot(path)


@pytest.mark.parametrize("name", ["shot.json", "arrays.npz", "media/00000.png"])
def test_a_missing_part_is_named(path, name):
    rewrite(path, drop=(name,))
    with pytest.raises(ShotError, match="missing"):
        load_shot(path)


@pytest.mark.parametrize(
    ("edit", "field"),
    [
        (lambda h: h.update(format="zip"), "shot.json"),
        (lambda h: h.update(version="1"), "shot.json.version"),
        (lambda h: h.update(characters={}), "characters"),
        (lambda h: h.update(characters=[]), "characters"),
        (lambda h: h.update(clip=None), "clip"),
        (lambda h: h["clip"].update(fps="fast"), "clip.fps"),
        (lambda h: h["clip"].update(width=0), "clip.width"),
        (lambda h: h["clip"].update(height=1.5), "clip.height"),
        (lambda h: h["characters"][0].update(name=""), "characters[0].name"),
        (lambda h: h["characters"][0].update(reference="../../etc/passwd"), "characters[0].reference.image"),
        (lambda h: h["characters"][0].update(reference="media/9.png"), "media/9.png"),
        (lambda h: h["characters"][0]["reference"].update(clay="media/9.png"), "media/9.png"),
        (lambda h: h["characters"][0].update(further_references=[3]), "characters[0].further_references[0]"),
        (lambda h: h.update(clay={"media": "all", "surroundings": True}), "clay.media"),
        (lambda h: h["background"].update(kind="hologram"), "background.kind"),
        (lambda h: h["background"].update(media=None), "background.media"),
        (lambda h: h["settings"].update(steps=0), "settings.steps"),
        (lambda h: h["settings"].update(seed=True), "settings.seed"),
        (lambda h: h["settings"].update(speed=3), "settings"),
        (lambda h: h.update(prompt=3), "prompt"),
    ],
)
def test_bad_json_names_the_field(path, edit, field):
    rewrite(path, json_edit=edit)
    with pytest.raises(ShotError) as error:
        load_shot(path)
    assert error.value.field == field


def test_json_nested_without_end_is_refused(path):
    rewrite(path, add={"shot.json": b"[" * 200_000})
    with pytest.raises(ShotError, match="JSON"):
        load_shot(path)


def test_media_that_is_no_picture_is_refused(path):
    rewrite(path, add={"media/00000.png": b"MZ" + bytes(100)})
    with pytest.raises(ShotError, match=r"reference\.image: is not a image/png file, or is damaged"):
        load_shot(path)


def test_saving_refuses_what_loading_would(tmp_path):
    shot = make_shot()
    broken = dataclasses.replace(shot, background=Background("still", (Media(b"nothing", "image/png"),)))
    with pytest.raises(ShotError, match="background"):
        save_shot(broken, tmp_path / "a.shot")
    assert not list(tmp_path.iterdir())
