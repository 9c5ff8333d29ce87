"""Find and read body models: the embedded one, and the user's own SMPL, SMPL-H and SMPL-X files.

Those come as .npz and as .pkl with the same keys (``v_template``, ``f``, ``weights``, ``shapedirs``, ``posedirs``,
``J_regressor``, ``kintree_table``, for hands ``hands_meanl`` and ``hands_meanr``, for the face ``lmk_faces_idx`` and
its like). Pickles are read by pickles.py, which runs nothing; of an .npz only these keys are touched, and its pickled
ones are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from ..catalogue.reader import list_presets
from ..catalogue.rig import BodyFile
from ..shot.archive import Archive, ArchiveError
from . import landmarks as marks
from .check import check_shapes
from .model import BodyModel
from .pickles import MAX_BYTES, PickleRefused, load_pickle
from .types import JOINT_NAMES, BodyError

EMBEDDED = "maquette_neutral"
SUFFIXES = (".npz", ".pkl")

# Keys of the files to fields of BodyModel. shapedirs and kintree_table need more than a new name.
_ARRAYS = {"v_template": "v_template", "f": "faces", "weights": "weights", "J_regressor": "J_regressor"}
_OPTIONAL = ("posedirs", "hands_meanl", "hands_meanr", "regions", "region_names")
_KEYS = (*_ARRAYS, "shapedirs", "kintree_table", *_OPTIONAL, *marks.KEYS)
_MAX_LANDMARKS = 1 << 16
_FAMILY = {len(names): family for family, names in JOINT_NAMES.items()}
# SMPL-X keeps shape and expression in one array: 300 + 100 components, or 10 + 10 in its older files.
_SMPLX_SHAPES, _SMPLX_OLD = (300, 100), (10, 10)


@dataclass(frozen=True)
class BodyInfo:
    """A body that can be loaded.

    Attributes:
        id: what ``load_body`` takes.
        label, description: to show.
        family: ``smpl``, ``smplh``, ``smplx``, or empty where only loading would tell.
        path: its file.
        license: SPDX expression, or empty when unknown.
    """

    id: str
    label: str
    path: Path
    family: str = ""
    description: str = ""
    license: str = ""


def list_bodies(folders: Iterable[str | PathLike[str]] = ()) -> list[BodyInfo]:
    """Bodies that come with Maquette, the embedded one first, then those in the user's folders, by name.

    Args:
        folders: looked through with their subfolders; files whose names start with SMPL or basicmodel count, and
            folders that are absent are passed over.
    """
    found = {info.id: info for info in _presets()}
    for folder in folders:
        for path in sorted(Path(folder).expanduser().glob("**/*")):
            if path.suffix.lower() in SUFFIXES and re.match(r"(?i)(smpl|basicmodel)", path.name) and path.is_file():
                info = BodyInfo(_id_of(path), _label_of(path), path, _family_of_name(path))
                found.setdefault(info.id, info)
    return sorted(found.values(), key=lambda info: (info.id != EMBEDDED, info.label.lower()))


def load_body(body: str | PathLike[str], folders: Iterable[str | PathLike[str]] = ()) -> BodyModel:
    """Load a body.

    Args:
        body: id of one that ``list_bodies(folders)`` finds, or path of an .npz or .pkl file.
        folders: where else to look for ids.

    Raises:
        BodyError: no such body, or a file that is not a body of the SMPL family, is damaged or hostile.
        OSError: the file cannot be read.
    """
    if isinstance(body, str) and body == EMBEDDED:
        return embedded()
    if isinstance(body, str) and Path(body).suffix.lower() not in SUFFIXES:
        known = {info.id: info for info in list_bodies(folders)}
        if body not in known:
            raise BodyError(
                "body", f"there is no body named {body!r}; there are {', '.join(known)}. Or give the path of a file"
            )
        info = known[body]
        return replace(_read(info.path), id=info.id, label=info.label, license=info.license)
    path = Path(body).expanduser()
    if path.suffix.lower() not in SUFFIXES:
        raise BodyError("body", f"{path.name} is neither an .npz nor a .pkl file")
    if not path.is_file():
        raise BodyError("body", f"there is no file {path}")
    return _read(path)


@lru_cache(maxsize=1)
def embedded() -> BodyModel:
    """The body that comes with Maquette: SMPL's 24 joints, ten betas, painted regions. Loaded once."""
    info = next(info for info in _presets() if info.id == EMBEDDED)
    return replace(_read(info.path), id=info.id, label=info.label, license=info.license)


