"""The session that a request is about, read or held for a change."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Response

from hub.access.identity import CurrentUser
from hub.database.pool import Connection
from hub.errors import not_found
from hub.etags import IfMatch, etag, require_match
from hub.events.change import Change, CurrentChanges
from hub.runs.access import lock_run
from hub.runs.store import Row
from hub.sessions import store
from hub.sessions.views import SessionView


@dataclass(frozen=True, slots=True)
class HeldSession:
    """A session and its run, which nobody else changes until the change is committed."""

    change: Change
    run: Row
    session: Row


class SessionTarget:
    """Where a request wants to change a session; a dependency."""

    def __init__(
        self,
        changes: CurrentChanges,
        user: CurrentUser,
        response: Response,
        run_id: UUID,
        session_id: UUID,
        if_match: IfMatch = None,
    ) -> None:
        self._changes = changes
        self._user = user
        self._response = response
        self._run_id = run_id
        self._session_id = session_id
        self._if_match = if_match

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[HeldSession]:
        """A change of the session. Raises: Problem 403, 404, 412."""
        async with self._changes.begin() as change:
            run = await lock_run(change.connection, self._user, self._run_id)
            session = await store.one(change.connection, self._session_id, self._run_id, lock=True)
            if session is None:
                raise not_found("capture session")
            require_match(self._if_match, session["version"])
            yield HeldSession(change, run, session)

    async def again(self, held: HeldSession) -> Row:
        """The session as it is now, its version in the answer's ETag."""
        row = await find_session(held.change.connection, self._run_id, self._session_id)
        self._response.headers["ETag"] = etag(row["version"])
        return row

    async def view(self, held: HeldSession) -> SessionView:
        """The session as it is now, to answer with."""
        row = await self.again(held)
        return SessionView.of(row, await store.windows(held.change.connection, [self._session_id]))


CurrentSession = Annotated[SessionTarget, Depends()]


async def find_session(connection: Connection, run_id: UUID, session_id: UUID) -> Row:
    """The session's row. Raises: Problem 404."""
    row = await store.one(connection, session_id, run_id)
    if row is None:
        raise not_found("capture session")
    return row


async def view_session(connection: Connection, run_id: UUID, session_id: UUID) -> SessionView:
    """The session, to answer with. Raises: Problem 404."""
    row = await find_session(connection, run_id, session_id)
    return SessionView.of(row, await store.windows(connection, [session_id]))
