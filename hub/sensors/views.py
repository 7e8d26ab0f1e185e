"""Sensors and profiles as the API takes and shows them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, BaseModel, Field, StringConstraints, model_validator

from hub.errors import invalid
from hub.fields import Body, Name, Text, storable
from hub.sensors.rules import ConnectionStatus, ProfileKind, ProfileStatus, SensorStatus, connection_status
from hub.sensors.store import Row, SensorFields
from hub.telemetry.moments import Moment
from shared.errors import ProfileError
from shared.profiles import compile_profile

SPLIT_MAX = 1000
"""Runs or sessions that one profile may be split off for."""

Word = Annotated[str, AfterValidator(storable), StringConstraints(max_length=200)]
Version = Annotated[
    str, AfterValidator(storable), StringConstraints(strip_whitespace=True, min_length=1, max_length=100)
]


ReadingsPerS = Annotated[int, Field(strict=True, ge=0, le=10_000_000)]


class NewProfile(Body):
    """A conversion profile to be. Its payload must fit its kind."""

    version: Version
    kind: ProfileKind
    payload: dict[str, Any]
    valid_from: Moment | None = Field(None, description="From when it is in force once published.")
    valid_to: Moment | None = None
    status: ProfileStatus | None = Field(
        None, description="`draft`, if given; of a sensor's first profile, made with it: `draft`, else it is `active`."
    )
    created_by: UUID | None = Field(None, description="Yourself, if given.")
    sensor_id: UUID | None = Field(None, description="The path's, if given.")
    project_id: UUID | None = Field(None, description="The sensor's, if given.")

    def require_own(self, creator_id: UUID, sensor_id: UUID, project_id: UUID, *, within: str = "") -> None:
        """See that what is repeated here is so.

        Args:
            within: what stands before the names of the fields.

        Raises: Problem 422.
        """
        if self.created_by not in (None, creator_id):
            raise invalid(f"{within}created_by", "is whoever asks")
        if self.sensor_id not in (None, sensor_id):
            raise invalid(f"{within}sensor_id", "is not the sensor's")
        if self.project_id not in (None, project_id):
            raise invalid(f"{within}project_id", "is not the sensor's")

    @model_validator(mode="after")
    def _fits(self) -> NewProfile:
        try:
            compile_profile(self.kind, self.payload)
        except ProfileError as error:
            raise ValueError(f"payload: {error}") from None
        if self.valid_from is not None and self.valid_to is not None and self.valid_to <= self.valid_from:
            raise ValueError("valid_to must be after valid_from")
        return self


def _distinct(ids: list[UUID]) -> list[UUID]:
    if len(set(ids)) < len(ids):
        raise ValueError("names something twice")
    return ids


SplitIds = Annotated[list[UUID], Field(min_length=1, max_length=SPLIT_MAX), AfterValidator(_distinct)]


class Split(Body):
    """What a profile is to hold for, beside the sensor's default one: either runs or sessions."""

    run_ids: SplitIds | None = Field(None, description="All sessions of these runs, those too that start later.")
    capture_session_ids: SplitIds | None = None

    @model_validator(mode="after")
    def _is_either(self) -> Split:
        if (self.run_ids is None) == (self.capture_session_ids is None):
            raise ValueError("takes either run_ids or capture_session_ids")
        return self


class Publication(Body):
    """How to publish; all of it may be left out."""

    valid_from: Moment | None = Field(None, description="From when it is in force; in the future, it is scheduled.")
    split: Split | None = Field(None, description="Hold for readings of these only; the default profile stays active.")
    project_id: UUID | None = Field(None, description="The sensor's primary one, if given.")


