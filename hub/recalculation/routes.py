"""HTTP of recalculations."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response

from hub.access.identity import CurrentUser, Role, member_of
from hub.access.rules import EDITOR, VIEWER, rule
from hub.database.partitions import TIME_US_MAX, TIME_US_MIN
from hub.database.pool import acquire
from hub.errors import conflict, invalid, not_found
from hub.events.change import Change, CurrentChanges
from hub.events.event import PublicEvent
from hub.paging import Paging
from hub.recalculation import plan, previous, reach_store, rulings, store
from hub.recalculation.events import task_event
from hub.recalculation.rules import Stretch, TaskStatus
from hub.recalculation.views import (
    BackfillStarted,
    BackfillTask,
    BackfillTasks,
    NewBackfill,
    PreviousProfile,
    PreviousProfiles,
)
from hub.sensors import profiles
from hub.sensors.access import find_sensor
from hub.sensors.store import Row, lock_catalogue
from hub.services import CurrentServices
from hub.telemetry.filters import ProjectIdQuery
from hub.telemetry.moments import Moment, to_us

OPEN_TASKS_MAX = 20
"""Unfinished tasks of one sensor."""

router = APIRouter(prefix="/api/v1", tags=["conversion profiles"])


@router.post(
    "/sensors/{sensor_id}/conversion-profiles/{profile_id}/backfill",
    status_code=202,
    response_model=BackfillStarted,
    dependencies=[rule(EDITOR)],
)
async def start_backfill(
    changes: CurrentChanges, user: CurrentUser, sensor_id: UUID, profile_id: UUID, body: NewBackfill | None = None
) -> Response:
    """Convert stored readings with this profile, in the background: all of the sensor's, or those of some sessions.

    What a client provided stays, and so does what failed at the instrument. Readings from the same times that come
    later are converted with it too.
    """
    wanted = body or NewBackfill.model_validate({})

    async def create(change: Change) -> BackfillStarted:
        await lock_catalogue(change.connection)
        sensor = await find_sensor(change.connection, user, sensor_id, Role.EDITOR)
        _check_place(wanted, sensor)
        profile = await profiles.one(change.connection, profile_id, sensor_id)
        if profile is None:
            raise not_found("conversion profile")
        if profile["published_at"] is None:
            raise conflict("the profile was never published; preview it, or publish it first", code="not_published")
        await _check_sessions(change, wanted, user.id)
        if await store.open_of_sensor(change.connection, sensor_id) >= OPEN_TASKS_MAX:
            raise conflict("too many recalculations of this sensor wait already", code="too_many_tasks")
        new = store.NewTask(
            sensor_id,
            profile_id,
            wanted.scope,
            wanted.capture_session_ids,
            wanted.time_from,
            wanted.time_to,
            user.id,
        )
        until_us = to_us(change.now)
        ruled = await plan.rulings(change.connection, sensor_id, new.session_ids, _asked(wanted), until_us)
        task_id = await store.add(change.connection, new, ruled, change.now)
        return BackfillStarted(backfill_task_id=task_id)

    return await changes.once(create, status=202)


@router.get("/backfill-tasks", dependencies=[rule(VIEWER)])
async def list_tasks(
    services: CurrentServices,
    user: CurrentUser,
    paging: Annotated[Paging, Depends()],
    sensor_id: UUID | None = None,
    status: TaskStatus | None = None,
    project_id: ProjectIdQuery = None,
) -> BackfillTasks:
    """Recalculations of sensors that the caller may see, newest first."""
    if project_id is not None:
        await member_of(services, user, project_id, Role.VIEWER)
    async with acquire(services.pool) as connection:
        rows, total = await store.page(
            connection, user.id, project_id, sensor_id, status, paging.page_size, paging.offset
        )
    tasks = [BackfillTask.of(row) for row in rows]
    return BackfillTasks(backfill_tasks=tasks, total=total, page=paging.page, page_size=paging.page_size)


@router.get("/backfill-tasks/{task_id}", dependencies=[rule(VIEWER)])
async def get_task(services: CurrentServices, user: CurrentUser, task_id: UUID) -> BackfillTask:
    """A recalculation and how far it is."""
    async with acquire(services.pool) as connection:
        row = await store.one(connection, task_id)
        if row is None:
            raise not_found("backfill task")
        await find_sensor(connection, user, row["sensor_id"])
    return BackfillTask.of(row)


@router.post("/backfill-tasks/{task_id}/cancel", dependencies=[rule(EDITOR)])
async def cancel_task(changes: CurrentChanges, user: CurrentUser, task_id: UUID) -> BackfillTask:
    """End a recalculation as failed; one that has ended stays as it is.

    What is converted by then stays so. Start another one to have it otherwise.
    """
    async with changes.begin() as change:
        await lock_catalogue(change.connection)
        row = await store.one(change.connection, task_id)
        if row is None:
            raise not_found("backfill task")
        await find_sensor(change.connection, user, row["sensor_id"], Role.EDITOR)
        why = f"cancelled by {user.username}"
        if not await store.end(change.connection, task_id, TaskStatus.FAILED, why, change.now):
            return BackfillTask.of(row)
        await rulings.withdraw(change.connection, task_id)
        ended = await store.one(change.connection, task_id)
        assert ended is not None
        change.record(task_event(PublicEvent.PROFILE_BACKFILL_COMPLETED, ended))
        return BackfillTask.of(ended)


@router.get("/sensors/{sensor_id}/previous-profiles", dependencies=[rule(VIEWER)])
async def list_previous_profiles(
    services: CurrentServices,
    user: CurrentUser,
    sensor_id: UUID,
    paging: Annotated[Paging, Depends()],
    time_from: Annotated[Moment | None, Query(description="From this time on (RFC 3339).")] = None,
    time_to: Annotated[Moment | None, Query(description="Up to and including this time (RFC 3339).")] = None,
) -> PreviousProfiles:
    """Which profiles readings had before the ones that they have now; read them so with `as_of_profile`."""
    async with acquire(services.pool) as connection:
        await find_sensor(connection, user, sensor_id)
        rows, total = await previous.history(connection, sensor_id, time_from, time_to, paging.page_size, paging.offset)
    found = [PreviousProfile(**dict(row)) for row in rows]
    return PreviousProfiles(previous_profiles=found, total=total, page=paging.page, page_size=paging.page_size)


def _check_place(body: NewBackfill, sensor: Row) -> None:
    if body.sensor_id not in (None, sensor["id"]):
        raise invalid("sensor_id", "is not the path's")
    if body.project_id not in (None, sensor["project_id"]):
        raise invalid("project_id", "is not the sensor's")


async def _check_sessions(change: Change, body: NewBackfill, user_id: UUID) -> None:
    wanted = set(body.capture_session_ids)
    if wanted and await reach_store.sessions_seen(change.connection, list(wanted), user_id) != wanted:
        raise not_found("capture session")


def _asked(body: NewBackfill) -> Stretch | None:
    if body.time_from is None and body.time_to is None:
        return None
    first = TIME_US_MIN if body.time_from is None else to_us(body.time_from)
    return Stretch(first, TIME_US_MAX if body.time_to is None else to_us(body.time_to) + 1)
