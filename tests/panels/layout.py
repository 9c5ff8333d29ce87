"""A layout that notes what is drawn, and refuses what Blender's would only complain about in a window."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import bpy


class Layout:
    """Stands in for ``UILayout``; parts share one record.

    Attributes:
        texts: every label, in order.
        operators: every operator's id, in order.
        properties: every property's name, in order.
        greyed: every operator's text that cannot be pressed.
    """

    _OWN = ("texts", "operators", "properties", "greyed")

    def __init__(self, of: Layout | None = None) -> None:
        self.enabled = of.enabled if of is not None else True
        for name in self._OWN:
            setattr(self, name, getattr(of, name) if of is not None else [])

    def _part(self, *_: Any, **__: Any) -> Layout:
        return Layout(self)

    row = column = box = split = _part

    def panel(self, idname: str, default_closed: bool = False) -> tuple[Layout, Layout]:
        return Layout(self), Layout(self)

    def separator(self, **_: Any) -> None:
        """Nothing to note."""

    def label(self, text: str = "", icon: str = "NONE") -> None:
        assert icon in bpy.types.UILayout.bl_rna.functions["label"].parameters["icon"].enum_items, icon
        self.texts.append(text)

    def operator(self, idname: str, text: str = "", icon: str = "NONE", emboss: bool = True) -> Any:
        module, name = idname.split(".")
        assert name in dir(getattr(bpy.ops, module)), idname
        assert icon in bpy.types.UILayout.bl_rna.functions["operator"].parameters["icon"].enum_items, icon
        self.operators.append(idname)
        if text:
            self.texts.append(text)
        if not self.enabled:
            self.greyed.append(text)
        return _Properties(getattr(getattr(bpy.ops, module), name).get_rna_type())

    def operator_menu_enum(self, idname: str, prop: str, text: str = "", icon: str = "NONE") -> Any:
        return self.operator(idname, text, icon)

    def prop(self, data: Any, name: str, **options: Any) -> None:
        assert name in data.bl_rna.properties, f"{data} has no {name}"
        self.properties.append(name)

    def progress(self, factor: float = 0.0, text: str = "", type: str = "BAR") -> None:
        assert 0.0 <= factor <= 1.0
        self.texts.append(text)

    def menu(self, idname: str, text: str = "", icon: str = "NONE") -> None:
        assert hasattr(bpy.types, idname), idname
        self.texts.append(text)

    def template_list(
        self, listtype: str, list_id: str, data: Any, name: str, active: Any, index: str, **_: Any
    ) -> None:
        assert hasattr(bpy.types, listtype), listtype
        assert name in data.bl_rna.properties and index in active.bl_rna.properties

    def template_icon(self, icon_value: int, scale: float = 1.0) -> None:
        self.texts.append("<preview>")

    def template_ID(self, data: Any, name: str, new: str = "", open: str = "", text: str = "") -> None:
        self.prop(data, name)

    @property
    def text(self) -> str:
        """All labels in one string, broken lines joined."""
        return " ".join(" ".join(self.texts).split())


class _Properties:
    """An operator's properties: only those that it has can be set."""

    def __init__(self, kind: Any) -> None:
        object.__setattr__(self, "_kind", kind)

    def __setattr__(self, name: str, value: Any) -> None:
        assert name in self._kind.properties, f"{self._kind} has no {name}"


def draw(panel: str, context: Any = None, **more: Any) -> Layout:
    """Draw a registered panel or menu as Blender would."""
    layout = Layout()
    kind = getattr(bpy.types, panel)
    kind.draw(SimpleNamespace(layout=layout, **more), context or a_context())
    return layout


def a_context() -> Any:
    """The context with a sidebar of usual width; there is no window to take it from."""
    names = ("scene", "window_manager", "preferences", "object", "active_object", "view_layer")
    here = {name: getattr(bpy.context, name) for name in names}
    return SimpleNamespace(**here, region=SimpleNamespace(width=280))
