"""Talk to a backend, follow its jobs, start a local one (requests and the standard library only)."""

from .address import AddressError, is_loopback, normalise_address
from .api import BackendClient
from .errors import BackendError
from .follow import Follower, FollowSpec, Report
from .local import LocalBackend, LocalStatus
