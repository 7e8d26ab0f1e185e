"""With the broker away whatever does not need it works as ever; what does says when to come again, leaves nothing half
done, and goes on by itself when the broker is back. Tried with Mosquitto and with the broker that stands in for it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from argon2 import PasswordHasher

from hub.broker.rights import agent_username
from hub.settings import HubSettings
from labrelay.up import child, embedded_broker, ports
from labrelay.up.child import Child
from labrelay.up.mosquitto import Broker, Listeners
from tests.fixtures.servers import Mosquitto
from tests.hub.access.calling import call
from tests.hub.access.route_table import REFUSED, REQUESTS, Request, rows
from tests.hub.access.world import CALLERS, PASSWORD, World, lay_out
from tests.hub.conftest import Hub, running_hub

NEEDS_THE_BROKER = {"POST /api/v1/agents/enrol", "POST /auth/broker-credentials"}
"""Where it must be told before the answer can be given. Whoever takes something away is answered at once: what counts
is in the database, and the broker is told as soon as it can be."""
AT_ONCE_MAX = 6
SOON_S = 30.0


@dataclass
class Away:
    """A broker that is taken away and given back, whatever it is."""

    provisioning: str
    broker: Broker
    running: Child | None = None

    def start(self) -> None:
        """Give it back."""
        self.running = child.start(self.broker.spec)
        self.running.wait_ready()
        self.running.learn_pid(self.running.control.recv(64))

    def stop(self) -> None:
        """Take it away."""
        if self.running is not None:
            self.running.stop()
            self.running = None

    def send(self, number: signal.Signals) -> None:
        """Hold it, or let it go on."""
        assert self.running is not None
        assert self.running.pid is not None
        os.kill(self.running.pid, number)

    @asynccontextmanager
    async def gone(self, how: str) -> AsyncIterator[None]:
        """While the block lasts: `killed`, or `held`, so that its port is open and nobody answers."""
        await asyncio.to_thread(self.send, signal.SIGSTOP) if how == "held" else await asyncio.to_thread(self.stop)
        try:
            yield
        finally:
            await asyncio.to_thread(self.send, signal.SIGCONT) if how == "held" else await asyncio.to_thread(self.start)


@pytest.fixture(params=["dynsec", "file"])
def away(request: pytest.FixtureRequest, tmp_path: Path, new_mosquitto: Callable[[], Mosquitto]) -> Any:
    provisioning: str = request.param
    if provisioning == "dynsec":
        broker = new_mosquitto().broker
    else:
        where = {"run_dir": tmp_path / "run", "log_dir": tmp_path / "logs"}
        broker = embedded_broker.prepare(tmp_path / "embedded", **where, listeners=Listeners(ports.free_port()))
    made = Away(provisioning, broker)
    made.start()
    yield made
    made.stop()


@pytest.fixture
async def hub(away: Away, hub_settings: dict[str, Any], tmp_path: Path) -> AsyncIterator[Hub]:
    (tmp_path / "mqtt-password").write_text(away.broker.password)
    more: dict[str, Any] = {
        "mqtt_port": away.broker.port,
        "mqtt_username": away.broker.username,
        "mqtt_password_file": tmp_path / "mqtt-password",
        "broker_provisioning": away.provisioning,
        "broker_credentials_file": tmp_path / "embedded" / "credentials.json",
        "broker_timeout_s": 2.0,
        "broker_retry_s_max": 0.2,
        "artifacts_dir": tmp_path / "artifacts",
        "login_attempts_address_max": 10_000,
    }
    async with running_hub(HubSettings(**hub_settings | more)) as running:
        async with asyncio.timeout(SOON_S):
            await running.services.broker.wait_connected()
        yield running


@pytest.fixture(scope="module")
def password_hash() -> str:
    return PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)


def caller_of(statuses: tuple[int, ...]) -> tuple[str, int]:
    """Somebody who is let in, and the answer he gets: the owner where he may."""
    found = dict(zip(CALLERS, statuses, strict=True))
    return next((who, found[who]) for who in ("owner", "admin", "sensor", "anonymous") if found[who] not in REFUSED)


def wrong(row: str, expected: int, answer: httpx.Response) -> str:
    """What is not as it should be; empty if all is."""
    if row == "GET /health/ready":
        right = answer.json()["database"] == "ok"
    elif expected == 503:
        right = answer.status_code == 503 and int(answer.headers["retry-after"]) > 0
        right = right and answer.headers["content-type"] == "application/problem+json"
    else:
        right = answer.status_code == expected
    return "" if right else f"{row}: {answer.status_code} instead of {expected}, {answer.text[:200]}"


async def until(done: Callable[[], Any], what: str) -> None:
    """Wait for something that comes about by itself."""
    try:
        async with asyncio.timeout(SOON_S):
            while not await done():
                await asyncio.sleep(0.1)
    except TimeoutError:
        pytest.fail(f"never came about: {what}")


@pytest.mark.parametrize("how", ["killed", "held"])
async def test_what_needs_no_broker_works_and_what_needs_it_says_when_to_come_again(
    hub: Hub, away: Away, password_hash: str, how: str
) -> None:
    shared = await lay_out(hub, password_hash, "owner")
    worlds: dict[str, World] = {}
    turns, found = asyncio.Semaphore(AT_ONCE_MAX), list[str]()

    async def walk(row: str, statuses: tuple[int, ...]) -> None:
        if row == "GET /sign-in":  # nobody is let in without a link, which is used up
            return
        who, expected = caller_of(statuses)
        if row in NEEDS_THE_BROKER and away.provisioning == "dynsec":
            expected = 503
        async with turns:
            asked = REQUESTS.get(row, Request())
            alone = not row.startswith("GET ") or asked.before or asked.first
            world = worlds[row] = await lay_out(hub, password_hash, "owner") if alone else shared
            if problem := wrong(row, expected, await call(world, row, who)):
                found.append(problem)

    async with away.gone(how):
        async with asyncio.timeout(90), asyncio.TaskGroup() as group:
            for row, statuses in rows().items():
                group.create_task(walk(row, statuses))
        assert not found, "\n".join(found)
        if away.provisioning == "dynsec":
            await nothing_is_half_done(hub, worlds)
    async with asyncio.timeout(SOON_S):
        await hub.services.broker.wait_connected()
    await until(lambda: void(hub, worlds), "the credentials of the revoked agent are void")
    for row in NEEDS_THE_BROKER:
        answer = await call(worlds[row], row, "owner")
        assert answer.is_success, f"{row} again: {answer.status_code} {answer.text}"
    assert (await hub.client().get("/health/ready")).json()["status"] == "ready"


async def nothing_is_half_done(hub: Hub, worlds: dict[str, World]) -> None:
    enrolled, drawn = worlds["POST /api/v1/agents/enrol"].names, worlds["POST /auth/broker-credentials"].names
    async with hub.services.pool.acquire() as connection:
        fetchval = connection.fetchval
        assert await fetchval("select count(*) from agents where id = $1::uuid", enrolled["new_agent_id"]) == 0
        used = "select count(used_at) from enrolment_codes where project_id = $1::uuid"
        assert await fetchval(used, enrolled["project_id"]) == 0
        made = "select count(*) from broker_credentials where user_id = $1::uuid and name = 'dashboard'"
        assert await fetchval(made, drawn["owner_id"]) == 0
        told = "select count(*) from events where event_type in ('agent.enrolled', 'broker_credential.made')"
        assert await fetchval(told) == 0


async def void(hub: Hub, worlds: dict[str, World]) -> bool:
    agent_id = worlds["POST /api/v1/agents/{agent_id}/revoke"].names["agent_id"]
    async with hub.services.pool.acquire() as connection:
        return bool(await connection.fetchval("select voided_at from agents where id = $1::uuid", agent_id))


@pytest.mark.parametrize("how", ["killed", "held"])
async def test_what_is_taken_away_while_the_broker_is_gone_is_void_when_it_is_back(
    hub: Hub, away: Away, how: str
) -> None:
    provisioner = hub.services.provisioner
    async with aclosing(await hub.signed_in()) as owner, aclosing(await hub.member("ann")) as ann:
        project = (await owner.post("/projects", json={"name": "lab"})).json()["id"]
        member = {"user_id": (await ann.get("/auth/me")).json()["id"], "role": "viewer"}
        assert (await owner.post(f"/projects/{project}/members", json=member)).status_code == 201
        kept, gone = [
            (await ann.post("/auth/broker-credentials", json={"name": name})).json()["broker_credential"]
            for name in ("kept", "gone")
        ]
        agent_id = str(uuid4())
        code = (await owner.post("/api/v1/agents/enrolment-codes", json={"project_id": project})).json()["code"]
        enrolled = await owner.post("/api/v1/agents/enrol", json={"code": code, "agent_id": agent_id})
        assert enrolled.status_code == 200, enrolled.text
        async with away.gone(how):
            async with asyncio.timeout(SOON_S):
                assert (await ann.delete(f"/auth/broker-credentials/{gone['id']}")).status_code == 204
                revoked = await owner.post(f"/api/v1/agents/{agent_id}/revoke", json={"mode": "compromised"})
                assert revoked.status_code == 200, revoked.text
                left = await owner.delete(f"/projects/{project}/members/{member['user_id']}")
                assert left.status_code == 204
            view = (await owner.get(f"/api/v1/agents/{agent_id}")).json()
            assert view["status"] == "compromised"
            assert view["credentials"] == ("ending" if away.provisioning == "dynsec" else "void")
        async with asyncio.timeout(SOON_S):
            await hub.services.broker.wait_connected()

        async def settled() -> bool:
            members, agents = await provisioner.standing("member-"), await provisioner.standing("agent-")
            reach = {name: rights.subscribe for name, rights in members.items()}
            return reach == {kept["username"]: frozenset()} and agent_username(UUID(agent_id)) not in agents

        await until(settled, "the broker knows what it should")
        assert (await owner.get(f"/api/v1/agents/{agent_id}")).json()["credentials"] == "void"


async def test_many_who_wait_for_a_broker_that_hangs_keep_nobody_else_waiting(hub: Hub, away: Away) -> None:
    many = 2 * hub.settings.database_connections_max
    people = [await hub.member(f"person{number}") for number in range(many)]

    async def draw(person: httpx.AsyncClient) -> int:
        return (await person.post("/auth/broker-credentials", json={"name": "dashboard"})).status_code

    async with away.gone("held"), asyncio.timeout(90), asyncio.TaskGroup() as group:
        drawing = [group.create_task(draw(person)) for person in people]
        await asyncio.sleep(0.5)
        async with asyncio.timeout(1.5):
            assert (await people[0].get("/projects")).status_code == 200
    found = {task.result() for task in drawing}
    if away.provisioning == "dynsec":
        assert found == {503}
    else:  # the file needs no broker, but a slow machine lets no more wait for their turn than the hub allows
        assert 201 in found <= {201, 503}
    for person in people:
        await person.aclose()


async def test_a_broker_that_is_away_uses_up_no_attempts_to_enrol(hub: Hub, away: Away) -> None:
    agent_id = str(uuid4())
    async with aclosing(await hub.signed_in()) as owner:
        project = (await owner.post("/projects", json={"name": "lab"})).json()["id"]
        code = (await owner.post("/api/v1/agents/enrolment-codes", json={"project_id": project})).json()["code"]
        body = {"code": code, "agent_id": agent_id}
        async with away.gone("killed"):
            tries = [await owner.post("/api/v1/agents/enrol", json=body) for _ in range(15)]
        assert {answer.status_code for answer in tries} == {503 if away.provisioning == "dynsec" else 200}
        async with asyncio.timeout(SOON_S):
            await hub.services.broker.wait_connected()
        assert (await owner.post("/api/v1/agents/enrol", json=body)).status_code == 200
