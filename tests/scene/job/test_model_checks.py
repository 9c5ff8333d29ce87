"""What stands between a shot and a model, and what to change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bpy
import pytest

from ..job_scene import Bench

PLAIN = {"characters": "required", "camera": "required"}


@pytest.fixture
def bench(bench: Bench) -> Bench:
    bench.build()
    return bench


def problems(bench: Bench, **entry: Any) -> list[str]:
    """Of the bench's scene, for a model so described."""
    said = {"id": "m", "label": "Model M", "available": True, "inputs": PLAIN, **entry}
    bench.backends.show_models([said])
    return bench.module("scene.job.model_checks").problems(
        bpy.context.scene, bench.module("scene.job.models").find("m")
    )


def needing(name: str) -> dict[str, Any]:
    return {"inputs": PLAIN | {name: "required"}}


def test_a_shot_that_suits(bench: Bench) -> None:
    assert problems(bench) == []


def second(scene: bpy.types.Scene) -> None:
    bpy.ops.mesh.primitive_cube_add()
    bpy.context.object.name = "Other"
    bpy.context.object.maquette.is_character = True


@pytest.mark.parametrize(
    ("entry", "change", "words"),
    [
        ({"limits": {"max_characters": 1}}, second, "takes one character, and 2 are marked (Performer, Other)"),
        (
            {"limits": {"max_frames": 3}},
            None,
            "at most 3 frames and the range has 5: set its end to 3, or Frame Step to 2",
        ),
        ({"limits": {"min_frames": 9}}, None, "at least 9 frames and the range has 5: set its end to 9"),
        (needing("reference"), None, "needs a reference of Performer: set Looks > Reference to Render or Picture"),
        (
            {**needing("reference"), "limits": {"first_frame_reference": 1}},
            lambda scene: (
                setattr(bpy.data.objects["Performer"].maquette, "reference_source", "RENDER"),
                setattr(bpy.data.objects["Performer"].maquette, "reference_frame", 4),
            ),
            "must show frame 1, not 4: set Looks > At Frame to 1",
        ),
        (needing("prompt"), None, "needs a prompt"),
        (needing("background"), None, "needs a background: choose This Scene or a picture"),
        (needing("tracks"), None, "needs tracks: select objects or vertices"),
        (needing("joints"), None, "Performer has no skeleton that it knows: add a body"),
        ({"available": False, "reason": "Model M cannot run: no weights"}, None, "cannot run: no weights"),
    ],
)
def test_what_a_model_cannot_take(
    bench: Bench, entry: dict[str, Any], change: Callable[[Any], Any] | None, words: str
) -> None:
    if change is not None:
        change(bpy.context.scene)
    found = problems(bench, **entry)
    assert len(found) == 1 and words in found[0]


@pytest.mark.parametrize(
    ("entry", "cure"),
    [
        ({"limits": {"max_frames": 3}}, lambda scene: setattr(scene, "frame_end", 3)),
        ({"limits": {"max_frames": 3}}, lambda scene: setattr(scene, "frame_step", 2)),
        ({"limits": {"min_frames": 9}}, lambda scene: setattr(scene, "frame_end", 9)),
        (needing("prompt"), lambda scene: setattr(scene.maquette, "prompt", "A studio")),
        (
            {**needing("reference"), "limits": {"first_frame_reference": 1}},
            lambda scene: (
                setattr(bpy.data.objects["Performer"].maquette, "reference_source", "RENDER"),
                setattr(bpy.data.objects["Performer"].maquette, "reference_frame", 4),
                bpy.ops.maquette.use_first_frame(),
            ),
        ),
    ],
)
def test_the_cure_that_is_named_cures(bench: Bench, entry: dict[str, Any], cure: Callable[[Any], Any]) -> None:
    cure(bpy.context.scene)
    assert problems(bench, **entry) == []


def test_a_body_has_joints(bench: Bench) -> None:
    bpy.data.objects["Performer"].maquette.is_character = False
    bpy.ops.maquette.add_body()
    assert problems(bench, **needing("joints")) == []


def test_a_switched_off_character_does_not_count(bench: Bench) -> None:
    second(bpy.context.scene)
    bpy.context.object.hide_viewport = bpy.context.object.hide_render = True
    assert problems(bench, limits={"max_characters": 1}) == []


def test_checks_name_the_models(bench: Bench) -> None:
    scene = bpy.context.scene
    few = {"id": "few", "label": "Few", "inputs": PLAIN, "limits": {"max_frames": 3}, "available": True}
    bench.backends.show_models([few | {"id": "isa-nano", "label": "Nano"}, few])
    scene.maquette.compare.add().name = "few"
    checks = {check.target: check for check in bench.readiness.check(scene) if check.kind in ("MODEL", "COMPARE")}
    assert (checks["isa-nano"].kind, checks["isa-nano"].level) == ("MODEL", "ERROR")
    assert (checks["few"].kind, checks["few"].level) == ("COMPARE", "WARNING")
    assert checks["few"].message.startswith("Few will be left out: Few makes at most 3 frames")


def test_the_preview_range_is_told_to_be_left_out(bench: Bench) -> None:
    scene = bpy.context.scene
    scene.use_preview_range = True
    (check,) = [check for check in bench.readiness.check(scene) if "preview range" in check.message]
    assert check.level == "WARNING" and "frames 1 to 5" in check.message


def test_a_background_that_the_model_leaves_out_is_not_missed(bench: Bench) -> None:
    scene = bpy.context.scene
    scene.maquette.background = "PICTURE"
    assert any(check.kind == "BACKGROUND" for check in bench.readiness.check(scene))
    bench.backends.show_models([{"id": "isa-nano", "available": True, "inputs": PLAIN}])
    assert not any(check.kind == "BACKGROUND" for check in bench.readiness.check(scene))
