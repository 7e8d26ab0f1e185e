"""Agents as the API takes and shows them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Literal, Self
from uuid import UUID

import msgspec
from pydantic import AfterValidator, BaseModel, Field, StringConstraints

from hub.agents.presence import Presence
from hub.agents.store import Row
from hub.broker.address import BrokerAddress
from hub.broker.provision import BrokerAccess
from hub.fields import Body, Name, storable
from hub.telemetry.moments import to_datetime
from shared.messages import State

AgentStatus = Literal["enrolled", "retired", "compromised"]
Standing = Literal["valid", "until_delivered", "ending", "void"]
Words = Annotated[str, AfterValidator(storable), StringConstraints(strip_whitespace=True, max_length=200)]


class NewCode(Body):
    """For which project a code is wanted."""

    project_id: UUID | None = Field(None, description="`project_id` in the query will do.")
    name: Words = Field("", description="How the agent will be called; by default as it calls itself.")
    expires_in_s: int | None = Field(None, strict=True, ge=60, le=30 * 86_400, description="Lifetime in seconds.")


class Code(BaseModel):
    """A code, shown once. `labrelay agent enrol --hub URL --code CODE`."""

    code: str
    project_id: UUID
    expires_at: datetime


class Enrolment(Body):
    """What an agent sends to enrol. It draws its own id at its first start."""

    code: str = Field(min_length=8, max_length=300)
    agent_id: UUID
    name: Words = ""
    host: Words = ""
    version: Words = ""


class MqttAccess(BaseModel):
    """How the agent reaches the broker. `ca_pem` is null where the system's authorities vouch for it."""

    host: str
    port: int
    tls: bool
    ca_pem: str | None
    username: str
    password: str

    @classmethod
    def of(cls, address: BrokerAddress, access: BrokerAccess) -> Self:
        """Where the broker is, and who the agent is there."""
        return cls(
            host=address.host,
            port=address.port,
            tls=address.tls,
            ca_pem=address.ca_pem,
            username=access.username,
            password=access.password,
        )


class EnrolledAgent(BaseModel):
    """What an enrolled agent works with."""

    agent_id: UUID
    project_id: UUID
    name: str
    mqtt: MqttAccess


class DeviceView(BaseModel):
    """One device of an agent."""

    name: str
    driver: str
    status: str
    points: int
    readings: int
    failures: int
    last_reading_at: datetime | None
    error: str


class Revocation(Body):
    """How an agent is revoked: `retire` lets it deliver what it holds, `compromised` refuses it at once."""

    mode: Literal["retire", "compromised"]
    reason: Words = ""


class AgentView(BaseModel):
    """An agent, as the hub knows it.

    `credentials` are `valid`; or, of a revoked agent, `until_delivered` (at the latest `delivers_until`), then `ending`
    (nothing is taken any more, the broker is being told) and `void`. `connection`: `conflict` means that two processes
    of this agent run at once. `backlog_readings` wait on its disk; `lag_s` is how old the oldest of them is.
    """

    id: UUID
    project_id: UUID
    name: Name
    status: AgentStatus
    connection: Literal["online", "offline", "conflict"]
    online: bool
    last_seen: datetime | None
    enrolled_at: datetime
    revoked_at: datetime | None
    revoked_reason: str
    credentials: Standing
    delivers_until: datetime | None
    version: str
    host: str
    sensors: int
    sensors_refused: int
    config_generation: int
    config_generation_in_force: int
    backlog_batches: int
    backlog_readings: int
    lag_s: float
    spool_bytes: int
    spool_quota_bytes: int
    quarantined_batches: int
    dropped_readings: int
    clock_offset_us: int
    clock_uncertainty_us: int | None
    devices: list[DeviceView]
    error: str

    @classmethod
    def of(cls, row: Row, presence: Presence | None, now: datetime, grace_h: float) -> Self:
        """From the database and what was heard since.

        Args:
            grace_h: how long a retired agent may deliver.
        """
        state = presence.state if presence is not None else _stored(row)
        spool = state.spool
        seen = [moment for moment in (row["last_seen"], to_datetime(presence.seen_us) if presence else None) if moment]
        online = presence is not None and presence.online and row["refused_since"] is None
        conflict = online and presence is not None and presence.conflict
        oldest = to_datetime(spool.oldest_us) if spool.pending_readings and spool.oldest_us > 0 else None
        return cls(
            id=row["id"],
            project_id=row["project_id"],
            name=row["name"],
            status=row["status"],
            connection="conflict" if conflict else "online" if online else "offline",
            online=online,
            last_seen=max(seen, default=None),
            enrolled_at=row["enrolled_at"],
            revoked_at=row["revoked_at"],
            revoked_reason=row["revoked_reason"],
            credentials=_standing(row),
            delivers_until=_delivers_until(row, grace_h),
            version=state.version,
            host=state.host,
            sensors=row["sensors"],
            sensors_refused=row["sensors_refused"],
            config_generation=row["config_generation"],
            config_generation_in_force=state.generation,
            backlog_batches=spool.pending_batches,
            backlog_readings=spool.pending_readings,
            lag_s=max((now - oldest).total_seconds(), 0.0) if oldest else 0.0,
            spool_bytes=spool.bytes,
            spool_quota_bytes=spool.quota_bytes,
            quarantined_batches=spool.quarantined_batches,
            dropped_readings=spool.dropped_readings,
            clock_offset_us=state.clock_offset_us,
            clock_uncertainty_us=state.clock_uncertainty_us if state.clock_uncertainty_us >= 0 else None,
            devices=[
                DeviceView(
                    name=device.name,
                    driver=device.driver,
                    status=device.status,
                    points=device.points,
                    readings=device.readings,
                    failures=device.failures,
                    last_reading_at=to_datetime(device.last_reading_us) if device.last_reading_us > 0 else None,
                    error=device.error,
                )
                for device in state.devices
            ],
            error=state.error,
        )


class Agents(BaseModel):
    """A page of agents."""

    agents: list[AgentView]
    total: int
    page: int
    page_size: int


def _standing(row: Row) -> Standing:
    if row["status"] == "enrolled":
        return "valid"
    if row["refused_since"] is None:
        return "until_delivered"
    return "ending" if row["voided_at"] is None else "void"


def _delivers_until(row: Row, grace_h: float) -> datetime | None:
    if _standing(row) != "until_delivered" or row["revoked_at"] is None:
        return None
    until: datetime = row["revoked_at"] + timedelta(hours=grace_h)
    return until


def _stored(row: Row) -> State:
    """What the agent last said, as it was written down."""
    try:
        return msgspec.convert(row["state"], State) if row["state"] is not None else State("offline", "")
    except msgspec.ValidationError:
        return State("offline", "")
