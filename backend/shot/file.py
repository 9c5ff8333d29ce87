"""The .shot file: a zip of ``shot.json``, ``arrays.npz`` (never pickled) and ``media/``.

Reading trusts nothing: the directory of the zip, the headers of the arrays and their declared sizes are checked
before an array is allocated.
"""

from __future__ import annotations

import io
import json
import os
import re
import tempfile
import zipfile
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from .archive import Archive, ArchiveError
from .types import (
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
from .validate import MAX_CHARACTERS, MAX_FRAMES, MAX_MESHES, MAX_REFERENCES, MAX_TRACKS, MIMES, validate

FORMAT_NAME = "maquette-shot"
FORMAT_VERSION = 3
"""Version 2 added keypoints, meshes, tracks and a model's own options; version 3 further references, the vertices and
clay of each, the shot's clay and its quality. Files of older versions are read as they are."""

MAX_JSON_BYTES = 8 << 20
MAX_ARRAY_BYTES = 2 << 30
MAX_BYTES = 4 << 30
"""Of everything in a file, unpacked; a small file may hold less, see ``Archive``."""

_INDEXED = (
    r"characters\[\d+\]\.(points|rest_points|visibility|joints|body\.(betas|poses|trans)|keypoints\.(points|state)|"
    r"(reference|further_references\[\d+\])\.(points|viewmat|K|visibility|vertices|keypoints\.(points|state)))"
)
_ARRAY_NAME = re.compile(
    rf"clip\.(viewmats|Ks)|{_INDEXED}|meshes\[\d+\]\.(vertices|triangles)|tracks\[\d+\]\.(points|visibility)", re.ASCII
)
_MEDIA_NAME = re.compile(r"media/[\w-]+\.\w+", re.ASCII)

_DTYPES = (np.dtype(np.float32), np.dtype(np.bool_), np.dtype(np.uint8), np.dtype(np.int32))


def save_shot(shot: Shot, path: str | PathLike[str]) -> None:
    """Validate ``shot`` and write it; an existing file is replaced only once the new one is complete.

    Raises:
        ShotError: a field is unusable.
        OSError: the file cannot be written, a full disk for instance; nothing is left behind.
    """
    validate(shot)
    arrays: dict[str, np.ndarray] = {"clip.viewmats": shot.clip.viewmats, "clip.Ks": shot.clip.Ks}
    media: list[Media] = []

    def add_media(item: Media) -> str:
        media.append(item)
        return _media_name(len(media) - 1, item.mime)

    def add_keypoints(key: str, keypoints: Keypoints | None) -> None:
        if keypoints is not None:
            arrays[f"{key}.keypoints.points"] = keypoints.points
            arrays[f"{key}.keypoints.state"] = keypoints.state

    def add_reference(key: str, reference: Reference) -> dict[str, str | None]:
        for name in ("points", "viewmat", "K", "visibility", "vertices"):
            value = getattr(reference, name)
            if value is not None:
                arrays[f"{key}.{name}"] = value
        add_keypoints(key, reference.keypoints)
        return {
            "image": add_media(reference.image),
            "clay": None if reference.clay is None else add_media(reference.clay),
        }

    characters = []
    for i, character in enumerate(shot.characters):
        key = f"characters[{i}]"
        add_keypoints(key, character.keypoints)
        entry: dict[str, Any] = {"name": character.name, "body": None, "reference": None}
        for name in ("points", "rest_points", "visibility", "joints"):
            value = getattr(character, name)
            if value is not None:
                arrays[f"{key}.{name}"] = value
        if character.body is not None:
            entry["body"] = character.body.body
            for name in ("betas", "poses", "trans"):
                arrays[f"{key}.body.{name}"] = getattr(character.body, name)
        if character.reference is not None:
            entry["reference"] = add_reference(f"{key}.reference", character.reference)
        entry["further_references"] = [
            add_reference(f"{key}.further_references[{k}]", further)
            for k, further in enumerate(character.further_references)
        ]
        characters.append(entry)
    for i, mesh in enumerate(shot.meshes):
        arrays[f"meshes[{i}].vertices"], arrays[f"meshes[{i}].triangles"] = mesh.vertices, mesh.triangles
    for i, track in enumerate(shot.tracks):
        arrays[f"tracks[{i}].points"], arrays[f"tracks[{i}].visibility"] = track.points, track.visibility
    s = shot.settings
    header = {
        "format": FORMAT_NAME,
        "version": FORMAT_VERSION,
        "name": shot.name,
        "prompt": shot.prompt,
        "clip": {"fps": float(shot.clip.fps), "width": int(shot.clip.width), "height": int(shot.clip.height)},
        "characters": characters,
        "background": {"kind": shot.background.kind, "media": [add_media(m) for m in shot.background.media]},
        "settings": {
            "model": s.model,
            "seed": int(s.seed),
            "steps": s.steps,
            "guidance": s.guidance,
            "width": s.width,
            "height": s.height,
            "options": dict(s.options),
            "quality": s.quality,
            # Readers that do not know it take films as they are.
            **({"upscale": int(s.upscale)} if s.upscale != 1 else {}),
        },
        "meshes": [{"name": mesh.name, "character": int(mesh.character)} for mesh in shot.meshes],
        "tracks": [{"name": track.name} for track in shot.tracks],
        "clay": None
        if shot.clay is None
        else {"media": [add_media(m) for m in shot.clay.media], "surroundings": bool(shot.clay.surroundings)},
    }

    path = Path(path)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr("shot.json", json.dumps(header, indent=1), zipfile.ZIP_DEFLATED)
            packed = io.BytesIO()
            np.savez_compressed(packed, **arrays)  # pyright: ignore[reportArgumentType]
            archive.writestr("arrays.npz", packed.getvalue())
            for i, item in enumerate(media):
                archive.writestr(_media_name(i, item.mime), item.data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def load_shot(path: str | PathLike[str]) -> Shot:
    """Read and validate a .shot file.

    Raises:
        ShotError: the file is no shot, is damaged, is hostile, or a field is unusable.
        OSError: the file cannot be read.
    """
    path = Path(path)
    with open(path, "rb") as stream:
        try:
            with Archive(stream, MAX_BYTES) as archive:
                return _read(archive)
        except ArchiveError as error:
            if error.entry:
                raise ShotError(error.entry, f"{error}; export the shot again") from error
            raise ShotError(
                "file", f"'{path.name}' is not a .shot file or is cut short; export it again ({error})"
            ) from error
        except RecursionError as error:
            raise ShotError("file", f"'{path.name}' is nested too deeply") from error


def _media_name(index: int, mime: str) -> str:
    return f"media/{index:05d}{MIMES[mime][0]}"


def _read(archive: Archive) -> Shot:
    if "shot.json" not in archive.names:
        # A cut file can show the directory of the arrays inside it, which is a zip too.
        raise ArchiveError("shot.json is missing")
    text = archive.read("shot.json", MAX_JSON_BYTES)
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ShotError("shot.json", f"cannot be read as JSON ({error})") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT_NAME:
        raise ShotError("shot.json", "does not describe a Maquette shot")
    version = header.get("version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ShotError("shot.json.version", f"is {version!r:.40}, not a format version")
    if version > FORMAT_VERSION:
        raise ShotError(
            "shot.json.version",
            f"is {version}, made by a newer Maquette; this one reads up to {FORMAT_VERSION}, update it",
        )
    arrays = _read_arrays(archive)

    def media(field: str, name: object) -> Media:
        mime = next((m for m, (ending, _, _) in MIMES.items() if isinstance(name, str) and name.endswith(ending)), None)
        if mime is None or not isinstance(name, str) or not _MEDIA_NAME.fullmatch(name):
            raise ShotError(field, f"{name!r:.80} is not a picture or film of this file")
        return Media(archive.read(name), mime)

    def several(field: str, names: object) -> tuple[Media, ...]:
        if not isinstance(names, list) or len(names) > MAX_FRAMES:
            raise ShotError(field, f"must be a list of at most {MAX_FRAMES}")
        return tuple(media(f"{field}[{i}]", name) for i, name in enumerate(names))

    def array(field: str) -> np.ndarray:
        if field not in arrays:
            raise ShotError(field, "is missing from arrays.npz; export the shot again")
        return arrays[field]

    def keypoints(key: str) -> Keypoints | None:
        if f"{key}.keypoints.points" not in arrays:
            return None
        return Keypoints(array(f"{key}.keypoints.points"), array(f"{key}.keypoints.state"))

    def reference(key: str, found: object) -> Reference:
        # Versions 1 and 2 have the picture's name alone.
        entry = {"image": found} if isinstance(found, str) else _dict(key, found)
        return Reference(
            media(f"{key}.image", entry.get("image")),
            *(array(f"{key}.{name}") for name in ("points", "viewmat", "K")),
            visibility=arrays.get(f"{key}.visibility"),
            keypoints=keypoints(key),
            vertices=arrays.get(f"{key}.vertices"),
            clay=None if entry.get("clay") is None else media(f"{key}.clay", entry["clay"]),
        )

    clip_json = _dict("clip", header.get("clip"))
    clip = Clip(
        fps=clip_json.get("fps"),  # pyright: ignore[reportArgumentType]
        width=clip_json.get("width"),  # pyright: ignore[reportArgumentType]
        height=clip_json.get("height"),  # pyright: ignore[reportArgumentType]
        viewmats=array("clip.viewmats"),
        Ks=array("clip.Ks"),
    )
    characters = []
    entries = header.get("characters")
    if not isinstance(entries, list) or len(entries) > MAX_CHARACTERS:
        raise ShotError("characters", f"must be a list of at most {MAX_CHARACTERS}")
    for i, item in enumerate(entries):
        key = f"characters[{i}]"
        entry = _dict(key, item)
        body = None
        if entry.get("body") is not None:
            body = BodyPose(entry["body"], *(array(f"{key}.body.{name}") for name in ("betas", "poses", "trans")))
        first = entry.get("reference")
        further = entry.get("further_references", [])
        if not isinstance(further, list) or len(further) > MAX_REFERENCES:
            raise ShotError(f"{key}.further_references", f"must be a list of at most {MAX_REFERENCES}")
        characters.append(
            Character(
                name=entry.get("name"),  # pyright: ignore[reportArgumentType]
                points=array(f"{key}.points"),
                rest_points=array(f"{key}.rest_points"),
                visibility=array(f"{key}.visibility"),
                joints=arrays.get(f"{key}.joints"),
                body=body,
                reference=None if first is None else reference(f"{key}.reference", first),
                keypoints=keypoints(key),
                further_references=tuple(
                    reference(f"{key}.further_references[{k}]", found) for k, found in enumerate(further)
                ),
            )
        )
    background_json = _dict("background", header.get("background"))
    background = Background(
        kind=background_json.get("kind"),  # pyright: ignore[reportArgumentType]
        media=several("background.media", background_json.get("media")),
    )
    meshes = tuple(
        Mesh(
            entry.get("name"),  # pyright: ignore[reportArgumentType]
            entry.get("character"),  # pyright: ignore[reportArgumentType]
            array(f"meshes[{i}].vertices"),
            array(f"meshes[{i}].triangles"),
        )
        for i, entry in enumerate(_entries("meshes", header, MAX_MESHES))
    )
    tracks = tuple(
        Track(
            entry.get("name"),  # pyright: ignore[reportArgumentType]
            array(f"tracks[{i}].points"),
            array(f"tracks[{i}].visibility"),
        )
        for i, entry in enumerate(_entries("tracks", header, MAX_TRACKS))
    )
    clay = None
    if header.get("clay") is not None:
        entry = _dict("clay", header["clay"])
        pictures = several("clay.media", entry.get("media"))
        clay = Clay(pictures, entry.get("surroundings"))  # pyright: ignore[reportArgumentType]
    settings_json = _dict("settings", header.get("settings"))
    unknown = set(settings_json) - set(Settings.__dataclass_fields__)
    if unknown:
        raise ShotError("settings", f"has unknown entries: {', '.join(sorted(map(str, unknown)))}")
    shot = Shot(
        clip=clip,
        characters=tuple(characters),
        background=background,
        prompt=header.get("prompt", ""),
        settings=Settings(**settings_json),
        name=header.get("name", ""),
        meshes=meshes,
        tracks=tracks,
        clay=clay,
    )
    validate(shot)
    return shot


def _entries(field: str, header: dict[str, Any], most: int) -> list[dict[str, Any]]:
    """The objects of an optional list; files of version 1 have none."""
    listed = header.get(field, [])
    if not isinstance(listed, list) or len(listed) > most:
        raise ShotError(field, f"must be a list of at most {most}")
    return [_dict(f"{field}[{i}]", entry) for i, entry in enumerate(listed)]


def _dict(field: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ShotError(field, f"must be an object, not {type(value).__name__}")
    return value


def _read_arrays(archive: Archive) -> dict[str, np.ndarray]:
    """The arrays of arrays.npz, an archive in the archive; none that a shot does not have."""
    packed = archive.read("arrays.npz", MAX_ARRAY_BYTES)
    arrays: dict[str, np.ndarray] = {}
    try:
        with Archive(io.BytesIO(packed), archive.left) as inner:
            for name in inner.names:
                field = name.removesuffix(".npy")
                if not _ARRAY_NAME.fullmatch(field):
                    raise ShotError("arrays.npz", f"holds {field!r:.80}, which no shot has; export the shot again")
                _, dtype = inner.header(name)
                if dtype not in _DTYPES:
                    raise ShotError(field, f"has dtype {dtype}; only float32, int32, uint8 and bool are read")
                arrays[field] = inner.array(name)
            archive.left = inner.left
    except ArchiveError as error:
        field = error.entry.removesuffix(".npy") if error.entry else "arrays.npz"
        raise ShotError(field, f"{error}; export the shot again") from error
    return arrays
