"""``maquette models fetch``: get published files from their hub, with consent, and add them (no torch here).

The hub's own library transfers and resumes; what is here says what would come, checks every byte of what came, and
leaves a model's folder alone until all of it is there.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ...catalogue.models import ModelSpec, WeightsSource
from ...catalogue.weights_offer import OfferedRepository, WeightsOffer
from ..registry import status
from .component import WeightsError, components

HUB = "https://huggingface.co"

_PART = ".part"
"""Ending of a file that is not all there, or has not been checked."""
_BLOCK = 1 << 20

Progress = Callable[[str, int, int], None]
"""Told what is done, bytes of it, and of all; may raise to stop."""


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository.

    Attributes:
        path: in it.
        size: bytes.
        sha256: of its bytes, where the hub tells it; else ``blob`` is its git hash.
    """

    path: str
    size: int
    sha256: str = ""
    blob: str = ""


@dataclass(frozen=True)
class Offer:
    """What would come from one repository.

    Attributes:
        repository: ``owner/name``.
        revision: the commit whose files these are.
        license: of the files, as the description of the model says.
        license_url: where its text is.
        gated: whether its publisher asks for an account and for consent first.
    """

    repository: str
    revision: str
    files: tuple[RemoteFile, ...]
    license: str
    license_url: str
    gated: bool

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def endpoint() -> str:
    """The hub's address: ``HF_ENDPOINT``, as for the hub's own tools, or the public one."""
    return os.environ.get("HF_ENDPOINT", HUB).rstrip("/")


def lacking(spec: ModelSpec, only: Sequence[str] = ()) -> list[WeightsSource]:
    """Where what is to come is published.

    Args:
        only: names of parts; by default all that are neither optional nor there.

    Raises:
        WeightsError: there is no such part.
    """
    if only:
        if unknown := sorted(set(only) - set(parts := components(spec))):
            raise WeightsError(f"--component {unknown[0]}: {spec.label} has {', '.join(parts)}")
        return [source for source in spec.sources if source.component in only]
    all_parts, lost = ({file.partition("/")[0] for file in files} for files in (spec.files, status(spec).missing))
    # A part without a source of its own lies in another's files.
    shared = lost - {source.component for source in spec.sources}
    parts = components(spec) if shared else {}
    files = {file for name in shared & parts.keys() for file in parts[name].published}
    return [s for s in spec.sources if not s.optional and (s.component not in all_parts - lost or files & set(s.files))]


def offers(spec: ModelSpec, only: Sequence[str] = (), commits: Mapping[str, str] | None = None) -> list[Offer]:
    """What a model's publishers have of what it needs now.

    Args:
        only: see ``lacking``.
        commits: of repositories, instead of the newest.

    Raises:
        WeightsError: the hub does not answer, or has not got something; the message says the cure.
    """
    wanted, found = lacking(spec, only), []
    for repository in dict.fromkeys(source.repository for source in wanted):
        sources = [source for source in wanted if source.repository == repository]
        found.append(_offer(spec, repository, (commits or {}).get(repository), sources))
    return found


def _offer(spec: ModelSpec, repository: str, commit: str | None, sources: Sequence[WeightsSource]) -> Offer:
    from huggingface_hub import HfApi

    with _said(repository):
        info = HfApi(endpoint=endpoint()).model_info(repository, revision=commit, files_metadata=True)
    there = {each.rfilename: each for each in info.siblings or ()}
    chosen: dict[str, RemoteFile] = {}
    for source in sources:
        for pattern in source.files:
            paths = [path for path in there if fnmatchcase(path, pattern)]
            if not paths and not _spared(spec, source.component, pattern):
                raise WeightsError(
                    f"{repository} has no {pattern} any more; see what its publisher says at {endpoint()}/{repository}"
                )
            for path in paths:
                one = there[path]
                sha256 = "" if one.lfs is None else one.lfs.sha256
                chosen[path] = RemoteFile(path, int(one.size or 0), sha256, one.blob_id or "")
    text = next((path for path in there if path.upper().startswith("LICEN")), "")
    page = f"{endpoint()}/{repository}"
    card: Any = info.card_data or {}
    url = card.get("license_link") or (f"{page}/blob/main/{text}" if text else page)
    if not str(url).startswith("http"):
        url = f"{page}/blob/main/{url}"
    license = ", ".join(dict.fromkeys(source.license for source in sources))
    return Offer(repository, str(info.sha), tuple(chosen.values()), license, str(url), bool(info.gated))


def _spared(spec: ModelSpec, name: str, pattern: str) -> bool:
    """Whether a part needs a file only where there is one; to know it, torch is imported."""
    part = components(spec).get(name)
    return part is not None and pattern in part.copy_optional


def told(spec: ModelSpec, offered: Sequence[Offer]) -> WeightsOffer:
    """What one must know before anything comes."""
    return WeightsOffer(
        spec.id,
        tuple(
            OfferedRepository(
                *(one.repository, one.revision, len(one.files), one.size, one.license, one.license_url, one.gated),
                notes=tuple(dict.fromkeys(s.note for s in spec.sources if s.repository == one.repository and s.note)),
            )
            for one in offered
        ),
        str(spec.folder.parent),
        _needed(spec, offered),
        _free(spec.folder),
    )


