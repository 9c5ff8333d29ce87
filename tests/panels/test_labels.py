"""Everything that the add-on writes has a tooltip, and nothing in the sidebar is cut at its usual width."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace

import bpy
import pytest

from ..scene.job_scene import Bench
from .labels import _AROUND, SIDEBAR, Measured, listed

PANELS = ("body", "body_shape", "body_colors", "motion", "camera", "framing", "shot", "result")


@pytest.fixture
def bench(bench: Bench) -> Bench:
    bench.preferences.address = "127.0.0.1:8188"
    return bench


def measured(name: str) -> Measured:
    """A panel drawn into a sidebar of usual width."""
    layout = Measured()
    keys = ("scene", "window_manager", "preferences", "object", "active_object", "view_layer")
    context = SimpleNamespace(
        **{key: getattr(bpy.context, key) for key in keys}, region=SimpleNamespace(width=SIDEBAR), space_data=None
    )
    kind = getattr(bpy.types, f"MAQUETTE_PT_{name}")
    kind.draw(SimpleNamespace(layout=layout), context)
    return layout


def test_every_label_has_a_tooltip(addon: ModuleType, bench: Bench) -> None:
    lines = sorted(set(listed(bench.module("registration").MODULES)))
    for where, label, tooltip in lines:  # pytest -s shows the list
        print(f"{where:52} {label:32} {tooltip}")
    assert len(lines) > 150
    assert [where for where, label, tooltip in lines if not label or not tooltip] == []
    assert [where for where, _, tooltip in lines if tooltip.endswith(".")] == []


def fully_dressed(bench: Bench, model: str) -> None:
    """A scene in which the panels have as much to say as they can."""
    bpy.ops.maquette.first_shot()
    bench.backends.show_models(bench.backends._preset_models())
    scene, view = bpy.context.scene, bench.view
    scene.maquette.model = model
    scene.maquette.seeds = 3
    bpy.ops.maquette.add_reference()
    bpy.ops.maquette.add_tracks()
    for number in range(3):
        item = scene.maquette.results.add()
        item.name, item.model_label, item.frame_count, item.created = (
            f"Take {number}",
            "ISA Nano",
            49,
            "2026-01-31 12:34",
        )
    view.motion_notes = "Up axis Y as given\nRetargeted to body maquette_neutral"
    bench.readiness.publish(now=True)


@pytest.mark.parametrize("model", ["isa-nano", "mtvcrafter-7b", "mofa-hybrid"])
def test_nothing_is_cut_at_the_usual_width(bench: Bench, model: str) -> None:
    fully_dressed(bench, model)
    scene, view = bpy.context.scene, bench.view
    cut, untold = {}, set()

    def look(name: str) -> None:
        drawn = measured(name)
        for text, needs, has in drawn.cut(SIDEBAR - _AROUND):
            cut[text] = f"{name}: {needs:.0f} of {has:.0f} pixels"
        untold.update(
            f"{type(data).__name__}.{prop}"
            for data, prop in drawn.drawn
            if not data.bl_rna.properties[prop].description
        )

    for name in PANELS:
        look(name)
    for way in ("OFF", "OVERLAY", "BACKGROUND", "PLANE", "STRIP"):
        scene.maquette["show_as"] = {"OFF": 0, "OVERLAY": 8, "BACKGROUND": 2, "PLANE": 1, "STRIP": 4}[way]
        look("result")
    for state in ("capturing", "queued", "submitting", "running", "downloading", "cancelling", "done", "failed"):
        view.state, view.stage, view.queue_position, view.message = state, "denoising", 12, "The GPU is full"
        view.can_resume, view.notes = True, "Size snapped to 16 x 16"
        look("shot")
    view.state = "idle"
    for mode in ("LOCAL", "SERVER"):
        bench.preferences.mode = mode
        for local in ("ABSENT", "INSTALLING", "DEAD"):
            view.backend.local_state = local
            bench.readiness.publish(now=True)
            look("shot")
    assert cut == {} and untold == set()


def test_a_text_too_long_is_found() -> None:
    layout = Measured()
    layout.row().operator("maquette.generate", text="Generate the Video of This Whole Shot at Once")
    assert [text for text, _, _ in layout.cut(200)] and not list(layout.cut(600))
