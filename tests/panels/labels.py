"""Every label and tooltip of the add-on, and how wide what panels draw is in Blender's own font."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import blf
import bpy

from .layout import Layout

SIDEBAR = 280
"""Pixels of the sidebar as Blender opens it, at scale 1."""
_AROUND = 56
"""Of these: tabs, scroll bar, the panel's borders."""
_ICON, _PAD, _FIELD, _GAP = 20, 12, 44, 4
"""Pixels: an icon or a button that is one; left and right of a text; a number beside its name; between two in a row."""
_POINTS = 11


def text_width(text: str) -> float:
    """Pixels of a text in the interface's font at scale 1."""
    blf.size(0, _POINTS)
    return blf.dimensions(0, text)[0]


class Measured(Layout):
    """A layout that knows how wide it must be.

    Attributes:
        parts: what it holds: a text with its width, or a layout in it.
        kind: ``column``, ``row`` or ``split``.
    """

    def __init__(self, of: Layout | None = None, kind: str = "column", inset: float = 0.0, factor: float = 0.0) -> None:
        super().__init__(of)
        self.parts: list[tuple[str, float] | Measured] = []
        self.kind, self.inset, self.factor = kind, inset, factor
        self.use_property_split = getattr(of, "use_property_split", False)
        self.drawn: list[tuple[Any, str]] = of.drawn if isinstance(of, Measured) else []

    def _in(self, kind: str, inset: float = 0.0, factor: float = 0.0) -> Measured:
        part = Measured(self, kind, inset, factor)
        self.parts.append(part)
        return part

    def column(self, **_: Any) -> Measured:
        return self._in("column")

    def row(self, **_: Any) -> Measured:
        return self._in("row")

    def box(self) -> Measured:
        return self._in("column", inset=8)

    def split(self, factor: float = 0.0, **_: Any) -> Measured:
        return self._in("split", factor=factor)

    def panel(self, idname: str, default_closed: bool = False) -> tuple[Measured, Measured]:
        header = self._in("row", inset=24)
        return header, self._in("column", inset=16)

    def _text(self, text: str, width: float) -> None:
        self.parts.append((text, width))

    def label(self, text: str = "", icon: str = "NONE", icon_value: int = 0) -> None:
        super().label(text, icon)
        self._text(text, text_width(text) + (_ICON if icon != "NONE" or icon_value else 0))

    def operator(self, idname: str, text: str | None = None, icon: str = "NONE", **options: Any) -> Any:
        made = super().operator(idname, text or "", icon, **options)
        module, name = idname.split(".")
        shown = getattr(getattr(bpy.ops, module), name).get_rna_type().name if text is None else text
        self._text(shown, (text_width(shown) + _PAD if shown else 0) + (_ICON if icon != "NONE" else 0))
        return made

    def operator_menu_enum(self, idname: str, prop: str, text: str = "", icon: str = "NONE") -> Any:
        self._text(text, text_width(text) + 2 * _ICON)
        return super().operator(idname, text, icon)

    def menu(self, idname: str, text: str = "", icon: str = "NONE") -> None:
        super().menu(idname, text, icon)
        self._text(text, text_width(text) + 2 * _ICON)

    def progress(self, factor: float = 0.0, text: str = "", type: str = "BAR") -> None:
        super().progress(factor, text, type)
        self._text(text, text_width(text) + _PAD)

    def prop(self, data: Any, name: str, text: str | None = None, icon: str = "NONE", **options: Any) -> None:
        super().prop(data, name)
        found = data.bl_rna.properties[name]
        self.drawn.append((data, name))
        words = found.name if text is None else text
        value = max((text_width(i.name) for i in found.enum_items), default=0) if found.type == "ENUM" else 0
        if options.get("expand"):
            each = [0 if options.get("icon_only") else text_width(i.name) for i in found.enum_items]
            self._text(words, sum(each) + len(each) * (_ICON if options.get("icon_only") else _PAD))
        elif self.use_property_split and words and found.type != "BOOLEAN":
            part = self._in("split", factor=0.4)
            part._text(words, text_width(words) + _PAD / 2)
            part._text(f"value of {words}", value + (_ICON + _PAD if value else _FIELD))
        elif found.type == "BOOLEAN":
            share = 0.6 if self.use_property_split and not options.get("toggle") else 1.0
            self._text(words, (text_width(words) + _ICON + _PAD / 2) / share if words else _ICON)
        else:
            field = _FIELD if found.type in ("INT", "FLOAT") else value + _ICON
            self._text(words, text_width(words) + field + (_ICON if icon != "NONE" else 0))

    @property
    def natural(self) -> float:
        """Pixels that it takes at least."""
        widths = [part[1] if isinstance(part, tuple) else part.natural for part in self.parts]
        if not widths:
            return 0.0
        if self.kind == "row":
            return self.inset + sum(widths) + _GAP * (len(widths) - 1)
        return self.inset + max(widths)

    def cut(self, width: float) -> Iterator[tuple[str, float, float]]:
        """Texts that do not fit into so many pixels, each with the pixels that it needs and has."""
        width -= self.inset
        if self.kind == "split" and self.parts:
            first = width * (self.factor or 1 / len(self.parts))
            shares = [first] + [(width - first) / max(len(self.parts) - 1, 1)] * (len(self.parts) - 1)
        elif self.kind == "row":
            spare = width - (self.natural - self.inset)
            shares = [(p[1] if isinstance(p, tuple) else p.natural) + spare for p in self.parts]
        else:
            shares = [width] * len(self.parts)
        for part, share in zip(self.parts, shares, strict=True):
            if isinstance(part, Measured):
                yield from part.cut(share)
            elif part[1] > share + 0.5:
                yield part[0], part[1], share


def listed(modules: Any) -> Iterator[tuple[str, str, str]]:
    """Where, label and tooltip of everything that the add-on registers and somebody may see."""
    for module in modules:
        for kind in getattr(module, "CLASSES", ()):
            if issubclass(kind, bpy.types.Operator):
                module_name, name = kind.bl_idname.split(".")
                rna = getattr(getattr(bpy.ops, module_name), name).get_rna_type()
                yield kind.bl_idname, rna.name, rna.description
                yield from _properties(kind.bl_idname, rna)
            elif issubclass(kind, (bpy.types.Panel, bpy.types.Menu)):
                yield kind.__name__, kind.bl_label, kind.__doc__ or ""
            elif issubclass(kind, bpy.types.AddonPreferences) or module.__name__.endswith(".properties"):
                yield from _properties(kind.__name__, kind.bl_rna)


def _properties(where: str, rna: Any) -> Iterator[tuple[str, str, str]]:
    for found in rna.properties:
        if found.identifier in ("rna_type", "bl_idname", "name", *_BLENDERS) or found.is_hidden:
            continue
        if not found.name or found.type == "COLLECTION" or _is_group(found):
            continue
        yield f"{where}.{found.identifier}", found.name, found.description
        if found.type == "ENUM":
            for item in found.enum_items:
                yield f"{where}.{found.identifier}.{item.identifier}", item.name, item.description


def _is_group(found: Any) -> bool:
    """Whether a property only holds others, which are shown in its place."""
    base = found.fixed_type.base if found.type == "POINTER" else None
    return base is not None and base.identifier == "PropertyGroup"


_BLENDERS = {"filepath", "check_existing", "files", "directory", "filter_glob"}
"""Of Blender's own file operators."""
