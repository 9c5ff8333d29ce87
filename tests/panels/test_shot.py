"""What the Shot and Result panels and the preferences say in every state."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import bpy
import pytest

from ..scene.job_scene import Bench
from .layout import Layout, a_context, draw


@pytest.fixture
def bench(bench: Bench) -> Bench:
    bench.preferences.address = "127.0.0.1:8188"
    return bench


def look(bench: Bench) -> None:
    """As the timer does, a moment later."""
    bench.readiness.publish(now=True)
    bench.jobs.poll()


def test_an_empty_scene_is_told_what_it_needs(bench: Bench) -> None:
    look(bench)
    drawn = draw("MAQUETTE_PT_shot")
    assert "No character yet: add a body" in drawn.text and "No camera: add a camera move" in drawn.text
    assert "maquette.generate" in drawn.operators and "maquette.export_shot" in drawn.operators


def test_a_ready_scene_has_nothing_to_say(bench: Bench) -> None:
    bench.build()
    look(bench)
    assert [check.level for check in bench.view.checks] == ["OK", "OK"]
    drawn = draw("MAQUETTE_PT_shot")
    assert "Performer" in drawn.texts and "No camera" not in drawn.text and "No backend" not in drawn.text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda scene, cube: cube.animation_data_clear(), "Nothing is keyed"),
        (lambda scene, cube: setattr(scene.camera.data, "type", "ORTHO"), "set its lens to Perspective"),
        (lambda scene, cube: setattr(scene, "frame_end", 1), "single frame"),
        (
            lambda scene, cube: setattr(scene, "frame_end", 60),
            "ends at frame 5, the shot at 60: it stands still then Set End to 5",
        ),
        (lambda scene, cube: setattr(scene.maquette, "background", "PICTURE"), "No background picture"),
        (
            lambda scene, cube: (
                setattr(scene.maquette, "background", "VIDEO"),
                setattr(scene.maquette, "background_path", "/gone.mp4"),
            ),
            "gone.mp4 is not there",
        ),
        (lambda scene, cube: setattr(cube.maquette, "reference_source", "IMAGE"), "No reference picture"),
        (
            lambda scene, cube: (setattr(cube, "hide_viewport", True), setattr(cube, "hide_render", True)),
            "Switched off",
        ),
    ],
)
def test_what_is_missing_is_said(bench: Bench, change, words: str) -> None:
    scene = bench.build()
    change(scene, bpy.data.objects["Performer"])
    look(bench)
    assert words in draw("MAQUETTE_PT_shot").text


def test_a_server_without_answer_is_told_before_anything_is_captured(bench: Bench) -> None:
    bench.build()
    bench.view.backend.test_state, bench.view.backend.test_message = "ERROR", "Nobody answers there"
    look(bench)
    drawn = draw("MAQUETTE_PT_shot")
    assert "Nobody answers there" in drawn.text and "maquette.test_connection" in drawn.operators
    bench.view.backend.test_state = "OK"
    look(bench)
    assert "Nobody answers there" not in draw("MAQUETTE_PT_shot").text


def test_a_view_beside_the_camera_is_led_to_the_preview(bench: Bench) -> None:
    scene = bench.build()
    scene.maquette.uid = "a scene"
    context = a_context()
    spaces = (area.spaces.active for screen in bpy.data.screens for area in screen.areas)
    context.space_data = next(space for space in spaces if space.type == "VIEW_3D")
    context.space_data.region_3d.view_perspective = "PERSP"
    assert "view3d.view_camera" not in draw("MAQUETTE_PT_shot", context).operators
    previews = bench.module("scene.screen.previews")
    previews.reels[scene.maquette.uid] = previews.Reel()
    assert "view3d.view_camera" in draw("MAQUETTE_PT_shot", context).operators
    context.space_data.region_3d.view_perspective = "CAMERA"
    assert "view3d.view_camera" not in draw("MAQUETTE_PT_shot", context).operators
    previews.reels[scene.maquette.uid].draft = previews.Draft([], [])
    for shown in (True, False):
        context.space_data.overlay.show_overlays = shown
        assert ("show_overlays" in draw("MAQUETTE_PT_shot", context).properties) is not shown
    previews.reels.clear()


def test_the_header_of_the_camera_s_view_makes_films(bench: Bench) -> None:
    context, layout = a_context(), Layout()
    context.space_data = SimpleNamespace(region_3d=SimpleNamespace(view_perspective="CAMERA"))
    header = bench.module("panels.preview")._draw_header
    header(SimpleNamespace(layout=layout), context)
    assert not layout.operators, "nobody plays yet"
    context.scene = bench.build()
    header(SimpleNamespace(layout=layout), context)
    assert layout.operators == ["maquette.preview", "maquette.generate"]
    context.space_data.region_3d.view_perspective = "PERSP"
    header(SimpleNamespace(layout=layout), context)
    assert len(layout.operators) == 2


def test_only_what_went_well_is_told_beneath_the_button(bench: Bench) -> None:
    bench.build()
    look(bench)
    for state, beneath in (("done", True), ("failed", False), ("cancelled", False)):
        bench.view.state, bench.view.message = state, "How it went"
        texts = draw("MAQUETTE_PT_shot").texts
        assert (texts.index("How it went") > texts.index("Generate")) is beneath


def test_what_ended_a_job_is_said_once(bench: Bench) -> None:
    bench.preferences.mode = "LOCAL"
    bench.build()
    look(bench)
    bench.jobs.generate(bpy.context.scene)
    assert bench.view.state == "failed"
    assert draw("MAQUETTE_PT_shot").text.count("No backend is installed") == 1


def test_no_backend_offers_to_install_one(bench: Bench) -> None:
    bench.preferences.mode = "LOCAL"
    look(bench)
    drawn = draw("MAQUETTE_PT_shot")
    assert "No backend is installed" in drawn.text and "maquette.install_backend" in drawn.operators
    bench.view.backend.local_state = "INSTALLING"
    bench.view.backend.local_progress = 0.4
    assert "maquette.cancel_install" in draw("MAQUETTE_PT_shot").operators


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"phase": "capturing", "step": 3, "steps": 12}, "Capturing 3 of 12"),
        ({"phase": "submitting", "message": "Starting the backend"}, "Starting the backend"),
        ({"phase": "queued", "told": {"queue_position": 0}}, "Next in the Queue"),
        ({"phase": "queued", "told": {"queue_position": 3, "eta_seconds": 600.0}}, "Queued Behind 3 about 10 min left"),
        (
            {
                "phase": "running",
                "step": 6,
                "steps": 30,
                "progress": 0.2,
                "told": {"stage": "denoising", "eta_seconds": 125.0},
            },
            "Denoising 20% step 6 of 30, about 2 min 5 s left",
        ),
        ({"phase": "running", "message": "The backend stopped answering"}, "The backend stopped answering"),
        ({"phase": "downloading", "progress": 0.5}, "Fetching the Video 50%"),
        ({"phase": "cancelling", "message": "Cancelling"}, "Cancelling"),
        ({"phase": "failed", "message": "The disk is full", "shot": "/a.shot"}, "The disk is full"),
        ({"phase": "done", "message": "a.mp4 is loaded", "notes": ("Size snapped",)}, "Size snapped"),
        ({"phase": "cancelled", "message": "Cancelled"}, "Cancelled"),
    ],
)
def test_every_state_of_a_job(bench: Bench, changes: dict, words: str) -> None:
    bench.build()
    phase = bench.states.Phase(changes.pop("phase"))
    if "told" in changes:
        changes["told"] = bench.module("backend.wire").JobView("vid_1", "in_progress", **changes["told"])
    bench.jobs.runner.state = replace(bench.state, phase=phase, **changes)
    bench.module("scene.job.view").publish(bench.jobs.runner.state)
    drawn = draw("MAQUETTE_PT_shot")
    assert words in drawn.text
    resting = phase.value in ("failed", "done", "cancelled")
    assert "maquette.generate" in drawn.operators and ("Generate Another" in drawn.text) != resting
    assert ("maquette.cancel" in drawn.operators) != resting
    assert ("maquette.resume_job" in drawn.operators) == (phase.value == "failed")


def test_the_model_is_known_without_any_backend(bench: Bench) -> None:
    bench.backends._cache().unlink(missing_ok=True)
    bench.backends.republish()
    assert bench.view.backend.models[0].name == bpy.context.scene.maquette.model == "isa-nano"
    assert bench.view.backend.models[0].state == "UNKNOWN"


def test_results(bench: Bench, tmp_path: Path) -> None:
    assert "Finished videos appear here" in draw("MAQUETTE_PT_result").text
    item = bpy.context.scene.maquette.results.add()
    item.name, item.filepath, item.frame_count, item.model = "walk", str(tmp_path / "walk.mp4"), 17, "isa-nano"
    drawn = draw("MAQUETTE_PT_result")
    assert "show_as" in drawn.properties and "overlay_wipe" in drawn.properties
    assert "Frames 1 to 17, 24 fps" in drawn.text


@pytest.mark.parametrize("mode", ["LOCAL", "SERVER"])
@pytest.mark.parametrize(
    "state", ["ABSENT", "INSTALLING", "CANCELLING", "STOPPED", "STARTING", "RUNNING", "FAILED", "DEAD"]
)
def test_preferences(bench: Bench, mode: str, state: str) -> None:
    bench.preferences.mode = mode
    view = bench.view.backend
    view.local_state, view.local_message = state, "The disk is full"
    view.test_state, view.test_message = "OK", "Maquette 0.1.0 on cuda:0"
    layout = Layout()
    preferences = bench.preferences

    class Drawn:
        """The preferences with a layout of ours."""

        def __getattr__(self, name: str):
            return getattr(preferences, name)

    drawn = Drawn()
    drawn.layout = layout
    drawn.bl_rna = preferences.bl_rna
    bench.module("panels.preferences").draw(drawn, a_context())
    if mode == "SERVER":
        assert "Maquette 0.1.0 on cuda:0" in layout.text
        assert {"address", "token"} <= set(layout.properties) and "maquette.test_connection" in layout.operators
    else:
        wanted = {
            "ABSENT": "install_backend", "FAILED": "install_backend", "INSTALLING": "cancel_install",
            "STOPPED": "start_backend", "DEAD": "start_backend", "STARTING": "stop_backend", "RUNNING": "stop_backend",
        }  # fmt: skip
        if state in wanted:
            assert f"maquette.{wanted[state]}" in layout.operators


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (65, "1 min 5 s"),
        (120, "2 min"),
        (1000, "16 min"),
        (3600, "1 h"),
        (4800, "1 h 20 min"),
    ],
)
def test_durations(bench: Bench, seconds: float, words: str) -> None:
    assert bench.module("scene.job.estimate").duration(seconds) == words


def test_the_time_of_a_carried_film_is_told_roughly_before_the_first_one(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimate, scene = bench.module("scene.job.estimate"), bench.build()
    monkeypatch.setattr(estimate, "_cache", [{}])
    limits = {"size_multiple": 16, "min_size": 64, "max_size": 256}
    entry = {"id": "one", "label": "One", "available": True, "limits": limits}
    scene.maquette.model = "one"
    for steps, quality, told in (
        (1, "standard", True),
        (1, "fine", False),
        (30, "standard", False),
        (30, "draft", True),
    ):
        bench.backends.show_models([entry | {"defaults": {"steps": steps, "width": 128, "height": 128, "frames": 17}}])
        scene.maquette.quality = quality
        assert (", roughly " in estimate.expected(scene)) is told
    estimate._cache[0]["another"] = {"capture": 1000.0}  # as slowly as this computer captures
    assert " h" in estimate.expected(scene).partition("roughly")[2]


def test_the_size_is_told_by_the_options_and_of_a_draft_without_upscaling(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimate, options, scene = bench.module("scene.job.estimate"), bench.module("scene.job.options"), bench.build()
    monkeypatch.setattr(estimate, "_cache", [{}])
    limits = {"size_multiple": 32, "control_scale": 2, "min_size": 256, "max_size": 1920}
    control = {"type": "choice", "default": "depth", "label": "Control", "choices": ["depth", "none"]}
    defaults = {"steps": 30, "width": 768, "height": 512, "frames": 121}
    entry = {"id": "led", "label": "Led", "available": True, "limits": limits, "defaults": defaults}
    bench.backends.show_models([entry | {"options": {"control": control | {"description": "What leads"}}}])
    scene.maquette.model = "led"
    options.ensure(scene, "led")
    scene.render.resolution_x, scene.render.resolution_y = 1000, 600
    chosen = next(each for each, _ in options.entries(scene, "led") if each.option == "control")
    said = {}
    for kind in ("depth", "none"):
        options.store(chosen, kind)
        said[kind] = estimate.expected(scene)
    assert "842 x 506" in said["depth"] and "800 x 480" in said["none"], said
    scene.maquette.upscale, scene.maquette.quality = "X2", "draft"
    assert "800 x 480" in estimate.expected(scene)


def test_long_messages_are_broken_into_lines(bench: Bench) -> None:
    text = "The backend stopped answering during the job. " * 4
    main = bench.module("panels.main")
    layout = Layout()
    main.draw_text(layout, a_context(), text, "INFO")
    assert len(layout.texts) > 4 and max(map(len, layout.texts)) < 40 and layout.text == text.strip()


def test_the_quality_stands_beside_the_model(bench: Bench) -> None:
    bench.build()
    look(bench)
    drawn = draw("MAQUETTE_PT_shot")
    assert drawn.properties.index("frame_end") < drawn.properties.index("quality") < drawn.properties.index("seed")
    items = bpy.context.scene.maquette.bl_rna.properties["quality"].enum_items
    assert [item.name for item in items] == ["Draft", "Standard", "Fine"] and all(item.description for item in items)
    assert bpy.context.scene.maquette.quality == "standard"


def test_every_reference_of_the_active_character_is_shown(bench: Bench) -> None:
    bench.build()
    cube = bpy.data.objects["Performer"]
    bpy.context.view_layer.objects.active = cube
    drawn = draw("MAQUETTE_PT_shot")
    assert "Looks of Performer" in drawn.text and "reference_frame" not in drawn.properties  # NONE
    cube.maquette.reference_source = "RENDER"
    for _ in range(2):
        bpy.ops.maquette.add_reference()
    cube.maquette.references[1].source = "IMAGE"
    look(bench)
    drawn = draw("MAQUETTE_PT_shot")
    assert "Looks of Performer (3)" in drawn.text and "maquette.add_reference" in drawn.operators
    assert drawn.properties.count("frame") == 2 and drawn.properties.count("image") == 1
    assert drawn.operators.count("maquette.remove_reference") == 2
    assert "No reference picture in 'Face': choose one, or take Render" in drawn.text


@pytest.mark.parametrize(("inputs", "words"), [({"clay": "optional"}, "drawn in clay grey"), ({}, "invents the looks")])
def test_what_comes_of_a_character_without_a_reference_is_said(bench: Bench, inputs: dict, words: str) -> None:
    scene = bench.build()
    taken = {"characters": "required", "reference": "optional", **inputs}
    bench.backends.show_models([{"id": "one", "label": "One", "available": True, "inputs": taken}])
    scene.maquette.model = "one"
    look(bench)
    assert words in draw("MAQUETTE_PT_shot").text
