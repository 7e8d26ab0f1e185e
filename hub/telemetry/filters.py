"""The filters that query, aggregated and export share, as they come in the query; some are the stream's too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal
from uuid import UUID

from fastapi import Query

from hub.access.identity import Principal
from hub.errors import invalid
from hub.fields import QueryText
from hub.telemetry.moments import Moment, to_us
from hub.telemetry.scope import Scope

SENSORS_MAX = 50
SIGNALS_MAX = 200
ID_MAX = (1 << 53) - 1

SensorIdsQuery = Annotated[
    list[UUID] | None, Query(alias="sensor_id", description="Repeatable; without it, all that the caller may see.")
]
SignalsQuery = Annotated[
    list[QueryText] | None, Query(max_length=SIGNALS_MAX, description="Repeatable; without it, all signals.")
]
ProjectIdQuery = Annotated[UUID | None, Query(description="Only sensors of this project.")]


@dataclass(frozen=True, slots=True)
class TimeRange:
    """From and to (both inclusive in the API) as a half-open range in UTC microseconds."""

    from_us: int | None
    to_us: int | None

    def within(self, from_us: int, to_us: int | None) -> TimeRange:
        """What of it lies in another range."""
        ends = [one for one in (self.to_us, to_us) if one is not None]
        return TimeRange(max(from_us, self.from_us or from_us), min(ends, default=None))


class Filters:
    """Query parameters of query, aggregated and export; a dependency. Raises: Problem 422.

    Attributes:
        signals: None for all.
        descending: newest first.
    """

    def __init__(
        self,
        sensor_id: SensorIdsQuery = None,
        project_id: ProjectIdQuery = None,
        signal: SignalsQuery = None,
        time_from: Annotated[Moment | None, Query(description="From this time on (RFC 3339).")] = None,
        time_to: Annotated[Moment | None, Query(description="Up to and including this time (RFC 3339).")] = None,
        capture_session_id: Annotated[UUID | None, Query(description="What belongs to this session.")] = None,
        run_id: Annotated[UUID | None, Query(description="What belongs to the sessions of this run.")] = None,
        include_late: Annotated[
            bool, Query(description="With a session: also what came late and does not count to it.")
        ] = False,
        as_of_profile: Annotated[
            UUID | None, Query(description="Physical values as this profile of one of the sensors would have them.")
        ] = None,
        since_id: Annotated[
            int | None, Query(ge=0, le=ID_MAX, description="Only readings with higher ids; with `desc`, lower ones.")
        ] = None,
        order: Annotated[Literal["asc", "desc"], Query(description="Oldest or newest first.")] = "asc",
    ) -> None:
        if time_from is not None and time_to is not None and time_from > time_to:
            raise invalid("time_from", "must not be after time_to")
        self.capture_session_id = capture_session_id
        self.run_id = run_id
        self.sensor_id = sensor_id
        self.project_id = project_id
        self.signals = signal
        self.range = TimeRange(
            None if time_from is None else to_us(time_from), None if time_to is None else to_us(time_to) + 1
        )
        self.include_late = include_late
        self.as_of_profile = as_of_profile
        self.since_id = since_id
        self.descending = order == "desc"

    @property
    def id_from(self) -> int | None:
        """The least id that is asked for; no reading has the id 0."""
        return self.since_id + 1 if self.since_id and not self.descending else None

    @property
    def id_to(self) -> int | None:
        """What ids must be below."""
        return self.since_id if self.descending else None

    def scope(self, principal: Principal) -> Scope:
        """What the caller asks about. Raises: Problem 422."""
        return scope_of(principal, self.sensor_id, self.project_id)


def scope_of(principal: Principal, sensor_ids: list[UUID] | None, project_id: UUID | None) -> Scope:
    """What a caller asks about. Raises: Problem 422."""
    if sensor_ids is not None and len(sensor_ids) > SENSORS_MAX:
        raise invalid("sensor_id", f"at most {SENSORS_MAX} sensors")
    return Scope(principal, frozenset(sensor_ids) if sensor_ids else None, project_id)
