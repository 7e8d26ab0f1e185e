"""What came late for sessions: counted a moment after it came, shown as `held_records`, and told.

Ingest does nothing for it. The marks that it leaves of the minutes it touched (`dirty_minutes`) show which ended
sessions may have got something, and folding such marks leaves a hint in their place. Then the session's readings from
where the last count ended up to the horizon are counted, in the transaction that moves that mark and tells: so each is
counted once, whatever dies in between and however often a minute is marked.

Two numbers come of it: readings that count because the policy attaches them are told by
`capture_session.late_attached`; readings that it holds back add to `held_records` until a backfill counts them.
"""

from __future__ import annotations

from uuid import UUID

from hub.database.pool import Connection, acquire
from hub.database.storage import Storage
from hub.events.change import Change, begin_change
from hub.events.event import HUB, NewEvent, PublicEvent, SubjectType
from hub.sessions.store import Row
from hub.telemetry.membership import IdRanges, of_sessions, series_of
from hub.telemetry.moments import text_of, to_datetime
from hub.telemetry.scan import horizon
from shared.clock import Clock

SESSIONS_PER_PASS_MAX = 100
TIMEOUT_S = 60.0

_TOUCHED = """
    select touched.session_id, max(touched.first_id) as first_id from (
        select t.session_id, d.first_id
        from dirty_minutes d, touched_sessions(d.first_id, d.series_ids, d.bucket_from, d.bucket_to) as t (session_id)
        where d.first_id >= $3
        union all
        select session_id, first_id from late_hints
    ) as touched
    left join session_late l on l.session_id = touched.session_id
    where touched.first_id >= coalesce(l.counted_to, 0) and touched.first_id < $1
    group by touched.session_id order by touched.session_id limit $2
"""
# A hint that is above the horizon stays for the next pass, and so does one that there was no room for.
_FORGET_HINTS = """
    delete from late_hints h where first_id < $1 and not exists (
        select from capture_sessions s left join session_late l on l.session_id = s.id
        where s.id = h.session_id and h.first_id >= coalesce(l.counted_to, 0)
    )
"""
# Locked by a statement of its own: what was counted is read by the next one, after the wait for any other count.
_LOCK = "select from capture_sessions where id = $1 for no key update"
_OF_SESSION = """
    select s.run_id, s.project_id, s.ordinal_number, s.status, coalesce(l.counted_to, s.late_from_id) as counted_to
    from capture_sessions s left join session_late l on l.session_id = s.id
    where s.id = $1 and s.late_from_id is not null
"""
_ADD = """
    insert into session_late as l (session_id, counted_to, held_records) values ($1, $2, $3)
    on conflict (session_id) do update
    set counted_to = greatest(l.counted_to, excluded.counted_to), held_records = l.held_records + excluded.held_records
"""
_NOTHING_HELD = "update session_late set held_records = 0 where session_id = $1"
_HELD_BY_POLICY = """
    select lower(one) as low, upper(one) as high
    from capture_sessions s, unnest(held_by_policy(s)) as one where s.id = $1 order by 1
"""
_COUNT = """
    select count(*) filter (where not {by_policy}) as attached, count(*) filter (where {held}) as held,
           min(r.time) filter (where not {by_policy}) as time_from,
           max(r.time) filter (where not {by_policy}) as time_to
    from readings r where r.id >= {low} and r.id < {high} and {belongs}
"""


class LateData:
    """Counts what came late and tells of it. Several hubs may: who comes second finds nothing left to count."""

    def __init__(self, storage: Storage, clock: Clock) -> None:
        self._storage = storage
        self._clock = clock
        self._looked_to = 0

    async def once(self) -> int:
        """Look at the sessions that may have got something. Returns: how many. Raises: StorageUnavailable."""
        async with acquire(self._storage.pool) as connection:
            end = await horizon(connection)
            since = self._looked_to if self._looked_to <= end else 0  # else the database is an older one now
            touched = await connection.fetch(_TOUCHED, end, SESSIONS_PER_PASS_MAX, since, timeout=TIMEOUT_S)
        for row in touched:
            async with begin_change(self._storage.pool, HUB, to_datetime(self._clock.now_us())) as change:
                await settle(change, row["session_id"], end)
        async with acquire(self._storage.pool) as connection:
            await connection.execute(_FORGET_HINTS, end, timeout=TIMEOUT_S)
        if len(touched) < SESSIONS_PER_PASS_MAX:
            self._looked_to = end
        return len(touched)


async def settle(change: Change, session_id: UUID, before_id: int) -> None:
    """Count what came late for a session with ids below `before_id` and was not counted yet; tell what counts.

    Args:
        before_id: all readings below it are committed.

    Raises: StorageUnavailable.
    """
    connection = change.connection
    await connection.execute(_LOCK, session_id)
    session = await connection.fetchrow(_OF_SESSION, session_id)
    if session is None or session["counted_to"] >= before_id:
        return
    counted = await _count(connection, session_id, session["counted_to"], before_id)
    await connection.execute(_ADD, session_id, before_id, counted["held"])
    if counted["attached"]:
        change.record(_late_attached(session_id, session, counted))


async def note_backfilled(connection: Connection, session_id: UUID) -> None:
    """All that was held back counts now."""
    await connection.execute(_NOTHING_HELD, session_id)


async def _count(connection: Connection, session_id: UUID, from_id: int, to_id: int) -> Row:
    """Late readings within these ids: what the policy attaches, and what is held back now."""
    (session,) = await of_sessions(connection, [session_id])
    ranges = await connection.fetch(_HELD_BY_POLICY, session_id)
    statement = _COUNT.format(
        by_policy=IdRanges.of([(row["low"], row["high"]) for row in ranges]).condition(),
        held=session.held.condition(),
        low=int(from_id),
        high=int(to_id),
        belongs=session.condition(await series_of(connection, [session]), with_held=True),
    )
    counted = await connection.fetchrow(statement, timeout=TIMEOUT_S)
    assert counted is not None
    return counted


def _late_attached(session_id: UUID, session: Row, counted: Row) -> NewEvent:
    payload = {
        "capture_session_id": str(session_id),
        "run_id": str(session["run_id"]),
        "project_id": str(session["project_id"]),
        "ordinal_number": session["ordinal_number"],
        "status": session["status"],
        "attached_records": counted["attached"],
        "time_from": text_of(counted["time_from"]),
        "time_to": text_of(counted["time_to"]),
    }
    return NewEvent(PublicEvent.SESSION_LATE_ATTACHED, SubjectType.SESSION, session_id, session["project_id"], payload)
