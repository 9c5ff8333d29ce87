"""What every importer hands over: one body's motion, and the one error they raise."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

FAMILY_JOINTS: dict[str, int] = {"smpl": 24, "smplh": 52, "smplx": 55, "supr": 75}
"""Number of joints J of each family's pose."""


WARNING = "warning: "
"""What a note begins with that the animator must see."""


class MotionError(ValueError):
    """A motion that cannot be read or used.

    Attributes:
        field: the part at fault, such as ``poses``, ``file`` or ``fps``.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


@dataclass(frozen=True, eq=False)
class BodyMotion:
    """One body in motion. World is Z up, in metres.

    Attributes:
        fps: frames per second; frame k shows the time k / fps.
        poses: (T,J,3) float32 axis-angle in radians, each joint relative to its parent. ``poses[:, 0]`` turns the
            body's canonical frame (Y up, facing +Z, left at +X) into the world.
        trans: (T,3) float32 metres, added after posing: the root stands at its rest position plus ``trans``.
        betas: (S,) float32 shape, or None where the file tells none. In the shape space of ``body`` where that is
            set, else in the family's own (the licensed SMPL, SMPL-H or SMPL-X of that gender).
        family: ``smpl`` (J = 24), ``smplh`` (52), ``smplx`` (55) or ``supr`` (75).
        gender: ``neutral``, ``female`` or ``male``.
        name: what the animator may call it.
        notes: sentences for the animator: what was detected, assumed or changed.
        body: id of the BodyModel that this motion was fitted to; "" where it is for the family's own body.
        source_error: what a fit or retarget left over: ``joints_mm``, the mean joint error in millimetres; or
            ``bones_deg`` and ``worst_deg``, the mean error over all visible lines and the worst line's in degrees, with
            the median of each line under its name. None where nothing was fitted.
    """

    fps: float
    poses: np.ndarray
    trans: np.ndarray
    betas: np.ndarray | None = None
    family: str = "smpl"
    gender: str = "neutral"
    name: str = "motion"
    notes: tuple[str, ...] = ()
    body: str = ""
    source_error: dict[str, float] | None = None

    def __post_init__(self) -> None:
        """Check shapes, finiteness and rate. Raises MotionError."""
        if self.family not in FAMILY_JOINTS:
            raise MotionError("family", f"'{self.family}' is none of {', '.join(FAMILY_JOINTS)}")
        joints = FAMILY_JOINTS[self.family]
        poses = np.asarray(self.poses, dtype=np.float32)
        trans = np.asarray(self.trans, dtype=np.float32)
        if poses.ndim != 3 or poses.shape[1:] != (joints, 3):
            raise MotionError("poses", f"shape {poses.shape} is not (frames, {joints}, 3) of family {self.family}")
        if poses.shape[0] == 0:
            raise MotionError("poses", "holds no frame")
        if trans.shape != (poses.shape[0], 3):
            raise MotionError("trans", f"shape {trans.shape} is not ({poses.shape[0]}, 3), one row a frame")
        betas = None if self.betas is None else np.asarray(self.betas, dtype=np.float32)
        if betas is not None and betas.ndim != 1:
            raise MotionError("betas", f"shape {betas.shape} is not (S,)")
        for name, array in (("poses", poses), ("trans", trans), ("betas", betas)):
            if array is not None and not np.isfinite(array).all():
                raise MotionError(name, "contains NaN or infinity; clean the file or cut those frames")
        check_fps(self.fps)
        object.__setattr__(self, "poses", poses)
        object.__setattr__(self, "trans", trans)
        object.__setattr__(self, "betas", betas)
        object.__setattr__(self, "fps", float(self.fps))

    @property
    def frames(self) -> int:
        """Number of frames T."""
        return int(self.poses.shape[0])

    @property
    def duration(self) -> float:
        """Seconds from the first frame to the last."""
        return (self.frames - 1) / self.fps

    def noting(self, *sentences: str) -> BodyMotion:
        """The same motion with these sentences added to its notes."""
        return replace(self, notes=(*self.notes, *(s for s in sentences if s)))


def check_fps(fps: float, field: str = "fps") -> float:
    """Return fps as a float. Raises MotionError unless it is a number from 0.1 to 10,000."""
    try:
        value = float(fps)
    except (TypeError, ValueError):
        raise MotionError(field, f"{fps!r} is not a number of frames per second") from None
    if not np.isfinite(value) or not 0.1 <= value <= 10_000:
        raise MotionError(field, f"{value:g} frames per second is outside 0.1 to 10,000; give the rate with fps=")
    return value


def exact_rate(fps: float, slack: float) -> float:
    """The standard rate within ``slack`` of a rate that was written with few digits, else the rate itself.

    Whole rates, and film's and television's 24, 30, 48, 60 and 120 times 1000/1001 (23.976, 29.97, 59.94...).
    """
    slack = max(slack, 1e-5 * fps)
    options = [float(round(fps)), *(n * 1000 / 1001 for n in (24, 30, 48, 60, 120, 240))]
    return next((option for option in options if option > 0 and abs(option - fps) <= slack), fps)
