"""Revoking agents: how much longer one that was revoked may deliver, and the end of its credentials.

==============  ====================================================================================================
`retired`       may still deliver what it holds, with its credentials, until it says that all of it was acknowledged
                or a grace period is over; it is told no new configuration
`compromised`   is refused at once
==============  ====================================================================================================

What is refused is decided in the database (`refused_since`), in the transaction that says so, so ingest takes nothing
that was not committed before. The broker is told after that, and again until it has answered (`voided_at`), whatever
becomes of broker or hub in between.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from uuid import UUID

from hub.agents import revocation_store as store
from hub.agents.configure import Link
from hub.agents.presence import Presence, PresenceBook
from hub.broker import rights
from hub.broker.provision import Provisioner, ProvisioningRefused
from hub.database.pool import acquire, transaction
from hub.database.storage import Storage
from hub.events.change import begin_change
from hub.events.event import HUB, NewEvent, SubjectType
from hub.telemetry.moments import to_datetime, to_us
from shared import topics
from shared.clock import Clock
from shared.errors import LinkUnavailable

AGENTS_A_TURN_MAX = 200
SETTLE_US = 2_000_000
"""What an agent says of its backlog counts when it was heard so long after it was retired."""

log = logging.getLogger(__name__)


class Revocations:
    """Ends what revoked agents may still do.

    Args:
        grace_h: how long a retired agent may take to deliver.
    """

    def __init__(
        self,
        storage: Storage,
        presence: PresenceBook,
        provisioner: Provisioner,
        link: Link,
        clock: Clock,
        *,
        grace_h: float,
    ) -> None:
        self._storage = storage
        self._presence = presence
        self._provisioner = provisioner
        self._link = link
        self._clock = clock
        self._grace = timedelta(hours=grace_h)
        self._waiting = False

    def ends_at(self, revoked_at: datetime) -> datetime:
        """Until when an agent that was retired then may deliver."""
        return revoked_at + self._grace

    async def once(self) -> None:
        """Refuse who has delivered or had the time to, and void credentials. Raises: StorageUnavailable."""
        await self._end_deliveries()
        async with acquire(self._storage.pool) as connection:
            waiting = await store.to_void(connection, AGENTS_A_TURN_MAX)
        for agent_id in waiting:
            if not await self.void(agent_id):
                break

    async def void(self, agent_id: UUID) -> bool:
        """Void the credentials of an agent that is refused, and end its connection.

        Returns: whether that is settled; else it is tried again from time to time. Raises: StorageUnavailable.
        """
        if not self._provisioner.hands_out:
            return False  # whoever gave the credentials takes them back
        try:
            async with transaction(self._storage.pool) as connection:
                if await store.lock_to_void(connection, agent_id):
                    await self._provisioner.void(rights.agent_username(agent_id))
                    await self._clear(agent_id)
                    await store.voided(connection, agent_id, self._now())
        except (LinkUnavailable, ProvisioningRefused) as error:
            if not self._waiting:
                log.warning("event=credentials_not_voided agent_id=%s reason=%r", agent_id, error.message)
            self._waiting = True
            return False
        self._waiting = False
        return True

    async def _clear(self, agent_id: UUID) -> None:
        """Let the broker forget what it keeps for the agent."""
        try:
            await self._link.publish(topics.down(agent_id, "config"), b"", qos=1, retain=True)
        except LinkUnavailable:  # with a credentials file; nobody may read it any more
            log.info("event=configuration_kept agent_id=%s", agent_id)

    async def _end_deliveries(self) -> None:
        after = UUID(int=0)
        while True:
            async with acquire(self._storage.pool) as connection:
                rows = await store.delivering(connection, after, AGENTS_A_TURN_MAX)
            for row in rows:
                why = self._why_over(row["id"], row["revoked_at"])
                if why:
                    await self._refuse(row["id"], row["project_id"], row["name"], why)
            if len(rows) < AGENTS_A_TURN_MAX:
                return
            after = rows[-1]["id"]

    def _why_over(self, agent_id: UUID, revoked_at: datetime) -> str:
        """Why a retired agent has nothing more to deliver; empty while it may."""
        presence = self._presence.of(agent_id)
        if presence is not None and has_delivered(presence, to_us(revoked_at)):
            return "delivered"
        return "grace_over" if self._now() >= self.ends_at(revoked_at) else ""

    async def _refuse(self, agent_id: UUID, project_id: UUID, name: str, why: str) -> None:
        async with begin_change(self._storage.pool, HUB, self._now()) as change:
            if await store.refuse(change.connection, agent_id, change.now):
                told = {"agent_id": str(agent_id), "name": name, "reason": why}
                change.record(NewEvent("agent.delivery_ended", SubjectType.AGENT, agent_id, project_id, told))

    def _now(self) -> datetime:
        return to_datetime(self._clock.now_us())


def has_delivered(presence: Presence, revoked_us: int) -> bool:
    """Whether an agent says that all it held when it was retired was acknowledged.

    Only one that is online can: a last will knows no backlog. What it has taken since does not count, where its clock
    was measured against the hub's.
    """
    if not (presence.online and presence.fresh) or presence.seen_us < revoked_us + SETTLE_US:
        return False
    state, spool = presence.state, presence.state.spool
    if spool.pending_batches == 0:
        return True
    measured = state.clock_uncertainty_us >= 0 and spool.oldest_us > 0
    return measured and spool.oldest_us + state.clock_offset_us - state.clock_uncertainty_us > revoked_us
