"""What a backend says of its models, and the options of single models as the scene keeps them."""

from __future__ import annotations

import math
from dataclasses import fields
from types import ModuleType
from typing import Any

import bpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ..job_scene import Bench

ENTRY: dict[str, Any] = {
    "id": "one",
    "label": "Model One",
    "description": "Makes videos.",
    "license": "CC0-1.0",
    "available": True,
    "inputs": {"characters": "required", "reference": "required", "joints": "required", "prompt": "optional"},
    "limits": {"max_characters": 1, "min_frames": 5, "max_frames": 49, "min_size": 512, "max_size": 512},
    "options": {
        "strength": {"type": "float", "default": 0.6, "min": 0.0, "max": 1.5, "label": "Strength"},
        "window": {"type": "int", "default": 72, "min": 4, "max": 128},
        "motion": {"type": "choice", "default": "both", "choices": ["both", "dense", "tracks"]},
        "few_steps": {"type": "bool", "default": False, "label": "Few Steps"},
        "never": {"type": "text", "default": "blurred"},
    },
}


@pytest.fixture
def models(bench: Bench) -> ModuleType:
    module = bench.module("scene.job.models")
    bench.backends.show_models([ENTRY, {"id": "bare"}])
    return module


def test_what_a_model_takes(models: ModuleType) -> None:
    one = models.find("one")
    assert one.uses("joints") and one.needs("joints") and one.uses("prompt") and not one.needs("prompt")
    assert not one.uses("tracks") and not one.uses("background")
    assert one.takes() == [
        "Needs characters, a reference picture and the bodies' joints",
        "Can use a prompt",
        "Leaves out a background, the camera's motion, body, hand and face keypoints, the bodies' surfaces, "
        "picked tracks and the light on the bodies",
    ]
    assert one.bounds() == ["One character", "5 to 49 frames", "512 pixels a side"]


def test_of_an_unknown_model_everything_is_shown(models: ModuleType) -> None:
    for name in ("bare", "never heard of"):
        model = models.find(name)
        assert model.state == "UNKNOWN" and all(model.uses(what) for what in models.INPUTS)
        assert not any(model.needs(what) for what in models.INPUTS) and not model.takes() and not model.bounds()


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"reason": "No weights"}, "No weights"),
        ({"missing": ["a.safetensors", "b.json"]}, "lacks files of this model: a.safetensors, b.json"),
        ({}, "cannot run this model"),
    ],
)
def test_why_a_model_cannot_run(models: ModuleType, entry: dict[str, Any], words: str) -> None:
    model = models.Model.from_json({"id": "x", "available": False, **entry})
    assert model.state == "MISSING" and words in model.reason


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(["label", "available", "missing", "reason", "inputs", "limits", "defaults", "options"]), JUNK
    )
)
def test_junk_in_an_entry_leaves_the_rest_as_it_was(junk: dict[str, Any]) -> None:
    from maquette.scene.job import models

    model, good = (models.Model.from_json(entry) for entry in ({**ENTRY, **junk}, ENTRY))
    for f in fields(good):
        if f.name not in (*junk, "reason"):
            assert getattr(model, f.name) == getattr(good, f.name)
    if isinstance(available := junk.get("available", True), bool):
        assert model.state == ("READY" if available else "MISSING")
    assert ("inputs" in junk or model.takes() == good.takes()) and ("limits" in junk or model.bounds() == good.bounds())
    assert all(model.takes()) and all(model.bounds())


@given(st.one_of(st.booleans(), st.integers(), st.floats(), st.text(max_size=5)))
def test_an_option_always_has_a_value_that_it_can_have(value: Any) -> None:
    from maquette.scene.job import models

    for option in models.Model.from_json(ENTRY).options.values():
        fitted = option.fit(value)
        assert option.fit(fitted) == fitted and not option.problem(fitted)
        assert option.problem(value) or fitted == value
        match option.type:
            case "bool":
                assert isinstance(fitted, bool)
            case "text":
                assert isinstance(fitted, str)
            case "choice":
                assert fitted in option.choices
            case "int":
                assert isinstance(fitted, int) and option.low <= fitted <= option.high
            case "float":
                assert isinstance(fitted, float) and math.isfinite(fitted) and option.low <= fitted <= option.high


