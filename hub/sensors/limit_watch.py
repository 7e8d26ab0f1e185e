"""Judges committed readings by the limits of their signals: `sensor.limit_exceeded`, `.limit_cleared`, `.silent`.

Apart from ingest, which it never slows: every `EVERY_S`, by one hub at a time, what is new of the watched signals is
looked at. What was told stands in the limit's row and changes in the transaction of the event, so that each transition
is told once, whoever tells it, and a restart goes on where it was.

Readings are judged in the order of their times. One that is older than what has been judged, or than `FRESH`, raises
nothing: it says how things were, not how they are. A hub that has just started, or was without its database, calls
nobody silent for a minute: it was the hub that was away.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from hub.database.pool import Connection
from hub.database.storage import Storage
from hub.events.change import begin_change
from hub.events.event import HUB, NewEvent, PublicEvent, SubjectType
from hub.sensors import limit_store
from hub.sensors.grace import Grace
from hub.sensors.limits import Limit, Side
from hub.sensors.store import Row
from hub.telemetry.moments import to_datetime
from shared.clock import Clock

EVERY_S = 2.0
FRESH = timedelta(minutes=5)
LIMITS_A_STEP = 200
TRANSITIONS_MAX = 20
"""Of one signal in one turn; the rest comes with the next."""
_AHEAD = timedelta(seconds=5)
_START = (UUID(int=0), "")


class LimitWatch:
    """Compares what came with what is watched."""

    def __init__(self, storage: Storage, clock: Clock) -> None:
        self._storage = storage
        self._clock = clock
        self._grace = Grace(storage, clock)

    async def once(self) -> None:
        """Judge what is new, unless another hub is at it. Raises: StorageUnavailable."""
        tells_silence = self._grace.is_over()
        after: tuple[UUID, str] | None = _START
        while after is not None:
            after = await self._step(after, tells_silence=tells_silence)

    async def _step(self, after: tuple[UUID, str], *, tells_silence: bool) -> tuple[UUID, str] | None:
        """Returns: behind which limit the next step begins; None when there is none."""
        async with begin_change(self._storage.pool, HUB, to_datetime(self._clock.now_us())) as change:
            connection, now = change.connection, change.now
            if not await limit_store.begin_turn(connection):
                return None
            rows = await limit_store.watched(connection, after, now - FRESH, now + _AHEAD, LIMITS_A_STEP)
            changed = []
            for row in rows:
                judged = _Judged(row)
                await judged.by_readings(connection, now)
                judged.by_silence(now, tells_silence=tells_silence)
                if judged.has_changed:
                    changed.append(judged.standing)
                for event in judged.events:
                    change.record(event)
            if changed:
                await limit_store.note(connection, changed)
        return (rows[-1]["sensor_id"], rows[-1]["signal"]) if len(rows) == LIMITS_A_STEP else None


class _Judged:
    """One limit as it stands, and what is told of it."""

    def __init__(self, row: Row) -> None:
        self._row = row
        self._limit = Limit(row["low"], row["high"], row["hysteresis"], row["silence_s"])
        self._through: datetime | None = row["judged_through"]
        self._exceeded = Side(row["exceeded"]) if row["exceeded"] else None
        self._silent: bool = row["silent"]
        self.events: list[NewEvent] = []

    @property
    def standing(self) -> tuple[UUID, str, datetime | None, Side | None, bool]:
        """As it is kept."""
        return self._row["sensor_id"], self._row["signal"], self._through, self._exceeded, self._silent

    @property
    def has_changed(self) -> bool:
        """Whether there is something to keep."""
        row = self._row
        return self.standing[2:] != (row["judged_through"], row["exceeded"], row["silent"])

    async def by_readings(self, connection: Connection, now: datetime) -> None:
        """Go through what is new."""
        newest: datetime | None = self._row["newest"]
        if newest is None:
            return
        after = max(filter(None, (self._through, now - FRESH)))
        for _ in range(TRANSITIONS_MAX):
            found = await limit_store.next_turn(
                connection, self._row["series_id"], self._limit, self._exceeded, after, newest
            )
            if found is None:
                self._through = newest
                return
            after = self._through = found["time"]
            self._take(found["time"], found["value"])

    def _take(self, time: datetime, value: float) -> None:
        was, self._exceeded = self._exceeded, self._limit.after(self._exceeded, value)
        if was is not None and self._exceeded is not was:
            self._tell(PublicEvent.SENSOR_LIMIT_CLEARED, limit=was, timestamp=_text(time), value=value)
        if self._exceeded is not None and self._exceeded is not was:
            self._tell(PublicEvent.SENSOR_LIMIT_EXCEEDED, limit=self._exceeded, timestamp=_text(time), value=value)

    def by_silence(self, now: datetime, *, tells_silence: bool) -> None:
        """See whether anything came lately."""
        last = max(filter(None, (self._through, self._row["set_at"])))
        if not self._limit.is_silent(last, now):
            self._silent = False
        elif tells_silence and not self._silent:
            self._silent = True
            last_at = _text(self._through) if self._through else None
            self._tell(PublicEvent.SENSOR_SILENT, silence_s=self._limit.silence_s, last_timestamp=last_at)

    def _tell(self, event_type: PublicEvent, **more: Any) -> None:
        row = self._row
        limits = {"low": row["low"], "high": row["high"], "hysteresis": row["hysteresis"]}
        payload = {"sensor_id": str(row["sensor_id"]), "name": row["name"], "signal": row["signal"], **limits, **more}
        self.events.append(NewEvent(event_type, SubjectType.SENSOR, row["sensor_id"], row["project_id"], payload))


def _text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
