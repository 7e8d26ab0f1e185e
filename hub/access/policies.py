"""What projects decide for themselves. Whoever enforces a policy asks here, with the connection that it works on.

    policies = (await policies_of(connection, [project_id]))[project_id]
    if not role.includes(policies.session_start_role):
        ...

None stands for what the hub's settings say.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from hub.access.principals import Principal, Role, SensorPrincipal
from hub.database.pool import Connection

_POLICIES = """
    select project_id, late_data, viewers_see_raw, retention_days, clock_skew_s, session_start_role
    from project_policies where project_id = any($1::uuid[])
"""

_RAW_HIDDEN = """
    select s.id from unnest($1::uuid[]) as s (id)
    where not exists (
        select from project_members m left join project_policies o on o.project_id = m.project_id
        where m.user_id = $2 and (m.role <> 'viewer' or coalesce(o.viewers_see_raw, true))
          and (m.project_id = $3 or exists (
                select from sensor_projects p where p.sensor_id = s.id and p.project_id = m.project_id
              ))
    )
"""


class LateData(StrEnum):
    """What becomes of readings that arrive when their session has stopped."""

    HOLD = "hold"
    ATTACH = "attach"


@dataclass(frozen=True, slots=True)
class Policies:
    """A project's policies.

    Attributes:
        late_data: None: hold what comes by REST and WebSocket, attach what agents bring.
        viewers_see_raw: whether viewers are shown raw values; editors and owners always are.
        retention_days: age at which raw readings are dropped, 0 for never.
        clock_skew_s: how far ahead of the hub's clock a reading may lie.
        session_start_role: the least role that may start a capture session.
    """

    late_data: LateData | None = None
    viewers_see_raw: bool = True
    retention_days: int | None = None
    clock_skew_s: int | None = None
    session_start_role: Role = Role.EDITOR


UNDECIDED = Policies()
"""Of a project that has decided nothing."""


async def policies_of(connection: Connection, project_ids: Iterable[UUID]) -> dict[UUID, Policies]:
    """The policies of each of these projects."""
    wanted = set(project_ids)
    found = dict.fromkeys(wanted, UNDECIDED)
    for row in await connection.fetch(_POLICIES, list(wanted)):
        found[row["project_id"]] = Policies(
            late_data=LateData(row["late_data"]) if row["late_data"] else None,
            viewers_see_raw=row["viewers_see_raw"],
            retention_days=row["retention_days"],
            clock_skew_s=row["clock_skew_s"],
            session_start_role=Role(row["session_start_role"]),
        )
    return found


async def raw_hidden_from(
    connection: Connection, principal: Principal, sensor_ids: Iterable[UUID], project_id: UUID | None = None
) -> frozenset[UUID]:
    """Those of the sensors whose raw values the caller is not shown: viewers, where the project does not let them.

    Whoever is more than a viewer in any of a sensor's projects, or a viewer in one that lets them, is shown them.

    Args:
        project_id: of the session or run that the sensors are seen through, which counts as one of their projects.
    """
    if isinstance(principal, SensorPrincipal):
        return frozenset()
    rows = await connection.fetch(_RAW_HIDDEN, list(sensor_ids), principal.id, project_id)
    return frozenset(row["id"] for row in rows)
