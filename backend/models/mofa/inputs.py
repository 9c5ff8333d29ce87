"""From a Shot to what MOFA-Video is steered by.

Shape letters: T frames that the model makes, N = T-1, H W its picture.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ...catalogue.models import ModelSpec
from ...media import background_frames, squeeze_frames
from ...raster.surfaces import SurfaceSet, shot_surfaces
from ...shot import Shot
from ..family import EngineError
from ..settings import option
from ..start_picture import reference_picture
from .cmp import MotionPropagation
from .flow import backdrop_depth, exact_motion
from .landmarks import draw_faces, head_masks, project_face
from .pipeline import Steering
from .plan import PictureFit, first_picture_characters, fit_picture, has_face
from .splat import PixelMotion
from .tracks import (
    Spots,
    add_guess,
    beyond,
    character_spots,
    picked_spots,
    propagate,
    propagate_apart,
    with_anchors,
)
from .view import View, model_view

_LITTLE = 0.25
"""A body of which less than this share of what the first picture shows is still seen is mentioned."""

_CMP_RANGE = 50.0 / 384
"""CMP's greatest displacement as a share of a side of the picture."""

OnPart = Callable[[int, int], None]


def first_picture(shot: Shot, fit: PictureFit) -> tuple[np.ndarray, tuple[str, ...]]:
    """The video's first frame (H,W,3) uint8, and notes for the animator.

    Raises:
        EngineError: a damaged picture, or references that do not fit together.
    """
    used = first_picture_characters(shot)
    if used:
        picture = reference_picture(shot, used)
        rgb, notes = picture.rgb, picture.notes
        if not picture.cut_out and len(shot.characters) > 1:
            name = shot.characters[used[0]].name
            notes = (*notes, f"The picture of {name} is taken whole, as the first frame with everybody in it")
    else:
        behind = background_frames(shot, shot.clip.width, shot.clip.height, count=1)
        assert behind is not None
        rgb, notes = behind[0], ("The background is taken as the first frame",)
    left, top = fit.offset
    scaled = squeeze_frames(rgb[None], *fit.scaled)[0]
    return scaled[top : top + fit.size[1], left : left + fit.size[0]], notes


def to_tensor(picture: np.ndarray) -> Tensor:
    """(H,W,3) uint8 -> (1,3,H,W) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].float() / 255


def make_steering(
    spec: ModelSpec,
    shot: Shot,
    frames: int,
    picture: Tensor,
    cmp: MotionPropagation | None,
    device: torch.device | str = "cpu",
    on_part: OnPart = lambda step, steps: None,
) -> tuple[Steering, tuple[str, ...]]:
    """Everything that steers the model.

    Args:
        frames: T; frames beyond the clip's hold its last pose.
        picture: (1,3,H,W) in [0, 1].
        cmp: needed where ``plan.needs_propagation``.
        device: where the flow is computed. The result lies in main memory.
        on_part: told (steps done, steps); may raise.

    Returns:
        The steering, and notes for the animator.
    """
    view = model_view(shot, fit_picture(spec, shot), frames)
    parity, kind = bool(option(spec, shot, "parity")), str(option(spec, shot, "motion"))
    steps = 3 * (frames - 1)

    def part(number: int) -> OnPart:
        return lambda step, count: on_part(number * (frames - 1) + step * (frames - 1) // max(count, 1), steps)

    spots = picked_spots(shot, view)
    if kind == "tracks":
        motion, notes = _guessed(shot, view, spots, picture, cmp, parity, device, part(0), part(1))
    else:
        occlusion = bool(option(spec, shot, "occlusion")) and not parity
        motion, notes = _exact(shot, view, occlusion, device, part(0))
        if kind == "both" and len(spots):
            motion, more = _add_tracks(motion, spots, picture, cmp, parity, part(1))
            notes += more
    if "landmark_controlnet" not in spec.components:
        on_part(steps, steps)
        return Steering(_hold(motion, view)), tuple(notes)
    faces = [project_face(character, view) for character in shot.characters if has_face(character)]
    face_motion = _face_motion(faces, picture, cmp, part(2)) if parity else None
    on_part(steps, steps)
    every = np.concatenate([[0], view.held + 1])
    masks = head_masks(faces, view.width, view.height)
    # As published: one mask, drawn over the first frame.
    masks = masks[:1] if parity else masks[every]
    drawings = draw_faces(faces, view.width, view.height)[every]
    if not any(shown[0] for _, shown in faces):
        notes.append("No face is seen in the first frame, so that landmarks cannot say what the picture's face does")
    steering = Steering(
        _hold(motion, view),
        torch.from_numpy(drawings).permute(0, 3, 1, 2)[None],
        None if face_motion is None else _hold(face_motion, view),
        torch.from_numpy(masks)[None],
    )
    return steering, tuple(notes)


def _hold(motion: PixelMotion, view: View) -> PixelMotion:
    """Motion of the clip's frames as motion of all frames that the model makes."""
    depth = None if motion.depth is None else motion.depth[:, view.held].cpu()
    return PixelMotion(motion.flow[:, view.held].cpu(), depth, None if motion.labels is None else motion.labels.cpu())


