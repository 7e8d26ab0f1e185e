"""A certificate of one moment: everything that it says comes from one snapshot of the database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from hub.agents.epochs import Range
from hub.certificates import agents as agent_facts
from hub.certificates import counts, epochs_store
from hub.certificates.agents import REASONS, ConcernedAgent, ConcernedEpoch
from hub.certificates.counts import SensorCounts, Tally
from hub.certificates.rules import Span, State, WaitReason
from hub.certificates.rules import count as count_seqs
from hub.certificates.store import Row
from hub.certificates.views import (
    AgentCertificate,
    Certificate,
    ClockSegment,
    DroppedRange,
    EpochCertificate,
    Missing,
    ProfileUse,
    SensorCertificate,
    SeqRange,
    SessionFacts,
    TallyView,
    Totals,
    Wait,
)
from hub.database.pool import Connection
from hub.telemetry.membership import FOR_EVER_US, Membership, of_sessions, series_of
from hub.telemetry.moments import to_datetime, to_us

FORMAT = "labrelay certificate 1"
TIMEOUT_S = 120.0
"""For counting the readings of one session."""
RANGES_MAX = 1000
"""Of seqs, listed for one epoch."""


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


async def waits_of(connection: Connection, subject: Subject) -> list[Wait]:
    """What is still to come before the certificate is final; a session that runs waits for nobody."""
    row = subject.row
    if row["stopped_at"] is None:
        return []
    waits = [_backfill_wait()] if row["status"] == "backfilling" else []
    for agent in subject.agents:
        waits += _agent_waits(agent, subject.span[1])
    sensors = sorted(subject.membership.sensor_ids)
    for sensor_id, readings in (await counts.unplaced(connection, sensors, row["started_at"])).items():
        detail = f"{readings} readings are set aside because nobody knows their time; an owner can place them"
        waits.append(Wait(reason=WaitReason.CLOCK, sensor_id=sensor_id, detail=detail))
    return waits


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
    agents = [await _agent(connection, one) for one in subject.agents]
    missing = await _missing(connection, subject)
    sensors = [_sensor(sensor_id, one, subject, agents, missing) for sensor_id, one in counted.items()]
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
        totals=_totals(sensors, agents, subject, retention=bool(retention) or row["archived"]),
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
        totals=_sum_up([], unexplained_readings=0, unexplained_batches=0),
    )


def facts_of(row: Row) -> SessionFacts:
    """What is fixed about a session."""
    fields = SessionFacts.model_fields.keys() - {"late_posts"}
    return SessionFacts(**{name: row[name] for name in fields}, late_posts=row["late_rest"])


def _agent_waits(agent: ConcernedAgent, through: datetime) -> list[Wait]:
    named: dict[str, Any] = {"agent_id": agent.row["id"], "agent_name": agent.row["name"]}
    if not agent.heard:
        return [Wait(reason=WaitReason.UNHEARD_AGENT, detail=REASONS[WaitReason.UNHEARD_AGENT], **named)]
    waits = [_epoch_wait(one, through, named) for one in agent.epochs if one.standing.reason is not None]
    reason = WaitReason.UNSEEN_EPOCH
    waits += [
        Wait(reason=reason, epoch=one.epoch.hex(), seqs=_seqs(one.missing), detail=REASONS[reason], **named)
        for one in agent.unseen
    ]
    return waits


def _epoch_wait(epoch: ConcernedEpoch, through: datetime, named: dict[str, Any]) -> Wait:
    reason = epoch.standing.reason
    assert reason is not None
    return Wait(
        reason=reason,
        epoch=epoch.row["epoch"].hex(),
        seqs=_seqs(epoch.standing.missing),
        through=through if reason is WaitReason.TAKEN_THROUGH else None,
        detail=REASONS[reason],
        **named,
    )


def _backfill_wait() -> Wait:
    return Wait(reason=WaitReason.BACKFILL, detail="a backfill is under way, and has to be completed")


async def _agent(connection: Connection, agent: ConcernedAgent) -> AgentCertificate:
    epochs = [await _epoch(connection, one) for one in agent.epochs]
    ids = list(agent.row["sensor_ids"])
    return AgentCertificate(agent_id=agent.row["id"], name=agent.row["name"], sensor_ids=ids, epochs=epochs)


async def _epoch(connection: Connection, concerned: ConcernedEpoch) -> EpochCertificate:
    row, standing = concerned.row, concerned.standing
    batches = await epochs_store.batches(connection, row["id"], *standing.seqs, timeout_s=TIMEOUT_S)
    ids = batches["first_ids"], batches["last_ids"]
    segments = await epochs_store.segments(connection, row["id"])
    return EpochCertificate(
        epoch=row["epoch"].hex(),
        version=row["version"],
        started_at=row["started_at"],
        taken_through=row["taken_through"],
        seqs=SeqRange(first=standing.seqs.first, last=standing.seqs.last),
        folded_through=row["folded_through"],
        **{name: batches[name] for name in ("batches", "readings", "stored", "repeated", "set_aside")},
        present=await epochs_store.present(connection, *ids, timeout_s=TIMEOUT_S),
        unexplained=_seqs(standing.missing),
        closed_reason=row["closed_reason"],
        waits_for=standing.reason,
        clock=[ClockSegment(**{name: one[name] for name in ClockSegment.model_fields}) for one in segments],
    )


@dataclass(frozen=True, slots=True)
class _Gap:
    """A gap record as one sensor sees it."""

    row: Any
    readings: int | None


async def _missing(connection: Connection, subject: Subject) -> dict[UUID, list[_Gap]]:
    """Gap records by sensor; one without counts concerns all sensors of its agent."""
    sensors_of = {agent.row["id"]: list(agent.row["sensor_ids"]) for agent in subject.agents}
    found: dict[UUID, list[_Gap]] = {}
    for row in await epochs_store.gaps(connection, list(sensors_of), *subject.span):
        counted = _by_sensor(row)
        if counted is None:
            counted = dict.fromkeys(sensors_of[row["agent_id"]])
        for sensor_id, readings in counted.items():
            found.setdefault(sensor_id, []).append(_Gap(row, readings))
    return found


def _by_sensor(row: Any) -> dict[UUID, int | None] | None:
    """How many readings a gap counts for each sensor, None where it does not say."""
    pairs: list[list[int]] = row["record"].get("counts", [])
    if not pairs:
        return None
    names: dict[str, str] = row["names"] or {}
    found: dict[UUID, int | None] = {}
    for ref, readings in pairs:
        sensor_id = names.get(str(ref))
        if sensor_id is not None:
            found[UUID(sensor_id)] = (found.get(UUID(sensor_id)) or 0) + readings
    return found


def _sensor(
    sensor_id: UUID,
    counted: SensorCounts,
    subject: Subject,
    agents: Sequence[AgentCertificate],
    gaps: Mapping[UUID, Sequence[_Gap]],
) -> SensorCertificate:
    window = next((one for one in subject.membership.windows if one.sensor_id == sensor_id), None)
    own = [agent for agent in agents if sensor_id in agent.sensor_ids]
    open_ended = window is not None and window.to_us == FOR_EVER_US
    return SensorCertificate(
        sensor_id=sensor_id,
        name=counted.name,
        time_from=None if window is None else to_datetime(window.from_us),
        time_to=None if window is None or open_ended else to_datetime(window.to_us),
        agents=_tally(counted.agents),
        posts=_tally(counted.posts),
        missing=_causes(gaps.get(sensor_id, ()), subject.span),
        unexplained_batches=sum(_unexplained(agent) for agent in own),
        waiting_for_clock=counted.unplaced,
        dropped_by_retention=counted.dropped,
        first_at=counted.first_at,
        last_at=counted.last_at,
        profiles=[_profile_use(profile, readings) for profile, readings in counted.profiles.items()],
    )


def _profile_use(profile: tuple[UUID, str, str] | None, readings: int) -> ProfileUse:
    profile_id, version, kind = profile or (None, "", "")
    return ProfileUse(profile_id=profile_id, version=version, kind=kind, readings=readings)


def _causes(gaps: Iterable[_Gap], span: tuple[datetime, datetime]) -> list[Missing]:
    by_cause: dict[str, list[_Gap]] = {}
    for gap in gaps:
        by_cause.setdefault(gap.row["cause"], []).append(gap)
    return [
        Missing(
            cause=cause,
            gaps=len(some),
            readings=sum(gap.readings or 0 for gap in some),
            uncounted=sum(gap.readings is None for gap in some),
            time_from=min(gap.row["time_from"] for gap in some),
            time_to=max(gap.row["time_to"] for gap in some),
            reaches_beyond=any(gap.row["time_from"] < span[0] or gap.row["time_to"] > span[1] for gap in some),
        )
        for cause, some in sorted(by_cause.items())
    ]


def _totals(
    sensors: Sequence[SensorCertificate], agents: Sequence[AgentCertificate], subject: Subject, *, retention: bool
) -> Totals:
    """Readings that retention dropped are not there either, so where it did, their absence proves nothing."""
    epochs = [epoch for agent in agents for epoch in agent.epochs]
    absent = 0 if retention else sum(max(epoch.stored - epoch.present, 0) for epoch in epochs)
    return _sum_up(sensors, unexplained_readings=absent, unexplained_batches=sum(map(_unexplained, agents)))


def _sum_up(sensors: Sequence[SensorCertificate], *, unexplained_readings: int, unexplained_batches: int) -> Totals:
    missing = [one for sensor in sensors for one in sensor.missing]
    return Totals(
        agents=_sum([sensor.agents for sensor in sensors]),
        posts=_sum([sensor.posts for sensor in sensors]),
        missing=sum(one.readings for one in missing),
        missing_uncounted=sum(one.uncounted for one in missing),
        dropped_by_retention=sum(sensor.dropped_by_retention for sensor in sensors),
        unexplained_readings=unexplained_readings,
        unexplained_batches=unexplained_batches,
    )


def _unexplained(agent: AgentCertificate) -> int:
    return count_seqs(Range(one.first, one.last) for epoch in agent.epochs for one in epoch.unexplained)


def _tally(tally: Tally) -> TallyView:
    return TallyView(
        taken=tally.taken,
        stored=tally.stored,
        held=tally.held,
        repeated=tally.repeated,
        set_aside=dict(sorted(tally.set_aside.items())),
    )


def _sum(tallies: Sequence[TallyView]) -> TallyView:
    reasons: dict[str, int] = {}
    for tally in tallies:
        for reason, readings in tally.set_aside.items():
            reasons[reason] = reasons.get(reason, 0) + readings
    return TallyView(
        taken=sum(one.taken for one in tallies),
        stored=sum(one.stored for one in tallies),
        held=sum(one.held for one in tallies),
        repeated=sum(one.repeated for one in tallies),
        set_aside=dict(sorted(reasons.items())),
    )


def _seqs(ranges: Iterable[Range]) -> list[SeqRange]:
    return [SeqRange(first=one.first, last=one.last) for one in list(ranges)[:RANGES_MAX]]
