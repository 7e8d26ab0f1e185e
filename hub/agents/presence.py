"""Which agents are there: their state lane, kept in memory and written down now and then.

An agent is online while it reports so. Offline is debounced: a last will counts only when nothing follows within
`agent_offline_after_s`, and silence after `SILENT_S`. A process that speaks again after another one of the same agent
has taken over means that two of them run at once (a cloned disk, a copied folder): the agent is in conflict.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

import msgspec

from hub.broker.lanes import UpMessage
from hub.database.pool import Pool, transaction
from hub.settings import HubSettings
from shared import messages
from shared.clock import Clock
from shared.errors import StorageUnavailable, WireError
from shared.messages import State

SILENT_S = 60.0
CONFLICT_S = 60.0
WRITE_EVERY_S = 5.0
INSTANCES_MAX = 64
AGENTS_MAX = 50_000

log = logging.getLogger(__name__)

_WRITE = """
update agents a
set state = w.state, last_seen = greatest(a.last_seen, to_timestamp(w.seen_s))
from unnest($1::uuid[], $2::jsonb[], $3::double precision[]) as w (id, state, seen_s)
where a.id = w.id
"""


@dataclass(slots=True)
class _Agent:
    state: State
    heard_s: float
    seen_us: int
    offline_since_s: float | None = None
    fresh: bool = False
    superseded: list[str] = field(default_factory=list)
    conflict_until_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Presence:
    """How an agent is, as far as this hub has heard.

    Attributes:
        conflict: two processes of this agent run at once.
        seen_us: when it was last heard, by the hub's clock.
        fresh: it was heard itself, not only what the broker had kept of it.
        said_goodbye: it is offline because it, or its will, said so; else because it is silent.
    """

    online: bool
    conflict: bool
    seen_us: int
    state: State
    fresh: bool = True
    said_goodbye: bool = False


class PresenceBook:
    """Takes messages of the state lane."""

    def __init__(self, settings: HubSettings, clock: Clock) -> None:
        self._offline_after_s = settings.agent_offline_after_s
        self._clock = clock
        self._agents: dict[UUID, _Agent] = {}
        self._unwritten: set[UUID] = set()
        self.garbage = 0
        """Messages that could not be read."""

    async def receive(self, message: UpMessage) -> None:
        """Take note of a state."""
        try:
            state = messages.decode(message.payload, State)
        except WireError:
            self.garbage += 1
            return
        self.note(message.agent_id, state, retained=message.retain)

    def note(self, agent_id: UUID, state: State, *, retained: bool) -> None:
        """An agent said this, or its will did; `retained`: at some earlier time."""
        now_s, now_us = self._clock.monotonic_s(), self._clock.now_us()
        seen_us = min(state.at_us, now_us) if retained or state.status == "offline" else now_us
        agent = self._agents.get(agent_id)
        if agent is None:
            if len(self._agents) >= AGENTS_MAX:
                return
            agent = self._agents[agent_id] = _Agent(state, now_s, max(seen_us, 0))
        elif state.instance != agent.state.instance and not self._take_over(agent_id, agent, state, now_s):
            return
        if state.status == "offline":
            agent.offline_since_s = now_s if agent.offline_since_s is None else agent.offline_since_s
            agent.state = msgspec.structs.replace(agent.state, status="offline")
        else:
            agent.offline_since_s = None
            agent.heard_s = now_s
            agent.state = state
            agent.fresh = agent.fresh or not retained
        agent.seen_us = max(agent.seen_us, seen_us)
        self._unwritten.add(agent_id)

    def _take_over(self, agent_id: UUID, agent: _Agent, state: State, now_s: float) -> bool:
        """Another process than the last one speaks. Returns: whether what it says counts."""
        if state.status == "offline":
            return False  # the will of one that has been superseded
        if state.instance in agent.superseded:
            if agent.conflict_until_s < now_s:
                log.warning("event=agent_conflict agent_id=%s instance=%s", agent_id, state.instance)
            agent.conflict_until_s = now_s + CONFLICT_S
            agent.superseded.remove(state.instance)
        agent.superseded = [*agent.superseded, agent.state.instance][-INSTANCES_MAX:]
        return True

    def of(self, agent_id: UUID) -> Presence | None:
        """How the agent is, None if it was never heard of."""
        agent = self._agents.get(agent_id)
        if agent is None:
            return None
        now_s = self._clock.monotonic_s()
        gone = agent.offline_since_s is not None and now_s - agent.offline_since_s >= self._offline_after_s
        online = not gone and now_s - agent.heard_s < SILENT_S
        return Presence(online, now_s < agent.conflict_until_s, agent.seen_us, agent.state, agent.fresh, gone)

    @property
    def online(self) -> int:
        """How many agents are online."""
        found = (self.of(agent_id) for agent_id in self._agents)
        return sum(1 for presence in found if presence is not None and presence.online)

    def all(self) -> Mapping[UUID, Presence]:
        """All agents that were heard of."""
        return {agent_id: presence for agent_id in self._agents if (presence := self.of(agent_id)) is not None}

    async def run(self, pool: Pool) -> None:
        """Write states down every few seconds until cancelled."""
        while True:
            await asyncio.sleep(WRITE_EVERY_S)
            if self._unwritten:
                await self._write(pool)

    async def _write(self, pool: Pool) -> None:
        unwritten, self._unwritten = self._unwritten, set()
        agents = [(agent_id, self._agents[agent_id]) for agent_id in sorted(unwritten)]
        states = [_storable(agent.state) for _, agent in agents]
        try:
            async with transaction(pool) as connection:
                ids = [agent_id for agent_id, _ in agents]
                await connection.execute(_WRITE, ids, states, [agent.seen_us / 1e6 for _, agent in agents])
        except StorageUnavailable as error:
            self._unwritten |= unwritten
            log.info("event=states_not_written reason=%r", error.message)


def _storable(state: State) -> object:
    """The state as plain values that jsonb can hold (it holds no NUL)."""
    text = msgspec.json.encode(state).replace(b"\\u0000", b"")
    plain: object = msgspec.json.decode(text)
    return plain
