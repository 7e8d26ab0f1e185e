"""Where webhooks may be sent: only to addresses that are public, or that the operator allows.

A name is looked up once a delivery; each address it has is checked, and the connection goes to one that was checked, so
that a name which changes in between (DNS rebinding) gains nothing. An IPv6 address that carries an IPv4 one (mapped,
NAT64, 6to4) counts as that.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias
from urllib.parse import urlsplit

from shared.errors import LabrelayError

URL_LENGTH_MAX = 2000
ADDRESSES_MAX = 8
"""Of one name; further ones are not looked at and not used."""
LOOKUPS_CONCURRENT = 32

Address: TypeAlias = IPv4Address | IPv6Address
Lookup: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a host. Raises: OSError."""

_NAT64 = IPv6Network("64:ff9b::/96")
_DEFAULT_PORTS = {"http": 80, "https": 443}


class TargetRefused(LabrelayError):
    """A webhook may not be sent there."""


@dataclass(frozen=True, slots=True)
class Target:
    """A URL taken apart.

    Attributes:
        path: with its query.
    """

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """Host and port as the header `Host` has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def url_at(self, address: Address) -> str:
        """The URL with this address in place of the host."""
        host = f"[{address}]" if isinstance(address, IPv6Address) else str(address)
        return f"{self.scheme}://{host}:{self.port}{self.path}"


def parse(url: str) -> Target:
    """Take a URL apart. Raises: TargetRefused, with the reason."""
    if len(url) > URL_LENGTH_MAX:
        raise TargetRefused(f"is longer than {URL_LENGTH_MAX} characters")
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise TargetRefused("must be plain ASCII without blanks; write other characters in percent or punycode")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise TargetRefused(f"is no URL: {error}") from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise TargetRefused("must begin with http:// or https://")
    if parts.username is not None or parts.password is not None:
        raise TargetRefused("must not hold a user name or password")
    if not parts.hostname or "%" in parts.hostname or port == 0:
        raise TargetRefused("must name a host")
    path = parts.path or "/"
    return Target(
        parts.scheme,
        parts.hostname,
        _DEFAULT_PORTS[parts.scheme] if port is None else port,
        f"{path}?{parts.query}" if parts.query else path,
    )


class Guard:
    """Says which addresses of a target may be used.

    Args:
        allowed_networks: that may be used although they are not public.
    """

    def __init__(self, allowed_networks: Sequence[str] = (), *, lookup: Lookup | None = None) -> None:
        self._allowed = tuple(ip_network(one) for one in allowed_networks)
        self._lookup = lookup or Resolver().lookup

    async def addresses(self, target: Target) -> list[Address]:
        """The target's addresses, each of them checked.

        Raises: TargetRefused when any of them may not be used; OSError when there is none.
        """
        found = await self._lookup(target.host, target.port)
        addresses = [ip_address(text) for text in dict.fromkeys(found)][:ADDRESSES_MAX]
        if not addresses:
            raise OSError(f"{target.host} has no address")
        for address in addresses:
            if not self.may_use(address):
                raise TargetRefused(f"{target.host} is not a public address", hint="webhook_allowed_networks allows it")
        return addresses

    def may_use(self, address: Address) -> bool:
        """Whether a connection may go there."""
        meant = carried(address) or address
        if any(address in network or meant in network for network in self._allowed):
            return True
        return is_public(meant)


def carried(address: Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 one stands for, None if it stands for itself."""
    if isinstance(address, IPv4Address):
        return None
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour


def is_public(address: Address) -> bool:
    """Whether an address is for anyone on the Internet, and for one of them only."""
    if isinstance(address, IPv6Address) and (address.teredo or address.is_site_local or address.scope_id):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


class Resolver:
    """Looks names up on threads of its own, so that a slow name server holds up nothing else."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(LOOKUPS_CONCURRENT, thread_name_prefix="webhook-lookup")

    async def lookup(self, host: str, port: int) -> list[str]:
        """See `Lookup`. Cancelled, it leaves its thread to the name server's own timeout."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, _look_up, host, port)


def _look_up(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # a label that is empty or too long
        raise OSError(f"{host} is no name: {error}") from error
    return [str(one[4][0]) for one in found]
