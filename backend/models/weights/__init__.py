"""Published weights: found, checked against the networks here, and rewritten as the folders that engines load.

Nothing here downloads anything. ``component`` is what a family of models declares about each of its parts, ``add``
turns published files into a model's folder, ``check`` and ``remove`` look after it, ``cli`` is ``maquette models``.
"""

from __future__ import annotations
