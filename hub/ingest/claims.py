"""Notices a database that went back in time without looking different: agents say what was acknowledged to them.

A copy of the data directory that is put back has the same system identifier and timeline as before, so the fingerprint
(hub.database.incarnation) tells nothing. But it can only be put back while no hub is connected. So after each new
connection to the database (`Storage.connects`) the claims of each agent are compared with the ledger once; where
it lacks one batch of those, the incarnation is drawn anew and all agents offer again all that they hold.

Invariants
    * A claim counts for the incarnation that it names only. So one restore is noticed once, whoever says it first.
    * An agent that names another incarnation than the one in force is told of that, since one that takes no readings
      just now gets no acknowledgement that would say so.
    * An agent can bring the incarnation down at most once in `REDRAW_EVERY_S`, lest a broken one keep all others busy.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from uuid import UUID

from hub.broker.lanes import UpMessage
from hub.database.pool import Pool, acquire
from hub.database.storage import Storage
from shared import messages
from shared.clock import Clock
from shared.errors import StorageUnavailable, WireError
from shared.messages import EpochRange, State

REDRAW_EVERY_S = 10.0
RETRY_S = 1.0
AGENTS_MAX = 50_000
RANGES_MAX = 64
SEQ_MAX = 1 << 62

log = logging.getLogger(__name__)

_MISSING = """
select coalesce(sum(c.last - o.first + 1 - (
           select count(*) from ledger l where l.epoch_id = e.id and l.seq between o.first and c.last
       )), 0)::bigint
from unnest($2::bytea[], $3::bigint[], $4::bigint[]) as c (epoch, first, last)
left join epochs e on e.agent_id = $1 and e.epoch = c.epoch
cross join lateral (select greatest(c.first, coalesce(e.folded_through, 0) + 1) as first) as o
where o.first <= c.last and exists (select 1 from agents where id = $1)
"""


class ClaimCheck:
    """Compares agents' claims with the ledger, after each new connection to the database.

    Args:
        tell: which incarnation is in force, to an agent that has heard of another one.
    """

    def __init__(self, storage: Storage, clock: Clock, tell: Callable[[UUID, UUID], None]) -> None:
        self._storage = storage
        self._clock = clock
        self._tell = tell
        self._waiting: dict[UUID, State] = {}
        self._checked: dict[UUID, int] = {}
        self._redrawn_s: dict[UUID, float] = {}
        self._filled = asyncio.Event()

    async def receive(self, message: UpMessage) -> None:
        """Take note of a state's claims."""
        try:
            state = messages.decode(message.payload, State)
        except WireError:
            return  # counted by presence
        if state.incarnation and state.status == "online" and len(self._waiting) < AGENTS_MAX:
            if self._checked.get(message.agent_id) == self._storage.connects:
                return
            self._waiting[message.agent_id] = state
            self._filled.set()

    async def run(self) -> None:
        """Check until cancelled. What cannot be checked now comes again with the agent's next state."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            await self._storage.ready()
            waiting, self._waiting = self._waiting, {}
            for agent_id, state in waiting.items():
                try:
                    await self._check(agent_id, state)
                except StorageUnavailable as error:
                    log.info("event=claims_not_checked agent_id=%s reason=%r", agent_id, error.message)
                    await asyncio.sleep(RETRY_S)

    async def _check(self, agent_id: UUID, state: State) -> None:
        connects, incarnation = self._storage.connects, self._storage.incarnation
        if state.incarnation != str(incarnation):
            if await _is_known(self._storage.pool, agent_id):
                self._tell(agent_id, incarnation)
            return
        missing = await missing_of(self._storage.pool, agent_id, state.acknowledged)
        if not missing:
            self._checked[agent_id] = connects
            return
        now_s = self._clock.monotonic_s()
        if now_s - self._redrawn_s.get(agent_id, float("-inf")) < REDRAW_EVERY_S:
            return
        self._redrawn_s[agent_id] = now_s
        log.error("event=database_went_back agent_id=%s acknowledged_and_missing=%d", agent_id, missing)
        await self._storage.went_back(incarnation)


async def missing_of(pool: Pool, agent_id: UUID, claims: list[EpochRange]) -> int:
    """How many batches that an agent was told are stored are not in the ledger. Raises: StorageUnavailable."""
    sound = [one for one in claims[:RANGES_MAX] if 1 <= one.first <= one.last <= SEQ_MAX and _is_epoch(one.epoch)]
    async with acquire(pool) as connection:
        missing: int = await connection.fetchval(
            _MISSING,
            agent_id,
            [bytes.fromhex(one.epoch) for one in sound],
            [one.first for one in sound],
            [one.last for one in sound],
        )
    return missing


async def _is_known(pool: Pool, agent_id: UUID) -> bool:
    """Whether this database knows the agent: one that enrolled after the backup would offer all to be refused."""
    async with acquire(pool) as connection:
        found: bool = await connection.fetchval("select exists (select 1 from agents where id = $1)", agent_id)
    return found


def _is_epoch(text: str) -> bool:
    try:
        return len(bytes.fromhex(text)) == 16
    except ValueError:
        return False
