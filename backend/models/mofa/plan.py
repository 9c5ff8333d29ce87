"""Fit a shot to what MOFA-Video takes, and say so (no torch here).

MOFA-Video sets a picture in motion: the video's first frame is the picture. Where its pixels go is known from the
shot only when the picture is what the shot's first camera sees at the first frame.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, UnidentifiedImageError

from ...catalogue.models import ModelSpec
from ...catalogue.sizes import short_side_size
from ...shot import Character, KeypointState, Shot
from ...shot.cameras import project, scale_intrinsics
from ...shot.keypoints import FACE_KEYPOINTS
from ..family import EngineError, Plan
from ..registry import status
from ..settings import check_settings, held_note, option
from ..start_picture import is_first_view
from ..windows import periodic_windows

_APART = 0.02
"""Share of the picture's shorter side by which a reference's points may differ from the first frame's."""


@dataclass(frozen=True)
class PictureFit:
    """How the clip's picture becomes the model's.

    Attributes:
        size: (width, height) that the model works at.
        scaled: (width, height) of the clip's picture before what exceeds ``size`` is cut off on both sides.
        result: (width, height) of the video.
    """

    size: tuple[int, int]
    scaled: tuple[int, int]
    result: tuple[int, int]

    @property
    def offset(self) -> tuple[int, int]:
        """Pixels (x, y) of the scaled picture that are cut off on the left and at the top."""
        return (self.scaled[0] - self.size[0]) // 2, (self.scaled[1] - self.size[1]) // 2


def fit_picture(spec: ModelSpec, shot: Shot) -> PictureFit:
    """The model's picture: its shorter side as asked for or by default, both sides multiples of what the model takes.

    In parity the longer side is rounded down and the clip's picture is cut to fit, as published. Otherwise the whole
    picture is kept and squeezed by a few percent, so that the result still lies over the Blender render.

    Raises:
        EngineError: a size or a shape that the model cannot take.
    """
    settings, clip = shot.settings, shot.clip
    for name in ("width", "height"):
        asked = getattr(settings, name)
        if asked is not None and asked < 1:
            raise EngineError(f"settings.{name}", f"{asked} pixels; set at least 1, or leave it to the model")
    least, most = (int(spec.limits[key]) for key in ("min_size", "max_size"))
    if max(clip.width, clip.height) > most / least * min(clip.width, clip.height):
        raise EngineError(
            "clip",
            f"{clip.width} x {clip.height} is too long and narrow: {spec.label} makes {least} to {most} pixels a side",
        )
    default, cut = (spec.defaults.width, spec.defaults.height), bool(option(spec, shot, "parity"))
    result, size, scaled = short_side_size(
        spec.limits, default, (clip.width, clip.height), cut, settings.width, settings.height
    )
    return PictureFit(size, scaled, result)


def make_plan(spec: ModelSpec, shot: Shot) -> Plan:
    """What MOFA-Video will make of a shot.

    Raises:
        EngineError: no first picture, one from another camera or moment, nothing that moves, no face for the hybrid
            model, too many frames, or settings that it cannot take.
    """
    clip = shot.clip
    notes = check_settings(spec, shot)
    most, window, stride = (int(spec.limits[key]) for key in ("max_frames", "window_frames", "window_stride"))
    if clip.frames > most:
        raise EngineError("clip", f"{clip.frames} frames; {spec.label} makes at most {most}, so shorten the range")
    fit = fit_picture(spec, shot)
    notes += _size_notes(spec, shot, fit)
    notes += _check_picture(spec, shot)
    notes += _check_motion(spec, shot)
    if spec.inputs.get("keypoints") == "required" and not any(map(has_face, shot.characters)):
        raise EngineError(
            "characters",
            f"nobody has the 68 landmarks of a face, which {spec.label} is led by; bind a body with a face, or choose "
            "the trajectory model",
        )
    frames = max(clip.frames, window)
    if clip.frames < window:
        notes.append(held_note(clip.frames, window, f"{spec.label} was trained on {window} frames"))
    lists = periodic_windows(frames, window, stride)
    if len(lists) > 1:
        notes.append(
            f"{frames} frames are longer than {spec.label}'s window of {window}: generated in {len(lists)} overlapping "
            "windows that all start from the first frame; what that does not show is invented, so keep the shot short"
        )
    windows = tuple((0 if frames[1] == 1 else frames[1], frames[-1] + 1) for frames in lists)
    return Plan(*fit.result, clip.frames, windows, tuple(notes), fit.size, frames)


def has_face(character: Character) -> bool:
    """Whether a character comes with landmarks of a face."""
    keypoints = character.keypoints
    return keypoints is not None and bool((keypoints.state[:, FACE_KEYPOINTS] != KeypointState.ABSENT).all(1).any())


def _size_notes(spec: ModelSpec, shot: Shot, fit: PictureFit) -> list[str]:
    notes = []
    asked = (shot.settings.width, shot.settings.height)
    if any(want is not None and want != got for want, got in zip(asked, fit.result, strict=True)):
        wanted = " x ".join("auto" if side is None else str(side) for side in asked)
        notes.append(
            f"Size {wanted} became {fit.result[0]} x {fit.result[1]}: {spec.label} makes {spec.limits['min_size']} to "
            f"{spec.limits['max_size']} pixels a side in steps of {spec.limits['size_multiple']}"
        )
    cut = (fit.scaled[0] - fit.size[0], fit.scaled[1] - fit.size[1])
    if any(cut):
        side, pixels = ("width", cut[0]) if cut[0] else ("height", cut[1])
        notes.append(
            f"{pixels} of {max(fit.scaled)} pixels of the {side} were cut off, as published; turn parity off to keep "
            "the whole picture"
        )
    elif fit.result != fit.size:
        notes.append(
            f"Generated at {fit.size[0]} x {fit.size[1]} and resized to {fit.result[0]} x {fit.result[1]}, the "
            "clip's aspect"
        )
    return notes


