"""Motions: many files -> one BodyMotion; another rate; another body. Numpy only, runs inside Blender.

``load_motion`` reads AMASS and SMPL-X .npz, what trackers write, joint positions and BVH; ``retarget_clip`` takes any
skeleton's frames. ``resample`` changes the frame rate, ``to_body`` the body, ``floor`` puts soles on z = 0,
``lock_feet`` holds them there, ``generate_walk`` makes a walk without any file.
"""

from __future__ import annotations

from .families import to_body, to_family, to_smpl24
from .feet import contacts, lock_feet
from .ground import FootReport, floor, foot_report
from .load import load_motion, retarget_clip
from .reading import EXTENSIONS
from .resample import resample
from .synth import generate_walk
from .types import WARNING, BodyMotion, MotionError
