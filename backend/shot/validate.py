"""Say in one sentence what is wrong with which field of a Shot."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .keypoints import KEYPOINT_NAMES, KeypointState
from .types import (
    UPSCALE_FACTORS,
    Background,
    BodyPose,
    Character,
    Clay,
    Clip,
    Keypoints,
    Media,
    Mesh,
    Reference,
    Settings,
    Shot,
    ShotError,
    Track,
)

MAX_FRAMES = 20_000
MAX_POINTS = 65_536
MAX_CHARACTERS = 64
MAX_REFERENCES = 16
"""Of one character, besides the first."""
MAX_SIZE = 16_384
MAX_JOINTS = 256
MAX_BETAS = 1_024
MAX_MESHES = 4_096
MAX_VERTICES = 4_000_000
"""Of one mesh; the file's own limit bounds them all."""
MAX_TRACKS = 4_096
MAX_OPTIONS = 64
MAX_COORDINATE = 1e6
"""Metres; beyond it float32 loses centimetres and something is wrong with the scene's units."""

MIMES: dict[str, tuple[str, bytes, int]] = {
    "image/png": (".png", b"\x89PNG\r\n\x1a\n", 0),
    "image/jpeg": (".jpg", b"\xff\xd8\xff", 0),
    "video/mp4": (".mp4", b"ftyp", 4),
}
"""Accepted media: file ending, and the bytes that such a file has at an offset."""

BACKGROUNDS = ("none", "still", "video")


def validate(shot: Shot) -> None:
    """Check shapes, dtypes, finiteness and ranges of every field.

    Raises:
        ShotError: with the dotted path of the first field at fault and what to do about it.
    """
    _text("name", shot.name, 256)
    _text("prompt", shot.prompt, 10_000)
    _clip(shot.clip)
    if not shot.characters:
        raise ShotError("characters", "is empty; mark at least one mesh as a character")
    if len(shot.characters) > MAX_CHARACTERS:
        raise ShotError("characters", f"has {len(shot.characters)} entries; at most {MAX_CHARACTERS} are possible")
    names: set[str] = set()
    for i, character in enumerate(shot.characters):
        _character(f"characters[{i}]", character, shot.clip.frames)
        if character.name in names:
            raise ShotError(
                f"characters[{i}].name", f"'{character.name}' is used twice; give each character its own name"
            )
        names.add(character.name)
    _background(shot.background, shot.clip.frames)
    _settings(shot.settings)
    if len(shot.meshes) > MAX_MESHES:
        raise ShotError("meshes", f"has {len(shot.meshes)} entries; at most {MAX_MESHES} are possible, join some")
    for i, mesh in enumerate(shot.meshes):
        _mesh(f"meshes[{i}]", mesh, shot.clip.frames, len(shot.characters))
    if len(shot.tracks) > MAX_TRACKS:
        raise ShotError("tracks", f"has {len(shot.tracks)} entries; at most {MAX_TRACKS} are possible, pick fewer")
    for i, character in enumerate(shot.characters):
        sizes = [mesh.vertices.shape[1] for mesh in shot.meshes if mesh.character == i]
        _vertex_counts(f"characters[{i}]", character, sum(sizes))
    if shot.clay is not None:
        _clay(shot.clay, shot.clip.frames)
    names.clear()
    for i, track in enumerate(shot.tracks):
        _track(f"tracks[{i}]", track, shot.clip.frames)
        if track.name in names:
            raise ShotError(f"tracks[{i}].name", f"'{track.name}' is used twice; give each track its own name")
        names.add(track.name)


def check_array(field: str, array: object, shape: tuple[int | None, ...], dtype: type = np.float32) -> None:
    """Check one array; None in ``shape`` accepts any length of at least 1.

    Raises:
        ShotError: naming ``field``.
    """
    if not isinstance(array, np.ndarray):
        raise ShotError(field, f"must be a numpy array, not {type(array).__name__}")
    wanted = "(" + ",".join("any" if n is None else str(n) for n in shape) + ")"
    if array.dtype != dtype:
        raise ShotError(field, f"must be {np.dtype(dtype).name}, not {array.dtype}")
    if array.ndim != len(shape) or any(n != m for n, m in zip(shape, array.shape, strict=True) if n is not None):
        raise ShotError(field, f"must have shape {wanted}, not {array.shape}")
    if 0 in array.shape:
        raise ShotError(field, f"is empty: shape {array.shape}; capture the shot again, with at least one frame")
    if dtype is not np.bool_ and not np.isfinite(array).all():
        bad = np.argwhere(~np.isfinite(array))[0]
        raise ShotError(field, f"holds NaN or infinity, first at index {tuple(int(i) for i in bad)}")


