"""Processes that make one film together, each on a device of its own (torch.distributed).

All members carry out the same generation step by step, from the same shot and the same noise; where work can be shared
out, each does its share and they exchange the rest. The first member leads: it reports, decodes and writes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

PATIENCE = timedelta(minutes=30)
"""So long a member waits for the others: one may read its weights from a slower disk."""


def shares(length: int, size: int) -> list[int]:
    """``length`` things shared out to ``size`` members: as evenly as it goes, more to the first."""
    return [length // size + (member < length % size) for member in range(size)]


def table_rows(size: int, calls: int, length: int, even: bool = False) -> int:
    """Rows of the table in which ``Group.spread`` has the members.

    Calls shared out exchange nothing until they are done; an axis shared out does, but balances better where calls are
    few. It is taken what lets the busiest member do least, and of equals what exchanges least.
    """
    tables = [rows for rows in range(1, size + 1) if size % rows == 0 and size // rows <= length]
    tables = [rows for rows in tables if not even or length % (size // rows) == 0]
    return min(tables, key=lambda rows: (-(-calls // rows) * -(-length // (size // rows)), -rows))


@dataclass(frozen=True, eq=False)
class Group:
    """The members, as one of them sees them; a group of one does everything itself and exchanges nothing.

    Attributes:
        rank: of this member, from 0. size: how many there are.
        processes: ``torch.distributed``'s group of them; None for one that is alone.
        mesh: of diffusers, for those within (see ``spread``).
    """

    rank: int = 0
    size: int = 1
    processes: Any = None
    mesh: Any = None
    _spread: dict[int, tuple[Group, Group]] = field(default_factory=dict, repr=False)

    @property
    def leads(self) -> bool:
        """Whether this is the first member."""
        return self.rank == 0

    def any(self, flag: bool) -> bool:
        """Whether it is true of any member; all have to ask."""
        if self.size == 1:
            return flag
        told = torch.tensor([int(flag)])
        dist.all_reduce(told, dist.ReduceOp.MAX, group=self.processes)
        return bool(told.item())

    @contextmanager
    def agreement(self, stopped: type[Exception]) -> Iterator[None]:
        """A piece of work that each member does for itself: what one fails at, ends it for all.

        Raises:
            stopped: another member has failed.
        """
        try:
            yield
        except BaseException:
            self.any(True)
            raise
        if self.any(False):
            raise stopped

    def exchange(self, x: Tensor, split: int, join: int, joined: Sequence[int]) -> Tensor:
        """From parts of one axis to parts of another (all-to-all): a member keeps ``1 / size`` of what it had.

        Args:
            x: whole along ``split``, of which each member is to have its share (see ``shares``); this member's part
                along ``join``, which is to be whole.
            joined: length of each member's part along ``join``.
        """
        if self.size == 1:
            return x
        pieces = x.split(shares(x.shape[split], self.size), split)
        shape, shapes = list(x.shape), []
        shape[split] = pieces[self.rank].shape[split]
        for shape[join] in joined:
            shapes.append(tuple(shape))
        sent = torch.cat([piece.reshape(-1) for piece in pieces])
        sizes = [torch.Size(shape).numel() for shape in shapes]
        got = x.new_empty(sum(sizes))
        dist.all_to_all_single(got, sent, sizes, [piece.numel() for piece in pieces], group=self.processes)
        return torch.cat([part.view(shape) for part, shape in zip(got.split(sizes), shapes, strict=True)], join)

    def together(self, calls: Sequence[Callable[[], Tensor]], like: Tensor) -> list[Tensor]:
        """What the calls give, which the members share out in turn; all are given all.

        Args:
            like: of the shape, type and device of what each gives.
        """
        if self.size == 1:
            return [call() for call in calls]
        given = [call() if self._makes(place) else torch.empty_like(like) for place, call in enumerate(calls)]
        for place, answer in enumerate(given):
            given[place] = answer.contiguous()
            dist.broadcast(given[place], group=self.processes, group_src=place % self.size)
        return given

    def mine(self, count: int) -> list[int]:
        """Which of ``count`` calls this member makes."""
        return [place for place in range(count) if self._makes(place)]

    def _makes(self, place: int) -> bool:
        return place % self.size == self.rank

    def spread(self, calls: int, length: int, even: bool = False) -> tuple[Group, Group]:
        """The members in a table: calls are shared out to its rows, each call's axis of ``length`` within a row.

        Args:
            even: the members of a row must be able to share the axis out evenly.

        Returns:
            The members of this one's column (see ``together``), and of its row.
        """
        if self.size == 1:
            return self, self
        rows = table_rows(self.size, calls, length, even)
        if rows not in self._spread:
            self._spread[rows] = self._table(rows)
        return self._spread[rows]

    def _table(self, rows: int) -> tuple[Group, Group]:
        # On the CPU as far as the mesh is concerned: the processes' devices are chosen, and the groups have both.
        numbers = torch.arange(self.size).view(rows, 1, self.size // rows)
        mesh = dist.device_mesh.DeviceMesh("cpu", numbers, mesh_dim_names=("calls", "ring", "ulysses"))
        return _of(mesh.get_group("calls")), _of(mesh.get_group("ulysses"), mesh["ring", "ulysses"])


ALONE = Group()
_joined: list[Group] = []


@dataclass(frozen=True, eq=False)
class Part:
    """What one member of a group has of an axis.

    Attributes:
        length: of the whole axis.
    """

    group: Group
    length: int

    @property
    def counts(self) -> list[int]:
        """Of all members."""
        return shares(self.length, self.group.size)

    @property
    def place(self) -> slice:
        """Where it lies."""
        start = sum(self.counts[: self.group.rank])
        return slice(start, start + self.counts[self.group.rank])

    def whole(self, x: Tensor, dim: int) -> Tensor:
        """The whole axis of which ``x`` has this part, for every member."""
        if self.group.size == 1:
            return x
        parts, shape = [], list(x.shape)
        for member, shape[dim] in enumerate(self.counts):
            parts.append(x.contiguous() if member == self.group.rank else x.new_empty(shape))
            dist.broadcast(parts[-1], group=self.group.processes, group_src=member)
        return torch.cat(parts, dim)


def join(rank: int, size: int, store: str, patience: timedelta = PATIENCE) -> None:
    """Become a member of the group to which the processes of one film belong; ends when all have come.

    Args:
        store: where they find each other: ``file:///...``, or ``env://`` as torchrun says it.

    Raises:
        RuntimeError: they did not.
    """
    dist.init_process_group(init_method=store, rank=rank, world_size=size, timeout=patience)
    _joined.append(_of(dist.group.WORLD))


def join_torchrun() -> str | None:
    """Become a member where ``torchrun`` has started several processes; gives the GPU of this one, if there are any."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not _joined:
        join(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), "env://")
    return f"cuda:{os.environ['LOCAL_RANK']}" if here().size > 1 and torch.cuda.is_available() else None


def here() -> Group:
    """The group that this process has joined; training has groups of its own."""
    return _joined[0] if _joined else ALONE


def _of(processes: Any, mesh: Any = None) -> Group:
    return Group(dist.get_rank(processes), dist.get_world_size(processes), processes, mesh)
