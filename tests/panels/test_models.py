"""The Shot panel follows the model: what it shows, what it greys, what it says of a comparison."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import bpy
import pytest

from ..scene.job_scene import Bench
from .layout import a_context, draw

ENTRIES: list[dict[str, Any]] = [
    {
        "id": "isa-nano", "label": "Nano", "available": True, "limits": {"points": 128},
        "inputs": {"characters": "required", "background": "optional", "reference": "optional", "camera": "required"},
    },
    {
        "id": "bones", "label": "Bones", "available": True, "description": "From joints.", "license": "Apache-2.0",
        "inputs": {"characters": "required", "reference": "required", "joints": "required", "prompt": "optional"},
        "limits": {"max_characters": 1, "max_frames": 49},
        "options": {
            "strength": {"type": "float", "default": 0.5, "min": 0, "max": 1, "label": "Motion strength"},
            "tiling": {"type": "choice", "default": "even", "choices": ["even", "published"], "label": "Windows"},
            "few": {"type": "bool", "default": False, "label": "Few Steps"},
            "window": {"type": "int", "default": 72, "label": "Window"},
            "loras": {"type": "loras", "default": "", "label": "LoRAs"},
        },
        "loras": [
            {"name": "fast", "steps": 4, "guidance": 1.0, "megabytes": 300.0},
            {"name": "style/ink", "megabytes": 80.0},
            {"name": "other", "reason": "it was made for another model"},
        ],
    },
    {"id": "paths", "label": "Paths", "available": True, "inputs": {"characters": "required", "tracks": "required"}},
    {"id": "away", "label": "Away", "available": False, "reason": "Away cannot run: no weights have been published"},
]  # fmt: skip


@pytest.fixture
def bench(bench: Bench) -> Bench:
    bench.preferences.address = "127.0.0.1:8188"
    bench.build()
    bench.backends.show_models(ENTRIES)
    look(bench)
    return bench


def look(bench: Bench) -> None:
    """As the timer does, a moment later."""
    bench.readiness.publish(now=True)
    bench.jobs.poll()


def test_the_menu(bench: Bench) -> None:
    drawn = draw("MAQUETTE_MT_models")
    assert drawn.texts == ["Nano", "Bones", "Paths", "1 More to Install", "Ask the Backend Again"]


def test_a_chosen_model_that_has_gone_says_why(bench: Bench) -> None:
    bpy.context.scene.maquette.model = "away"
    look(bench)
    assert "Away cannot run: no weights have been published" in draw("MAQUETTE_PT_shot").text


@pytest.mark.parametrize(
    ("model", "shown", "hidden"),
    [
        ("isa-nano", {"background", "render_engine", "points", "reference_source"}, {"prompt"}),
        ("bones", {"prompt", "as_float", "as_choice", "as_bool", "as_int"}, {"background", "points"}),
        ("paths", {"seed"}, {"prompt", "background", "points", "reference_source", "render_engine"}),
        ("never heard of", {"prompt", "background", "render_engine", "points", "reference_source"}, {"as_float"}),
    ],
)
def test_only_what_the_model_uses_is_shown(bench: Bench, model: str, shown: set[str], hidden: set[str]) -> None:
    scene = bpy.context.scene
    scene.maquette.background = "SCENE"
    bpy.context.view_layer.objects.active = bpy.data.objects["Performer"]
    scene.maquette.model = model
    look(bench)
    properties = set(draw("MAQUETTE_PT_shot").properties)
    assert shown <= properties and not hidden & properties
    tracks = "maquette.add_tracks" in draw("MAQUETTE_PT_shot").operators
    assert tracks == (model in ("paths", "never heard of"))


def test_what_is_hidden_is_kept(bench: Bench) -> None:
    shot = bpy.context.scene.maquette
    shot.background, shot.points = "SCENE", 99
    bpy.ops.maquette.choose_model(model="bones")
    shot.prompt = "A studio"
    bpy.ops.maquette.choose_model(model="isa-nano")
    assert (shot.background, shot.points, shot.prompt) == ("SCENE", 99, "A studio")


def test_options_are_counted_and_reset(bench: Bench) -> None:
    scene = bpy.context.scene
    bpy.ops.maquette.choose_model(model="bones")
    drawn = draw("MAQUETTE_PT_shot")
    assert "Options" in drawn.texts and drawn.operators.count("maquette.reset_option") == 4
    scene.maquette.options[0].as_float = 0.75
    assert "Options (1 set)" in draw("MAQUETTE_PT_shot").texts


def test_about_the_model(bench: Bench) -> None:
    bpy.ops.maquette.choose_model(model="bones")
    text = draw("MAQUETTE_PT_shot").text
    assert "About Bones" in text and "From joints." in text and "Licence: Apache-2.0" in text
    assert "Needs characters, a reference picture and the bodies' joints" in text
    assert "One character. At most 49 frames" in text


def test_framing_is_for_models_that_read_joints(bench: Bench) -> None:
    panel = bpy.types.MAQUETTE_PT_framing
    assert not panel.poll(a_context())
    bpy.ops.maquette.choose_model(model="bones")
    assert panel.poll(a_context())
    assert draw("MAQUETTE_PT_framing").operators == [
        "maquette.frame_55", "maquette.frame_55", "maquette.check_framing",
    ]  # fmt: skip
    line = bench.view.framing.add()
    line.kind, line.level, line.message = "FRAMING", "WARNING", "Body is 5 m away"
    bench.view.framed_scene, bench.view.framing_old = bpy.context.scene.name, True
    text = draw("MAQUETTE_PT_framing").text
    assert "Body is 5 m away" in text and "The scene has changed since then" in text
    bench.view.framed_scene = "Another"
    assert "5 m away" not in draw("MAQUETTE_PT_framing").text


def test_tracks_are_listed(bench: Bench) -> None:
    bpy.context.scene.maquette.model = "paths"
    assert "Select empties" in draw("MAQUETTE_PT_shot").text
    bpy.ops.maquette.add_tracks()
    drawn = draw("MAQUETTE_PT_shot")
    assert "Tracks (1)" in drawn.texts and "maquette.clear_tracks" in drawn.operators


def test_compare_with(bench: Bench) -> None:
    scene = bpy.context.scene
    drawn = draw("MAQUETTE_PT_shot")
    assert "Compare" in drawn.texts and drawn.operators.count("maquette.compare_model") == 2
    assert "1 More to Install" in drawn.texts and "Generate" in drawn.texts
    bpy.ops.maquette.compare_model(model="bones")
    look(bench)
    drawn = draw("MAQUETTE_PT_shot")
    assert "Compare (1)" in drawn.texts and "Generate 2 Videos" in drawn.texts
    # What stands in the way of another model does not stand in the way of the shot.
    assert "Bones will be left out: Bones needs a reference of Performer" in drawn.text
    assert not any(check.level == "ERROR" for check in bench.view.checks)
    scene.maquette.model = "bones"
    assert "Generate" in draw("MAQUETTE_PT_shot").texts


def test_what_any_of_the_compared_models_uses_is_shown(bench: Bench) -> None:
    scene = bpy.context.scene
    assert "prompt" not in draw("MAQUETTE_PT_shot").properties
    bpy.ops.maquette.compare_model(model="bones")
    drawn = draw("MAQUETTE_PT_shot")
    assert {"prompt", "as_float", "background"} <= set(drawn.properties) and "Bones Options" in drawn.texts
    assert bpy.types.MAQUETTE_PT_framing.poll(a_context())
    scene.maquette.compare.add().name = "paths"
    assert "maquette.add_tracks" in draw("MAQUETTE_PT_shot").operators


def test_a_compared_model_that_this_backend_does_not_name_can_be_unticked(bench: Bench) -> None:
    bpy.context.scene.maquette.compare.add().name = "elsewhere"
    drawn = draw("MAQUETTE_PT_shot")
    assert "elsewhere" in drawn.texts and "Generate 2 Videos" in drawn.texts
    bpy.ops.maquette.compare_model(model="elsewhere")
    assert "elsewhere" not in draw("MAQUETTE_PT_shot").texts


def test_references_of_another_frame_are_cured_by_a_button(bench: Bench) -> None:
    scene, marks = bpy.context.scene, bpy.data.objects["Performer"].maquette
    inputs = {"characters": "required", "reference": "required"}
    limits = {"first_frame_reference": 1}
    bench.backends.show_models([{"id": "isa-nano", "available": True, "inputs": inputs, "limits": limits}])
    marks.reference_source, marks.reference_frame = "RENDER", 3
    look(bench)
    drawn = draw("MAQUETTE_PT_shot")
    assert "must show frame 1, not 3" in drawn.text and "maquette.use_first_frame" in drawn.operators
    bpy.ops.maquette.use_first_frame()
    look(bench)
    drawn = draw("MAQUETTE_PT_shot")
    assert "must show frame" not in drawn.text and "maquette.use_first_frame" not in drawn.operators
    assert marks.reference_frame == scene.frame_start


def test_a_comparison_under_way(bench: Bench) -> None:
    s, part = bench.states, bench.events.Part
    bench.jobs.runner.state = replace(
        bench.state, phase=s.Phase.RUNNING, model="b", label="Model B", step=2, steps=9,
        waiting=(part("c", "Model C"),),
        outcomes=(s.Outcome(1, part("a", "Model A"), s.Phase.FAILED, "The GPU is full"),),
    )  # fmt: skip
    bench.module("scene.job.view").publish(bench.jobs.runner.state)
    assert [(part.name, part.state) for part in bench.view.parts] == [
        ("Model A", "FAILED"), ("Model B", "NOW"), ("Model C", "WAITING"),
    ]  # fmt: skip
    drawn = draw("MAQUETTE_PT_shot")
    assert "Model A: The GPU is full" in drawn.text and "Model C" in drawn.texts
    assert "maquette.cancel" in drawn.operators


def test_a_comparison_that_has_ended(bench: Bench) -> None:
    s, part = bench.states, bench.events.Part
    done = [s.Outcome(n, part(n, f"Model {n}"), s.Phase.DONE, "listed", f"/{n}.mp4") for n in (1, 2)]
    failed = s.Outcome(3, part("c", "Model C", "/c.shot"), s.Phase.FAILED, "The GPU is full")
    bench.jobs.runner.state = replace(
        bench.state, phase=s.Phase.DONE, outcomes=(*done, failed),
        message="2 of 3 videos ready: Model 1, Model 2\nModel C: The GPU is full",
    )  # fmt: skip
    bench.module("scene.job.view").publish(bench.jobs.runner.state)
    drawn = draw("MAQUETTE_PT_shot")
    assert drawn.text.count("The GPU is full") == 1 and "2 of 3 videos ready" in drawn.text
    assert {"maquette.resume_job", "maquette.show_side_by_side", "maquette.generate"} <= set(drawn.operators)


def test_the_results_say_who_made_them(bench: Bench, tmp_path: Path) -> None:
    for name in ("Nano", "Bones"):
        item = bpy.context.scene.maquette.results.add()
        item.name, item.filepath, item.frame_count = name.lower(), str(tmp_path / f"{name}.mp4"), 17
        item.model, item.model_label, item.comparison = name.lower(), name, "one"
    drawn = draw("MAQUETTE_PT_result")
    assert "Nano, seed 0" in drawn.text and drawn.operators.count("maquette.show_side_by_side") == 2
    assert bpy.ops.maquette.show_side_by_side.poll()
    bpy.context.scene.maquette.results[0].comparison = "another"
    assert not bpy.ops.maquette.show_side_by_side.poll()
    for item in bpy.context.scene.maquette.results:
        item.picked = True
    assert bpy.ops.maquette.show_side_by_side.poll()


def test_loras_are_chosen_weighed_and_taken_off(bench: Bench) -> None:
    scene = bpy.context.scene
    scene.maquette.model = "bones"
    look(bench)
    drawn = draw("MAQUETTE_PT_shot")
    assert "Add LoRA" in drawn.texts and "as_weights" not in drawn.properties
    for name in ("style/ink", "fast"):
        assert bpy.ops.maquette.add_lora(model="bones", lora=name) == {"FINISHED"}
    for name in ("other", "never heard of"):
        with pytest.raises((TypeError, RuntimeError)):
            bpy.ops.maquette.add_lora(model="bones", lora=name)
    with pytest.raises(RuntimeError, match="on the list already"):
        bpy.ops.maquette.add_lora(model="bones", lora="fast")
    entry = next(each for each in scene.maquette.options if each.option == "loras")
    entry.as_weights[1] = 0.6
    assert list(entry.as_weights)[:3] == pytest.approx([1.0, 0.6, 0.0])
    chosen = bench.module("scene.job.options").chosen
    assert chosen(scene, "bones") == {"loras": "style/ink=1\nfast=0.6"}
    drawn = draw("MAQUETTE_PT_shot")
    assert {"style/ink", "fast"} <= set(drawn.texts) and "4 steps, guidance 1" in drawn.text
    # Another backend lacks one of them: it stays on the list, and that is told.
    gone = [{**ENTRIES[1], "loras": [ENTRIES[1]["loras"][0]]}]
    bench.backends.show_models(gone)
    assert "The backend does not have it" in draw("MAQUETTE_PT_shot").text
    bpy.ops.maquette.remove_lora(model="bones", lora="style/ink")
    bpy.ops.maquette.remove_lora(model="bones", lora="fast")
    assert chosen(scene, "bones") == {}
