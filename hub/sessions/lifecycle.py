"""The life of a session: made, started, stopped, backfilled, put away.

Each step works on a session whose run and row are locked (in that order), and records its event. What draws a line
between ids (a stop, an archiving, a backfill) takes the catalogue lock, the last thing before the event: from then on
no reading is stored until the transaction has ended. So does what makes a session or starts one where a profile was
split off for it (triggers see to that); else readings are stored meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from hub.access.policies import Policies
from hub.database.ids import uuid7
from hub.errors import Problem, conflict, invalid
from hub.events.change import Change
from hub.events.event import NewEvent, PublicEvent, SubjectType
from hub.experiments.rules import Status as RunStatus
from hub.runs.lifecycle import start_run
from hub.sessions import held, late, store
from hub.sessions.rules import Opening, SessionStatus, checked_start, checked_stop, require_transition
from hub.sessions.store import Row
from hub.telemetry.moments import text_of

HOLD, ATTACH = "hold", "attach"


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session to be made."""

    ordinal_number: int | None
    notes: str
    opening: Opening


async def create(change: Change, run: Row, policies: Policies, new: NewSession) -> UUID:
    """Make a session and bring it to the status that it begins with.

    Args:
        run: locked.

    Raises: Problem 409 where the run has ended, the number is taken or a sensor is in another session.
    """
    _require_open(run)
    assert change.actor.id is not None
    session_id = uuid7()
    policy = (policies.late_data or HOLD, policies.late_data or ATTACH)
    try:
        await store.add(
            change.connection,
            session_id,
            run["id"],
            run["project_id"],
            ordinal_number=new.ordinal_number,
            initiated_by=change.actor.id,
            notes=new.notes,
            late=policy,
            now=change.now,
        )
    except asyncpg.UniqueViolationError:
        raise conflict(f"the run has a session {new.ordinal_number} already", code="taken") from None
    opening = new.opening
    if opening.started_at is not None:
        await _start(change, run, session_id, opening.started_at, opening.stopped_at)
    if opening.stopped_at is not None:
        await store.stop(change.connection, session_id, opening.status, opening.stopped_at, change.now)
    await _tell(change, PublicEvent.SESSION_CREATED, run["id"], session_id)
    return session_id


async def start(change: Change, run: Row, session: Row, started_at: datetime | None) -> None:
    """Start a draft. Raises: Problem 409, 422."""
    if not require_transition(SessionStatus(session["status"]), SessionStatus.RUNNING):
        return
    _require_open(run)
    await _start(change, run, session["id"], checked_start(started_at or change.now, change.now), None)
    await _tell(change, "capture_session.started", run["id"], session["id"])


async def stop(
    change: Change, session: Row, status: SessionStatus, stopped_at: datetime | None, notes: str | None
) -> None:
    """End a running session; to end it once more the same way does nothing. Raises: Problem 409, 422."""
    if not status.is_ended:
        raise invalid("status", "a session ends as succeeded or failed")
    if not require_transition(SessionStatus(session["status"]), status, _before_backfill(session)):
        return
    if session["status"] == SessionStatus.BACKFILLING:
        await complete_backfill(change, session)
        return
    if notes is not None:
        await store.set_notes(change.connection, session["id"], notes, change.now)
    at = checked_stop(stopped_at or max(change.now, session["started_at"]), session["started_at"], change.now)
    await store.stop(change.connection, session["id"], status, at, change.now)
    await _tell(change, PublicEvent.SESSION_STOPPED, session["run_id"], session["id"])


async def archive(change: Change, session: Row) -> None:
    """Put a session away: what belongs to it does not change any more. Raises: Problem 409."""
    if not require_transition(SessionStatus(session["status"]), SessionStatus.ARCHIVED):
        return
    before_id = await store.draw_late_from(change.connection)
    await late.settle(change, session["id"], before_id)
    await store.archive(change.connection, session["id"], before_id, change.now)
    await _tell(change, "capture_session.archived", session["run_id"], session["id"])


