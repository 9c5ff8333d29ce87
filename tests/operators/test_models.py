"""Choosing the model, and those it is compared with."""

from __future__ import annotations

import bpy
import pytest

from ..scene.job_scene import Bench

ENTRIES = [
    {"id": "isa-nano", "label": "Nano", "available": True, "license": "CC0-1.0", "inputs": {"camera": "required"}},
    {"id": "big", "label": "Big", "available": False, "reason": "Big cannot run: no weights have been added"},
    {
        "id": "short", "label": "Short", "available": True, "description": "A short one.",
        "inputs": {"characters": "required"}, "limits": {"max_frames": 3, "max_characters": 1},
        "options": {"strength": {"type": "float", "default": 0.5, "min": 0, "max": 1, "description": "How strong."}},
    },
]  # fmt: skip


@pytest.fixture
def bench(bench: Bench) -> Bench:
    bench.build()
    bench.backends.show_models(ENTRIES)
    return bench


def test_choose_model(bench: Bench) -> None:
    scene = bpy.context.scene
    assert bpy.ops.maquette.choose_model(model="short") == {"FINISHED"}
    assert scene.maquette.model == "short"
    # Its options are there at once.
    assert [entry.option for entry in scene.maquette.options] == ["strength"]


def test_a_model_that_cannot_run_is_refused_with_the_reason(bench: Bench) -> None:
    with pytest.raises(RuntimeError, match="Big cannot run: no weights have been added"):
        bpy.ops.maquette.choose_model(model="big")
    with pytest.raises(RuntimeError, match="Big cannot run"):
        bpy.ops.maquette.compare_model(model="big")
    assert bpy.context.scene.maquette.model == "isa-nano" and not bpy.context.scene.maquette.compare


def test_compare_models(bench: Bench) -> None:
    shot = bpy.context.scene.maquette
    assert bpy.ops.maquette.compare_model(model="short") == {"FINISHED"}
    assert shot.compare.keys() == ["short"]
    assert bpy.ops.maquette.compare_model(model="short") == {"FINISHED"} and not shot.compare
    with pytest.raises(RuntimeError, match="makes the video already"):
        bpy.ops.maquette.compare_model(model="isa-nano")
    # The model of the shot is not compared with itself.
    bpy.ops.maquette.compare_model(model="short")
    bpy.ops.maquette.choose_model(model="short")
    assert not shot.compare


def test_the_tooltip_says_what_one_must_know(bench: Bench) -> None:
    module = bench.module("operators.models")
    words = {entry["id"]: module.words(bench.module("scene.job.models").find(entry["id"])) for entry in ENTRIES}
    assert words["short"].splitlines()[0] == "A short one" and "One character" in words["short"]
    assert "At most 3 frames" in words["short"] and "Licence: CC0-1.0" in words["isa-nano"]
    assert words["big"].endswith("Big cannot run: no weights have been added")


def test_reset_an_option(bench: Bench) -> None:
    scene = bpy.context.scene
    bpy.ops.maquette.choose_model(model="short")
    scene.maquette.options[0].as_float = 0.9
    assert bpy.ops.maquette.reset_option(model="short", option="strength") == {"FINISHED"}
    assert scene.maquette.options[0].as_float == 0.5 and not scene.maquette.options[0].stored