def _coordinates(field: str, array: np.ndarray) -> None:
    if np.abs(array).max() > MAX_COORDINATE:
        raise ShotError(field, f"reaches {np.abs(array).max():.3g} m; check the scene's units, at most 1e6 m is usable")


def _number(field: str, value: object, low: float, high: float, *, integer: bool = False) -> None:
    kinds = (int, np.integer) if integer else (int, float, np.integer, np.floating)
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise ShotError(field, f"must be {'an integer' if integer else 'a number'}, not {value!r:.60}")
    # Compared before anything is made of it: a whole number of JSON may have thousands of digits.
    if not low <= value <= high:
        raise ShotError(field, f"is {value!r:.40}; it must lie between {low:g} and {high:g}")


def _text(field: str, value: object, longest: int) -> None:
    if not isinstance(value, str):
        raise ShotError(field, f"must be text, not {type(value).__name__}")
    if len(value) > longest:
        raise ShotError(field, f"has {len(value)} characters; at most {longest} are possible")
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise ShotError(field, "holds what is no letter (half a surrogate pair); write it again")


def _clip(clip: Clip) -> None:
    _number("clip.fps", clip.fps, 0.01, 1000)
    _number("clip.width", clip.width, 8, MAX_SIZE, integer=True)
    _number("clip.height", clip.height, 8, MAX_SIZE, integer=True)
    check_array("clip.viewmats", clip.viewmats, (None, 4, 4))
    if clip.frames > MAX_FRAMES:
        raise ShotError(
            "clip.viewmats", f"has {clip.frames} frames; at most {MAX_FRAMES} are possible, shorten the range"
        )
    check_array("clip.Ks", clip.Ks, (clip.frames, 3, 3))
    check_camera("clip", clip.viewmats, clip.Ks, names=("viewmats", "Ks"))


def check_camera(field: str, viewmats: np.ndarray, Ks: np.ndarray, names: tuple[str, str] = ("viewmat", "K")) -> None:
    """Check that matrices (...,4,4) are rigid and intrinsics (...,3,3) belong to a pinhole camera."""
    rotation = viewmats[..., :3, :3].astype(np.float64)
    error = np.abs(rotation @ np.swapaxes(rotation, -1, -2) - np.eye(3)).max()
    if error > 1e-3 or (np.linalg.det(rotation) < 0).any():
        raise ShotError(
            f"{field}.{names[0]}", "is not a rotation and a translation; remove scale or mirroring from the camera"
        )
    if np.abs(viewmats[..., 3, :] - np.array([0, 0, 0, 1])).max() > 1e-5:
        raise ShotError(f"{field}.{names[0]}", "must have the last row 0 0 0 1")
    _coordinates(f"{field}.{names[0]}", viewmats[..., :3, 3])
    if (Ks[..., 0, 0] <= 0).any() or (Ks[..., 1, 1] <= 0).any():
        raise ShotError(f"{field}.{names[1]}", "has a focal length that is not above 0")
    if np.abs(Ks[..., 2, :] - np.array([0, 0, 1])).max() > 1e-5 or np.abs(Ks[..., 1, 0]).max() > 1e-5:
        raise ShotError(f"{field}.{names[1]}", "must have the form [[fx s cx] [0 fy cy] [0 0 1]]")