async def start_backfill(change: Change, session: Row) -> None:
    """Let late readings count as they come. Raises: Problem 409."""
    if require_transition(SessionStatus(session["status"]), SessionStatus.BACKFILLING):
        await store.start_backfill(change.connection, session["id"], change.now)
        await _tell(change, PublicEvent.SESSION_BACKFILL_STARTED, session["run_id"], session["id"])


async def complete_backfill(change: Change, session: Row) -> int:
    """Count what was held back, too; the session is again what it was before.

    Returns: how many readings had been held back.
    Raises: Problem 409.
    """
    if session["status"] != SessionStatus.BACKFILLING:
        raise conflict("no backfill of this session is under way", code="invalid_transition")
    counted, through_id = await held.count_settled(change.connection, session["id"])
    before_id = await store.draw_late_from(change.connection)
    counted += await held.count(change.connection, session["id"], through_id, before_id)
    await late.settle(change, session["id"], before_id)
    await store.complete_backfill(change.connection, session["id"], before_id, change.now)
    await late.note_backfilled(change.connection, session["id"])
    await _tell(
        change,
        PublicEvent.SESSION_BACKFILL_COMPLETED,
        session["run_id"],
        session["id"],
        attached_records=counted,
    )
    return counted


async def remove(change: Change, session: Row) -> None:
    """Delete a session that is neither running nor backfilling; its readings stay. Raises: Problem 409."""
    status = SessionStatus(session["status"])
    if status in (SessionStatus.RUNNING, SessionStatus.BACKFILLING):
        raise conflict(f"a session that is {status} cannot be deleted; stop it first", code="session_active")
    await _tell(change, "capture_session.deleted", session["run_id"], session["id"])
    await store.delete(change.connection, session["id"])


async def _start(change: Change, run: Row, session_id: UUID, started_at: datetime, stopped_at: datetime | None) -> None:
    connection = change.connection
    await store.lock_starts(connection)
    attached = await store.attached(connection, run["id"])
    wanted = attached or await store.of_project(connection, run["project_id"])
    taken = await store.taken(connection, list(wanted), session_id, started_at, stopped_at)
    if attached and taken:
        raise _overlap(session_id, attached, taken)
    free = wanted.keys() - {one["sensor_id"] for one in taken}
    await store.open_windows(connection, session_id, sorted(free), started_at, stopped_at)
    await store.start(connection, session_id, started_at, change.now)
    if run["status"] == RunStatus.DRAFT:
        await start_run(change, run)


def _overlap(session_id: UUID, names: dict[UUID, str], taken: list[Row]) -> Problem:
    first = taken[0]
    return Problem(
        409,
        f"sensor {names[first['sensor_id']]!r} takes part in session {first['ordinal_number']} of run "
        f"{first['run_id']} at that time, which is {first['status']}; stop that one first, or detach the sensor",
        code="session_overlap",
        extensions={
            "capture_session_id": session_id,
            "overlaps": [
                {
                    "sensor_id": one["sensor_id"],
                    "sensor_name": names[one["sensor_id"]],
                    "capture_session_id": one["session_id"],
                    "run_id": one["run_id"],
                }
                for one in taken[:100]
            ],
        },
    )


def _require_open(run: Row) -> None:
    if run["status"] not in (RunStatus.DRAFT, RunStatus.RUNNING):
        raise conflict(f"the run is {run['status']}: no session starts on it", code="run_ended")


def _before_backfill(session: Row) -> SessionStatus | None:
    before = session["status_before_backfill"]
    return SessionStatus(before) if before else None


async def _tell(change: Change, event_type: str, run_id: UUID, session_id: UUID, **more: Any) -> None:
    row = await store.one(change.connection, session_id, run_id)
    assert row is not None
    shown = ("run_id", "project_id", "ordinal_number", "status", "notes", "started_at", "stopped_at")
    payload = {"capture_session_id": session_id, **{name: row[name] for name in shown}, **more}
    change.record(NewEvent(event_type, SubjectType.SESSION, session_id, row["project_id"], _plain(payload)))


def _plain(payload: dict[str, Any]) -> dict[str, Any]:
    """As JSON has it."""
    texts = {name: text_of(value) for name, value in payload.items() if isinstance(value, datetime)}
    ids = {name: str(value) for name, value in payload.items() if isinstance(value, UUID)}
    return payload | texts | ids
