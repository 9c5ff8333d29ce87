"""The tiny VACE that LoRAs are added to."""

from ..control.conftest import tiny_vace

__all__ = ["tiny_vace"]