def _character(field: str, character: Character, frames: int) -> None:
    _text(f"{field}.name", character.name, 256)
    if not character.name:
        raise ShotError(f"{field}.name", "is empty; give the character a name")
    check_array(f"{field}.points", character.points, (frames, None, 3))
    count = character.points.shape[1]
    if count > MAX_POINTS:
        raise ShotError(f"{field}.points", f"has {count} points; at most {MAX_POINTS} are possible")
    _coordinates(f"{field}.points", character.points)
    check_array(f"{field}.rest_points", character.rest_points, (count, 3))
    _coordinates(f"{field}.rest_points", character.rest_points)
    check_array(f"{field}.visibility", character.visibility, (frames, count), np.bool_)
    if character.joints is not None:
        check_array(f"{field}.joints", character.joints, (frames, 24, 3))
        _coordinates(f"{field}.joints", character.joints)
    if character.body is not None:
        _body(f"{field}.body", character.body, frames)
    if len(character.further_references) > MAX_REFERENCES:
        raise ShotError(
            f"{field}.further_references",
            f"has {len(character.further_references)} entries; at most {MAX_REFERENCES} are possible, remove some",
        )
    if character.reference is None and character.further_references:
        raise ShotError(f"{field}.reference", "is missing, but there are further references; make the first of them it")
    for name, reference in _named_references(character):
        _reference(f"{field}.{name}", reference, count)
    if character.keypoints is not None:
        _keypoints(f"{field}.keypoints", character.keypoints, frames)


def _named_references(character: Character) -> list[tuple[str, Reference]]:
    named = [] if character.reference is None else [("reference", character.reference)]
    return named + [(f"further_references[{k}]", one) for k, one in enumerate(character.further_references)]


def _vertex_counts(field: str, character: Character, count: int) -> None:
    """A character's meshes have as many vertices, ``count``, in every picture of it; without meshes any number."""
    for name, reference in _named_references(character):
        if count and reference.vertices is not None and len(reference.vertices) != count:
            raise ShotError(
                f"{field}.{name}.vertices",
                f"has {len(reference.vertices)} where the character's meshes have {count}; disable what changes the "
                "number of vertices over time (Remesh, Decimate, Build, Boolean), and capture the shot again",
            )


def _clay(clay: Clay, frames: int) -> None:
    if len(clay.media) not in (1, frames):
        raise ShotError("clay.media", f"must be one picture, or {frames}, one a frame, not {len(clay.media)}")
    if not isinstance(clay.surroundings, bool):
        raise ShotError("clay.surroundings", f"must be true or false, not {clay.surroundings!r}")
    for i, media in enumerate(clay.media):
        check_media(f"clay.media[{i}]", media, video=False)


def _keypoints(field: str, keypoints: Keypoints, frames: int) -> None:
    check_array(f"{field}.points", keypoints.points, (frames, len(KEYPOINT_NAMES), 3))
    _coordinates(f"{field}.points", keypoints.points)
    check_array(f"{field}.state", keypoints.state, (frames, len(KEYPOINT_NAMES)), np.uint8)
    if keypoints.state.max() > max(KeypointState):
        raise ShotError(f"{field}.state", f"holds {keypoints.state.max()}; states go from 0 to {max(KeypointState):d}")


def _mesh(field: str, mesh: Mesh, frames: int, characters: int) -> None:
    _text(f"{field}.name", mesh.name, 256)
    _number(f"{field}.character", mesh.character, -1, characters - 1, integer=True)
    check_array(f"{field}.vertices", mesh.vertices, (None, None, 3))
    if mesh.vertices.shape[0] not in (1, frames):
        raise ShotError(f"{field}.vertices", f"has {mesh.vertices.shape[0]} frames; it must have {frames}, or 1")
    if mesh.vertices.shape[1] > MAX_VERTICES:
        raise ShotError(f"{field}.vertices", f"has {mesh.vertices.shape[1]}; at most {MAX_VERTICES} are possible")
    _coordinates(f"{field}.vertices", mesh.vertices)
    check_array(f"{field}.triangles", mesh.triangles, (None, 3), np.int32)
    if mesh.triangles.min() < 0 or mesh.triangles.max() >= mesh.vertices.shape[1]:
        raise ShotError(f"{field}.triangles", f"points at vertices outside 0 to {mesh.vertices.shape[1] - 1}")


def _track(field: str, track: Track, frames: int) -> None:
    _text(f"{field}.name", track.name, 256)
    check_array(f"{field}.points", track.points, (frames, 3))
    _coordinates(f"{field}.points", track.points)
    check_array(f"{field}.visibility", track.visibility, (frames,), np.bool_)


