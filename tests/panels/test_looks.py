"""What the panel shows of a character's pictures."""

from __future__ import annotations

import dataclasses
from types import ModuleType

import bpy

from ..scene.builders import module
from .labels import _AROUND, SIDEBAR, Measured


def test_a_picture_shows_its_fit_or_how_to_get_one(addon: ModuleType) -> None:
    bpy.ops.maquette.add_body()
    mesh = next(obj for obj in bpy.data.objects if obj.type == "MESH")
    marks, looks = mesh.maquette, module(addon, "panels.looks")

    def drawn() -> Measured:
        layout = Measured()
        looks.draw_looks(layout.box(), mesh)
        assert list(layout.cut(SIDEBAR - _AROUND)) == []
        return layout

    marks.reference_source = "IMAGE"
    assert "maquette.match_picture" not in drawn().operators and "reference_frame" in drawn().properties
    marks.reference_image = bpy.data.images.new("Picture", 60, 80)
    assert "maquette.match_picture" in drawn().operators and "reference_frame" in drawn().properties
    assert "Not of the shot's shape: match it" in drawn().texts
    for name, place in (("head", (0.5, 0.1)), ("left_ankle", (0.6, 0.9)), ("right_ankle", (0.4, 0.9))):
        pin = marks.reference_match.pins.add()
        pin.name, pin.place = name, place
    marks.reference_match.image = marks.reference_image
    bpy.ops.maquette.match_picture()
    layout = drawn()
    assert any(text.startswith("3 pins, 0.") and "px off" in text for text in layout.texts)
    assert {"cut_out", "margin"} <= set(layout.properties) and "reference_frame" not in layout.properties
    match = module(addon, "scene.capture.match").match_of(marks.reference_match, marks.reference_image)
    for trouble in ({"strained": "spine1"}, {"errors": {"head": 99.9}}):
        poor = dataclasses.replace(match, **trouble)
        module(addon, "scene.capture.match").keep(marks.reference_match, marks.reference_image, {}, poor)
        assert {"A poor fit: looks will slip", "Unlikely: left, right mixed up?"} & set(drawn().texts)
    marks.reference_match.cut_out = False
    assert "margin" not in drawn().properties
    marks.reference_image = bpy.data.images.new("Other", 8, 8)
    assert "Another picture was matched" in drawn().texts
