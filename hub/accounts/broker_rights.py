"""Keeps what members may read at the broker as their memberships are.

Every few seconds the rights that credentials ought to have are compared with those that the broker was last seen or
made to have, and every minute, and after each connection to it, with the broker itself. So it matters neither who
changed a membership, a project or a user, nor which hub or broker was away meanwhile; doing it twice changes nothing.
Whoever makes credentials does it under a shared lock, so that nothing half made is taken for something left over.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Protocol

from hub.accounts import broker_credentials as store
from hub.broker.provision import Provisioner, ProvisioningRefused
from hub.broker.rights import MEMBER_PREFIX, Rights, of_member
from hub.database.pool import Connection, transaction
from hub.database.storage import Storage
from hub.telemetry.moments import to_datetime
from shared.clock import Clock
from shared.errors import LinkUnavailable

COMPARE_S = 60.0
"""How often the broker is asked what it has."""
TURN_S = 20.0
"""What could not be changed within this time is left for the next turn."""

log = logging.getLogger(__name__)


class Link(Protocol):
    """The broker link, as far as it is needed here."""

    def on_connected(self, callback: Callable[[], None]) -> None:
        """Call after each connection."""
        ...


class MemberRights:
    """Follows memberships."""

    def __init__(self, storage: Storage, provisioner: Provisioner, link: Link, clock: Clock) -> None:
        self._storage = storage
        self._provisioner = provisioner
        self._clock = clock
        self._standing: dict[str, Rights] = {}
        self._lost: set[str] = set()
        self._compared_s: float | None = None
        self._waiting = False
        link.on_connected(self.compare)

    def compare(self) -> None:
        """Ask the broker what it has, the next time."""
        self._compared_s = None

    async def once(self) -> None:
        """Change what differs. Raises: StorageUnavailable."""
        if not self._provisioner.hands_out:
            return
        try:
            async with transaction(self._storage.pool) as connection:
                await store.following(connection)
                await self._follow(connection)
        except (LinkUnavailable, ProvisioningRefused) as error:
            if not self._waiting:
                log.warning("event=broker_rights_wait reason=%r", error.message)
            self._waiting = True
            self.compare()
        else:
            self._waiting = False

    async def void(self, username: str) -> None:
        """Void credentials that were revoked, now if the broker is there, else soon."""
        try:
            await self._provisioner.void(username)
        except (LinkUnavailable, ProvisioningRefused) as error:
            log.info("event=broker_credential_not_voided username=%s reason=%r", username, error.message)
            self.compare()

    async def _follow(self, connection: Connection) -> None:
        now_s = self._clock.monotonic_s()
        wanted = {name: of_member(projects) for name, projects in (await store.wanted(connection)).items()}
        if self._compared_s is None or now_s - self._compared_s >= COMPARE_S:
            self._standing = dict(await self._provisioner.standing(MEMBER_PREFIX))
            self._lost = set()
            self._compared_s = now_s
        await self._apply(wanted, until_s=now_s + TURN_S)
        await store.note_lost(connection, self._lost, to_datetime(self._clock.now_us()))

    async def _apply(self, wanted: Mapping[str, Rights], *, until_s: float) -> None:
        for username in self._standing.keys() - wanted.keys():
            if self._clock.monotonic_s() >= until_s:
                return
            await self._provisioner.void(username)
            del self._standing[username]
        for username, rights in wanted.items():
            if self._standing.get(username) == rights or username in self._lost:
                continue
            if self._clock.monotonic_s() >= until_s:
                return
            if await self._provisioner.limit(username, rights):
                self._standing[username] = rights
            else:
                log.warning("event=broker_credential_lost username=%s", username)
                self._lost.add(username)
