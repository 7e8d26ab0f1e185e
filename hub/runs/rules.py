"""What a run's status means, apart from any database. The order of statuses: `hub.experiments.rules`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from hub.events.event import PublicEvent
from hub.experiments.fields import TAGS_MAX
from hub.experiments.rules import Status


@dataclass(frozen=True, slots=True)
class Timing:
    """When a run ran.

    Attributes:
        duration_seconds: from start to finish.
    """

    started_at: datetime | None = None
    finished_at: datetime | None = None
    duration_seconds: float | None = None

    def entering(self, status: Status, now: datetime) -> Timing:
        """The times once a run enters another status: running starts it, a terminal one finishes it."""
        if status is Status.RUNNING:
            return Timing(started_at=now)
        if not status.is_terminal:
            return self
        started_at = self.started_at or now
        return Timing(started_at, now, max(0.0, (now - started_at).total_seconds()))


def needs_idle_sessions(status: Status) -> bool:
    """Whether no session may be active when a run enters this status."""
    return status.is_terminal or status is Status.ARCHIVED


def is_overdue(status: Status, started_at: datetime | None, minutes: int | None, now: datetime) -> bool:
    """Whether a run is running for as long as it said that it would, or longer."""
    if status is not Status.RUNNING or started_at is None or minutes is None:
        return False
    return started_at + timedelta(minutes=minutes) <= now


def events_of(status: Status) -> tuple[PublicEvent, ...]:
    """What is told when a run enters this status."""
    named = {
        Status.RUNNING: PublicEvent.RUN_STARTED,
        Status.SUCCEEDED: PublicEvent.RUN_FINISHED,
        Status.FAILED: PublicEvent.RUN_FINISHED,
        Status.ARCHIVED: PublicEvent.RUN_ARCHIVED,
    }.get(status)
    return (PublicEvent.RUN_STATUS_CHANGED, *([named] if named else ()))


def changed_tags(tags: list[str], *, add: Iterable[str], remove: Iterable[str]) -> list[str]:
    """The tags without some and with others behind. Raises: ValueError when they are too many then."""
    gone = set(remove)
    changed = list(dict.fromkeys([*(tag for tag in tags if tag not in gone), *add]))
    if len(changed) > TAGS_MAX:
        raise ValueError(f"would have {len(changed)} tags; {TAGS_MAX} is the most")
    return changed
