"""The kinds of control films, for the command line and for Blender's menus (stdlib)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ControlKind:
    """One kind of control film.

    Attributes:
        label: in menus.
        description: what it shows, in one line.
        data: what the channels of its 32-bit EXR files hold; empty for a film that is a picture only.
        needs: what a shot must hold for it besides camera and surfaces: ``keypoints``, ``clay`` or ``pictures``.
    """

    label: str
    description: str
    data: str = ""
    needs: tuple[str, ...] = ()


KINDS: dict[str, ControlKind] = {
    "depth": ControlKind(
        "Depth",
        "Near is white, in one range for the whole shot, as Depth-Anything draws it",
        "metres along the camera's axis, the same in R, G and B; 1e10 where nothing is",
    ),
    "normals": ControlKind(
        "Normals",
        "Which way surfaces face the camera, in the colours of ControlNet's Normal BAE",
        "unit normals in the camera's frame: R right, G up, B towards the camera; 0 where nothing is",
    ),
    "edges": ControlKind("Edges", "Outlines and creases of surfaces, as Canny draws them"),
    "clay": ControlKind("Clay", "The characters in mid grey under the scene's own light",
                        needs=("clay", "pictures")),
    "silhouettes": ControlKind("Silhouettes", "The characters in white on black"),
    "masks": ControlKind("Masks", "Each character in a pure colour of its own on black"),
    "pose": ControlKind("Pose", "Body, hands and face as DWPose draws them", needs=("keypoints",)),
    "face": ControlKind("Face", "One character's face close up, as Wan-Animate is led by it",
                        needs=("keypoints", "pictures")),
    "flow": ControlKind(
        "Optical Flow",
        "Where every pixel came from, in the colours of RAFT",
        "pixels that what this frame shows moves until the next: R right, G down; B is 1 where it is still seen then",
    ),
    "carried": ControlKind("Carried Film", "The looks laid onto the moving bodies, over the background",
                           needs=("clay", "pictures")),
    "known": ControlKind("Known Mask", "White where the carried film is known, black where a model has to make it",
                         needs=("pictures",)),
}  # fmt: skip
"""By the names of the command line, in the order of menus."""

FORMATS: dict[str, str] = {
    "mp4": "one nearly lossless H.264 film",
    "png": "a folder of 8-bit PNG files, exact",
    "exr": "a folder of 32-bit float EXR files: the quantities themselves",
}
"""How a control film is written."""
