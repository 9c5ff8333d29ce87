"""What can go wrong between Blender and a backend, in words that an animator can act on."""

from __future__ import annotations

import errno

from ..wire import JobError


class BackendError(Exception):
    """A request that failed.

    Attributes:
        code: short and stable, for programs: a ``wire.Code``, or from this side ``bad_address``, ``unreachable``,
            ``timeout``, ``tls``, ``not_maquette``, ``interrupted``, ``disk_full``, ``cannot_write``...
        message: one or two sentences that say what is wrong and what to do.
        field: the part of the shot at fault, when the backend named one.
    """

    def __init__(self, code: str, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field

    @property
    def transient(self) -> bool:
        """Whether the same request may work a little later, a restarting server for instance."""
        return self.code in ("unreachable", "timeout", "interrupted", "stopping")

    @property
    def told(self) -> JobError:
        """As in a job's ``error``."""
        return JobError(str(self.code), self.message, self.field)


def writing_failed(error: OSError, path: object) -> BackendError:
    """A file of this computer that cannot be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return BackendError(
            "disk_full",
            f"The disk is full, so {path} could not be written. Free some space and fetch the result again; "
            "the backend still has it.",
        )
    return BackendError(
        "cannot_write",
        f"{path} could not be written ({error.strerror or error}). Choose another folder in the preferences and fetch "
        "the result again; the backend still has it.",
    )
