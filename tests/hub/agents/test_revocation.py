"""Revoked agents: who may still deliver, until when, and what becomes of credentials."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from hub.agents.presence import Presence
from hub.agents.revocation import SETTLE_US, has_delivered
from hub.settings import HubSettings
from shared.messages import SpoolState, State
from tests.hub.conftest import Hub, running_hub

REVOKED_US = 1_790_000_000_000_000
HEARD_US = REVOKED_US + SETTLE_US


@pytest.fixture
async def hub(hub_settings: dict[str, Any], tmp_path: Path) -> AsyncIterator[Hub]:
    """A hub that gives out credentials in a file."""
    more: dict[str, Any] = {"broker_provisioning": "file", "broker_credentials_file": tmp_path / "credentials.json"}
    async with running_hub(HubSettings(**hub_settings, **more)) as running:
        yield running


def _users(hub: Hub) -> set[str]:
    file = hub.settings.broker_credentials_file
    assert file is not None
    return set(json.loads(file.read_text())["users"])


async def _enrol(hub: Hub, client: httpx.AsyncClient, project_id: str, agent_id: str) -> httpx.Response:
    code = await client.post("/api/v1/agents/enrolment-codes", json={"project_id": project_id})
    async with hub.client() as anyone:
        return await anyone.post(
            "/api/v1/agents/enrol", json={"code": code.json()["code"], "agent_id": agent_id, "name": "pc"}
        )


async def _agent(hub: Hub, client: httpx.AsyncClient) -> tuple[str, str]:
    """A project and an agent enrolled in it."""
    project_id = (await client.post("/projects", json={"name": f"lab {uuid4()}"})).json()["id"]
    agent_id = str(uuid4())
    assert (await _enrol(hub, client, project_id, agent_id)).status_code == 200
    return project_id, agent_id


def _says(hub: Hub, agent_id: str, spool: SpoolState) -> None:
    state = State("online", "ab" * 16, hub.services.clock.now_us(), spool=spool)
    hub.services.presence.note(UUID(agent_id), state, retained=False)


async def test_a_retired_agent_keeps_its_credentials_until_it_has_delivered(hub: Hub) -> None:
    async with aclosing(await hub.signed_in()) as client:
        project_id, agent_id = await _agent(hub, client)
        path = f"/api/v1/agents/{agent_id}"
        view = (await client.post(f"{path}/retire")).json()
        assert (view["status"], view["credentials"]) == ("retired", "until_delivered")
        assert view["delivers_until"] > view["revoked_at"]
        _says(hub, agent_id, SpoolState(pending_batches=2))
        await hub.services.revocations.once()
        assert _users(hub) == {f"agent-{agent_id}"}
        async with hub.services.pool.acquire() as connection:
            await connection.execute("update agents set revoked_at = revoked_at - interval '10 s'")
        _says(hub, agent_id, SpoolState())
        await hub.services.revocations.once()
        assert _users(hub) == set()
        view = (await client.get(path)).json()
        assert (view["status"], view["credentials"], view["delivers_until"]) == ("retired", "void", None)
        events = (await client.get("/api/v1/events", params={"project_id": project_id})).json()["events"]
        told = {event["event_type"]: event["payload"] for event in events}
        assert told["agent.delivery_ended"]["reason"] == "delivered"
        assert told["agent.retired"]["was"] == "enrolled"


async def test_who_does_not_deliver_in_time_is_refused_and_may_enrol_again(hub: Hub) -> None:
    async with aclosing(await hub.signed_in()) as client:
        project_id, agent_id = await _agent(hub, client)
        assert (await client.post(f"/api/v1/agents/{agent_id}/revoke", json={"mode": "retire"})).status_code == 200
        async with hub.services.pool.acquire() as connection:
            await connection.execute("update agents set revoked_at = revoked_at - interval '8 days'")
        await hub.services.revocations.once()
        assert _users(hub) == set()
        assert (await _enrol(hub, client, project_id, agent_id)).status_code == 200
        view = (await client.get(f"/api/v1/agents/{agent_id}")).json()
        assert (view["status"], view["credentials"], view["revoked_at"]) == ("enrolled", "valid", None)
        await hub.services.revocations.once()
        assert _users(hub) == {f"agent-{agent_id}"}


async def test_the_code_that_an_agent_has_used_does_not_take_its_retirement_back(hub: Hub) -> None:
    async with aclosing(await hub.signed_in()) as client, aclosing(hub.client()) as anyone:
        project_id = (await client.post("/projects", json={"name": "lab"})).json()["id"]
        code = (await client.post("/api/v1/agents/enrolment-codes", json={"project_id": project_id})).json()["code"]
        body = {"code": code, "agent_id": str(uuid4()), "name": "pc"}
        for _ in range(2):
            assert (await anyone.post("/api/v1/agents/enrol", json=body)).status_code == 200
        path = f"/api/v1/agents/{body['agent_id']}"
        assert (await client.post(f"{path}/retire")).status_code == 200
        refused = await anyone.post("/api/v1/agents/enrol", json=body)
        assert (refused.status_code, refused.json()["code"]) == (409, "code_used")
        assert (await client.get(path)).json()["status"] == "retired"
        assert (await _enrol(hub, client, project_id, body["agent_id"])).status_code == 200


async def test_a_retired_agent_can_turn_out_to_be_compromised_but_not_the_other_way(hub: Hub) -> None:
    async with aclosing(await hub.signed_in()) as client:
        _, agent_id = await _agent(hub, client)
        path = f"/api/v1/agents/{agent_id}/revoke"
        for mode, status, users in (("retire", 200, 1), ("compromised", 200, 0), ("compromised", 200, 0)):
            answer = await client.post(path, json={"mode": mode, "reason": "a test"})
            assert (answer.status_code, len(_users(hub))) == (status, users)
        assert (await client.post(path, json={"mode": "retire"})).status_code == 409


@pytest.mark.parametrize(
    "body", [{}, {"mode": "fire"}, {"mode": "retire", "reason": "x\0"}, {"mode": "retire", "a": 1}]
)
async def test_a_wrong_revocation_is_refused_and_named(hub: Hub, body: dict[str, Any]) -> None:
    async with aclosing(await hub.signed_in()) as client:
        _, agent_id = await _agent(hub, client)
        answer = await client.post(f"/api/v1/agents/{agent_id}/revoke", json=body)
        assert (answer.status_code, bool(answer.json()["errors"])) == (422, True)


def _heard(spool: SpoolState, **more: Any) -> Presence:
    state = State("online", "ab" * 16, spool=spool, clock_offset_us=5, clock_uncertainty_us=3)
    return replace(Presence(True, False, HEARD_US, state), **more)


def test_only_an_agent_that_is_there_and_said_so_since_has_delivered() -> None:
    assert has_delivered(_heard(SpoolState()), REVOKED_US)
    assert not has_delivered(_heard(SpoolState(), seen_us=HEARD_US - 1), REVOKED_US)
    assert not has_delivered(_heard(SpoolState(), online=False), REVOKED_US), "a last will knows no backlog"
    assert not has_delivered(_heard(SpoolState(), fresh=False), REVOKED_US)
    assert not has_delivered(_heard(SpoolState(pending_batches=1)), REVOKED_US)


@pytest.mark.parametrize(("oldest_us", "delivered"), [(REVOKED_US - 2, False), (REVOKED_US - 1, True)])
def test_what_an_agent_takes_after_it_was_retired_holds_nothing_up(oldest_us: int, delivered: bool) -> None:
    spool = SpoolState(pending_batches=3, oldest_us=oldest_us)
    assert has_delivered(_heard(spool), REVOKED_US) is delivered


def test_a_clock_that_was_never_measured_says_nothing_of_the_backlog() -> None:
    state = State("online", "ab" * 16, spool=SpoolState(pending_batches=1, oldest_us=HEARD_US))
    assert not has_delivered(Presence(True, False, HEARD_US, state), REVOKED_US)
