"""Turn what people type as a backend's address into one form."""

from __future__ import annotations

import ipaddress
import re

from ..wire import DEFAULT_PORT

_EXAMPLE = "type a host name or an address, such as 127.0.0.1:8188 or render-box:8188"
_SCHEME = re.compile(r"^([a-z][a-z0-9+.-]*)\s*:\s*/+|^(https?)\s*/{2,}|^/{2,}", re.IGNORECASE)
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")


class AddressError(ValueError):
    """An address that cannot be used; the message says why and what to type instead."""


def normalise_address(text: str) -> str:
    """The address as ``scheme://host:port``, without a path.

    Accepts an address with or without scheme, port, trailing slash or path, IPv6 with or without brackets, a port
    alone (this computer), stray spaces and quotes. The port defaults to 8188, and to 443 after ``https://``. The
    any-address (0.0.0.0 or ::), which a server listens on but nobody can call, becomes this computer's.

    Raises:
        AddressError: the text names no usable host or port.
    """
    cleaned = text.strip().strip("\"'<>").strip().replace("\\", "/")
    if not cleaned:
        raise AddressError(f"The backend address is empty: {_EXAMPLE}.")
    scheme, rest = "http", cleaned
    while match := _SCHEME.match(rest):
        scheme = (match[1] or match[2] or scheme).lower()
        rest = rest[match.end() :]
    if scheme not in ("http", "https"):
        raise AddressError(
            f"The backend address '{text}' starts with {scheme}://: only http:// and https:// are spoken."
        )
    rest = re.split(r"[/?#]", rest, maxsplit=1)[0].strip()
    if "@" in rest:
        raise AddressError(
            f"The backend address '{text}' holds a user name: leave it out, the token has its own field."
        )
    host, port = _split(rest, text)
    if port is None:
        number = 443 if scheme == "https" else DEFAULT_PORT
    elif not (port.isascii() and port.isdigit()) or not 1 <= int(port[:6]) <= 65535:
        raise AddressError(f"The backend address '{text}' has the port '{port}': a port is a number from 1 to 65535.")
    else:
        number = int(port)
    if not host and port is not None:
        host = "127.0.0.1"
    return f"{scheme}://{_host(host, text)}:{number}"


def is_loopback(address: str) -> bool:
    """Whether a normalised address is this computer's own, so that nothing leaves it."""
    host = split_host(address)
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def split_host(address: str) -> str:
    """The host of a normalised address, without brackets or zone."""
    host = address.split("://", 1)[1].rsplit(":", 1)[0]
    return host.strip("[]").split("%", 1)[0]


def _split(rest: str, text: str) -> tuple[str, str | None]:
    """Host and port as typed; the host of IPv6 without brackets."""
    if rest.startswith("["):
        host, bracket, tail = rest[1:].partition("]")
        tail = tail.strip()
        if not bracket or (tail and not tail.startswith(":")):
            raise AddressError(f"The backend address '{text}' has an unclosed bracket: write IPv6 as [::1]:8188.")
        return host.strip(), tail[1:].strip() or None
    if rest.count(":") > 1:
        # Without brackets the last group cannot be told from a port: all of it is the address.
        return rest, None
    host, _, port = (part.strip() for part in rest.partition(":"))
    if host.isascii() and host.isdigit() and not port:
        return "", host
    return host, port or None


def _host(host: str, text: str) -> str:
    wrong = AddressError(f"The backend address '{text}' names no computer: {_EXAMPLE}.")
    if ":" in host:
        address, _, zone = host.partition("%")
        zone = zone.removeprefix("25")
        try:
            ip = ipaddress.IPv6Address(address)
        except ValueError:
            raise wrong from None
        if not re.fullmatch(r"[A-Za-z0-9._~-]*", zone):
            raise wrong
        if ip.is_unspecified:
            return "[::1]"
        return f"[{ip.compressed}%25{zone}]" if zone else f"[{ip.compressed}]"
    try:
        name = host.rstrip(".").encode("idna").decode("ascii").lower()
    except UnicodeError:
        raise wrong from None
    if re.fullmatch(r"[0-9.]+", name):
        try:
            ip4 = ipaddress.IPv4Address(name)
        except ValueError:
            raise wrong from None
        return "127.0.0.1" if ip4.is_unspecified else str(ip4)
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise wrong
    return name
