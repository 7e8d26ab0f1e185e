"""Enrolment over HTTP: one code, one agent; a lost answer costs nothing; guessing is slow."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from agent.hub_link.enrol import parse_code
from hub.agents.enrol import code_hash, free_name, new_code
from hub.database.pool import transaction
from hub.settings import HubSettings
from tests.hub.conftest import Hub, running_hub


@pytest.fixture
async def hub(hub_settings: dict[str, Any], tmp_path: Path) -> AsyncIterator[Hub]:
    """A hub that gives out credentials in a file."""
    file = tmp_path / "credentials.json"
    provisioning = {"broker_provisioning": "file", "broker_credentials_file": file, "agent_mqtt_host": "broker.lab"}
    async with running_hub(HubSettings(**hub_settings, **provisioning)) as running:
        yield running


async def _project(client: httpx.AsyncClient) -> str:
    answer = await client.post("/projects", json={"name": f"lab {uuid4()}"})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def _code(client: httpx.AsyncClient, project_id: str, **more: Any) -> str:
    answer = await client.post("/api/v1/agents/enrolment-codes", json={"project_id": project_id, **more})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["code"])


async def _enrol(hub: Hub, code: str, agent_id: str, **more: Any) -> httpx.Response:
    body = {"code": code, "agent_id": agent_id, "name": "bench", "host": "pc-7", "version": "0.1.0", **more}
    async with hub.client() as client:
        return await client.post("/api/v1/agents/enrol", json=body)


async def test_an_agent_exchanges_a_code_for_credentials_and_appears_in_the_list(hub: Hub) -> None:
    async with aclosing(await hub.signed_in()) as client:
        project_id, agent_id = await _project(client), str(uuid4())
        code = await _code(client, project_id)
        assert parse_code(code).text == code
        answer = await _enrol(hub, code, agent_id)
        assert answer.status_code == 200, answer.text
        given = answer.json()
        assert (given["agent_id"], given["project_id"], given["name"]) == (agent_id, project_id, "bench")
        assert given["mqtt"]["host"] == "broker.lab"
        users = json.loads(hub.settings.broker_credentials_file.read_text())["users"]  # type: ignore[union-attr]
        user = users[given["mqtt"]["username"]]
        digest = hashlib.scrypt(
            given["mqtt"]["password"].encode(), salt=bytes.fromhex(user["salt"]), n=2**14, r=8, p=1, dklen=32
        )
        assert user["hash"] == digest.hex()
        (listed,) = (await client.get("/api/v1/agents", params={"project_id": project_id})).json()["agents"]
        assert (listed["id"], listed["status"], listed["online"]) == (agent_id, "enrolled", False)
        alone = (await client.get(f"/api/v1/agents/{agent_id}")).json()
        assert alone | {"config_generation": 0} == listed | {"config_generation": 0}  # it rises meanwhile


async def test_the_same_agent_may_repeat_and_another_may_not(hub: Hub) -> None:
    async with aclosing(await hub.signed_in()) as client:
        code, agent_id = await _code(client, await _project(client)), str(uuid4())
        first, again = await _enrol(hub, code, agent_id), await _enrol(hub, f" {code.lower()} ", agent_id)
        assert (first.status_code, again.status_code) == (200, 200)
        assert first.json()["mqtt"]["password"] != again.json()["mqtt"]["password"]
        assert (await _enrol(hub, code, str(uuid4()))).status_code == 409


async def test_unknown_and_expired_codes_are_told_apart(hub: Hub) -> None:
    async with aclosing(await hub.signed_in()) as client:
        code = await _code(client, await _project(client))
    async with transaction(hub.services.pool) as connection:
        await connection.execute("update enrolment_codes set expires_at = now() - $1::interval", timedelta(seconds=1))
    assert (await _enrol(hub, code, str(uuid4()))).status_code == 410
    assert (await _enrol(hub, new_code(None), str(uuid4()))).status_code == 401


async def test_a_code_is_of_the_project_that_body_and_query_name(hub: Hub) -> None:
    async with aclosing(await hub.signed_in()) as client:
        project, other, path = await _project(client), await _project(client), "/api/v1/agents/enrolment-codes"
        made = await client.post(path, params={"project_id": project}, json={})
        assert (made.status_code, made.json()["project_id"]) == (201, project)
        for query, body in (({"project_id": other}, {"project_id": project}), ({}, {})):
            refused = await client.post(path, params=query, json=body)
            assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "project_id"), query
        enrolment = {"code": made.json()["code"], "agent_id": str(uuid4())}
        elsewhere = await client.post("/api/v1/agents/enrol", params={"project_id": other}, json=enrolment)
        assert (elsewhere.status_code, (await client.get("/api/v1/agents")).json()["total"]) == (404, 0)
        there = await client.post("/api/v1/agents/enrol", params={"project_id": project}, json=enrolment)
        assert (there.status_code, there.json()["project_id"]) == (200, project)


async def test_guessing_is_slowed_down(hub: Hub) -> None:
    answers = [(await _enrol(hub, new_code(None), str(uuid4()))).status_code for _ in range(12)]
    assert answers[:3] == [401, 401, 401]
    assert answers[-1] == 429


async def test_an_agent_cannot_move_to_another_project(hub: Hub) -> None:
    async with aclosing(await hub.signed_in()) as client:
        agent_id = str(uuid4())
        await _enrol(hub, await _code(client, await _project(client)), agent_id)
        assert (await _enrol(hub, await _code(client, await _project(client)), agent_id)).status_code == 409


async def test_names_are_made_unique_and_the_codes_name_wins(hub: Hub) -> None:
    async with aclosing(await hub.signed_in()) as client:
        project_id = await _project(client)
        names = [
            (await _enrol(hub, await _code(client, project_id, **more), str(uuid4()))).json()["name"]
            for more in ({}, {}, {"name": "oven corner"})
        ]
    assert names == ["bench", "bench-2", "oven corner"]


async def test_outsiders_see_no_agents_and_viewers_get_no_codes(hub: Hub) -> None:
    async with aclosing(await hub.signed_in()) as client:
        project_id, agent_id = await _project(client), str(uuid4())
        await _enrol(hub, await _code(client, project_id), agent_id)
    async with aclosing(await hub.member("eve")) as eve:
        assert (await eve.get(f"/api/v1/agents/{agent_id}")).status_code == 404
        assert (await eve.get("/api/v1/agents")).json()["agents"] == []
        refused = await eve.post("/api/v1/agents/enrolment-codes", json={"project_id": project_id})
        assert refused.status_code == 404


async def test_a_hub_without_provisioning_says_so(hub_settings: dict[str, Any]) -> None:
    async with running_hub(HubSettings(**hub_settings)) as plain, aclosing(await plain.signed_in()) as client:
        code, agent_id = await _code(client, await _project(client)), str(uuid4())
        answer = await _enrol(plain, code, agent_id)
        assert answer.status_code == 409
        assert "broker_provisioning" in answer.json()["detail"]


def test_a_code_pins_the_certificate(tmp_path: Path) -> None:
    der = b"not really a certificate"
    file = tmp_path / "server.crt"
    file.write_text(ssl.DER_cert_to_PEM_cert(der) + ssl.DER_cert_to_PEM_cert(b"the authority"))
    code = new_code(file)
    assert parse_code(code).pin == hashlib.sha256(der).digest()[:16]
    assert code_hash(code) == code_hash("-".join(code.split("-")[:2]))
    assert len(base64.b32decode(code.split("-")[1])) == 15


async def test_agents_of_one_name_that_enrol_at_once_are_told_apart(hub: Hub) -> None:
    async with aclosing(await hub.signed_in()) as client:
        project_id = await _project(client)
        codes = [await _code(client, project_id) for _ in range(6)]
        async with asyncio.TaskGroup() as group:
            enrolling = [group.create_task(_enrol(hub, code, str(uuid4()))) for code in codes]
    names = [task.result().json().get("name") for task in enrolling]
    assert sorted(names) == ["bench", *(f"bench-{number}" for number in range(2, 7))]


def test_free_names_count_on() -> None:
    assert free_name("A", {"a", "a-2"}) == "A-3"
