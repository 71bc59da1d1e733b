"""Which addresses a restricted workflow may reach, and how a host name becomes one, once."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass

from flowbuilder.errors import AuthorizationError, TaskFailedError

__all__ = ["ResolvedHost", "is_public", "resolve_public"]

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class ResolvedHost:
    """A host and the public addresses it had when it was looked up.

    Parameters
    ----------
    host : str
        As in the URL.
    addresses : tuple of str
        In the order of preference; never empty.
    """

    host: str
    addresses: tuple[str, ...]


def is_public(text: str) -> bool:
    """Whether an address belongs to the public internet.

    Parameters
    ----------
    text : str
        IPv4 or IPv6 address. Addresses that wrap an IPv4 one (mapped, 6to4, Teredo, NAT64) are
        judged by that.
    """
    try:
        address: _Address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        return all(map(_is_global, _wrapped(address) or [address]))
    return _is_global(address)


def _is_global(address: _Address) -> bool:
    return address.is_global and not (
        address.is_multicast or address.is_reserved or address.is_unspecified
    )


def _wrapped(address: ipaddress.IPv6Address) -> list[_Address]:
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    if address.sixtofour is not None:
        return [address.sixtofour]
    if address.teredo is not None:
        return list(address.teredo)
    if address in _NAT64:
        return [ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)]
    if int(address) >> 32 == 0:  # ::a.b.c.d, the old compatible form
        return [ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)]
    return []


async def resolve_public(host: str, port: int) -> ResolvedHost:
    """Look a host up and refuse it unless every address it has is public.

    Parameters
    ----------
    host : str
        Name or address in any notation the system understands (decimal, octal and hexadecimal ones
        too).
    port : int
        TCP port.

    Returns
    -------
    ResolvedHost
        What to connect to; looking the name up again could give something else.

    Raises
    ------
    AuthorizationError
        If one address is private, loopback, link-local or otherwise not public.
    TaskFailedError
        If the name does not exist.
    """
    import asyncio

    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise TaskFailedError(f"the host {host!r} was not found: {error}") from error
    addresses = tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
    private = [address for address in addresses if not is_public(address)]
    if private or not addresses:
        raise AuthorizationError(
            f"the host {host!r} has the address {', '.join(private) or 'none'}, which is not "
            "public",
            hint="the restricted policy allows public addresses only",
        )
    return ResolvedHost(host, addresses)
