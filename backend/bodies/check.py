"""Whether the parts of a body fit together."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .types import JOINT_NAMES, BodyError

ARRAYS = ("v_template", "faces", "weights", "shapedirs", "J_regressor", "parents", "posedirs", "regions")
"""The arrays of a body; it may lack those from ``posedirs`` on."""
MAX_VERTICES, MAX_FACES, MAX_JOINTS, MAX_SHAPES = 200_000, 400_000, 512, 1_000
MAX_BYTES = 1 << 30
"""No body's arrays may take more than this together."""


def check_shapes(shapes: dict[str, tuple[int, ...]]) -> None:
    """Check shapes before any memory is taken for them.

    Args:
        shapes: of ``ARRAYS``.

    Raises:
        BodyError: naming the array that does not fit the others, or is too large.
    """

    def need(name: str, fits: bool, wanted: str) -> None:
        if not fits:
            raise BodyError(name, f"has the shape {shapes[name]}; {wanted} is needed")

    template, faces, weights = shapes["v_template"], shapes["faces"], shapes["weights"]
    need("v_template", len(template) == 2 and template[1] == 3 and 3 <= template[0] <= MAX_VERTICES,
         f"(V, 3) with 3 to {MAX_VERTICES} vertices")  # fmt: skip
    count = template[0]
    need("faces", len(faces) == 2 and faces[1] == 3 and 1 <= faces[0] <= MAX_FACES, f"(F, 3) with 1 to {MAX_FACES}")
    need("weights", len(weights) == 2 and weights[0] == count and 1 <= weights[1] <= MAX_JOINTS,
         f"({count}, J) with 1 to {MAX_JOINTS} joints")  # fmt: skip
    joints = weights[1]
    need("parents", shapes["parents"] == (joints,), f"({joints},)")
    need("J_regressor", shapes["J_regressor"] == (joints, count), f"{(joints, count)}")
    if "shapedirs" in shapes:
        shape = shapes["shapedirs"]
        need("shapedirs", len(shape) == 3 and shape[:2] == (count, 3) and shape[2] <= MAX_SHAPES,
             f"({count}, 3, S) with at most {MAX_SHAPES} components")  # fmt: skip
    for name, wanted in (("posedirs", (count, 3, 9 * (joints - 1))), ("regions", (count,))):
        if name in shapes:
            need(name, shapes[name] == wanted, f"{wanted}")
    size = sum(4 * int(np.prod(shape, dtype=np.int64)) for shape in shapes.values())
    if size > MAX_BYTES:
        raise BodyError("body", f"needs {size >> 20} MiB; at most {MAX_BYTES >> 20} MiB are admitted")


def check_arrays(family: str, joint_names: tuple[str, ...], arrays: Mapping[str, np.ndarray]) -> None:
    """Check arrays, named as in ``ARRAYS``, against each other. Raises BodyError naming the one at fault."""
    if family not in JOINT_NAMES:
        raise BodyError("family", f"{family!r} is unknown; one of {', '.join(JOINT_NAMES)} is needed")
    for name, array in arrays.items():
        kinds = "ui" if name in ("faces", "parents", "regions") else "f"
        if not isinstance(array, np.ndarray) or array.dtype.kind not in kinds:
            raise BodyError(name, "is not an array of " + ("whole numbers" if kinds == "ui" else "real numbers"))
    check_shapes({name: array.shape for name, array in arrays.items()})
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise BodyError(name, "holds a number that is not finite")
    parents, faces, weights = (arrays[name] for name in ("parents", "faces", "weights"))
    if joint_names != JOINT_NAMES[family] or len(parents) != len(joint_names):
        raise BodyError("joint_names", f"are not those of the family {family}")
    if parents[0] != -1 or np.any(parents[1:] < 0) or np.any(parents >= np.arange(len(parents))):
        raise BodyError("parents", "must start with the root, and name each parent before its children")
    if faces.min() < 0 or faces.max() >= len(arrays["v_template"]):
        raise BodyError("faces", f"name vertices that do not exist; there are {len(arrays['v_template'])}")
    if weights.min() < -1e-4 or np.abs(weights.sum(1) - 1).max() > 1e-2:
        raise BodyError("weights", "must be positive and add up to one for each vertex")
    if np.abs(arrays["J_regressor"].sum(1) - 1).max() > 1e-2:
        raise BodyError("J_regressor", "must add up to one for each joint")
