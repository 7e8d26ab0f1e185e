"""What credentials open at the broker, tried from outside: with Mosquitto's own clients, on both brokers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from hub.settings import HubSettings
from labrelay.up.mosquitto import Broker
from tests.fixtures.servers import Mosquitto
from tests.hub.conftest import Hub, cheap_hashes, hub_settings, running_hub

__all__ = ["cheap_hashes", "hub_settings"]

LISTEN_S = 2
SOON_S = 20.0
PREFIX = "labrelay/v1"


@dataclass(frozen=True, slots=True)
class Login:
    """Who somebody is at the broker."""

    username: str
    password: str


@dataclass
class Outside:
    """A hub, its broker, and clients that know nothing of either but an address and a password."""

    hub: Hub
    port: int
    owner: Login

    async def run(self, program: str, login: Login, *arguments: str) -> asyncio.subprocess.Process:
        """Start one of Mosquitto's clients."""
        address = ("-h", "127.0.0.1", "-p", str(self.port), "-u", login.username, "-P", login.password)
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(program, *address, *arguments, stdout=pipe, stderr=pipe)

    async def publish(self, login: Login, topic: str, payload: str = "value") -> None:
        """Leave a retained message; one that is refused is not told of it."""
        process = await self.run("mosquitto_pub", login, "-q", "1", "-r", "-t", topic, "-m", payload)
        await asyncio.wait_for(process.communicate(), SOON_S)

    async def topics(self, login: Login, *filters: str, more: tuple[str, ...] = ()) -> set[str]:
        """Topics of the messages that these subscriptions bring within a while."""
        wanted = [part for one in filters for part in ("-t", one)]
        process = await self.run("mosquitto_sub", login, "-W", str(LISTEN_S), "-F", "%t", *more, *wanted)
        output, _ = await asyncio.wait_for(process.communicate(), SOON_S)
        return set(output.decode().split())

    async def opens(self, login: Login) -> bool:
        """Whether the broker lets somebody in."""
        process = await self.run("mosquitto_pub", login, "-t", "nobody/listens", "-m", "x")
        await asyncio.wait_for(process.communicate(), SOON_S)
        return process.returncode == 0


async def until(done: Callable[[], Any], what: str) -> None:
    """Wait for something that comes about soon."""
    async with asyncio.timeout(SOON_S):
        while not await done():
            await asyncio.sleep(0.2)
    assert what


@pytest.fixture(params=["mosquitto", "embedded_broker"])
async def outside(
    request: pytest.FixtureRequest, hub_settings: dict[str, Any], tmp_path: Path
) -> AsyncIterator[Outside]:
    """A hub that hands out credentials, at either broker."""
    broker: Mosquitto | Broker = request.getfixturevalue(request.param)
    (tmp_path / "mqtt-password").write_text(broker.password)
    settings = hub_settings | {
        "mqtt_port": broker.port,
        "mqtt_username": broker.username,
        "mqtt_password_file": tmp_path / "mqtt-password",
        "broker_provisioning": "dynsec" if request.param == "mosquitto" else "file",
        "broker_credentials_file": tmp_path / "embedded" / "credentials.json",
    }
    async with running_hub(HubSettings(**settings)) as hub:
        await asyncio.wait_for(hub.services.broker.wait_connected(), SOON_S)
        yield Outside(hub, broker.port, Login(broker.username, broker.password))


async def _created(client: httpx.AsyncClient, path: str, **body: Any) -> dict[str, Any]:
    answer = await client.post(path, json=body)
    assert answer.is_success, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def _enrolled(hub: Hub, client: httpx.AsyncClient, project_id: str) -> tuple[str, Login]:
    code = (await _created(client, "/api/v1/agents/enrolment-codes", project_id=project_id))["code"]
    agent_id = str(uuid4())
    async with hub.client() as anyone:
        mqtt = (await _created(anyone, "/api/v1/agents/enrol", code=code, agent_id=agent_id, name="pc"))["mqtt"]
    return agent_id, Login(mqtt["username"], mqtt["password"])


async def _drawn(client: httpx.AsyncClient) -> tuple[dict[str, Any], Login]:
    made = await _created(client, "/auth/broker-credentials", name="dashboard")
    view = made["broker_credential"]
    return view, Login(view["username"], made["password"])


