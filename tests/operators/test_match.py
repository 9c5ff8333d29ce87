"""Matching a character's picture by pins that are there already, and what is told of it."""

from __future__ import annotations

from types import ModuleType

import bpy
import pytest

from ..scene.builders import module

PINS = {"head": (0.5, 0.12), "left_ankle": (0.58, 0.9), "right_ankle": (0.42, 0.9), "left_wrist": (0.75, 0.45)}


@pytest.fixture
def marks(addon: ModuleType) -> bpy.types.PropertyGroup:
    bpy.ops.maquette.add_body()
    mesh = next(obj for obj in bpy.data.objects if obj.type == "MESH")
    mesh.maquette.reference_source = "IMAGE"
    mesh.maquette.reference_image = bpy.data.images.new("Picture", 60, 80)
    return mesh.maquette


def put(match: bpy.types.PropertyGroup, pins: dict[str, tuple[float, float]], image: bpy.types.Image) -> None:
    match.image = image
    for name, place in pins.items():
        pin = match.pins.add()
        pin.name, pin.place = name, place


def of(addon: ModuleType, match: bpy.types.PropertyGroup, image: bpy.types.Image):
    return module(addon, "scene.capture.match").match_of(match, image)


def checks(addon: ModuleType):
    found = module(addon, "scene.job.readiness").check(bpy.context.scene)
    return [check for check in found if check.kind == "CHARACTER"]


def test_pins_become_a_pose_that_each_reference_keeps_for_itself(addon: ModuleType, marks) -> None:
    put(marks.reference_match, PINS, marks.reference_image)
    assert bpy.ops.maquette.match_picture() == {"FINISHED"}
    first = of(addon, marks.reference_match, marks.reference_image)
    assert set(first.errors) == set(PINS) and not first.trouble
    bpy.ops.maquette.add_reference()
    back = marks.references[0]
    back.image = bpy.data.images.new("Back", 80, 60)
    assert bpy.ops.maquette.match_picture(index=0) == {"FINISHED"}
    assert of(addon, back.match, back.image).errors == {}
    asked = module(addon, "scene.capture.looks").asked_of(marks.id_data)
    assert [one.match is not None for one in asked] == [True, True]
    back.match.cut_out = False
    asked = module(addon, "scene.capture.looks").asked_of(marks.id_data)
    assert [one.margin for one in asked] == [pytest.approx(0.04), None]
    assert bpy.ops.maquette.clear_match(index=0) == {"FINISHED"}
    assert of(addon, back.match, back.image) is None
    assert of(addon, marks.reference_match, marks.reference_image) is not None


def test_a_poor_fit_is_told_before_anything_is_sent(addon: ModuleType, marks) -> None:
    mixed_up = {"head": (0.5, 0.12), "left_shoulder": (0.65, 0.25), "right_shoulder": (0.35, 0.25)}
    for number, part in enumerate(("hip", "knee", "ankle")):
        mixed_up |= {f"left_{part}": (0.42, 0.5 + 0.2 * number), f"right_{part}": (0.58, 0.5 + 0.2 * number)}
    put(marks.reference_match, mixed_up, marks.reference_image)
    bpy.ops.maquette.match_picture()
    assert of(addon, marks.reference_match, marks.reference_image).trouble
    (check,) = checks(addon)
    assert check.level == "WARNING" and "is an unlikely pose" in check.message


def test_a_model_that_moves_the_first_picture_takes_no_matched_one(addon: ModuleType, marks) -> None:
    bpy.ops.maquette.match_picture()
    told = {"id": "m", "label": "Model M", "available": True, "limits": {"first_frame_reference": 1}}
    told["inputs"] = {"characters": "required", "camera": "required", "reference": "required"}
    module(addon, "scene.job.backends").show_models([told])
    problems = module(addon, "scene.job.model_checks").problems
    model = module(addon, "scene.job.models").find("m")
    assert any("press Clear Match" in line for line in problems(bpy.context.scene, model))
    marks.reference_image = bpy.data.images.new("Other", 8, 8)
    assert not any("press Clear Match" in line for line in problems(bpy.context.scene, model))


def test_what_cannot_be_matched_is_said(addon: ModuleType, marks) -> None:
    with pytest.raises(RuntimeError, match="no entry 2: it holds 0"):
        bpy.ops.maquette.match_picture(index=2)
    put(marks.reference_match, {"tail": (0.1, 0.1)}, marks.reference_image)
    with pytest.raises(RuntimeError, match="no body has a 'tail'"):
        bpy.ops.maquette.match_picture()
    marks.reference_image = None
    with pytest.raises(RuntimeError, match="no picture; set Reference to Picture"):
        bpy.ops.maquette.match_picture()
    marks.reference_source = "NONE"
    assert not bpy.ops.maquette.match_picture.poll()
    bpy.ops.mesh.primitive_cube_add()
    assert not bpy.ops.maquette.match_picture.poll()