def _presets() -> Iterator[BodyInfo]:
    for body in list_presets(BodyFile).values():
        path = BodyFile.FOLDER / body.file
        yield BodyInfo(body.id, body.label, path, body.family, body.description, body.license)


def _id_of(path: Path) -> str:
    return re.sub(r"[^a-z0-9]+", "_", path.stem.lower()).strip("_")


def _label_of(path: Path) -> str:
    return path.stem.replace("_", " ")


def _family_of_name(path: Path) -> str:
    name = path.stem.lower()
    for family in ("smplx", "smplh"):
        if name.startswith(family):
            return family
    return "smpl" if name.startswith(("smpl_", "basicmodel")) else ""


def _read(path: Path) -> BodyModel:
    """Read a body file into a checked model."""
    arrays = _read_npz(path) if path.suffix.lower() == ".npz" else _read_pickle(path)
    try:
        return _assemble(arrays, _id_of(path), _label_of(path))
    except BodyError as error:
        raise BodyError(error.field, f"{str(error).partition(': ')[2]} (in {path.name})") from None


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    """The keys of a body out of an .npz, their shapes checked before anything is read into memory."""
    with open(path, "rb") as stream:
        try:
            with Archive(stream, MAX_BYTES) as archive:
                names = {name[:-4]: name for name in archive.names if name.endswith(".npy")}
                headers = {key: archive.header(names[key]) for key in _KEYS if key in names}
                for key, (_, dtype) in headers.items():
                    _check_type(key, dtype)
                _check_keys(headers)
                _check_sizes({key: shape for key, (shape, _) in headers.items()})
                return {key: archive.array(names[key]) for key in headers}
        except BodyError as error:
            raise BodyError(error.field, f"{str(error).partition(': ')[2]} (in {path.name})") from None
        except ArchiveError as error:
            part = f"{error.entry.removesuffix('.npy')} " if error.entry else ""
            raise BodyError("body", f"{path.name} is damaged or not an .npz file ({part}{error})") from error


def _check_type(key: str, dtype: np.dtype) -> None:
    if dtype.hasobject:
        raise BodyError(key, "is pickled, which an .npz must not be; save it as a plain array")
    if dtype.kind not in ("fiu" if key != "region_names" else "U") or dtype.itemsize > 256:
        raise BodyError(key, f"holds {dtype}, not " + ("numbers" if key != "region_names" else "short names"))


def _read_pickle(path: Path) -> dict[str, np.ndarray]:
    try:
        data = load_pickle(path)
    except PickleRefused as error:
        raise BodyError("body", f"{path.name} was not read: {error}") from error
    if not isinstance(data, dict):
        raise BodyError("body", f"{path.name} holds a {type(data).__name__}, not the arrays of a body")
    _check_keys(data)
    arrays = {key: data[key] for key in _KEYS if key in data}
    for key, value in arrays.items():
        if not isinstance(value, np.ndarray):
            raise BodyError(key, f"is a {type(value).__name__}, not an array (in {path.name})")
    return arrays


def _check_keys(found: Iterable[str]) -> None:
    missing = [key for key in (*_ARRAYS, "shapedirs", "kintree_table") if key not in found]
    if missing:
        raise BodyError(
            missing[0], "is missing; this is not a body model of the SMPL family (a motion goes to Import Motion)"
        )