def place(spec: ModelSpec) -> Path:
    """Where files wait until all of them are there."""
    return spec.folder.with_name(f".{spec.folder.name}.fetched")


def fetch(spec: ModelSpec, offered: Sequence[Offer], tell: Progress = lambda what, done, count: None) -> list[Path]:
    """Bring in all files that are not there yet; those that an earlier run began go on where that ended.

    Returns:
        A folder a repository, laid out as it is.

    Raises:
        WeightsError: a cut connection, no room, a file that is not what its publisher has, or no permission. What came
            stays, but for a wrong file.
    """
    if (takes := _needed(spec, offered)) > (free := _free(spec.folder)):
        raise WeightsError(
            f"{spec.folder.parent}: {takes / 1e9:.2f} GB are needed and {free / 1e9:.2f} GB are free; make room on "
            "that disk, or set MAQUETTE_WEIGHTS to a folder on another"
        )
    count = sum(offer.size for offer in offered)
    done = 0
    folders = []
    for offer in offered:
        folder = place(spec) / offer.repository.replace("/", "--")
        for file in offer.files:
            path = folder / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            if not (path.is_file() and path.stat().st_size == file.size):
                _fetch_one(offer, file, path, lambda size, before=done: tell("Fetching", before + size, count))
            done += file.size
            tell("Fetching", done, count)
        folders.append(folder)
    return folders


def clear(spec: ModelSpec) -> None:
    """Let go of what was fetched."""
    shutil.rmtree(place(spec), ignore_errors=True)


def _fetch_one(offer: Offer, file: RemoteFile, path: Path, tell: Callable[[int], None]) -> None:
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers, logging

    # Its own tries are its own affair; what comes of them is told below.
    logging.set_verbosity_error()

    # Of another commit, a beginning is of no use.
    part = path.with_name(f"{path.name}.{offer.revision[:8]}{_PART}")
    for old in path.parent.glob(f"{path.name}.*{_PART}"):
        if old != part:
            old.unlink()
    url = hf_hub_url(offer.repository, file.path, revision=offer.revision, endpoint=endpoint())
    with _said(offer.repository), part.open("ab") as stream:
        http_get(
            url,
            stream,
            resume_size=stream.tell(),
            headers=build_hf_headers(library_name="maquette"),
            expected_size=file.size,
            displayed_filename=path.name,
            tqdm_class=_meter(stream.tell(), tell),
        )
    if not _is_right(part, file):
        part.unlink()
        raise WeightsError(
            f"{offer.repository}: {file.path} arrived otherwise than its publisher has it (checksum); it was thrown "
            "away, so try again"
        )
    part.replace(path)


def _meter(begun: int, tell: Callable[[int], None]) -> Any:
    """A progress bar, as the hub's library wants one, that shows nothing and tells bytes."""
    from tqdm import tqdm

    class Meter(tqdm):
        here = begun

        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **{**named, "disable": True})

        def update(self, n: float | None = 1) -> None:
            type(self).here += int(n or 0)
            tell(self.here)

    return Meter


def _is_right(path: Path, file: RemoteFile) -> bool:
    size = path.stat().st_size
    kind = "sha256" if file.sha256 else "sha1"
    found = hashlib.new(kind, b"" if file.sha256 else f"blob {size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            found.update(block)
    wanted = file.sha256 or file.blob
    return size == file.size and (not wanted or found.hexdigest() == wanted)


def _needed(spec: ModelSpec, offered: Sequence[Offer]) -> int:
    """Bytes that are to come, and once more for the model's own files beside them."""
    there = sum(path.stat().st_size for path in place(spec).rglob("*") if path.is_file())
    size = sum(offer.size for offer in offered)
    return max(0, size - there) + size


def _free(folder: Path) -> int:
    return shutil.disk_usage(next(path for path in folder.absolute().parents if path.is_dir())).free


@contextmanager
def _said(repository: str) -> Iterator[None]:
    """What the hub's library raises as one sentence with its cure."""
    import httpx2
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    page = f"{endpoint()}/{repository}"
    again = "try again, and it goes on from there"
    try:
        yield
    except GatedRepoError as error:
        raise WeightsError(
            f"{repository} is given only to those who accept its licence: do so at {page}, log in with 'hf auth "
            "login' on the computer that fetches it, and try again"
        ) from error
    except RepositoryNotFoundError as error:
        raise WeightsError(
            f"{page} is not there, or not for everybody; log in with 'hf auth login' on the computer "
            "that fetches it if you have access to it"
        ) from error
    except EntryNotFoundError as error:
        raise WeightsError(f"{page}: a file is not there any more; try again") from error
    except OfflineModeIsEnabled as error:
        raise WeightsError("HF_HUB_OFFLINE is set, so that nothing may be fetched; unset it first") from error
    except HfHubHTTPError as error:
        code = getattr(error.response, "status_code", "no code")
        raise WeightsError(f"{page} answered with an error ({code}); later {again}") from error
    except (httpx2.HTTPError, ConnectionError) as error:
        raise WeightsError(
            f"the connection to {endpoint()} failed ({error}); what has come stays, so {again}"
        ) from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise WeightsError(f"the disk is full; what has come stays: make room, then {again}") from error
        if error.errno is None:
            # The library's own complaint of a file that came too short or too long.
            raise WeightsError(f"{repository}: a file came incomplete; {again}") from error
        raise
