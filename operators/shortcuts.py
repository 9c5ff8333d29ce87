"""Shortcuts, bound while the extension is enabled."""

from __future__ import annotations

import bpy
from bpy.types import KeyMap, KeyMapItem


class Shortcuts:
    """The shortcuts of one module."""

    def __init__(self) -> None:
        self._bound: list[tuple[KeyMap, KeyMapItem]] = []

    def bind(self, name: str, space: str, operator: str, key: str, **modifiers: bool) -> None:
        """Bind a key to an operator; Blender without windows has none to bind.

        Args:
            name, space: of the keymap.
            modifiers: ``alt``, ``ctrl`` and ``shift``.
        """
        keys = bpy.context.window_manager.keyconfigs.addon
        if keys is not None:
            keymap = keys.keymaps.new(name=name, space_type=space)
            self._bound.append((keymap, keymap.keymap_items.new(operator, key, "PRESS", **modifiers)))

    def unbind(self) -> None:
        """Unbind all of them."""
        while self._bound:
            keymap, item = self._bound.pop()
            keymap.keymap_items.remove(item)