def _body(field: str, body: BodyPose, frames: int) -> None:
    _text(f"{field}.body", body.body, 256)
    check_array(f"{field}.betas", body.betas, (None,))
    if body.betas.shape[0] > MAX_BETAS:
        raise ShotError(f"{field}.betas", f"has {body.betas.shape[0]} components; at most {MAX_BETAS} are possible")
    check_array(f"{field}.poses", body.poses, (frames, None, 3))
    if body.poses.shape[1] > MAX_JOINTS:
        raise ShotError(f"{field}.poses", f"has {body.poses.shape[1]} joints; at most {MAX_JOINTS} are possible")
    check_array(f"{field}.trans", body.trans, (frames, 3))
    _coordinates(f"{field}.trans", body.trans)


def _reference(field: str, reference: Reference, count: int) -> None:
    check_media(f"{field}.image", reference.image, video=False)
    check_array(f"{field}.points", reference.points, (count, 3))
    _coordinates(f"{field}.points", reference.points)
    check_array(f"{field}.viewmat", reference.viewmat, (4, 4))
    check_array(f"{field}.K", reference.K, (3, 3))
    check_camera(field, reference.viewmat, reference.K)
    if reference.visibility is not None:
        check_array(f"{field}.visibility", reference.visibility, (count,), np.bool_)
    if reference.keypoints is not None:
        _keypoints(f"{field}.keypoints", reference.keypoints, 1)
    if reference.vertices is not None:
        check_array(f"{field}.vertices", reference.vertices, (None, 3))
        _coordinates(f"{field}.vertices", reference.vertices)
    if reference.clay is not None:
        check_media(f"{field}.clay", reference.clay, video=False)


def check_media(field: str, media: object, *, video: bool | None = None) -> None:
    """Check kind and first bytes of a picture or film; ``video`` demands one or the other."""
    if not isinstance(media, Media) or not isinstance(media.data, bytes):
        raise ShotError(field, f"must be a picture or film, not {type(media).__name__}")
    if media.mime not in MIMES:
        raise ShotError(field, f"is of kind {media.mime!r}; use one of {', '.join(MIMES)}")
    if video is not None and media.is_video != video:
        raise ShotError(field, "must be a film, not a picture" if video else "must be a picture, not a film")
    _, magic, offset = MIMES[media.mime]
    if media.data[offset : offset + len(magic)] != magic:
        raise ShotError(field, f"is not a {media.mime} file, or is damaged ({len(media.data)} bytes)")


def _background(background: Background, frames: int) -> None:
    if background.kind not in BACKGROUNDS:
        raise ShotError("background.kind", f"is {background.kind!r}; use one of {', '.join(BACKGROUNDS)}")
    count = len(background.media)
    if background.kind == "none" and count:
        raise ShotError("background.media", "must be empty when there is no background")
    if background.kind == "still" and count != 1:
        raise ShotError("background.media", f"must be one picture, not {count}")
    if background.kind == "video" and count not in (1, frames):
        raise ShotError("background.media", f"must be one film or {frames} pictures, one a frame, not {count}")
    for i, media in enumerate(background.media):
        film = background.kind == "video" and count == 1 and frames != 1
        check_media(f"background.media[{i}]", media, video=film if background.kind != "video" or count > 1 else None)
        if film and not media.is_video:
            raise ShotError("background.media", f"must be one film or {frames} pictures, one a frame, not one picture")


def _settings(settings: Settings) -> None:
    _text("settings.model", settings.model, 256)
    _number("settings.seed", settings.seed, 0, 2**32 - 1, integer=True)
    if settings.steps is not None:
        _number("settings.steps", settings.steps, 1, 1000, integer=True)
    if settings.guidance is not None:
        _number("settings.guidance", settings.guidance, 0, 100)
    if settings.quality is not None:
        _text("settings.quality", settings.quality, 64)
    if isinstance(settings.upscale, bool) or settings.upscale not in UPSCALE_FACTORS:
        raise ShotError("settings.upscale", f"is {settings.upscale!r}; use 1, 2 or 4")
    for name in ("width", "height"):
        value = getattr(settings, name)
        if value is not None:
            _number(f"settings.{name}", value, 8, MAX_SIZE, integer=True)
    if not isinstance(settings.options, Mapping) or len(settings.options) > MAX_OPTIONS:
        raise ShotError("settings.options", f"must be an object of at most {MAX_OPTIONS} entries")
    for name, value in settings.options.items():
        _text("settings.options", name, 64)
        if isinstance(value, str):
            _text(f"settings.options.{name}", value, 1000)
        elif not isinstance(value, bool):
            _number(f"settings.options.{name}", value, -1e9, 1e9)
