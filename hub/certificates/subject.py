"""What a certificate is about, as of one moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from hub.certificates import agents as agent_facts
from hub.certificates.agents import ConcernedAgent
from hub.certificates.rules import Span
from hub.certificates.store import Row
from hub.database.pool import Connection
from hub.telemetry.membership import Membership, of_sessions, series_of
from hub.telemetry.moments import to_us

TIMEOUT_S = 120.0
"""For counting the readings of one session."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What a certificate is about: a session, its sensors, and their agents."""

    row: Row
    membership: Membership
    series: Mapping[UUID, Sequence[int]]
    agents: Sequence[ConcernedAgent]
    span: tuple[datetime, datetime]


async def subject_of(connection: Connection, row: Row, now: datetime) -> Subject | None:
    """Load it, in the transaction that counts. Returns: None for a session that has not started."""
    found = await of_sessions(connection, [row["id"]])
    if not found or row["started_at"] is None:
        return None
    membership = found[0]
    span = (row["started_at"], max(row["stopped_at"] or now, row["started_at"]))
    sensors = sorted(membership.sensor_ids)
    window = Span(to_us(span[0]), max(to_us(span[1]), to_us(span[0]) + 1))
    concerned = await agent_facts.concerned(connection, sensors, window, timeout_s=TIMEOUT_S)
    return Subject(row, membership, await series_of(connection, found), concerned, span)
