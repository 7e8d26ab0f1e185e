"""Which sensors a request is about, among those that the caller may see."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from hub.access.credentials import still_good
from hub.access.identity import Principal, User
from hub.access.policies import raw_hidden_from
from hub.database.pool import Connection
from hub.errors import Problem, not_found, unauthorized
from hub.telemetry.live import SensorIds

_OF_USER = """
select s.id from sensors s
where ($2::uuid[] is null or s.id = any($2))
  and exists (
    select from sensor_projects p join project_members m on m.project_id = p.project_id
    where p.sensor_id = s.id and m.user_id = $1 and ($3::uuid is null or p.project_id = $3)
  )
"""
_IS_MEMBER = "select exists (select from project_members where user_id = $1 and project_id = $2)"


@dataclass(frozen=True, slots=True)
class Sight:
    """What a caller may see.

    Attributes:
        hidden: those of the sensors whose raw values are not shown to the caller.
    """

    sensors: SensorIds
    hidden: SensorIds


@dataclass(frozen=True, slots=True)
class Scope:
    """What a caller asks about.

    Attributes:
        sensor_ids: None for all that the caller may see.
        project_id: None for all projects of the caller.
    """

    principal: Principal
    sensor_ids: SensorIds | None
    project_id: UUID | None

    async def sensors(self, connection: Connection) -> SensorIds:
        """The sensors that the caller may see now. Raises: Problem 404."""
        if not isinstance(self.principal, User):
            return self._own(self.principal.id, self.principal.project_ids)
        user_id = self.principal.id
        if self.project_id is not None and not await connection.fetchval(_IS_MEMBER, user_id, self.project_id):
            raise not_found("project")
        wanted = None if self.sensor_ids is None else list(self.sensor_ids)
        found = frozenset(row["id"] for row in await connection.fetch(_OF_USER, user_id, wanted, self.project_id))
        if self.sensor_ids is not None and found != self.sensor_ids:
            raise _missing(self.sensor_ids - found)
        return found

    async def sight(self, connection: Connection) -> Sight:
        """The same, with those whose raw values are hidden. Raises: Problem 404."""
        sensors = await self.sensors(connection)
        return Sight(sensors, await raw_hidden_from(connection, self.principal, sensors))

    async def check_credentials(self, connection: Connection, now: datetime) -> None:
        """See that what the caller came with is still good. Raises: Problem 401."""
        if not await still_good(connection, self.principal, now):
            raise unauthorized("the token was revoked")

    def _own(self, sensor_id: UUID, project_ids: frozenset[UUID]) -> SensorIds:
        if self.project_id is not None and self.project_id not in project_ids:
            raise not_found("project")
        own = frozenset((sensor_id,))
        if self.sensor_ids is not None and not self.sensor_ids <= own:
            raise _missing(self.sensor_ids - own)
        return own


def _missing(sensor_ids: SensorIds) -> Problem:
    return not_found(f"sensor {min(map(str, sensor_ids))}")
