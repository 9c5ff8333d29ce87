"""Bodies of the SMPL family: load, pose, sample. Numpy only, and trimesh to sample."""

from .io import BodyInfo, embedded, list_bodies, load_body
from .landmarks import Landmarks
from .model import BodyModel, Posed
from .sampling import SurfaceSamples, farthest_first, sample_surface
from .types import JOINT_NAMES, BodyError
