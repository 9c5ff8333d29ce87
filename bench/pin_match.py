"""How well pins on a picture tell pose and camera: synthetic pictures of known poses, ten pins each, with noise.

python bench/pin_match.py [--pictures 20] [--noise 0.01] [--seed 0] [--pins head left_hip ...] [--each]

The noise is in heights of the body as the picture shows it. Joint errors are medians over all joints of all pictures:
in the picture, which is what carries its looks onto the body, and in space, with both bodies moved onto one another
(rotation, place and size), for which no pin says what is near and what far.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from maquette.backend.bodies import load_body
from maquette.backend.bodies.matching import SPOTS, Figure, Match, first_guess, joints_of, match_pins, spots_of
from maquette.backend.bodies.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from maquette.backend.worlds.actions import dance, jump, walk
from maquette.backend.worlds.motions import euler_to_matrix
from maquette.backend.worlds.poses import random_pose, stand

TEN = (
    "head", "nose", "left_wrist", "right_wrist", "left_ankle", "right_ankle", "left_hip", "right_hip", "left_shoulder",
    "right_shoulder",
)  # fmt: skip
WIDTH, HEIGHT = 768, 1024


def picture(figure: Figure, rng: np.random.Generator, number: int) -> Match:
    """A body in some pose before some camera."""
    moment = np.array([rng.uniform(0, 3)])
    kinds = (stand, random_pose, *(lambda rng, act=act: act(rng, moment).degrees[0] for act in (walk, dance, jump)))
    matrices = euler_to_matrix(kinds[number % len(kinds)](rng))
    yaw, pitch = np.radians(rng.uniform(-70, 70) + (180 if rng.random() < 0.2 else 0)), np.radians(rng.uniform(-20, 10))
    about = axis_angle_to_matrix(np.array([[0, yaw, 0], [pitch, 0, 0]]))
    matrices[0] = about[1] @ np.diag([1.0, -1.0, -1.0]) @ about[0] @ matrices[0]
    focal = rng.uniform(35, 85) / 36
    guess = first_guess(figure, np.zeros(figure.directions.shape[2]), WIDTH, HEIGHT)
    depth = focal * figure.height / rng.uniform(0.55, 0.85)
    trans = np.array([rng.uniform(-0.1, 0.1), rng.uniform(-0.1, 0.1), depth]) - figure.heads[0]
    return Match(matrix_to_axis_angle(matrices), trans, guess.betas, focal, {}, 0.0)


def aligned(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Points a (J,3) moved, turned and scaled onto b (Umeyama 1991)."""
    x, y = a - a.mean(axis=0), b - b.mean(axis=0)
    u, s, vt = np.linalg.svd(y.T @ x)
    sign = np.array([1, 1, np.sign(np.linalg.det(u @ vt))])
    return (s @ sign) / np.square(x).sum() * x @ (u * sign @ vt).T + b.mean(axis=0)


def main() -> None:
    """Print the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=20)
    parser.add_argument("--noise", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pins", nargs="+", default=TEN, choices=list(SPOTS))
    parser.add_argument("--each", action="store_true", help="tell of every picture")
    args = parser.parse_args()
    figure = Figure.of(load_body("maquette_neutral"), 10)
    rng = np.random.default_rng(args.seed)
    flat, deep, took, live, rough = [], [], [], [], []
    names = list(SPOTS)
    body = np.array([j for j, name in enumerate(figure.names) if not name.endswith("_hand")])
    for number in range(args.pictures):
        truth = picture(figure, rng, number)
        joints = joints_of(figure, truth)
        tall = truth.focal * figure.height / joints[0, 2] * max(WIDTH, HEIGHT)
        spots = spots_of(figure, truth, WIDTH, HEIGHT)
        pins = {n: tuple(spots[names.index(n)] + rng.normal(0, args.noise * tall, 2)) for n in args.pins}
        start = first_guess(figure, truth.betas, WIDTH, HEIGHT)
        began = time.process_time()
        found = match_pins(figure, pins, WIDTH, HEIGHT, start)
        took.append(time.process_time() - began)
        began = time.process_time()
        match_pins(figure, pins, WIDTH, HEIGHT, found, live=True)
        live.append(time.process_time() - began)
        seen = joints_of(figure, found)

        def pixels(places: np.ndarray, match: Match) -> np.ndarray:
            return (places[:, :2] / places[:, 2:]) * match.focal * max(WIDTH, HEIGHT)

        apart = np.linalg.norm(pixels(seen, found) - pixels(joints, truth), axis=1)[body] / tall
        space = np.linalg.norm(aligned(seen[body], joints[body]) - joints[body], axis=1) / figure.height
        flat.append(apart)
        deep.append(space)
        rough.append(found.error)
        if args.each:
            print(
                f"{number:3}: picture {np.median(apart):.1%}, space {np.median(space):.1%}, pins {found.error:.1f} px"
            )
    print(
        f"{args.pictures} pictures, {len(args.pins)} pins, noise {args.noise:.1%}: median joint error "
        f"{np.median(np.concatenate(flat)):.2%} of the height in the picture, {np.median(np.concatenate(deep)):.2%} in "
        f"space (worst picture {max(map(np.median, deep)):.1%}); {np.median(took):.2f} s of processor a solve (at most "
        f"{max(took):.2f}), {1e3 * np.median(live):.0f} ms live; pins {np.median(rough):.1f} px"
    )


if __name__ == "__main__":
    main()