async def test_a_member_reads_live_values_and_events_of_its_projects_and_nothing_else(outside: Outside) -> None:
    hub = outside.hub
    async with aclosing(await hub.signed_in()) as owner, aclosing(await hub.member("ann")) as ann:
        mine, other = [(await _created(owner, "/projects", name=name))["id"] for name in ("mine", "other")]
        ann_id = (await ann.get("/auth/me")).json()["id"]
        await _created(owner, f"/projects/{mine}/members", user_id=ann_id, role="viewer")
        agent_id, _ = await _enrolled(hub, owner, other)
        view, login = await _drawn(ann)
        assert view["topics"] == [f"{PREFIX}/projects/{mine}/live/#", f"{PREFIX}/projects/{mine}/events"]
        assert view["port"] == outside.port
        for project in (mine, other):
            await outside.publish(outside.owner, f"{PREFIX}/projects/{project}/live/s/value")
            await outside.publish(outside.owner, f"{PREFIX}/projects/{project}/events")
        await outside.publish(outside.owner, f"{PREFIX}/agents/{agent_id}/up/state", "{}")

        def reach(project: str) -> set[str]:
            return {f"{PREFIX}/projects/{project}/{rest}" for rest in ("live/s/value", "events")}

        tried = (
            *("#", "+/#", "$SYS/#", "$CONTROL/#", f"{PREFIX}/#", f"{PREFIX}/agents/#", f"{PREFIX}/agents/+/up/state"),
            *(f"{PREFIX}/projects/#", f"{PREFIX}/projects/+/events", f"{PREFIX}/projects/+/live/#"),
            *(f"$share/a/{PREFIX}/projects/+/live/#", f"{PREFIX}/projects/{mine}/#", f"{PREFIX}/+/{mine}/events"),
            *(f"{PREFIX}/projects/{project}/{rest}" for project in (mine, other) for rest in ("live/#", "events")),
        )
        assert await outside.topics(login, *tried) == reach(mine)
        await outside.publish(login, f"{PREFIX}/projects/{mine}/live/s/forged")
        await outside.publish(login, f"{PREFIX}/agents/{agent_id}/down/cmd")
        forged = (f"{PREFIX}/projects/+/live/s/forged", f"{PREFIX}/agents/+/down/cmd")
        assert await outside.topics(outside.owner, *forged) == set(), "what a member publishes goes nowhere"

        kept = ("-c", "-i", f"kept-{ann_id}", "-q", "1")
        assert await outside.topics(login, *view["topics"], more=kept) == reach(mine)
        assert (await owner.delete(f"/projects/{mine}/members/{ann_id}")).status_code == 204
        await _created(owner, f"/projects/{other}/members", user_id=ann_id, role="viewer")

        async def follows() -> bool:
            return await outside.topics(login, *tried) == reach(other)

        await until(follows, "the rights of another project")
        await outside.publish(outside.owner, f"{PREFIX}/projects/{mine}/live/s/value", "after leaving")
        assert await outside.topics(login, *view["topics"], more=kept) == set(), "also not in a session that was kept"
        assert (await ann.delete(f"/auth/broker-credentials/{view['id']}")).status_code == 204
        assert not await outside.opens(login)


async def test_an_agent_reaches_its_own_subtree_only(outside: Outside) -> None:
    hub = outside.hub
    async with aclosing(await hub.signed_in()) as owner:
        project = (await _created(owner, "/projects", name="lab"))["id"]
        (mine, login), (other, _) = [await _enrolled(hub, owner, project) for _ in range(2)]
        for agent_id in (mine, other):
            await outside.publish(outside.owner, f"{PREFIX}/agents/{agent_id}/down/cmd")
        await outside.publish(outside.owner, f"{PREFIX}/projects/{project}/events")
        tried = (
            *("#", "+/#", "$SYS/#", "$CONTROL/#", f"{PREFIX}/#", f"{PREFIX}/agents/+/down/cmd", f"{PREFIX}/projects/#"),
            *(f"{PREFIX}/agents/{mine}/#", f"{PREFIX}/agents/{mine}/+/cmd", f"{PREFIX}/agents/{other}/down/cmd"),
            f"$share/a/{PREFIX}/agents/{other}/down/cmd",
        )
        assert await outside.topics(login, *tried) == set()
        assert await outside.topics(login, *tried, f"{PREFIX}/agents/{mine}/down/cmd") == {
            f"{PREFIX}/agents/{mine}/down/cmd"
        }
        for topic in (f"agents/{mine}/up/mark", f"agents/{other}/up/mark", f"agents/{mine}/down/mark"):
            await outside.publish(login, f"{PREFIX}/{topic}")
        await outside.publish(login, f"{PREFIX}/projects/{project}/live/s/mark")
        seen = await outside.topics(outside.owner, f"{PREFIX}/agents/+/+/mark", f"{PREFIX}/projects/+/live/+/mark")
        assert {topic for topic in seen if mine in topic or other in topic or project in topic} == {
            f"{PREFIX}/agents/{mine}/up/mark"
        }


