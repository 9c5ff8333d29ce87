"""What is registered goes again, all of it."""

from __future__ import annotations

from types import ModuleType

import bpy
import pytest

from ..scene.builders import module


def left() -> list[str]:
    """What Blender still holds of the add-on."""
    classes = {
        "OT_generate": bpy.types.Operator, "PT_shot": bpy.types.Panel, "UL_results": bpy.types.UIList,
        "MT_models": bpy.types.Menu, "PG_shot": bpy.types.PropertyGroup,
    }  # fmt: skip
    found = [name for name, kind in classes.items() if kind.bl_rna_get_subclass_py(f"MAQUETTE_{name}") is not None]
    owners = (bpy.types.Object, bpy.types.Scene, bpy.types.WindowManager)
    found += [owner.__name__ for owner in owners if hasattr(owner, "maquette")]
    for name in ("load_post", "undo_post", "depsgraph_update_post"):
        handlers = getattr(bpy.app.handlers, name)
        found += [name for handler in handlers if handler.__module__.endswith("maquette.scene.job.handlers")]
    return found


@pytest.fixture
def disabled(addon: ModuleType):
    """The add-on, switched off; it is on again afterwards."""
    assert len(left()) == 11
    bpy.ops.preferences.addon_disable(module=addon.__name__)
    yield addon
    bpy.ops.preferences.addon_enable(module=addon.__name__)
    assert len(left()) == 11


def test_disabling_takes_everything_away(disabled: ModuleType) -> None:
    assert left() == []


@pytest.mark.parametrize("broken", ["operators.motion", "panels.shot", "scene.job.handlers"])
def test_a_failure_half_way_leaves_nothing(disabled: ModuleType, monkeypatch, broken: str) -> None:
    """The last class of a part fails, or where it has none its own registration."""
    part, register_class = module(disabled, broken), bpy.utils.register_class
    classes = getattr(part, "CLASSES", ())

    def register(cls: type) -> None:
        assert cls not in classes[-1:], "broken"
        register_class(cls)

    monkeypatch.setattr(bpy.utils, "register_class", register)
    if not classes:
        monkeypatch.setattr(part, "_first_look", lambda: 1 / 0)
    with pytest.raises((AssertionError, ZeroDivisionError)):
        module(disabled, "registration").register()
    assert left() == []
