"""The life of a capture session, apart from any database.

::

    draft ──► running ──► succeeded ──► backfilling ──► what it was before
      │          └──────► failed ─────►     │
      └──► archived ◄─────── ended ◄────────┘
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from hub.errors import Problem, invalid

AHEAD_MAX = timedelta(minutes=5)
"""How far ahead of the hub's clock a client's may be: a start or stop later than that is refused."""


class SessionStatus(StrEnum):
    """Where a session is in its life."""

    DRAFT = "draft"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    BACKFILLING = "backfilling"
    ARCHIVED = "archived"

    @property
    def is_active(self) -> bool:
        """Whether its run must go on."""
        return self in (SessionStatus.DRAFT, SessionStatus.RUNNING, SessionStatus.BACKFILLING)

    @property
    def is_ended(self) -> bool:
        """Whether it says how the session ended."""
        return self in (SessionStatus.SUCCEEDED, SessionStatus.FAILED)


_NEXT = {
    SessionStatus.DRAFT: {SessionStatus.RUNNING, SessionStatus.ARCHIVED},
    SessionStatus.RUNNING: {SessionStatus.SUCCEEDED, SessionStatus.FAILED},
    SessionStatus.SUCCEEDED: {SessionStatus.BACKFILLING, SessionStatus.ARCHIVED},
    SessionStatus.FAILED: {SessionStatus.BACKFILLING, SessionStatus.ARCHIVED},
    SessionStatus.BACKFILLING: {SessionStatus.SUCCEEDED, SessionStatus.FAILED},
    SessionStatus.ARCHIVED: set(),
}


def require_transition(
    current: SessionStatus, wanted: SessionStatus, before_backfill: SessionStatus | None = None
) -> bool:
    """See that a session may go from one status to another.

    Args:
        before_backfill: what a session that is backfilling goes back to.

    Returns: whether anything changes; the same status again does nothing.
    Raises: Problem 409 that names both.
    """
    if wanted is current:
        return False
    leaves_backfill = current is SessionStatus.BACKFILLING and wanted is not before_backfill
    if wanted not in _NEXT[current] or leaves_backfill:
        raise Problem(
            409,
            f"a capture session that is {current} cannot become {wanted}",
            code="invalid_transition",
            extensions={"from_status": current, "to_status": wanted},
        )
    return True


@dataclass(frozen=True, slots=True)
class Opening:
    """How a session begins: its status and, unless it is a draft, its times."""

    status: SessionStatus
    started_at: datetime | None = None
    stopped_at: datetime | None = None


def opening_of(
    status: SessionStatus | None, started_at: datetime | None, stopped_at: datetime | None, now: datetime
) -> Opening:
    """What a client means: started now by default, a draft if asked for, or recorded after the fact.

    Raises: Problem 422 for what does not go together.
    """
    if status is None:
        status = SessionStatus.RUNNING if stopped_at is None else SessionStatus.SUCCEEDED
    if status is SessionStatus.DRAFT:
        if started_at is not None or stopped_at is not None:
            raise invalid("started_at" if started_at else "stopped_at", "a draft has not started yet")
        return Opening(status)
    if status is SessionStatus.RUNNING:
        if stopped_at is not None:
            raise invalid("stopped_at", "a running session has not stopped yet")
        return Opening(status, checked_start(started_at or now, now))
    if not status.is_ended:
        raise invalid("status", f"a session does not begin as {status}")
    if started_at is None or stopped_at is None:
        raise invalid("stopped_at" if started_at else "started_at", "a session that has ended has both times")
    return Opening(status, checked_start(started_at, now), checked_stop(stopped_at, started_at, now))


def checked_start(started_at: datetime, now: datetime) -> datetime:
    """The start, unless it lies ahead. Raises: Problem 422."""
    if started_at > now + AHEAD_MAX:
        raise invalid("started_at", "lies in the future")
    return started_at


def checked_stop(stopped_at: datetime, started_at: datetime, now: datetime) -> datetime:
    """The stop, unless it lies before the start or ahead. Raises: Problem 422."""
    if stopped_at < started_at:
        raise invalid("stopped_at", "lies before started_at")
    if stopped_at > now + AHEAD_MAX:
        raise invalid("stopped_at", "lies in the future")
    return stopped_at
