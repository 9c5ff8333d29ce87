"""Frames of a film as textures on the GPU, decoded by Blender."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import bpy

_NAMES = (f".Maquette Film {number}" for number in itertools.count(1))
"""Of the images that decode: hidden from lists by the dot, and of no use to anybody, so that no file keeps them."""


class Player:
    """One film. Its image may vanish at any time, by an undo or another file, and is then made again."""

    def __init__(self) -> None:
        self._name = next(_NAMES)
        self._path: Path | None = None
        self._missing: Path | None = None
        self._frame = -1
        self._texture: Any = None

    def open(self, path: Path) -> bool:
        """Have the film's image in the file, which a draw handler must not do; returns whether it is there."""
        if path == self._path and self._image() is not None:
            return True
        if path == self._missing:
            return False
        self.close()
        try:
            image = bpy.data.images.load(str(path))
        except RuntimeError:
            self._missing = path
            return False
        image.name = self._name
        # The bytes of the file, whatever they mean: the shader knows.
        image.colorspace_settings.name = "Non-Color"
        image.alpha_mode = "NONE"
        self._path, self._missing = path, None
        return True

    def is_open(self, path: Path) -> bool:
        """Whether ``texture`` can give frames of this film; true as well of one that cannot be read."""
        return path == self._missing or (path == self._path and self._image() is not None)

    def texture(self, frame: int) -> Any:
        """The ``gpu.types.GPUTexture`` of a frame, counted from 0: sRGB as in the file; None when there is none.

        Needs a window's drawing context.
        """
        import gpu

        image = self._image()
        if image is None:
            return None
        # Blender drops textures that it takes for unused; asked for by ``from_image`` they would show frame 1.
        image.gl_touch(frame=frame + 1)
        if frame != self._frame or not self._alive():
            image.gl_free()
            if image.gl_load(frame=frame + 1):
                return None
            self._texture, self._frame = gpu.texture.from_image(image), frame
        return self._texture

    def forget(self) -> None:
        """What was known of the image may be wrong: an undo has been made, or the file on disk has changed."""
        self._frame, self._texture, self._missing = -1, None, None

    def close(self) -> None:
        """Remove the image."""
        self.forget()
        self._path = None
        image = self._image()
        if image is not None:
            bpy.data.images.remove(image)

    def _image(self) -> bpy.types.Image | None:
        image = bpy.data.images.get(self._name)
        return image if image is not None and image.source == "MOVIE" else None

    def _alive(self) -> bool:
        try:
            return self._texture is not None and self._texture.width > 0
        except ReferenceError:
            return False
