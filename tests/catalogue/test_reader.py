"""Every kind of preset: what ships is read, a new file is a new preset, and what is broken is named."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from maquette.backend.catalogue.cameras import Move
from maquette.backend.catalogue.models import find_specs, read_spec
from maquette.backend.catalogue.quality import QualityLevel
from maquette.backend.catalogue.reader import (
    PRESETS,
    CatalogueError,
    Preset,
    find_preset,
    list_presets,
    menu,
    read_preset,
    read_table,
)
from maquette.backend.catalogue.rig import JOINTS, BodyFile, Pose, Scheme

from ..conftest import ROOT

KINDS: tuple[type[Preset], ...] = (Move, Pose, Scheme, BodyFile, QualityLevel)
READERS: dict[str, Callable[[Path], Any]] = {
    "models": read_spec,
    **{kind.FOLDER.name: partial(read_preset, kind) for kind in KINDS},
}
FILES = [path for folder in READERS for path in sorted((PRESETS / folder).glob("*.toml"))]
REQUIRED = [
    *(("models", key) for key in ("description", "license", "engine", "limits", "defaults")),
    *(("models", f"defaults.{key}") for key in ("steps", "guidance", "width", "height", "frames")),
    *(("skeletons", f"joints.{key}") for key in ("pelvis", "spine", "head", "left_hip", "right_wrist")),
    *(("bodies", key) for key in ("family", "file")), ("skeletons", "joints"),
    *(("quality", key) for key in ("description", "order")),
]  # fmt: skip

Keys = tuple[str | int, ...]


def toml(value: Any) -> str:
    """A value as TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return str(value).replace("e+", "e") if isinstance(value, float) else json.dumps(value)


def write(folder: Path, name: str, table: dict[str, Any]) -> Path:
    path = folder / name
    path.write_text("".join(f"{json.dumps(key)} = {toml(value)}\n" for key, value in table.items()), "utf-8")
    return path


