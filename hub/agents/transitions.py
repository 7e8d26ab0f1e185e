"""Tells when an agent comes, goes, or runs twice: `agent.online`, `agent.offline`, `agent.conflict`.

What was told last stands in the agent's row and changes in the transaction of the event, so that several hubs, which
hear the same, tell it once, and a restarted one does not tell it again. A hub speaks of what it has heard itself, and
of silence only when it would have heard: its broker was there all the while, and no other hub has heard the agent
either (`last_seen`).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from hub.agents.presence import SILENT_S, WRITE_EVERY_S, Presence, PresenceBook
from hub.database.pool import Connection, acquire
from hub.database.storage import Storage
from hub.events.change import begin_change
from hub.events.event import HUB, NewEvent, PublicEvent, SubjectType
from hub.telemetry.moments import to_datetime
from shared.clock import Clock

AGENTS_A_TURN_MAX = 500
LOOK_AGAIN_S = 30.0
"""How often the agents that nobody has heard of are looked for."""

_TELL = """
    update agents a
    set connection = w.connection, connection_since = $3
    from (
        select b.id, b.connection as was, n.connection from agents b
        join unnest($1::uuid[], $2::text[]) as n (id, connection) on n.id = b.id
        where b.status = 'enrolled' and b.connection <> n.connection
          and (n.connection <> 'offline' or b.last_seen is null or b.last_seen <= $4 or b.id = any($5::uuid[]))
        order by b.id
        for no key update of b
    ) w
    where a.id = w.id
    returning a.id, a.project_id, a.name, a.last_seen, a.connection, w.was
"""
_STANDING = "select id, connection from agents where id = any($1::uuid[]) and status = 'enrolled'"
_TOLD_ONLINE = "select id from agents where connection <> 'offline' and status = 'enrolled' order by id limit $1"


class AgentConnection(StrEnum):
    """How an agent is."""

    ONLINE = "online"
    OFFLINE = "offline"
    CONFLICT = "conflict"


_EVENTS = {
    AgentConnection.ONLINE: PublicEvent.AGENT_ONLINE,
    AgentConnection.OFFLINE: PublicEvent.AGENT_OFFLINE,
    AgentConnection.CONFLICT: PublicEvent.AGENT_CONFLICT,
}


class Broker(Protocol):
    """Where agents are heard (`hub.broker.link.BrokerLink`)."""

    @property
    def connected(self) -> bool: ...


class Transitions:
    """Compares what is heard with what was told."""

    def __init__(self, storage: Storage, book: PresenceBook, broker: Broker, clock: Clock) -> None:
        self._storage = storage
        self._book = book
        self._broker = broker
        self._clock = clock
        self._told: dict[UUID, AgentConnection] = {}
        self._listening_since_s: float | None = None
        self._looked_s: float | None = None

    async def once(self) -> None:
        """Tell what has changed since. Raises: StorageUnavailable."""
        now_s = self._clock.monotonic_s()
        if not self._broker.connected:
            self._listening_since_s = None
            return
        if self._listening_since_s is None:
            self._listening_since_s = now_s
            self._told.clear()
        heard = {agent_id: told for agent_id, one in self._book.all().items() if (told := self._of(one, now_s))}
        changed = {one: how for one, how in heard.items() if self._told.get(one) is not how}
        if self._would_have_heard(now_s) and (self._looked_s is None or now_s - self._looked_s >= LOOK_AGAIN_S):
            self._looked_s = now_s
            self._told.clear()  # what this hub believes is compared with the database anew
            changed |= dict.fromkeys(await self._unheard(), AgentConnection.OFFLINE)
        turn = dict(sorted(changed.items())[:AGENTS_A_TURN_MAX])
        if turn:
            self._told |= turn | await self._tell(turn)

    def _of(self, presence: Presence, now_s: float) -> AgentConnection | None:
        """How an agent is, None while that cannot be known."""
        if presence.conflict and presence.online:
            return AgentConnection.CONFLICT
        if presence.online:
            return AgentConnection.ONLINE if presence.fresh else None
        return AgentConnection.OFFLINE if presence.said_goodbye or self._would_have_heard(now_s) else None

    def _would_have_heard(self, now_s: float) -> bool:
        since_s = self._listening_since_s
        return since_s is not None and now_s - since_s >= SILENT_S

    async def _unheard(self) -> list[UUID]:
        """Agents that were told to be online, and of which this hub has heard nothing."""
        async with acquire(self._storage.pool) as connection:
            rows = await connection.fetch(_TOLD_ONLINE, 10 * AGENTS_A_TURN_MAX)
        return [row["id"] for row in rows if self._book.of(row["id"]) is None]

    async def _tell(self, turn: dict[UUID, AgentConnection]) -> dict[UUID, AgentConnection]:
        """Write down what has changed. Returns: what stands now; another hub may know better."""
        now = self._now()
        said = [one for one in turn if (presence := self._book.of(one)) is not None and presence.said_goodbye]
        silent_since = now - timedelta(seconds=SILENT_S - WRITE_EVERY_S)
        async with begin_change(self._storage.pool, HUB, now) as change:
            for event in await _told(change.connection, turn, now, silent_since, said):
                change.record(event)
            standing = await change.connection.fetch(_STANDING, list(turn))
        return {row["id"]: AgentConnection(row["connection"]) for row in standing}

    def _now(self) -> datetime:
        return to_datetime(self._clock.now_us())


async def _told(
    connection: Connection,
    turn: dict[UUID, AgentConnection],
    now: datetime,
    silent_since: datetime,
    said_goodbye: list[UUID],
) -> list[NewEvent]:
    rows = await connection.fetch(_TELL, list(turn), list(turn.values()), now, silent_since, said_goodbye)
    return [
        NewEvent(
            _EVENTS[AgentConnection(row["connection"])],
            SubjectType.AGENT,
            row["id"],
            row["project_id"],
            {
                "agent_id": str(row["id"]),
                "name": row["name"],
                "connection": row["connection"],
                "was": row["was"],
                "last_seen": row["last_seen"].isoformat().replace("+00:00", "Z") if row["last_seen"] else None,
            },
        )
        for row in rows
    ]