async def test_a_compromised_agent_is_disconnected_and_cannot_come_back(outside: Outside) -> None:
    hub = outside.hub
    async with aclosing(await hub.signed_in()) as owner:
        project = (await _created(owner, "/projects", name="lab"))["id"]
        agent_id, login = await _enrolled(hub, owner, project)
        topic = f"{PREFIX}/agents/{agent_id}/down/cmd"
        await outside.publish(outside.owner, topic)
        connected = await outside.run("mosquitto_sub", login, "-t", topic)
        assert connected.stdout is not None
        assert await asyncio.wait_for(connected.stdout.readline(), SOON_S) == b"value\n"
        path = f"/api/v1/agents/{agent_id}"
        view = await _created(owner, f"{path}/revoke", mode="compromised", reason="stolen")
        assert (view["status"], view["credentials"], view["revoked_reason"]) == ("compromised", "void", "stolen")
        await asyncio.wait_for(connected.communicate(), SOON_S)
        assert connected.returncode != 0
        assert not await outside.opens(login)
        code = (await _created(owner, "/api/v1/agents/enrolment-codes", project_id=project))["code"]
        async with hub.client() as anyone:
            answer = await anyone.post("/api/v1/agents/enrol", json={"code": code, "agent_id": agent_id})
        assert (answer.status_code, answer.json()["code"]) == (409, "compromised")
        assert (await owner.post(f"{path}/retire")).status_code == 409


async def test_what_was_revoked_while_the_broker_was_away_is_void_when_it_is_back(
    new_mosquitto: Callable[[], Mosquitto], hub_settings: dict[str, Any], tmp_path: Path
) -> None:
    broker = new_mosquitto()
    broker.start()
    (tmp_path / "mqtt-password").write_text(broker.password)
    settings = hub_settings | {
        "mqtt_port": broker.port,
        "mqtt_username": broker.username,
        "mqtt_password_file": tmp_path / "mqtt-password",
        "broker_provisioning": "dynsec",
        "broker_retry_s_max": 0.5,
        "broker_timeout_s": 3.0,
    }
    async with running_hub(HubSettings(**settings)) as hub, aclosing(await hub.signed_in()) as owner:
        await asyncio.wait_for(hub.services.broker.wait_connected(), SOON_S)
        outside = Outside(hub, broker.port, Login(broker.username, broker.password))
        project = (await _created(owner, "/projects", name="lab"))["id"]
        agent_id, agent = await _enrolled(hub, owner, project)
        (gone, gone_login), (_, left_login) = await _drawn(owner), await _drawn(owner)
        live = f"{PREFIX}/projects/{project}/live/s/value"
        await outside.publish(outside.owner, live)
        assert await outside.topics(left_login, live) == {live}
        await asyncio.to_thread(broker.stop)
        path = f"/api/v1/agents/{agent_id}"
        assert (await _created(owner, f"{path}/revoke", mode="compromised"))["credentials"] == "ending"
        assert (await owner.delete(f"/auth/broker-credentials/{gone['id']}")).status_code == 204
        async with hub.services.pool.acquire() as connection:
            await connection.execute("delete from project_members")
        refused = await owner.post("/auth/broker-credentials", json={"name": "none"})
        assert refused.status_code == 503
        await asyncio.to_thread(broker.start)

        async def settled() -> bool:
            async with hub.services.pool.acquire() as connection:
                voided = await connection.fetchval("select voided_at from agents")
            return voided is not None and not await outside.opens(gone_login)

        await until(settled, "what was revoked is void")
        assert not await outside.opens(agent)

        async def silent() -> bool:
            return await outside.topics(left_login, live) == set()

        await until(silent, "rights without a project")
        assert await outside.opens(left_login)
