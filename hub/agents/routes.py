"""HTTP of agents: enrolment, list, state, revocation."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response

from hub.access.identity import CurrentUser, Role, User, member_of, require_role
from hub.access.named_project import project_to_be
from hub.access.rules import ANYONE, EDITOR, OWNER, SIGNED_IN, VIEWER, rule
from hub.agents import codes, enrol, revocation_store, store
from hub.agents.access import find_agent
from hub.agents.enrol import NewAgent
from hub.agents.store import Row
from hub.agents.views import Agents, AgentView, Code, EnrolledAgent, Enrolment, MqttAccess, NewCode, Revocation
from hub.broker.address import broker_address
from hub.broker.provision import ProvisioningRefused
from hub.database.pool import acquire
from hub.errors import Problem, conflict, too_many
from hub.events.change import Change, Changes, CurrentChanges, begin_change
from hub.events.event import ActorType, NewEvent, SubjectType
from hub.paging import Paging
from hub.services import CurrentServices, Services
from shared.errors import LinkUnavailable

router = APIRouter(prefix="/api/v1/agents", tags=["agents"])

_THROTTLED_AS = "enrolment"


@router.post("/enrolment-codes", status_code=201, response_model=Code, dependencies=[rule(EDITOR)])
async def add_code(
    services: CurrentServices,
    changes: CurrentChanges,
    user: CurrentUser,
    body: NewCode,
    project_id: UUID | None = None,
) -> Response:
    """A code with which one agent can enrol, once. It is shown in this answer and, but to a repeat, never again."""
    project = project_to_be("agent", body.project_id, project_id)
    await member_of(services, user, project, Role.EDITOR)
    lifetime = timedelta(seconds=body.expires_in_s or services.settings.enrolment_code_s)
    drawing = codes.Drawing(services.signer, services.settings.tls_cert_file, changes.key_text)

    async def create(change: Change) -> Code:
        code = drawing.code(project, change.now + lifetime)
        expires_at = await enrol.add_code(change.connection, code, project, body.name, user.id, change.now, lifetime)
        view = Code(code=code, project_id=project, expires_at=expires_at)
        told = {"name": body.name, "expires_at": view.model_dump(mode="json")["expires_at"]}
        change.record(NewEvent("agent.code_made", SubjectType.AGENT, None, project, told))
        return view

    return await changes.once(create, stored=codes.KeptCode.of, restored=drawing.restore)


@router.post("/enrol", dependencies=[rule(ANYONE)])
async def enrol_agent(
    services: CurrentServices,
    changes: CurrentChanges,
    body: Enrolment,
    project_id: Annotated[UUID | None, Query(description="That of the code, if given.")] = None,
) -> EnrolledAgent:
    """Exchange a code for credentials at the broker. The same agent may repeat it, should the answer get lost."""
    actor = replace(changes.actor, type=ActorType.AGENT, id=body.agent_id)
    wait_s = services.throttle.begin(_THROTTLED_AS, actor.address)
    if wait_s:
        raise too_many("too many attempts to enrol", wait_s)
    agent, address = NewAgent(body.agent_id, body.name, body.host), broker_address(services.settings)
    try:
        async with services.broker_turns.turn(), begin_change(services.pool, actor, services.now()) as change:
            enrolled = await enrol.enrol(change, services.provisioner, body.code, agent, project_id)
    except (LinkUnavailable, ProvisioningRefused) as error:  # which is not the agent's fault
        services.throttle.succeed(_THROTTLED_AS, actor.address)
        if isinstance(error, LinkUnavailable):
            raise
        raise Problem(409, str(error), code="provisioning_refused") from error
    services.throttle.succeed(_THROTTLED_AS, actor.address)
    services.configurator.touch([enrolled.agent_id])
    return EnrolledAgent(
        agent_id=enrolled.agent_id,
        project_id=enrolled.project_id,
        name=enrolled.name,
        mqtt=MqttAccess.of(address, enrolled.access),
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
    return _view(services, await find_agent(services, user, agent_id))


@router.post("/{agent_id}/revoke", dependencies=[rule(OWNER)])
async def revoke_agent(changes: CurrentChanges, user: CurrentUser, agent_id: UUID, body: Revocation) -> AgentView:
    """Revoke an agent. What it has sent stays; what it holds can be imported from its exported spool."""
    return await _revoke(changes, user, agent_id, body)


@router.post("/{agent_id}/retire", dependencies=[rule(OWNER)])
async def retire_agent(changes: CurrentChanges, user: CurrentUser, agent_id: UUID) -> AgentView:
    """Revoke an agent, which may still deliver what it holds: `revoke` with the mode `retire`."""
    return await _revoke(changes, user, agent_id, Revocation(mode="retire"))


async def _revoke(changes: Changes, user: User, agent_id: UUID, wanted: Revocation) -> AgentView:
    services = changes.services
    status = "compromised" if wanted.mode == "compromised" else "retired"
    async with changes.begin() as change:
        row = await revocation_store.lock(change.connection, agent_id, user.id)
        require_role(row["role"] if row is not None else None, Role.OWNER, "agent")
        assert row is not None
        if row["status"] == "compromised" and status == "retired":
            raise conflict("this agent was marked as compromised", code="compromised")
        if row["status"] != status:
            await revocation_store.revoke(change.connection, agent_id, status, user.id, wanted.reason, change.now)
            told = {"agent_id": str(agent_id), "name": row["name"], "was": row["status"], "reason": wanted.reason}
            change.record(NewEvent(f"agent.{status}", SubjectType.AGENT, agent_id, row["project_id"], told))
    if status == "compromised":
        with suppress(LinkUnavailable):  # it is refused already; the broker is told as soon as it can be
            async with services.broker_turns.turn():
                await services.revocations.void(agent_id)
    return _view(services, await find_agent(services, user, agent_id, Role.OWNER))


def _view(services: Services, row: Row) -> AgentView:
    return AgentView.of(
        row, services.presence.of(row["id"]), services.now(), services.settings.agent_retirement_grace_h
    )
