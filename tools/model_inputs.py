"""Draw docs/models.png: what the published models are given of one shot, beside Blender's own render of it.

Runs in Blender's environment, where it builds the scene and captures the shot through the operators that an animator
presses, and calls itself in the backend's, where the models' own input code reads that shot.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from staged import main

SIZE = (512, 768)
FRAMES = 17
_TILE = 240
_COLUMNS = 6
_DIM = 0.55
"""How bright the render is under what is drawn over it."""


def build(bpy: ModuleType, run: Any) -> None:
    """A walk before a wall, seen by an orbiting camera of 55 degrees."""
    scene = bpy.context.scene
    run(bpy.ops.maquette.add_body)
    body = bpy.context.view_layer.objects.active
    run(bpy.ops.maquette.add_walk, seconds=2.0 * FRAMES / scene.render.fps)
    bpy.ops.mesh.primitive_cube_add(size=1.0, location=(0.3, 1.6, 1.1))
    wall = bpy.context.object
    wall.name, wall.scale = "Wall", (4.0, 0.2, 2.2)
    for corner in wall.data.color_attributes.new("Color", "FLOAT_COLOR", "CORNER").data:
        corner.color = (0.50, 0.36, 0.27, 1.0)
    bpy.context.view_layer.objects.active = body
    run(bpy.ops.maquette.add_camera_move, move="ORBIT", amount=0.35, angle=-0.35)
    run(bpy.ops.maquette.frame_55, keep_framing=True)
    scene.maquette.model, scene.maquette.background = "mofa-hybrid", "SCENE"
    scene.frame_set(scene.frame_start)


def draw(folder: Path, target: Path) -> None:
    """Everything that needs the backend."""
    import imageio.v3 as iio
    from maquette.backend.media import contact_sheet, decode_image
    from maquette.backend.shot import load_shot

    shot = load_shot(folder / "one.shot")
    files = sorted(folder.glob("????.png"))
    renders = np.stack([decode_image(path) for path in files])
    rows = [
        ("Blender's render", renders),
        ("MimicMotion: pose map, its lines thickened, over the render", _poses(shot, renders)),
        *_motion(shot, renders),
        ("MTVCrafter: joints in its own 55-degree camera, over the render", _joints(shot, renders)),
    ]
    # Six bits of a colour are enough for the eye, and halve the file.
    sheet = contact_sheet(rows, _COLUMNS, _TILE) & np.uint8(0xFC)
    iio.imwrite(target, sheet, optimize=True)
    print(f"{target}: {target.stat().st_size // 1000} kB")


def _over(renders: np.ndarray, drawings: np.ndarray) -> np.ndarray:
    """Drawings (T,H,W,3) on black, over darkened renders."""
    return np.where(drawings.max(axis=-1, keepdims=True) > 32, drawings, (renders * _DIM).astype(np.uint8))


def _poses(shot: Any, renders: np.ndarray) -> np.ndarray:
    import cv2
    from maquette.backend.catalogue.models import model_spec
    from maquette.backend.media import resize_frames
    from maquette.backend.models.mimicmotion.family import draw_maps
    from maquette.backend.models.mimicmotion.inputs import read_poses
    from maquette.backend.models.mimicmotion.plan import make_plan

    size = make_plan(model_spec("mimicmotion"), shot).model_size
    maps = draw_maps(read_poses(shot, 0, size), size, lambda step, steps: None)[1:]
    thick = np.stack([cv2.dilate(each, np.ones((5, 5), np.uint8)) for each in maps])
    return _over(resize_frames(renders, *size), thick)


def _motion(shot: Any, renders: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """MOFA-Video's rows: flow, the first picture carried along it, and the face."""
    from maquette.backend.catalogue.models import model_spec
    from maquette.backend.models.mofa.inputs import first_picture, make_steering, to_tensor
    from maquette.backend.models.mofa.landmarks import project_face
    from maquette.backend.models.mofa.plan import fit_picture
    from maquette.backend.models.mofa.view import model_view

    spec, frames = model_spec("mofa-hybrid"), len(renders)
    fit = fit_picture(spec, shot)
    picture = to_tensor(first_picture(shot, fit)[0])
    steering, _ = make_steering(spec, shot, frames, picture, _no_propagation)
    carried = steering.motion.carry(picture, parity=False)[0].permute(0, 2, 3, 1)
    flow = steering.motion.flow[0].permute(0, 2, 3, 1).numpy()
    wheel = np.stack([_wheel(each) for each in (np.zeros_like(flow[0]), *flow)])
    lines = (steering.landmarks[0].permute(0, 2, 3, 1).numpy() * 255).astype(np.uint8)
    faces, _ = project_face(shot.characters[0], model_view(shot, fit, frames))
    width, height = (side // 4 for side in fit.size)
    close = []
    for face, picture_over in zip(faces, _over(renders, lines), strict=True):
        left, top = (face.mean(axis=0) - (width / 2, height / 2)).round().astype(int).clip(0)
        close.append(picture_over[top : top + height, left : left + width])
    return [
        ("MOFA-Video: flow from the first frame; hue is the direction, grey is not seen any more", wheel),
        (
            "MOFA-Video: the first picture carried along that flow; black is left to the model",
            (carried.clamp(0, 1).numpy() * 255).astype(np.uint8),
        ),
        ("MOFA-Video Hybrid: face landmarks, over the render, close up", np.stack(close)),
    ]


def _no_propagation() -> Any:
    raise AssertionError("the shot has no tracks, so nothing is to be propagated")


def _wheel(flow: np.ndarray) -> np.ndarray:
    """Flow (H,W,2) as colours: hue is the direction, saturation the length against the frame's longest; NaN is grey."""
    import cv2

    known = np.isfinite(flow).all(axis=-1)
    flow = np.where(known[..., None], flow, 0.0)
    length = np.hypot(flow[..., 0], flow[..., 1])
    longest = max(float(np.percentile(length[known], 95)), 1e-6)
    hue = np.degrees(np.arctan2(flow[..., 1], flow[..., 0])) % 360 / 2
    hsv = np.stack([hue, 255 * np.clip(length / longest, 0, 1), np.full_like(hue, 255)], axis=-1).astype(np.uint8)
    return np.where(known[..., None], cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), np.uint8(70))


def _joints(shot: Any, renders: np.ndarray) -> np.ndarray:
    """The joints that MTVCrafter gets, projected as its published tools do."""
    import cv2
    from maquette.backend.shot import SMPL_PARENTS
    from maquette.backend.shot.framing import model_joints, trained_focal

    clip = shot.clip
    joints = model_joints(shot.characters[0].joints, clip.viewmats, clip.Ks, clip.width, clip.height)
    places = joints[..., :2] / joints[..., 2:] * trained_focal(clip.width, clip.height)
    places = (places + (clip.width / 2, clip.height / 2)).round().astype(int)
    drawings = np.zeros_like(renders)
    for drawing, spots in zip(drawings, places.tolist(), strict=True):
        for spot, parent in zip(spots, SMPL_PARENTS, strict=True):
            if parent >= 0:
                cv2.line(drawing, spot, spots[parent], (255, 215, 60), 4, cv2.LINE_AA)
        for spot in spots:
            cv2.circle(drawing, spot, 6, (70, 225, 255), -1, cv2.LINE_AA)
    return _over(renders, drawings)


if __name__ == "__main__":
    sys.exit(main(Path(__file__), "models.png", build, draw, SIZE, FRAMES))