def first_picture_characters(shot: Shot) -> list[int]:
    """Characters whose references make up the first picture: all with one, or none but the first if that is opaque."""
    with_picture = [i for i, character in enumerate(shot.characters) if character.reference is not None]
    if with_picture and not _header(shot, with_picture[0])[1]:
        return with_picture[:1]
    return with_picture


def _header(shot: Shot, index: int) -> tuple[tuple[int, int], bool]:
    """(height, width) of a character's reference picture, and whether it has a transparent part to it."""
    character = shot.characters[index]
    assert character.reference is not None
    try:
        with Image.open(io.BytesIO(character.reference.image.data)) as image:
            alpha = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
            return (image.height, image.width), alpha
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError) as error:
        raise EngineError(
            f"characters[{index}].reference.image", f"the picture of {character.name} cannot be read ({error})"
        ) from error


def _check_picture(spec: ModelSpec, shot: Shot) -> list[str]:
    """Refuse a first picture that is not what the first camera sees at the first frame."""
    if not shot.characters:
        if shot.background.kind == "none":
            raise EngineError(
                "background.media",
                f"no first picture: {spec.label} sets a picture in motion; give a character a reference, or the shot a "
                "background",
            )
        return []
    used = first_picture_characters(shot)
    if not used:
        raise EngineError(
            "characters[0].reference",
            f"{shot.characters[0].name} has no reference picture; {spec.label} starts from it: set the reference to "
            "Render at the shot's first frame",
        )
    absent = [c.name for c in shot.characters if c.reference is None]
    if absent and _header(shot, used[0])[1]:
        field = f"characters[{[c.name for c in shot.characters].index(absent[0])}].reference"
        raise EngineError(
            field,
            f"{', '.join(absent)} would be missing from the first picture; set the reference to Render at the shot's "
            "first frame",
        )
    clip = shot.clip
    for i in used:
        character, (shape, _) = shot.characters[i], _header(shot, i)
        assert character.reference is not None
        field = f"characters[{i}].reference"
        if abs(shape[1] * clip.height / (shape[0] * clip.width) - 1) > 0.01:
            raise EngineError(
                field,
                f"the picture of {character.name} is {shape[1]} x {shape[0]} but the clip {clip.width} x "
                f"{clip.height}; {spec.label} takes it as the first frame, so crop it to the clip's shape",
            )
        K = scale_intrinsics(clip.Ks[0], shape[1] / clip.width, shape[0] / clip.height)
        there = project(character.reference.points, character.reference.viewmat, character.reference.K)[0]
        here = project(character.points[0], clip.viewmats[0], K)[0]
        apart = np.linalg.norm(there - here, axis=-1) if there.shape == here.shape else np.array([np.inf])
        apart = float(np.median(np.nan_to_num(apart, nan=np.inf)))
        if not is_first_view(shot, character.reference, shape) or apart > _APART * min(shape):
            raise EngineError(
                field,
                f"the picture shows {character.name} from another camera or at another moment than the shot's first "
                f"frame, which {spec.label} starts from; set the reference frame to the shot's first frame",
            )
    return []


def needs_propagation(spec: ModelSpec, shot: Shot) -> bool:
    """Whether CMP is to spread the motion of single spots over the picture."""
    motion = option(spec, shot, "motion")
    seen = any(track.visibility[0] for track in shot.tracks)
    published_face = "landmark_controlnet" in spec.components and bool(option(spec, shot, "parity"))
    return motion == "tracks" or (motion == "both" and seen) or published_face


def _check_motion(spec: ModelSpec, shot: Shot) -> list[str]:
    """Refuse a shot in which nothing moves the picture; say which tracks cannot."""
    motion = option(spec, shot, "motion")
    if needs_propagation(spec, shot) and status(spec).available and not (spec.folder / "cmp" / "config.json").is_file():
        raise EngineError(
            "settings.options.motion",
            f"following tracks needs the part cmp, which is not in {spec.folder}; add it with maquette models add "
            f"{spec.id}, or set motion to dense",
        )
    notes = []
    if shot.tracks and motion != "dense":
        hidden = [track.name for track in shot.tracks if not track.visibility[0]]
        if hidden:
            notes.append(
                f"Not seen in the first frame, so without effect: {', '.join(hidden)}; a track leads what the first "
                "picture shows at its place"
            )
    if motion == "tracks" and not shot.tracks and not shot.characters:
        raise EngineError(
            "tracks", "there is nothing to follow; pick empties or vertices as tracks, or set motion to dense"
        )
    locked = not (np.ptp(shot.clip.viewmats, axis=0).any() or np.ptp(shot.clip.Ks, axis=0).any())
    moving_set = any(mesh.character < 0 and len(mesh.vertices) > 1 for mesh in shot.meshes)
    tracks = bool(shot.tracks) and motion != "dense"
    if locked and not shot.characters and not moving_set and not tracks:
        raise EngineError(
            "tracks",
            f"nothing moves and neither does the camera; {spec.label} needs a character, a moving object or a track",
        )
    return notes
