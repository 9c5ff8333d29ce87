"""The one reader of presets: a TOML file held against the dataclass that describes its kind."""

from __future__ import annotations

import math
import reprlib
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, get_args, get_origin, get_type_hints

PRESETS = Path(__file__).resolve().parents[2] / "presets"

_WORDS = {str: "text in quotes", bool: "true or false", int: "a whole number", float: "a finite number"}


class CatalogueError(ValueError):
    """A preset that cannot be used; the message names the file, the key and the cure."""


@dataclass(frozen=True)
class Preset:
    """What every kind of preset has; the fields and their annotations say what its file holds.

    Attributes:
        FOLDER: where the files of this kind are.
        id: the file's name without its ending.
        label: what the animator reads; where the file has none, its name in title case.
    """

    FOLDER: ClassVar[Path]
    id: str
    label: str


Kind = TypeVar("Kind")
AnyPreset = TypeVar("AnyPreset", bound=Preset)


def read_table(path: Path) -> dict[str, Any]:
    """A TOML file as it is. Raises CatalogueError."""
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise CatalogueError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise CatalogueError(f"{path}: is not UTF-8 at byte {error.start}; save it as UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise CatalogueError(f"{path}: is not TOML ({error}); correct it there") from error


def read_preset(kind: type[Kind], path: Path, **given: Any) -> Kind:
    """Read one preset.

    Args:
        kind: a dataclass with at least ``id`` and ``label``.
        given: fields that do not come from the file.

    Raises:
        CatalogueError: the file cannot be read, or a key is unknown, missing or of the wrong type.
    """
    return make_preset(kind, read_table(path), path, **given)


def make_preset(kind: type[Kind], table: Mapping[str, Any], path: Path, **given: Any) -> Kind:
    """``read_preset`` of a file that has been read already."""
    if (found := table.get("id", path.stem)) != path.stem:
        raise CatalogueError(f"{path}: id is {found!r}; make it the file's name, {path.stem!r}")
    return build(kind, {"id": path.stem, "label": titled(path.stem), **table}, f"{path}: ", **given)


def find_preset(kind: type[AnyPreset], name: str, folder: Path | None = None) -> AnyPreset:
    """Read the preset of that name, in whatever case. Raises CatalogueError, for an unknown name with what there is."""
    folder = folder or kind.FOLDER
    found = {path.stem.lower(): path for path in _files(folder)}
    if name.lower() not in found:
        raise CatalogueError(f"{folder}: no {name!r}; choose one of {', '.join(found)}")
    return read_preset(kind, found[name.lower()])


def list_presets(
    kind: type[AnyPreset], folder: Path | None = None, faulty: Callable[[CatalogueError], None] | None = None
) -> dict[str, AnyPreset]:
    """All presets of a folder by id, sorted by ``order`` where the kind has it, then by id.

    Args:
        folder: the kind's own when None.
        faulty: told of each file that cannot be used, which is then left out; None raises.

    Raises:
        CatalogueError: a file cannot be used, or names differ by case alone.
    """
    found: dict[str, AnyPreset] = {}
    names: dict[str, Path] = {}
    for path in _files(folder or kind.FOLDER):
        try:
            if (other := names.setdefault(path.stem.lower(), path)) != path:
                raise CatalogueError(f"{path}: has the name of {other.name}; rename one of them")
            found[path.stem] = read_preset(kind, path)
        except CatalogueError as error:
            if faulty is None:
                raise
            faulty(error)
    return dict(sorted(found.items(), key=lambda item: (getattr(item[1], "order", 0), item[0])))


def menu(kind: type[AnyPreset], folder: Path | None = None) -> tuple[AnyPreset, ...]:
    """``list_presets`` for a menu that is drawn often: faulty files are left out, and named once in the console."""
    folder = folder or kind.FOLDER
    return _menu(kind, folder, tuple((path, path.stat().st_mtime_ns) for path in _files(folder)))  # type: ignore[arg-type]


@lru_cache(maxsize=16)
def _menu(kind: type[AnyPreset], folder: Path, _state: tuple[tuple[Path, int], ...]) -> tuple[AnyPreset, ...]:
    return tuple(list_presets(kind, folder, lambda error: print(f"Maquette: {error}")).values())


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.toml"))


def titled(name: str) -> str:
    """A label for a name: ``push_in`` is ``Push In``."""
    return name.replace("_", " ").title()


def build(kind: type[Kind], table: Mapping[str, Any], where: str = "", tolerant: bool = False, **given: Any) -> Kind:
    """A dataclass out of a table, each value held against its annotation.

    Annotations may be str, bool, int, float (finite; a whole number stays one), a Literal, a dataclass, Any, unions and
    tuples of those (where the length is open, one value stands for a tuple of it), and mappings from text to them.
    What else must hold, the class's ``__post_init__`` says by a ValueError that begins with the key.

    Args:
        where: beginning of all messages: the file, the tables around.
        tolerant: pass over unknown keys.
        given: fields that do not come from the table.

    Raises:
        CatalogueError: a key is unknown, missing or of the wrong type.
    """
    hints = _hints(kind)
    known = {entry.name: entry for entry in fields(kind) if entry.name not in given}  # type: ignore[arg-type]
    if (unknown := next((key for key in table if key not in known), None)) is not None and not tolerant:
        raise CatalogueError(f"{where}{unknown} is no entry here; choose from {', '.join(known)}")
    for key, entry in known.items():
        if key not in table and entry.default is MISSING and entry.default_factory is MISSING:
            raise CatalogueError(f"{where}{key} is missing; make it {_words(hints[key])}")
    values = {key: fit(hints[key], table[key], where + key, tolerant) for key in known if key in table}
    try:
        return kind(**values, **given)
    except CatalogueError:
        raise
    except ValueError as error:
        raise CatalogueError(f"{where}{error}") from error


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def build_known(kind: type[Kind], table: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a table that fit the fields of a dataclass; of a mapping, the items that fit."""
    hints, found = _hints(kind), {}
    for key in (entry.name for entry in fields(kind) if entry.name in table):  # type: ignore[arg-type]
        value, hint = table[key], hints[key]
        if get_origin(hint) is Mapping and isinstance(value, Mapping):
            found[key] = {str(name): item for name, each in value.items() for item in _fitting(get_args(hint)[1], each)}
        elif fitting := _fitting(hint, value):
            found[key] = fitting[0]
    return found


def _fitting(hint: Any, value: Any) -> list[Any]:
    try:
        return [fit(hint, value, "", tolerant=True)]
    except CatalogueError:
        return []


def fit(hint: Any, value: Any, name: str, tolerant: bool = False) -> Any:
    """A value as its annotation asks. Raises CatalogueError that begins with ``name``."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any or (hint is type(None) and value is None):
        return value
    if is_dataclass(hint) and isinstance(value, Mapping):
        return build(hint, value, f"{name}.", tolerant)  # type: ignore[arg-type]
    if hint in _WORDS and _is(hint, value):
        return value
    if origin is Literal and isinstance(value, str) and value in inner:
        return value
    if origin is Mapping and isinstance(value, Mapping):
        return {key: fit(inner[1], item, f"{name}.{key}", tolerant) for key, item in value.items()}
    if origin is tuple and inner[-1] is Ellipsis:
        return tuple(fit(inner[0], item, name, tolerant) for item in (value if isinstance(value, list) else [value]))
    if origin is tuple and isinstance(value, list) and len(value) == len(inner):
        return tuple(fit(one, item, name, tolerant) for one, item in zip(inner, value, strict=True))
    if origin not in (None, Literal, Mapping, tuple):
        for one in inner:
            if fitting := _fitting(one, value):
                return fitting[0]
    raise CatalogueError(f"{name} is {reprlib.repr(value)}; make it {_words(hint)}")


def _is(kind: type, value: Any) -> bool:
    if isinstance(value, bool) or kind in (str, bool):
        return isinstance(value, bool) if kind is bool else kind is str and isinstance(value, str)
    if kind is int or isinstance(value, int):
        return isinstance(value, int) and abs(value) < 1 << 63
    return isinstance(value, float) and math.isfinite(value)


def _words(hint: Any) -> str:
    inner: Iterable[Any] = (one for one in get_args(hint) if one is not type(None))
    if hint in _WORDS:
        return _WORDS[hint]
    if get_origin(hint) is Literal:
        return f"one of {', '.join(inner)}"
    if get_origin(hint) is Mapping or is_dataclass(hint):
        return "a table"
    if get_origin(hint) is tuple:
        kinds = list(inner)
        count = "" if kinds[-1] is Ellipsis else f"{len(kinds)} values, each "
        return f"a list of {count}{_words(kinds[0])}"
    return " or ".join(_words(one) for one in inner)
