"""What of a body is matched to a picture, and what comes out: the spots that can be pinned, pose and camera.

Shape letters: J joints, S shape components, P spots.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..shot.types import SMPL_JOINT_NAMES
from .model import BodyModel

SPOTS: Mapping[str, str] = {
    "head": "head",
    "nose": "head",
    **{
        f"{side}_{part}": f"{side}_{joint}"
        for part, joint in (
            ("shoulder", "shoulder"),
            ("elbow", "elbow"),
            ("wrist", "wrist"),
            ("hand", "hand"),
            ("hip", "hip"),
            ("knee", "knee"),
            ("ankle", "ankle"),
            ("toes", "foot"),
        )
        for side in ("left", "right")
    },
}
"""What can be pinned, and the joint of SMPL that it moves with."""

GOOD, POOR, ASTRAY = 0.02, 0.04, 0.06
"""Root mean square distance between pins and body, in heights of the body as the picture shows it, up to which a fit is
good, and from which on it is poor; and the distance of a single pin from which on it is."""


@dataclass(frozen=True, eq=False)
class Figure:
    """What of a body can be matched.

    Attributes:
        names: J joints.
        parents: (J,) int, parents before children, -1 for the root.
        heads: (J,3) joints of the mean shape at rest, canonical frame.
        directions: (J,3,S) their displacement per unit of each shape component.
        joints: (P,) the joint that each of ``SPOTS`` moves with.
        offsets: (P,3) where it lies from its joint at rest.
        height: metres at rest.
    """

    names: tuple[str, ...]
    parents: np.ndarray
    heads: np.ndarray
    directions: np.ndarray
    joints: np.ndarray
    offsets: np.ndarray
    height: float

    @classmethod
    def of(cls, body: BodyModel, shapes: int) -> Figure:
        """The figure of a body with its first shape components."""
        whole = body.smpl_joints(np.arange(len(body.joint_names))[:, None])[:, 0]
        joints = np.array([whole[SMPL_JOINT_NAMES.index(joint)] for joint in SPOTS.values()])
        regressor = np.asarray(body.J_regressor, np.float64)
        heads = regressor @ body.v_template
        offsets = np.zeros((len(SPOTS), 3))
        head = body.joint_names.index("head")
        skull = body.v_template[body.weights[:, head] > 0.5].astype(np.float64)
        if len(skull):
            # The middle of the head is what is seen of it from all sides.
            offsets[0] = (skull.min(axis=0) + skull.max(axis=0)) / 2 - heads[head]
            offsets[1] = skull[skull[:, 2].argmax()] - heads[head]
        return cls(
            names=body.joint_names,
            parents=body.parents,
            heads=heads,
            directions=np.tensordot(regressor, body.shapedirs[:, :, :shapes], 1),
            joints=joints,
            offsets=offsets,
            height=float(np.ptp(body.v_template[:, 1])),
        )


@dataclass(frozen=True, eq=False)
class Match:
    """In which pose, and by which camera, a picture shows a body.

    Attributes:
        poses: (J,3) axis-angle; the root's turns the canonical frame into the camera's.
        trans: (3,) metres: in the camera's frame the root stands at its rest joint plus this.
        betas: (S,) shape.
        focal: focal length over the picture's longer side.
        errors: pixels between each pin and the spot of the body.
        tall: pixels that the body is tall in the picture.
        strained: the joint that is bent the most in a pose that hardly anybody takes; else empty.
    """

    poses: np.ndarray
    trans: np.ndarray
    betas: np.ndarray
    focal: float
    errors: Mapping[str, float]
    tall: float
    strained: str = ""

    @property
    def error(self) -> float:
        """Root mean square of ``errors``; 0 without pins."""
        return float(np.sqrt(np.mean(np.square(list(self.errors.values()))))) if self.errors else 0.0

    @property
    def share(self) -> float:
        """``error`` in heights of the body."""
        return self.error / max(self.tall, 1e-6)

    @property
    def astray(self) -> bool:
        """Whether the body does not stand where its pins are."""
        return self.share > POOR or max(self.errors.values(), default=0.0) > ASTRAY * self.tall

    @property
    def trouble(self) -> str:
        """Why it is not to be trusted, as the end of a sentence; empty where it is."""
        if self.astray:
            worst = max(self.errors, key=lambda name: self.errors[name])
            return f"a poor fit, {label(worst)} is {self.errors[worst]:.0f} pixels off: is it on its spot?"
        if self.strained:
            return f"an unlikely pose, most of all {label(self.strained)}: are left and right mixed up?"
        return ""

    def K(self, width: int, height: int) -> np.ndarray:
        """Intrinsics (3,3) of a picture of that many pixels."""
        focal = self.focal * max(width, height)
        return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])


def label(name: str) -> str:
    """What a spot or a joint is called."""
    return name.replace("_", " ").title()
