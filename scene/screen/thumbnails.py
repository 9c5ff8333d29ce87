"""Small pictures of films for lists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy
import bpy.utils.previews

_pictures: Any = None


def icon_of(path: str) -> int:
    """The icon of a film, 0 when there is none; Blender makes its picture in the background.

    Args:
        path: as the .blend keeps it.
    """
    global _pictures
    file = Path(bpy.path.abspath(path))
    try:
        # A film written anew is another picture.
        name = f"{file} {file.stat().st_mtime_ns}"
    except OSError:
        return 0
    if _pictures is None:
        _pictures = bpy.utils.previews.new()
    if name not in _pictures:
        _pictures.load(name, str(file), "MOVIE")
    return _pictures[name].icon_id


def drop() -> None:
    """Forget all of them."""
    global _pictures
    if _pictures is not None:
        bpy.utils.previews.remove(_pictures)
        _pictures = None
