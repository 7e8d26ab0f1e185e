"""Credentials at the broker. Idempotent: a lost answer is made good by doing it again.

=========  =========================================================================================
`dynsec`   Mosquitto's dynamic security plugin, told through the broker itself
`file`     a credentials file that the broker of `labrelay up` watches
`none`     an operator gives out credentials by hand; whoever asks the hub for some is refused
=========  =========================================================================================

Who may do what is in `hub.broker.rights`.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from hub.broker.rights import Rights
from shared.errors import LabrelayError


class ProvisioningRefused(LabrelayError):
    """The broker (or the settings) do not let the hub hand out credentials."""


@dataclass(frozen=True, slots=True)
class BrokerAccess:
    """What someone signs in to the broker with."""

    username: str
    password: str = field(repr=False)


class Provisioner(Protocol):
    """Hands out credentials and takes them back. What it does may fail with LinkUnavailable or ProvisioningRefused."""

    @property
    def hands_out(self) -> bool:
        """Whether it hands out any."""
        ...

    async def issue(self, username: str, rights: Rights) -> BrokerAccess:
        """New credentials; those that the user had are void."""
        ...

    async def limit(self, username: str, rights: Rights) -> bool:
        """Other rights, with the same password; who is connected is made to connect again.

        Returns: whether the broker knows the user.
        """
        ...

    async def void(self, username: str) -> None:
        """Void the user's credentials and end its connections."""
        ...

    async def standing(self, prefix: str) -> Mapping[str, Rights]:
        """Whom the broker knows, of those whose names begin so, and what they may do."""
        ...


class ByHand:
    """Nobody is given anything."""

    hands_out = False

    async def issue(self, username: str, rights: Rights) -> BrokerAccess:
        """Raises: ProvisioningRefused."""
        raise ProvisioningRefused(
            "this hub does not hand out credentials for the broker", hint="set broker_provisioning to dynsec or file"
        )

    async def limit(self, username: str, rights: Rights) -> bool:
        """Nobody is known."""
        return False

    async def void(self, username: str) -> None:
        """Nothing to take back: who gave the credentials by hand takes them back by hand."""

    async def standing(self, prefix: str) -> Mapping[str, Rights]:
        """Nobody is known."""
        return {}


def new_access(username: str) -> BrokerAccess:
    """Credentials with a random password of 192 bits."""
    return BrokerAccess(username, secrets.token_urlsafe(24))
