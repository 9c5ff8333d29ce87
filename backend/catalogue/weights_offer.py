"""What fetching a model's weights would bring, told before anybody agrees to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from .reader import CatalogueError, build

_GB = 1e9


@dataclass(frozen=True)
class OfferedRepository:
    """What would come from one publisher.

    Attributes:
        repository: ``owner/name``.
        commit: whose files these are: what is agreed to is what comes.
        files, bytes: how much of it is needed.
        license: of these files, as the model's description says.
        license_url: where its text is.
        gated: whether the publisher asks for an account and for consent first.
        notes: what else one must know.
    """

    repository: str
    commit: str
    files: int
    bytes: int
    license: str
    license_url: str
    gated: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class WeightsOffer:
    """All that would come for one model.

    Attributes:
        model: its id.
        folder: where it would go, on the computer that fetches.
        needed: bytes that the disk there must have free on the way.
        free: bytes that it has.
    """

    model: str
    repositories: tuple[OfferedRepository, ...]
    folder: str
    needed: int
    free: int

    @property
    def commits(self) -> dict[str, str]:
        """The commit of each repository."""
        return {one.repository: one.commit for one in self.repositories}

    @property
    def lack(self) -> str:
        """What is said where the disk has not the room; empty where it has."""
        short = self.needed - self.free
        return f"Not enough room: free {short / _GB:.2f} GB more first" if short > 0 else ""

    def facts(self) -> list[str]:
        """What one must know before anything comes, a line each."""
        lines = []
        for one in self.repositories:
            gate = "; its publisher wants an account and consent first" if one.gated else ""
            lines.append(f"{one.repository}: {one.files} files, {one.bytes / _GB:.2f} GB{gate}")
            lines.append(f"  licence: {one.license}; its text: {one.license_url}")
            lines += [f"  {note}" for note in one.notes]
        lines.append(
            f"In all {sum(one.bytes for one in self.repositories) / _GB:.2f} GB; {self.needed / _GB:.2f} GB are needed "
            f"in {self.folder} on the way, {self.free / _GB:.2f} GB are free there"
        )
        return lines

    def to_json(self) -> dict[str, Any]:
        """As it goes over the wire."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """An offer from its JSON. Raises CatalogueError that names the entry at fault."""
        if not isinstance(data, Mapping):
            raise CatalogueError("what would come is not told as an object; update the backend")
        return build(cls, data, "offer: ", tolerant=True)
