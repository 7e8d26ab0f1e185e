"""A certificate of one moment: everything that it says comes from one snapshot of the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from hub.certificates import counts
from hub.certificates.counts import SensorCounts
from hub.certificates.epochs import certified
from hub.certificates.missing import SensorGap, causes, gaps_of
from hub.certificates.rules import State
from hub.certificates.store import Row
from hub.certificates.subject import TIMEOUT_S, Subject
from hub.certificates.totals import sum_up, tally_view, totals_of, unexplained_of
from hub.certificates.views import (
    AgentCertificate,
    Certificate,
    DroppedRange,
    ProfileUse,
    SensorCertificate,
    SessionFacts,
)
from hub.certificates.waits import waits_of
from hub.database.pool import Connection
from hub.telemetry.membership import FOR_EVER_US
from hub.telemetry.moments import to_datetime

FORMAT = "labrelay certificate 1"


async def build(connection: Connection, subject: Subject, *, hub: str, version: int, now: datetime) -> Certificate:
    """Count, and say it. Raises: StorageUnavailable."""
    row = subject.row
    waits = await waits_of(connection, subject)
    retention = [] if row["started_at"] is None else await counts.dropped_ranges(connection, *subject.span)
    counted = await counts.count(
        connection,
        subject.membership,
        subject.series,
        row["started_at"],
        may_have_dropped=bool(retention) or row["archived"],
        timeout_s=TIMEOUT_S,
    )
    agents = [await certified(connection, one) for one in subject.agents]
    gaps = await gaps_of(connection, subject)
    sensors = [_sensor(sensor_id, one, subject, agents, gaps) for sensor_id, one in counted.items()]
    state = State.OPEN if row["stopped_at"] is None else State.WAITING if waits else State.FINAL
    return Certificate(
        format=FORMAT,
        hub=hub,
        version=version if state is State.FINAL else 0,
        made_at=now,
        state=state,
        waits=waits,
        session=facts_of(row),
        sensors=sensors,
        agents=agents,
        retention=[DroppedRange(time_from=a, time_to=b, dropped_at=c) for a, b, c in retention],
        totals=totals_of(sensors, agents, retention=bool(retention) or row["archived"]),
    )


def not_started(row: Row, *, hub: str, now: datetime) -> Certificate:
    """That of a session which has no readings yet."""
    return Certificate(
        format=FORMAT,
        hub=hub,
        version=0,
        made_at=now,
        state=State.OPEN,
        waits=[],
        session=facts_of(row),
        sensors=[],
        agents=[],
        retention=[],
        totals=sum_up([], unexplained_readings=0, unexplained_batches=0),
    )


def facts_of(row: Row) -> SessionFacts:
    """What is fixed about a session."""
    fields = SessionFacts.model_fields.keys() - {"late_posts"}
    return SessionFacts(**{name: row[name] for name in fields}, late_posts=row["late_rest"])


def _sensor(
    sensor_id: UUID,
    counted: SensorCounts,
    subject: Subject,
    agents: Sequence[AgentCertificate],
    gaps: Mapping[UUID, Sequence[SensorGap]],
) -> SensorCertificate:
    window = next((one for one in subject.membership.windows if one.sensor_id == sensor_id), None)
    own = [agent for agent in agents if sensor_id in agent.sensor_ids]
    open_ended = window is not None and window.to_us == FOR_EVER_US
    return SensorCertificate(
        sensor_id=sensor_id,
        name=counted.name,
        time_from=None if window is None else to_datetime(window.from_us),
        time_to=None if window is None or open_ended else to_datetime(window.to_us),
        agents=tally_view(counted.agents),
        posts=tally_view(counted.posts),
        missing=causes(gaps.get(sensor_id, ()), subject.span),
        unexplained_batches=sum(unexplained_of(agent) for agent in own),
        waiting_for_clock=counted.unplaced,
        dropped_by_retention=counted.dropped,
        first_at=counted.first_at,
        last_at=counted.last_at,
        profiles=[_profile_use(profile, readings) for profile, readings in counted.profiles.items()],
    )


def _profile_use(profile: tuple[UUID, str, str] | None, readings: int) -> ProfileUse:
    profile_id, version, kind = profile or (None, "", "")
    return ProfileUse(profile_id=profile_id, version=version, kind=kind, readings=readings)
