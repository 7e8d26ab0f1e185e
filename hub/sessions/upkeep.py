"""What becomes of sessions by itself: forgotten ones fail, what counts late is announced, their readings are kept."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from hub.database.pool import Connection, acquire
from hub.database.storage import Storage
from hub.events.change import begin_change
from hub.events.event import HUB
from hub.runs import store as runs
from hub.sessions import lifecycle, store
from hub.sessions.rules import SessionStatus
from hub.telemetry.moments import to_datetime
from shared.clock import Clock

log = logging.getLogger(__name__)

SESSIONS_PER_PASS_MAX = 100
SILENT_AFTER_S = 60.0
"""An agent that was not heard for so long may hold readings that nobody knows of."""

# An agent is concerned when it feeds a sensor of the session. Its backlog is what it was not told to let go of.
_FORGOTTEN = """
    select s.id, s.run_id from capture_sessions s
    where s.status = 'running' and s.updated_at < $1
      and not exists (
        select from session_sensors w join sensors x on x.id = w.sensor_id
        where w.session_id = s.id and x.last_heartbeat >= $1
      )
      and not exists (
        select from session_sensors w
        join agent_bindings b on b.sensor_id = w.sensor_id
        join agents a on a.id = b.agent_id and a.status = 'enrolled'
        where w.session_id = s.id and (
            a.last_seen is null or a.last_seen < $2
            or a.state ->> 'status' is distinct from 'online'
            or coalesce((a.state -> 'spool' ->> 'pending_batches')::bigint, 0) > 0
        )
      )
    order by s.id limit $3
"""
_NEEDED = """
    select exists (
        select from session_sensors w join capture_sessions s on s.id = w.session_id
        where not s.archived and w.time_from < $2 and (w.time_to is null or w.time_to > $1)
    ) or exists (
        select from named_readings n join capture_sessions s on s.id = n.session_id
        where not s.archived and n.time_from < $2 and n.time_to >= $1
    )
"""


async def needs_readings(connection: Connection, start: datetime, end: datetime) -> bool:
    """Whether a session that is not archived has readings in a range (end exclusive), so that they are kept."""
    return bool(await connection.fetchval(_NEEDED, start, end))


@dataclass(frozen=True, slots=True)
class ForgottenSessions:
    """Ends sessions that nobody feeds and nobody touches, as failed.

    One that an agent may still bring readings for, because it is offline or behind, is left alone.

    Args:
        after_h: hours without a reading and without a change.
    """

    storage: Storage
    clock: Clock
    after_h: float

    async def once(self) -> int:
        """Look through all running sessions. Returns: how many failed. Raises: StorageUnavailable."""
        now = to_datetime(self.clock.now_us())
        before = now - timedelta(hours=self.after_h)
        silent = now - timedelta(seconds=SILENT_AFTER_S)
        async with acquire(self.storage.pool) as connection:
            found = await connection.fetch(_FORGOTTEN, before, silent, SESSIONS_PER_PASS_MAX)
        return sum([await self._fail(row["run_id"], row["id"], before, now) for row in found])

    async def _fail(self, run_id: UUID, session_id: UUID, before: datetime, now: datetime) -> bool:
        async with begin_change(self.storage.pool, HUB, now) as change:
            await runs.lock(change.connection, [run_id], None)
            session = await store.one(change.connection, session_id, run_id, lock=True)
            if session is None or session["status"] != SessionStatus.RUNNING or session["updated_at"] >= before:
                return False
            await lifecycle.stop(change, session, SessionStatus.FAILED, None, None)
        log.warning("event=session_forgotten session_id=%s after_h=%g", session_id, self.after_h)
        return True