def leaves(value: Any, at: Keys = ()) -> Iterator[Keys]:
    """Where the single values of a table are."""
    if isinstance(value, (dict, list)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(item, (*at, key))
    else:
        yield at


def checked(path: Path) -> list[Keys]:
    """The values of a preset that the catalogue knows: not those of a model's networks."""
    own = {"id", "label", "description", "license", "engine", "inputs", "limits", "defaults", "files", "options"}
    own |= {"sources", "memory"}
    return [at for at in leaves(read_table(path)) if path.parent.name != "models" or at[0] in own]


def parent(table: Any, at: Keys) -> Any:
    for key in at[:-1]:
        table = table[key]
    return table


def wrong(value: Any) -> list[Any]:
    """What cannot stand for a value: another type, or a number that is none."""
    if isinstance(value, bool):
        return [1, 0.0, "yes", [True, 1]]
    if isinstance(value, str):
        return [1, True, math.nan, {"a": "b"}]
    return [True, False, math.nan, math.inf, -math.inf, "1", {"a": 1}]


CASES = [
    (path, at, bad)
    for path, table in ((path, read_table(path)) for path in FILES)
    for at in checked(path)
    for bad in wrong(parent(table, at)[at[-1]])
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("presets")


@given(st.sampled_from(CASES))
def test_a_value_of_the_wrong_type_is_named(folder: Path, case: tuple[Path, Keys, Any]) -> None:
    path, at, bad = case
    table = read_table(path)
    parent(table, at)[at[-1]] = bad
    key = [name for name in at if isinstance(name, str)][-1]
    with pytest.raises(CatalogueError, match=rf"{path.name}: (?s:.*){key}"):
        READERS[path.parent.name](write(folder, path.name, table))


@given(st.sampled_from(FILES), st.data())
def test_an_unknown_key_is_named(folder: Path, path: Path, data: st.DataObject) -> None:
    table = read_table(path)
    free = ("memory",)
    places = [table] + [table[at[0]] for at in checked(path) if len(at) > 1 and at[0] not in free]
    places = [place[0] if isinstance(place, list) else place for place in places]
    options = list(table.get("options", {}).values())
    data.draw(st.sampled_from(places + options))["labell"] = 1
    with pytest.raises(CatalogueError, match=rf"{path.name}: .*labell"):
        READERS[path.parent.name](write(folder, path.name, table))


@pytest.mark.parametrize(("kind", "key"), REQUIRED)
def test_a_missing_key_is_named(tmp_path: Path, kind: str, key: str) -> None:
    path = next(iter(sorted((PRESETS / kind).glob("*.toml"))))
    table, at = read_table(path), tuple(key.split("."))
    del parent(table, at)[at[-1]]
    with pytest.raises(CatalogueError, match=rf"{path.name}: .*{key} is missing"):
        READERS[kind](write(tmp_path, path.name, table))


@given(st.sampled_from(FILES), st.data())
def test_bytes_of_any_kind_are_read_or_refused(folder: Path, path: Path, data: st.DataObject) -> None:
    whole = path.read_bytes()
    start = data.draw(st.integers(0, len(whole)))
    new = whole[:start] + data.draw(st.binary(max_size=4)) + whole[start + data.draw(st.integers(0, 9)) :]
    broken = folder / path.name
    broken.write_bytes(new)
    try:
        READERS[path.parent.name](broken)
    except CatalogueError as error:
        assert path.name in str(error)


@pytest.mark.parametrize(
    ("kind", "text", "says"),
    [
        ("cameras", b"label = '\xff'", "is not UTF-8 at byte 9; save it as UTF-8"),
        ("cameras", b"label = 'a'\nlabel = 'b'", "is not TOML .Cannot overwrite a value"),
        ("cameras", b"x = " + b"[" * 5000, "is not TOML"),
        ("cameras", b"[path", "is not TOML"),
        ("cameras", b"id = 'other'", "id is 'other'; make it the file's name, 'mine'"),
        ("cameras", b"path = 3", "path is 3; make it a table"),
        ("cameras", b"[path]\nheight = 1", "path.height is no entry here; choose from azimuth"),
        ("cameras", b"[path]\ndistance = 0", "path.distance must be above 0"),
        ("cameras", b"[path]\ndistance = [1, -1]", "path.distance must be above 0"),
        ("cameras", b"[path]\nazimuth = []", "path.azimuth is an empty list"),
        ("cameras", b"[path]\nazimuth = ['a']", "path.azimuth is 'a'; make it a finite number"),
        ("cameras", b"lens = 0", "lens must be at least 1 mm"),
        ("cameras", b"ease = 'bouncy'", "ease is 'bouncy'; make it one of linear, smooth"),
        ("poses", b"[joints]\nleft_wing = [0, 0, 0]", "joints.left_wing is no joint; choose from pelvis"),
        ("poses", b"[joints]\nhead = [0, 0]", "joints.head is .0, 0.; make it a list of 3 values, each"),
        ("skeletons", b"[joints]\ntail = 'Tail'", "joints.tail is no joint"),
        ("quality", b"description = 'x'\norder = 1\nsteps = 0", "steps must be above 0"),
        ("bodies", b"file = 'a.npz'\nfamily = 'smal'", "family is 'smal'; make it one of smpl, smplh, smplx"),
    ],
)  # fmt: skip
def test_the_message_says_the_cure(tmp_path: Path, kind: str, text: bytes, says: str) -> None:
    (tmp_path / "mine.toml").write_bytes(text)
    with pytest.raises(CatalogueError, match=rf"mine\.toml: {says}"):
        READERS[kind](tmp_path / "mine.toml")


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_file_is_a_new_preset(tmp_path: Path, kind: type[Preset]) -> None:
    for path in kind.FOLDER.glob("*.toml"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    before = menu(kind, tmp_path)
    assert {one.id for one in before} == {path.stem for path in kind.FOLDER.glob("*.toml")}
    table = read_table(next(iter(sorted(kind.FOLDER.glob("*.toml")))))
    write(tmp_path, "of_my_own.toml", {key: value for key, value in table.items() if key not in ("id", "label")})
    new = find_preset(kind, "OF_MY_OWN", tmp_path)
    assert new.label == "Of My Own" and new in menu(kind, tmp_path) and len(menu(kind, tmp_path)) == len(before) + 1


def test_a_new_file_is_a_new_model(tmp_path: Path) -> None:
    nano = read_table(PRESETS / "models" / "isa-nano.toml")
    write(tmp_path, "mine.toml", {**nano, "id": "mine"})
    write(tmp_path, "isa-small.toml", {**nano, "id": "isa-small", "label": "Mine"})
    specs = find_specs([tmp_path])
    assert set(specs) == {*find_specs(), "mine"} and specs["isa-small"].label == "Mine"


def test_a_faulty_file_is_left_out_of_the_menu_and_said_once(tmp_path: Path, capsys) -> None:
    (tmp_path / "good.toml").write_text("")
    (tmp_path / "bad.toml").write_text("lens = true")
    for _ in range(2):
        assert [move.id for move in menu(Move, tmp_path)] == ["good"]
    assert capsys.readouterr().out.count("bad.toml: lens is True; make it a finite number") == 1
    with pytest.raises(CatalogueError, match=r"bad\.toml"):
        list_presets(Move, tmp_path)
    with pytest.raises(CatalogueError, match="no 'other'; choose one of bad, good"):
        find_preset(Move, "other", tmp_path)


def test_names_that_differ_by_case_alone_are_refused(tmp_path: Path) -> None:
    for name in ("arc", "Arc"):
        (tmp_path / f"{name}.toml").write_text("")
    if len(list(tmp_path.iterdir())) == 1:
        pytest.skip("this disk does not tell case")
    with pytest.raises(CatalogueError, match=r"arc\.toml: has the name of Arc\.toml; rename one of them"):
        list_presets(Move, tmp_path)


def test_the_joints_are_those_of_a_shot() -> None:
    from maquette.backend.shot import SMPL_JOINT_NAMES

    assert sorted(JOINTS) == sorted(SMPL_JOINT_NAMES)


def test_nothing_but_the_standard_library_is_needed() -> None:
    code = (
        f"import sys; sys.path[:0] = [{str(ROOT)!r}]; before = set(sys.modules)\n"
        "import importlib.util as u, types\n"
        "for name, path in (('m', '.'), ('m.backend', 'backend')):\n"
        f"    made = types.ModuleType(name); made.__path__ = [{str(ROOT)!r} + '/' + path]; sys.modules[name] = made\n"
        "from m.backend.catalogue import cameras, models, quality, rig\n"
        "models.find_specs(), quality.list_quality()\n"
        "names = {name.partition('.')[0] for name in set(sys.modules) - before} - {'m'}\n"
        "sys.exit(', '.join(sorted(names - sys.stdlib_module_names)) or 0)"
    )
    run = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