def test_an_option_that_is_set_has_what_it_needs_captured(bench: Bench) -> None:
    start = {"type": "float", "default": 0.0, "min": 0.0, "max": 1.0, "needs": ["meshes", "clay"]}
    bare = {"id": "m", "available": True, "inputs": {"characters": "required", "meshes": "ignored"}}
    bench.backends.show_models([bare | {"options": {"start": start}}])
    options, shots, scene = bench.module("scene.job.options"), bench.module("scene.job.shots"), bpy.context.scene
    models = bench.module("scene.job.models")
    options.ensure(scene, "m")
    (entry, _), *_ = options.entries(scene, "m")
    for value, captured in ((None, False), (0.5, True), (0.0, False)):
        if value is not None:
            entry.as_float = value
        wants = shots.wants(scene, [models.find("m")])
        assert (wants.meshes, wants.clay, wants.tracks, wants.meshes_required) == (captured, captured, False, False)
    assert shots.wants(scene, [models.find("unknown")]).tracks


def test_options_of_the_scene(bench: Bench, models: ModuleType) -> None:
    options, scene = bench.module("scene.job.options"), bpy.context.scene
    assert options.ensure(scene, "one") and not options.ensure(scene, "one")
    entries = {entry.option: entry for entry, _ in options.entries(scene, "one")}
    assert list(entries) == ["strength", "window", "motion", "few_steps", "never"]
    assert (entries["strength"].as_float, entries["window"].as_int) == (pytest.approx(0.6), 72)
    assert entries["motion"].as_choice == "both" and entries["few_steps"].as_bool is False
    assert entries["never"].as_text == "blurred"
    # What was not set is left to the model.
    assert options.chosen(scene, "one") == {}
    entries["strength"].as_float = 9.0
    entries["window"].as_int = -3
    entries["motion"].as_choice = "dense"
    entries["few_steps"].as_bool = True
    entries["never"].as_text = "grey skies"
    set_so = {"strength": 1.5, "window": 4, "motion": "dense", "few_steps": True, "never": "grey skies"}
    assert options.chosen(scene, "one") == set_so
    assert (entries["strength"].as_float, entries["window"].as_int) == (1.5, 4)
    # The model's own value, chosen on purpose, is sent as well.
    entries["window"].as_int = 72
    assert options.chosen(scene, "one")["window"] == 72
    # Another version of the model without the choice, and with other bounds.
    changed = {"motion": {"type": "choice", "default": "tracks", "choices": ["tracks"]}}
    bench.backends.show_models([ENTRY | {"options": changed}])
    assert options.chosen(scene, "one") == {"motion": "tracks"}
    bench.backends.show_models([ENTRY])
    assert options.chosen(scene, "one")["motion"] == "dense"


def test_options_survive_in_the_file(bench: Bench, models: ModuleType, tmp_path) -> None:
    options, scene = bench.module("scene.job.options"), bpy.context.scene
    options.ensure(scene, "one")
    dict((e.option, e) for e, _ in options.entries(scene, "one"))["strength"].as_float = 0.25
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "a.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "a.blend"))
    bench.backends.show_models([ENTRY])
    assert options.chosen(bpy.context.scene, "one") == {"strength": 0.25}


def test_each_backend_is_remembered_for_itself(bench: Bench) -> None:
    models, backends = bench.module("scene.job.models"), bench.backends
    bench.preferences.address = "127.0.0.1:8188"
    backends._show_answer(bench.view.backend, {"error": None, "health": {}, "models": [ENTRY]})
    assert models.find("one").state == "READY"
    bench.preferences.address = "127.0.0.1:9999"
    assert not models.known("one") and models.find("isa-nano").state == "UNKNOWN"
    bench.preferences.address = "127.0.0.1:8188"
    assert models.find("one").state == "READY" and models.find("one").limit("max_frames") == 49
    backends._cache().unlink()
