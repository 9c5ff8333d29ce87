"""Descriptions of models: options, sources, folders, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import platformdirs
import pytest
from maquette.backend.catalogue.models import ModelEntry, ModelError, ModelOption, read_spec, weights_home
from maquette.backend.catalogue.reader import CatalogueError
from maquette.backend.models.family import EngineError
from maquette.backend.models.settings import check_settings, option
from maquette.backend.shot import Settings

from ..builders import make_shot
from ..models.conftest import TINY_TOML

EXTRA = """
[options.motion]
type = "choice"
default = "dense"
label = "Motion"
choices = ["dense", "tracks"]
[options.scale]
type = "float"
default = 0.6
label = "Control Scale"
min = 0.0
max = 2.0
[options.window]
type = "int"
default = 25
label = "Window"
min = 2
[options.exact]
type = "bool"
default = false
label = "Exact"
[[sources]]
name = "Transformer"
component = "transformer"
repository = "owner/name"
files = ["a.safetensors"]
license = "Apache-2.0"
gigabytes = 1.5
"""


def write(tmp_path, text):
    path = tmp_path / "tiny.toml"
    path.write_text(text, "utf-8")
    return path


@pytest.fixture
def spec(tmp_path):
    return read_spec(write(tmp_path, TINY_TOML + EXTRA))


def shot_with(**options):
    return replace(make_shot(), settings=Settings(model="tiny", options=options))


def test_options_and_sources_are_read(spec):
    assert spec.options["motion"].choices == ("dense", "tracks")
    assert spec.sources[0].files == ("a.safetensors",) and not spec.sources[0].optional


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("motion", ["tracks"], ["other", 1, True]),
        ("scale", [0, 0.5, 2], [-0.1, 2.5, "1", True, float("nan")]),
        ("window", [2, 25.0], [1, 2.5, True]),
        ("exact", [True], [1, "yes"]),
    ],
)
def test_a_choice_is_checked(spec, name, good, bad):
    for value in good:
        assert option(spec, shot_with(**{name: value}), name) == value
        assert check_settings(spec, shot_with(**{name: value})) == []
    for value in bad:
        with pytest.raises(EngineError, match=rf"settings\.options\.{name}"):
            check_settings(spec, shot_with(**{name: value}))
    assert option(spec, shot_with(), name) == spec.options[name].default


def test_an_option_of_another_model_is_left_out_and_said(spec):
    assert check_settings(spec, shot_with(other=1)) == ["Tiny has no option other; left out"]


def test_too_many_characters_are_refused(spec):
    one = replace(spec, limits={**spec.limits, "max_characters": 1})
    with pytest.raises(EngineError, match=r"characters: 2 characters \(Body 1, Body 2\); Tiny takes one"):
        check_settings(one, make_shot(characters=2))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[options.a]\ntype = "colour"\ndefault = "x"\nlabel = "A"', "options.a.type"),
        ('[options.a]\ntype = "int"\ndefault = 0.5\nlabel = "A"', "options.a.default"),
        ('[options.a]\ntype = "int"', r"options\.a\.default is missing"),
        ('[[sources]]\nname = "A"', r"sources\.component is missing"),
    ],
)
def test_a_faulty_description_names_the_entry(tmp_path, text, message):
    with pytest.raises(ModelError, match=message):
        read_spec(write(tmp_path, TINY_TOML + text))


def test_an_input_has_one_of_three_levels(tmp_path):
    with pytest.raises(ModelError, match=r"inputs\.reference"):
        read_spec(write(tmp_path, TINY_TOML.replace('reference = "optional"', 'reference = "maybe"')))


def test_weights_lie_beside_the_description_or_in_the_users_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MAQUETTE_WEIGHTS", str(tmp_path / "home"))
    path = write(tmp_path, TINY_TOML)
    assert read_spec(path).folder == tmp_path / "home" / "tiny" == weights_home() / "tiny"
    (tmp_path / "tiny").mkdir()
    assert read_spec(path).folder == tmp_path / "tiny"


def test_nan_is_no_number():
    assert ModelOption("float", 0.5, "X").problem(float("nan"))


def test_the_users_folder_is_that_of_platformdirs(monkeypatch):
    monkeypatch.delenv("MAQUETTE_WEIGHTS", raising=False)
    assert weights_home() == platformdirs.user_data_path("maquette", appauthor=False) / "models"
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert weights_home() == platformdirs.user_data_path("maquette", appauthor=False) / "models"


def test_an_entry_survives_the_wire(spec):
    entry = ModelEntry.of(spec, available=False, missing=("a",), reason="Not here", memory={"disk_gb": 1.5})
    sent = json.loads(json.dumps(entry.to_json()))
    assert ModelEntry.from_json({**sent, "of a later version": {}}) == entry
    assert sent["options"]["window"] == {
        "type": "int", "default": 25, "label": "Window", "description": "", "choices": [], "min": 2, "max": None,
        "needs": [],
    }  # fmt: skip
    assert ModelEntry.from_json({"id": "x", "inputs": {"prompt": "later", "y": 3}}).inputs == {"prompt": "later"}
    with pytest.raises(CatalogueError, match="id is missing"):
        ModelEntry.from_json({"label": "x"})
