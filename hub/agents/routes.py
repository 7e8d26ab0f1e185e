"""HTTP of agents: enrolment, list, state, retirement."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request

from hub.access.identity import CurrentUser, Role, User, member_of
from hub.access.rules import ANYONE, EDITOR, OWNER, SIGNED_IN, VIEWER, rule
from hub.agents import enrol, store
from hub.agents.enrol import NewAgent
from hub.agents.store import Row
from hub.agents.views import Agents, AgentView, Code, EnrolledAgent, Enrolment, MqttAccess, NewCode
from hub.broker.provision import ProvisioningRefused
from hub.database.pool import acquire, transaction
from hub.errors import Problem, not_found, too_many
from hub.paging import Paging
from hub.services import CurrentServices, Services
from hub.settings import HubSettings
from shared.errors import ConfigurationError

router = APIRouter(prefix="/api/v1/agents", tags=["agents"])

_THROTTLED_AS = "enrolment"


@router.post("/enrolment-codes", status_code=201, dependencies=[rule(EDITOR)])
async def add_code(services: CurrentServices, user: CurrentUser, body: NewCode) -> Code:
    """A code with which one agent can enrol, once. It is shown in this answer and never again."""
    await member_of(services, user, body.project_id, Role.EDITOR)
    code = enrol.new_code(services.settings.tls_cert_file)
    lifetime = timedelta(seconds=body.expires_in_s or services.settings.enrolment_code_s)
    async with transaction(services.pool) as connection:
        expires_at = await enrol.add_code(
            connection, code, body.project_id, body.name, user.id, services.now(), lifetime
        )
    return Code(code=code, project_id=body.project_id, expires_at=expires_at)


@router.post("/enrol", dependencies=[rule(ANYONE)])
async def enrol_agent(services: CurrentServices, request: Request, body: Enrolment) -> EnrolledAgent:
    """Exchange a code for credentials at the broker. The same agent may repeat it, should the answer get lost."""
    address = request.client.host if request.client else ""
    wait_s = services.throttle.begin(_THROTTLED_AS, address)
    if wait_s:
        raise too_many("too many attempts to enrol", wait_s)
    agent = NewAgent(body.agent_id, body.name, body.host)
    try:
        enrolled = await enrol.enrol(services.pool, services.provisioner, body.code, agent, services.now())
    except ProvisioningRefused as error:
        raise Problem(409, str(error), code="provisioning_refused") from error
    services.throttle.succeed(_THROTTLED_AS, address)
    services.configurator.touch([enrolled.agent_id])
    return EnrolledAgent(
        agent_id=enrolled.agent_id,
        project_id=enrolled.project_id,
        name=enrolled.name,
        mqtt=mqtt_access(services.settings, enrolled.access.username, enrolled.access.password),
    )


@router.get("", dependencies=[rule(SIGNED_IN)])
async def list_agents(
    services: CurrentServices,
    user: CurrentUser,
    paging: Annotated[Paging, Depends()],
    project_id: Annotated[UUID | None, Query(description="Only agents of this project.")] = None,
) -> Agents:
    """Agents by name; without `project_id`, those of all projects of the caller."""
    if project_id is not None:
        await member_of(services, user, project_id, Role.VIEWER)
    async with acquire(services.pool) as connection:
        rows, total = await store.page(connection, user.id, project_id, paging.page_size, paging.offset)
    views = [_view(services, row) for row in rows]
    return Agents(agents=views, total=total, page=paging.page, page_size=paging.page_size)


@router.get("/{agent_id}", dependencies=[rule(VIEWER)])
async def get_agent(services: CurrentServices, user: CurrentUser, agent_id: UUID) -> AgentView:
    """One agent."""
    return _view(services, await _find(services, user, agent_id, Role.VIEWER))


@router.post("/{agent_id}/retire", dependencies=[rule(OWNER)])
async def retire_agent(services: CurrentServices, user: CurrentUser, agent_id: UUID) -> AgentView:
    """Void the agent's credentials. What it still sends is refused; what it has sent stays."""
    await _find(services, user, agent_id, Role.OWNER)
    async with transaction(services.pool) as connection:
        await store.retire(connection, agent_id)
    await services.provisioner.revoke(agent_id)
    return _view(services, await _find(services, user, agent_id, Role.OWNER))


def mqtt_access(settings: HubSettings, username: str, password: str) -> MqttAccess:
    """The broker as agents reach it. Raises: ConfigurationError when the CA cannot be read."""
    authority = settings.agent_mqtt_ca_file or settings.mqtt_ca_file or settings.tls_cert_file
    return MqttAccess(
        host=settings.agent_mqtt_host or settings.mqtt_host,
        port=settings.agent_mqtt_port or settings.mqtt_port,
        tls=settings.agent_mqtt_tls,
        ca_pem=_read(authority) if settings.agent_mqtt_tls and authority is not None else None,
        username=username,
        password=password,
    )


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise ConfigurationError(f"cannot read the broker's CA: {error}", key=("agent_mqtt_ca_file",)) from error


async def _find(services: Services, user: User, agent_id: UUID, at_least: Role) -> Row:
    async with acquire(services.pool) as connection:
        row = await store.one(connection, agent_id)
    if row is None:
        raise not_found("agent")
    try:
        await member_of(services, user, row["project_id"], at_least)
    except Problem as problem:
        raise not_found("agent") if problem.status == 404 else problem from None
    return row


def _view(services: Services, row: Row) -> AgentView:
    return AgentView.of(row, services.presence.of(row["id"]), services.now())
