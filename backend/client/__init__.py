"""Talk to a backend, follow its jobs, start a local one (numpy, requests and the standard library only)."""

from .address import DEFAULT_PORT, AddressError, is_loopback, normalise_address
from .api import WIRE_VERSION, BackendClient
from .errors import BackendError
from .follow import Follower, FollowSpec
from .local import LocalBackend, LocalStatus

__all__ = [
    "DEFAULT_PORT",
    "WIRE_VERSION",
    "AddressError",
    "BackendClient",
    "BackendError",
    "FollowSpec",
    "Follower",
    "LocalBackend",
    "LocalStatus",
    "is_loopback",
    "normalise_address",
]