def _exact(
    shot: Shot, view: View, occlusion: bool, device: torch.device | str, on_part: OnPart
) -> tuple[PixelMotion, list[str]]:
    """Motion from geometry, in main memory, and notes."""
    surfaces, clouds, notes = shot_surfaces(shot)
    backdrop = backdrop_depth(shot)
    scene = SurfaceSet(surfaces, clouds, device)
    found = exact_motion(scene, view.viewmats, view.Ks, view.height, view.width, backdrop, occlusion, on_part)
    if found.assumed_backdrop is not None:
        notes.append(
            "The camera travels and parts of the picture have no geometry: they are taken to stand "
            f"{found.assumed_backdrop:.1f} m away; model the set, if only by planes, for true parallax"
        )
    for i, character in enumerate(shot.characters):
        if 1 + i not in found.seen:
            notes.append(f"The first frame does not show {character.name}, so that nothing leads where it appears")
            continue
        little = np.nonzero(found.seen[1 + i] < _LITTLE)[0]
        if occlusion and len(little):
            notes.append(
                f"From frame {little[0] + 2} of the shot on, less than {_LITTLE:.0%} of what the first picture shows "
                f"of {character.name} is in view; the model invents the rest"
            )
    return found.motion.to("cpu"), notes


def _guessed(
    shot: Shot,
    view: View,
    spots: Spots,
    picture: Tensor,
    cmp: MotionPropagation | None,
    parity: bool,
    device: torch.device | str,
    on_first: OnPart,
    on_second: OnPart,
) -> tuple[PixelMotion, list[str]]:
    """Motion that CMP guesses from tracks, or from points of the characters, with the bodies as its motion mask."""
    notes = []
    if not len(spots):
        spots = character_spots(shot, view)
        notes.append(f"There are no tracks in the first frame: {len(spots)} points of the characters are followed")
    if not len(spots):
        raise EngineError("tracks", "the first frame shows no track and no character, so nothing can be followed")
    notes += _reach(spots, view.width, view.height)
    surfaces, clouds, _ = shot_surfaces(shot)
    still = view.viewmats[:1], view.Ks[:1]
    labels = exact_motion(SurfaceSet(surfaces, clouds, device), *still, view.height, view.width, on_frame=on_first)
    assert labels.motion.labels is not None
    brush = labels.motion.labels[0].cpu() > 0
    return PixelMotion(propagate_apart(_needed(cmp), picture, spots, brush, parity, on_second)), notes


def _add_tracks(
    motion: PixelMotion,
    spots: Spots,
    picture: Tensor,
    cmp: MotionPropagation | None,
    parity: bool,
    on_part: OnPart,
) -> tuple[PixelMotion, list[str]]:
    """Exact motion with what tracks do beyond it spread over their surroundings, and notes."""
    extra = beyond(spots, motion)
    if not len(extra):
        return motion, []
    led, free = with_anchors(extra, motion)
    guess = propagate(_needed(cmp), picture, led, parity, on_part)
    notes = [f"Tracks that lead the picture beyond the meshes: {', '.join(extra.names)}"]
    height, width = picture.shape[-2:]
    return add_guess(motion, guess, free), notes + _reach(extra, width, height)


def _face_motion(
    faces: list[tuple[np.ndarray, np.ndarray]],
    picture: Tensor,
    cmp: MotionPropagation | None,
    on_part: OnPart,
) -> PixelMotion | None:
    """As published: CMP's guess from the faces' landmarks; None where the first frame shows no face."""
    height, width = picture.shape[-2:]
    shown = [points for points, seen in faces if seen[0]]
    if not shown:
        return None
    points = np.concatenate(shown, axis=1)
    spots = Spots(np.clip(points[0], 0, np.array([width, height]) - 1e-3), points[1:] - points[0])
    return PixelMotion(propagate(_needed(cmp), picture, spots, True, on_part))


def _needed(cmp: MotionPropagation | None) -> MotionPropagation:
    if cmp is None:
        raise ValueError("cmp: needed to spread the motion of spots")
    return cmp


def _reach(spots: Spots, width: int, height: int) -> list[str]:
    """Say when spots move farther than CMP can tell, and which."""
    share = np.abs(spots.moved) / (width, height)
    far = np.nanmax(share, axis=(0, 2), initial=0.0) > _CMP_RANGE
    if not far.any():
        return []
    names = ", ".join(spots.names[i] for i in np.flatnonzero(far)) if spots.names else ""
    return [
        f"{'Tracks' if names else 'Points of the characters'} that move by more than {_CMP_RANGE:.0%} of the picture, "
        f"which is as far as motion can be spread from single spots{': ' if names else ''}{names}"
    ]