def _check_sizes(shapes: dict[str, tuple[int, ...]]) -> None:
    """Check the shapes as they are in the file."""
    known = {field: shapes[key] for key, field in _ARRAYS.items()}
    table = shapes["kintree_table"]
    if len(table) != 2 or table[0] != 2:
        raise BodyError("kintree_table", f"has the shape {table}; (2, J) is needed")
    known["parents"] = table[1:]
    known.update({key: shapes[key] for key in ("shapedirs", "posedirs", "regions") if key in shapes})
    for key in ("hands_meanl", "hands_meanr"):
        if key in shapes and np.prod(shapes[key], dtype=np.int64) != 45:
            raise BodyError(key, f"has the shape {shapes[key]}; 45 numbers are needed")
    for key in marks.KEYS:
        if key in shapes and np.prod(shapes[key], dtype=np.int64) > _MAX_LANDMARKS:
            raise BodyError(key, f"has the shape {shapes[key]}; at most {_MAX_LANDMARKS} numbers are admitted")
    if "region_names" in shapes and (len(shapes["region_names"]) != 1 or shapes["region_names"][0] > 256):
        raise BodyError("region_names", f"has the shape {shapes['region_names']}; at most 256 names are admitted")
    check_shapes(known)


def _assemble(arrays: dict[str, np.ndarray], id: str, label: str) -> BodyModel:
    """Turn a file's arrays into a model: split SMPL-X's expressions off, renormalise, convert."""
    _check_sizes({key: np.shape(value) for key, value in arrays.items()})
    joints = arrays["weights"].shape[1]
    if joints not in _FAMILY:
        choice = ", ".join(f"{count} ({family})" for count, family in sorted(_FAMILY.items()))
        raise BodyError("weights", f"are for {joints} joints; bodies have {choice}")
    family = _FAMILY[joints]
    floats = {key: _numbers(key, arrays[key]) for key in ("v_template", "weights", "J_regressor", "shapedirs")}
    shapedirs, expressiondirs = floats["shapedirs"], None
    if family == "smplx":
        total = shapedirs.shape[2]
        shapes, expressions = _SMPLX_SHAPES if total >= sum(_SMPLX_SHAPES) else _SMPLX_OLD
        if total > shapes:
            expressiondirs = np.ascontiguousarray(shapedirs[:, :, shapes : shapes + expressions])
        shapedirs = np.ascontiguousarray(shapedirs[:, :, :shapes])
    parents = _integers("kintree_table", arrays["kintree_table"])[0].astype(np.int64)
    parents[0] = -1  # files write the root's parent as the largest unsigned number
    hands = None
    if "hands_meanl" in arrays and "hands_meanr" in arrays and family != "smpl":
        hands = np.concatenate([_numbers(key, arrays[key]).reshape(15, 3) for key in ("hands_meanl", "hands_meanr")])
    weights = floats["weights"]
    total = weights.sum(1, keepdims=True)
    if np.isfinite(weights).all() and (total > 0.5).all():
        weights = weights / total  # files are rounded; what is far off is refused by the model's check
    regions = arrays.get("regions")
    faces = np.clip(_integers("f", arrays["f"]).astype(np.int64), -1, 1 << 30).astype(np.int32)
    return BodyModel(
        id=id,
        family=family,
        joint_names=JOINT_NAMES[family],
        parents=np.clip(parents, -1, 1 << 20).astype(np.int32),
        v_template=floats["v_template"],
        faces=faces,
        weights=weights,
        shapedirs=shapedirs,
        posedirs=_numbers("posedirs", arrays["posedirs"]) if "posedirs" in arrays else None,
        J_regressor=floats["J_regressor"],
        regions=None if regions is None else _integers("regions", regions).astype(np.uint8),
        region_names=tuple(str(name) for name in arrays.get("region_names", ())),
        expressiondirs=expressiondirs,
        hands_mean=hands,
        landmarks=marks.read_landmarks(arrays, family, faces, len(floats["v_template"])),
        label=label,
    )


def _numbers(key: str, array: Any) -> np.ndarray:
    if array.dtype.kind not in "fiu":
        raise BodyError(key, f"holds {array.dtype}, not numbers")
    with np.errstate(over="ignore"):  # what overflows becomes infinite, and is refused as such
        return np.ascontiguousarray(array, np.float32)


def _integers(key: str, array: Any) -> np.ndarray:
    whole = array.dtype.kind in "iu" or (array.dtype.kind == "f" and bool(np.all(array == np.round(array))))
    if not whole:
        raise BodyError(key, f"holds {array.dtype}, not whole numbers")
    return np.asarray(array)
