"""HTTP of what was set aside: owners list it, release it into the readings, or discard it."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query
from pydantic import BaseModel, Field

from hub.access.identity import CurrentUser, Role, User, member_of
from hub.access.rules import OWNER, rule
from hub.database.pool import Connection, acquire, transaction
from hub.errors import Problem, conflict, invalid, not_found
from hub.events.change import CurrentChanges
from hub.events.event import NewEvent, SubjectType
from hub.fields import Body, Name, QueryText
from hub.ingest import clocks, release
from hub.ingest.release import Decision, Row
from hub.paging import Paging
from hub.services import CurrentServices, Services
from shared.errors import StorageUnavailable

router = APIRouter(prefix="/api/v1/set-aside", tags=["set aside"])

OFFSET_US_MAX = 200 * 365 * 86_400_000_000
_UNSYNCHRONISED, _CONFLICTING = "clock_unsynchronised", "conflicting_value"

RowId = Annotated[int, Path(ge=1, le=(1 << 53))]


class SetAside(BaseModel):
    """Readings of one series and batch that are kept with a reason. Times are corrected by `correction_us` already."""

    id: int
    project_id: UUID
    agent_id: UUID | None
    seq: int | None
    sensor_id: UUID | None
    sensor_name: str
    signal: str
    reason: str
    readings: int
    time_from: datetime
    time_to: datetime
    clock_segment: int | None
    correction_us: int
    created_at: datetime


class SetAsides(BaseModel):
    """A page of them."""

    set_aside: list[SetAside]
    total: int
    page: int
    page_size: int


class Release(Body):
    """How to release: only readings of an unsynchronised clock need anything."""

    offset_us: int | None = Field(
        None,
        ge=-OFFSET_US_MAX,
        le=OFFSET_US_MAX,
        description="What is to be added to the times of the whole clock segment, in microseconds. Decided once.",
    )


class Released(BaseModel):
    """What became of released readings. What was set aside again is in the list anew, with today's reason."""

    readings: int
    stored: int
    repeated: int
    set_aside: int


class Discard(Body):
    """Why readings are given up."""

    reason: Name


class Discarded(BaseModel):
    """How many readings were given up."""

    readings: int


@router.get("", dependencies=[rule(OWNER)])
async def list_set_aside(
    services: CurrentServices,
    user: CurrentUser,
    paging: Annotated[Paging, Depends()],
    project_id: UUID,
    reason: Annotated[QueryText | None, Query()] = None,
    sensor_id: UUID | None = None,
) -> SetAsides:
    """What a project has set aside, newest first."""
    await member_of(services, user, project_id, Role.OWNER)
    async with acquire(services.pool) as connection:
        rows, total = await release.page(connection, project_id, reason, sensor_id, paging.page_size, paging.offset)
    views = [SetAside.model_validate(dict(row)) for row in rows]
    return SetAsides(set_aside=views, total=total, page=paging.page, page_size=paging.page_size)


@router.post("/{aside_id}/release", dependencies=[rule(OWNER)])
async def release_readings(
    services: CurrentServices,
    changes: CurrentChanges,
    user: CurrentUser,
    aside_id: RowId,
    body: Release | None = None,
) -> Released:
    """Send the readings through the write path again, by the present state of sensors and profiles.

    A conflicting value cannot be released: another one stands in its place, and readings are never replaced.
    """
    row = await _find(services, user, aside_id)
    if row["reason"] == _CONFLICTING:
        raise conflict("another value stands at that time; readings are not replaced", code=_CONFLICTING)
    async with transaction(services.pool) as connection:
        sensor_id = await _sensor(connection, row)
        correction_us = await _correction_us(connection, row, user, body.offset_us if body else None)
    submitted = services.ingest.submit(release.submission_of(row, sensor_id, correction_us))
    try:
        async with asyncio.timeout(services.settings.ingest_post_timeout_s):
            outcome = await submitted
    except TimeoutError:
        raise StorageUnavailable("the readings could not be stored in time", hint="release them again") from None
    async with changes.begin() as change:
        decision = Decision("released", user.id, outcome=outcome)
        await release.note(change.connection, row, decision)
        change.record(_event(row, decision))
    return Released(
        readings=row["readings"], stored=outcome.new, repeated=outcome.repeated, set_aside=outcome.set_aside
    )


@router.post("/{aside_id}/discard", dependencies=[rule(OWNER)])
async def discard_readings(
    services: CurrentServices, changes: CurrentChanges, user: CurrentUser, aside_id: RowId, body: Discard
) -> Discarded:
    """Give the readings up for good. Who did it, why, and what it was stays on record."""
    row = await _find(services, user, aside_id)
    async with changes.begin() as change:
        if not await release.discard(change.connection, aside_id):
            raise not_found("set aside")
        decision = Decision("discarded", user.id, body.reason)
        await release.note(change.connection, row, decision)
        change.record(_event(row, decision))
    return Discarded(readings=row["readings"])


async def _find(services: Services, user: User, aside_id: int) -> Row:
    async with acquire(services.pool) as connection:
        row = await release.one(connection, aside_id)
    if row is None or row["project_id"] is None:
        raise not_found("set aside")
    try:
        await member_of(services, user, row["project_id"], Role.OWNER)
    except Problem as problem:
        raise not_found("set aside") if problem.status == 404 else problem from None
    return row


def _event(row: Row, decision: Decision) -> NewEvent:
    outcome = decision.outcome
    told = {
        "set_aside_id": row["id"],
        "sensor_name": row["sensor_name"],
        "signal": row["signal"],
        "was": row["reason"],
        "readings": row["readings"],
        "stored": outcome.new,
        "repeated": outcome.repeated,
        "set_aside_again": outcome.set_aside,
        "reason": decision.reason,
    }
    return NewEvent(f"set_aside.{decision.action}", SubjectType.SET_ASIDE, row["sensor_id"], row["project_id"], told)


async def _sensor(connection: Connection, row: Row) -> UUID:
    sensor_id = await release.sensor_of(connection, row["id"])
    if sensor_id is None:
        raise conflict(f"the project has no sensor {row['sensor_name']!r}; create it first", code="sensor_unknown")
    if await connection.fetchval("select status from sensors where id = $1", sensor_id) == "decommissioned":
        raise conflict("the sensor is decommissioned: make it active again to release them", code="decommissioned")
    return sensor_id


async def _correction_us(connection: Connection, row: Row, user: User, offset_us: int | None) -> int:
    """What is still to be added to the row's times."""
    if row["reason"] != _UNSYNCHRONISED or row["epoch_id"] is None:
        return 0
    decided = await release.correction_of(connection, row["epoch_id"], row["clock_segment"])
    if decided is None and offset_us is None:
        raise invalid("offset_us", "is needed: nobody knows what this clock was worth")
    if decided is not None and offset_us not in (None, decided):
        raise conflict(f"the segment's place was decided already: {decided} µs are added", code="clock_decided")
    if decided is None and offset_us is not None:
        await clocks.place(connection, row["epoch_id"], row["clock_segment"], offset_us, user.id)
        decided = await release.correction_of(connection, row["epoch_id"], row["clock_segment"])
    assert decided is not None
    return decided
