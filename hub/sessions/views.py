"""Capture sessions as the API takes and shows them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, Field

from hub.fields import Body, Flag, Text
from hub.sessions.rules import SessionStatus
from hub.sessions.store import Row
from hub.telemetry.moments import Moment

SENSORS_MAX = 5000
OrdinalNumber = Annotated[int, Field(strict=True, ge=1, le=2**31 - 1)]


class NewSession(Body):
    """A session to be: it starts now, unless this says otherwise."""

    ordinal_number: OrdinalNumber | None = Field(default=None, description="The next one if left out.")
    status: SessionStatus | None = None
    notes: Text = ""
    started_at: Moment | None = None
    stopped_at: Moment | None = Field(
        default=None, description="With a past `started_at`: records a session after the fact."
    )
    initiated_by: UUID | None = Field(default=None, description="Yourself.")
    archived: Flag = False
    run_id: UUID | None = None
    project_id: UUID | None = None


class SessionChange(Body):
    """What is to change; what is left out stays."""

    status: SessionStatus | None = None
    notes: Text | None = None
    started_at: Moment | None = Field(default=None, description="With `status: running`, for a draft.")
    stopped_at: Moment | None = Field(default=None, description="With a status that ends the session.")
    archived: Flag | None = None
    run_id: UUID | None = None
    project_id: UUID | None = None


class Place(Body):
    """Where a session is; all of it may be left out."""

    run_id: UUID | None = Field(default=None, description="The session's, if given.")
    project_id: UUID | None = Field(default=None, description="The session's, if given.")


class Stop(Place):
    """How a session ended; succeeded and now, if left out."""

    status: SessionStatus = SessionStatus.SUCCEEDED
    notes: Text | None = None
    stopped_at: Moment | None = None


class Participant(BaseModel):
    """A sensor that takes part, and from when to when its readings count."""

    sensor_id: UUID
    time_from: datetime
    time_to: datetime | None


class SessionView(BaseModel):
    """A capture session."""

    id: UUID
    run_id: UUID
    project_id: UUID
    ordinal_number: int
    status: SessionStatus
    initiated_by: UUID | None
    notes: str
    started_at: datetime | None
    stopped_at: datetime | None
    archived: bool
    created_at: datetime
    updated_at: datetime
    version: int
    held_records: int = Field(
        description="Late readings that do not count until a backfill; counted every few seconds."
    )
    sensors: list[Participant]

    @staticmethod
    def of(row: Row, windows: Iterable[Row]) -> SessionView:
        """From the session's row and the windows of (at least) its sensors."""
        return SessionView(**_fields(row, windows))


class BackfilledSession(SessionView):
    """A session whose backfill is complete."""

    attached_records: int = Field(description="Readings that had been held back and count from now on.")

    @staticmethod
    def counting(row: Row, windows: Iterable[Row], attached_records: int) -> BackfilledSession:
        """As `SessionView.of`."""
        return BackfilledSession(**_fields(row, windows), attached_records=attached_records)


class Sessions(BaseModel):
    """Sessions of a run, by their number."""

    capture_sessions: list[SessionView]
    total: int
    page: int
    page_size: int


def _fields(row: Row, windows: Iterable[Row]) -> dict[str, Any]:
    own = [
        Participant(sensor_id=one["sensor_id"], time_from=one["time_from"], time_to=one["time_to"])
        for one in windows
        if one["session_id"] == row["id"]
    ]
    names = SessionView.model_fields.keys() - {"sensors"}
    return {name: row[name] for name in names} | {"sensors": own}
