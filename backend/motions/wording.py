"""Keys of trackers that name things otherwise, understood by their words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .parametric import BODY, BODY_COUNTS, FULL_COUNTS, ROOT, full_key, key_of, shape_of

_NOISE = {
    "smpl",
    "smplx",
    "smplh",
    "pred",
    "predicted",
    "opt",
    "optimized",
    "est",
    "param",
    "params",
    "aa",
    "final",
    "ik",
}
_SPACES = {"world": 2, "global": 2, "w": 2, "cam": 0, "camera": 0, "incam": 0, "c": 0}
_WORDS: dict[str, tuple[set[str], ...]] = {
    "global_orient": ({"orient"}, {"root", "orient"}, {"root", "pose"}, {"root", "rot"}, {"root", "rotation"}, {"rot"},
                      {"orientation"}, {"root", "orientation"}, {"body", "orient"}, {"pelvis", "rotation"},
                      {"root", "poses"}),
    "body_pose": ({"body", "pose"}, {"pose", "body"}, {"pose"}, {"poses"}, {"body", "poses"}, {"thetas"}),
    "trans": ({"trans"}, {"transl"}, {"translation"}, {"root", "trans"}, {"root", "transl"}, {"root", "translation"},
              {"root", "position"}, {"root", "pos"}, {"body", "transl"}, {"body", "trans"}, {"pelvis", "trans"}),
    "betas": ({"beta"}, {"betas"}, {"shape"}, {"body", "shape"}),
    "poses": ({"pose"}, {"poses"}, {"full", "pose"}, {"fullpose"}, {"thetas"}, {"theta"}),
}  # fmt: skip
"""What the words of a tracker's key mean, apart from ``_NOISE`` and the space, which ``_SPACES`` ranks."""


def with_usual_names(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record with the usual keys for what it names otherwise; of several spaces the world's counts."""
    out = dict(record)
    if key_of(record, ROOT) is not None and key_of(record, BODY) is not None:
        return out
    best: dict[str, tuple[int, Any]] = {}
    for key, value in record.items():
        words = {w.lower() for w in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", key)}
        space = max((_SPACES[w] for w in words & _SPACES.keys()), default=1)
        core = words - _NOISE - _SPACES.keys()
        for usual, options in _WORDS.items():
            if core in options and space >= best.get(usual, (0, None))[0] and _fits(usual, shape_of(value)):
                best[usual] = (space, value)
    if {"global_orient", "body_pose"} <= best.keys():
        best.pop("poses", None)
    elif "poses" in best and full_key(record) is None:
        best = {usual: found for usual, found in best.items() if usual not in ("global_orient", "body_pose")}
    else:
        return out
    out |= {usual: value for usual, (_, value) in best.items() if usual not in record}
    if best.get("global_orient", best.get("poses", (0, None)))[0] == 2:
        out["world"] = True
    return out


def _fits(usual: str, shape: tuple[int, ...]) -> bool:
    """Whether an array of this shape can be what its words say."""
    if usual == "global_orient":
        return shape[-1:] in ((3,), (9,))
    counts = {"body_pose": BODY_COUNTS, "poses": FULL_COUNTS}.get(usual)
    if counts is None:
        return True
    flat = {(n * count,) for count in counts for n in (3, 9)}
    return (
        bool(flat & {shape[-1:]}) or shape[-2:] in {(c, 3) for c in counts} or shape[-3:] in {(c, 3, 3) for c in counts}
    )
