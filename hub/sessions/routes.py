"""HTTP of capture sessions."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel

from hub.access.identity import CurrentUser, Role, require_role
from hub.access.policies import policies_of
from hub.access.rules import EDITOR, VIEWER, rule
from hub.database.pool import acquire
from hub.errors import invalid, require_same
from hub.etags import etag
from hub.events.change import Change, CurrentChanges
from hub.events.event import SubjectType
from hub.events.store import of_subject
from hub.paging import Paging
from hub.runs.access import find_run, lock_run
from hub.runs.store import Row
from hub.runs.views import RunEvent, RunEvents
from hub.services import CurrentServices
from hub.sessions import lifecycle, store
from hub.sessions.rules import SessionStatus, opening_of
from hub.sessions.target import CurrentSession, find_session, view_session
from hub.sessions.views import BackfilledSession, NewSession, Place, SessionChange, Sessions, SessionView, Stop

router = APIRouter(prefix="/api/v1/runs/{run_id}/capture-sessions", tags=["sessions"])


@router.get("", dependencies=[rule(VIEWER)])
async def list_sessions(
    services: CurrentServices,
    user: CurrentUser,
    run_id: UUID,
    paging: Annotated[Paging, Depends()],
    status: SessionStatus | None = None,
    archived: bool | None = None,
) -> Sessions:
    """Sessions of a run by their number."""
    async with acquire(services.pool) as connection:
        await find_run(connection, user, run_id)
        rows, total = await store.page(connection, run_id, status, archived, paging.page_size, paging.offset)
        windows = await store.windows(connection, [row["id"] for row in rows])
    views = [SessionView.of(row, windows) for row in rows]
    return Sessions(capture_sessions=views, total=total, page=paging.page, page_size=paging.page_size)


# Who may start one is the project's policy, so the rule asks for the least that a policy can ask for.
@router.post("", status_code=201, response_model=SessionView, dependencies=[rule(VIEWER)])
async def add_session(
    changes: CurrentChanges, user: CurrentUser, run_id: UUID, body: NewSession | None = None
) -> Response:
    """Start a session: now, unless the body says otherwise."""
    wanted = body or NewSession()

    async def create(change: Change) -> SessionView:
        run = await lock_run(change.connection, user, run_id, Role.VIEWER)
        policies = (await policies_of(change.connection, [run["project_id"]]))[run["project_id"]]
        require_role(run["role"], policies.session_start_role, "run")
        _check_place(wanted, run)
        if wanted.initiated_by not in (None, user.id):
            raise invalid("initiated_by", "is whoever asks")
        if wanted.archived:
            raise invalid("archived", "a session does not begin as archived")
        opening = opening_of(wanted.status, wanted.started_at, wanted.stopped_at, change.now)
        new = lifecycle.NewSession(wanted.ordinal_number, wanted.notes, opening)
        return await view_session(change.connection, run_id, await lifecycle.create(change, run, policies, new))

    return await changes.once(create, headers=_headers)


@router.get("/{session_id}", dependencies=[rule(VIEWER)])
async def get_session(
    services: CurrentServices, user: CurrentUser, response: Response, run_id: UUID, session_id: UUID
) -> SessionView:
    """One session, with who takes part."""
    async with acquire(services.pool) as connection:
        await find_run(connection, user, run_id)
        view = await view_session(connection, run_id, session_id)
    response.headers["ETag"] = etag(view.version)
    return view


@router.patch("/{session_id}", dependencies=[rule(EDITOR)])
async def change_session(target: CurrentSession, body: SessionChange) -> SessionView:
    """Start a draft, end or archive a session, or write other notes."""
    async with target.hold() as held:
        _check_place(body, held.run)
        session = held.session
        if body.notes is not None:
            await store.set_notes(held.change.connection, session["id"], body.notes, held.change.now)
            session = await target.again(held)
        await _enter(held.change, held.run, session, body)
        return await target.view(held)


@router.delete("/{session_id}", status_code=204, dependencies=[rule(EDITOR)])
async def delete_session(target: CurrentSession) -> None:
    """Remove a session that is neither running nor backfilling; its readings stay."""
    async with target.hold() as held:
        await lifecycle.remove(held.change, held.session)


@router.post("/{session_id}/stop", dependencies=[rule(EDITOR)])
async def stop_session(target: CurrentSession, body: Stop | None = None) -> SessionView:
    """End a running session: succeeded and now, unless the body says otherwise."""
    wanted = body or Stop()
    async with target.hold() as held:
        _check_place(wanted, held.run)
        await lifecycle.stop(held.change, held.session, wanted.status, wanted.stopped_at, wanted.notes)
        return await target.view(held)


@router.post("/{session_id}/backfill/start", dependencies=[rule(EDITOR)])
async def start_backfill(target: CurrentSession, body: Place | None = None) -> SessionView:
    """From now on late readings count as they come."""
    async with target.hold() as held:
        _check_place(body or Place(), held.run)
        await lifecycle.start_backfill(held.change, held.session)
        return await target.view(held)


@router.post("/{session_id}/backfill/complete", dependencies=[rule(EDITOR)])
async def complete_backfill(target: CurrentSession, body: Place | None = None) -> BackfilledSession:
    """Count what had been held back, too; the session is again what it was before."""
    async with target.hold() as held:
        _check_place(body or Place(), held.run)
        attached = await lifecycle.complete_backfill(held.change, held.session)
        row = await target.again(held)
        return BackfilledSession.counting(row, await store.windows(held.change.connection, [row["id"]]), attached)


@router.get("/{session_id}/events", dependencies=[rule(VIEWER)])
async def list_events(
    services: CurrentServices,
    user: CurrentUser,
    run_id: UUID,
    session_id: UUID,
    paging: Annotated[Paging, Depends()],
) -> RunEvents:
    """What was done to a session, newest first."""
    async with acquire(services.pool) as connection:
        await find_run(connection, user, run_id)
        await find_session(connection, run_id, session_id)
        rows, total = await of_subject(connection, SubjectType.SESSION, session_id, paging.page_size, paging.offset)
    events = [RunEvent(subject_type=SubjectType.SESSION, subject_id=session_id, **dict(row)) for row in rows]
    return RunEvents(events=events, total=total, page=paging.page, page_size=paging.page_size)


async def _enter(change: Change, run: Row, session: Row, body: SessionChange) -> None:
    """Bring a session to the status that a patch asks for."""
    wanted = body.status or (SessionStatus.ARCHIVED if body.archived else None)
    will_be_archived = SessionStatus.ARCHIVED in (wanted, session["status"])
    if body.archived not in (None, will_be_archived):
        raise invalid("archived", "goes with the status archived, and for good")
    if wanted is None:
        if body.started_at is not None or body.stopped_at is not None:
            raise invalid("started_at" if body.started_at else "stopped_at", "goes with a status")
    elif wanted is SessionStatus.RUNNING:
        await lifecycle.start(change, run, session, body.started_at)
    elif wanted is SessionStatus.BACKFILLING:
        await lifecycle.start_backfill(change, session)
    elif wanted is SessionStatus.ARCHIVED:
        await lifecycle.archive(change, session)
    else:
        await lifecycle.stop(change, session, wanted, body.stopped_at, None)


def _check_place(body: NewSession | SessionChange | Place, run: Row) -> None:
    require_same("run_id", body.run_id, run["id"])
    require_same("project_id", body.project_id, run["project_id"])


def _headers(view: BaseModel) -> dict[str, str]:
    assert isinstance(view, SessionView)
    return {"ETag": etag(view.version)}