class NewSensor(Body):
    """A sensor to be."""

    name: Name
    project_id: UUID | None = Field(None, description="Its primary project; `project_id` in the query will do.")
    type: Word = ""
    input_unit: Word = ""
    display_unit: Word = ""
    status: SensorStatus = SensorStatus.REGISTERING
    calibration_notes: Text = ""
    readings_per_s_max: ReadingsPerS | None = Field(None, description="As in a change.")
    conversion_profile: NewProfile | None = Field(None, description="Its first profile, in force at once.")

    def fields(self) -> SensorFields:
        """For the database."""
        return _fields(self)


class SensorChange(Body):
    """What is to change; what is left out stays."""

    name: Name | None = None
    type: Word | None = None
    input_unit: Word | None = None
    display_unit: Word | None = None
    status: SensorStatus | None = None
    calibration_notes: Text | None = None
    readings_per_s_max: ReadingsPerS | None = Field(
        None, description="How much may be sent with its token; 0 for what the hub's settings say."
    )
    sensor_id: UUID | None = Field(None, description="The sensor's own id, if given.")
    project_id: UUID | None = Field(None, description="The sensor's, if given.")

    @model_validator(mode="after")
    def _changes_something(self) -> SensorChange:
        if self.fields() == SensorFields():
            raise ValueError("give at least one field to change")
        return self

    def fields(self) -> SensorFields:
        """For the database."""
        return _fields(self)


def _fields(body: NewSensor | SensorChange) -> SensorFields:
    return SensorFields(
        body.name,
        body.type,
        body.input_unit,
        body.display_unit,
        body.status,
        body.calibration_notes,
        body.readings_per_s_max,
    )


class SensorView(BaseModel):
    """A sensor."""

    id: UUID
    project_id: UUID
    name: str
    type: str
    input_unit: str
    display_unit: str
    status: SensorStatus
    connection_status: ConnectionStatus = Field(description="online < 30 s, delayed ≤ 5 min, else offline.")
    token_preview: str = Field(description="The token's last four characters.")
    last_heartbeat: datetime | None
    active_profile_id: UUID | None
    calibration_notes: str
    readings_per_s_max: int | None = Field(
        None, description="How much may be sent with its token; null: what the hub's settings say."
    )
    created_at: datetime
    updated_at: datetime

    @staticmethod
    def of(row: Row, last_heard: datetime | None, now: datetime) -> SensorView:
        """A row of sensors, and when the sensor was last heard."""
        fields = {name: row[name] for name in SensorView.model_fields if name != "connection_status"}
        fields["last_heartbeat"] = last_heard
        return SensorView(**fields, connection_status=connection_status(last_heard, now))


class SensorWithToken(BaseModel):
    """A sensor and its token, which is shown this once."""

    sensor: SensorView
    token: str


class Sensors(BaseModel):
    """A page of sensors."""

    sensors: list[SensorView]
    total: int
    page: int
    page_size: int


class StatusSummary(BaseModel):
    """How many sensors there are, by connection and by status."""

    total: int
    online: int
    delayed: int
    offline: int
    by_status: dict[SensorStatus, int]


class ProjectOfSensor(Body):
    """One more project."""

    project_id: UUID


class ProjectIds(BaseModel):
    """All projects of a sensor, its primary one first."""

    project_ids: list[UUID]


class SplitView(BaseModel):
    """What a profile holds for; one of the lists is empty."""

    run_ids: list[UUID]
    capture_session_ids: list[UUID]


class ProfileView(BaseModel):
    """A conversion profile."""

    id: UUID
    sensor_id: UUID
    version: str
    kind: ProfileKind
    payload: dict[str, Any]
    status: ProfileStatus
    valid_from: datetime | None = Field(description="In force from here; null once published: for all earlier times.")
    valid_to: datetime | None
    created_by: UUID | None
    published_by: UUID | None
    created_at: datetime
    published_at: datetime | None
    split: SplitView | None = Field(description="Null for one that holds whatever the run and session: the default.")


class Profiles(BaseModel):
    """A page of a sensor's profiles, newest first."""

    conversion_profiles: list[ProfileView]
    total: int
    page: int
    page_size: int
