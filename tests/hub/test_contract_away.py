"""With the database away every route says so, in time, and nothing is half done; with it back, all goes on."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from argon2 import PasswordHasher
from pydantic import SecretStr

from hub.access.tokens import new_token
from hub.settings import HubSettings
from labrelay.up import child, postgres
from tests.hub.access.route_table import NAMED, REQUESTS, TABLE, Request
from tests.hub.access.world import PASSWORD, World, lay_out
from tests.hub.conftest import ADMIN_PASSWORD, Hub, running_hub

WITHOUT_DATABASE = {
    "GET /api/v1/certificate-key",
    "GET /asyncapi.yaml",
    "GET /health",
    "GET /health/live",
    "GET /metrics",
    "GET /openapi.json",
    "GET /openapi.yaml",
}
ANSWER_S_MAX = 60.0
"""For all routes at once, on a pool of twelve connections, each of which takes seconds to be given up."""
COUNTED = (
    *("projects", "project_members", "users", "experiments", "runs", "capture_sessions", "sensors", "artifacts"),
    *("annotations", "run_metrics", "webhook_subscriptions", "invitations", "personal_tokens", "conversion_profiles"),
    *("events where actor_id is not null", "readings", "idempotency_keys"),
)


class Server:
    """A PostgreSQL of the test's own, to be ended and held."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._made = postgres.prepare(folder / "db", run_dir=folder / "run", log_dir=folder / "logs", durable=False)
        self._running = child.start(self._made.spec)
        self._running.wait_ready()
        self.url = self._made.url()
        self._pid_file = folder / "db" / "data" / "postmaster.pid"

    def stop(self) -> None:
        """End it."""
        self._running.stop()

    def start(self) -> None:
        """Begin it anew, on the same port."""
        self._running = child.start(self._made.spec)
        self._running.wait_ready()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Neither it nor its sessions do anything."""
        pids = self._pids()
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    def _pids(self) -> list[int]:
        parent = int(self._pid_file.read_text().splitlines()[0])
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        return [parent, *map(int, children)]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path / "server")
    yield made
    made.stop()


@pytest.fixture
async def hub(server: Server, hub_settings: dict[str, Any], tmp_path: Path) -> AsyncIterator[Hub]:
    more: dict[str, Any] = {
        "database_url": SecretStr(server.url),
        "database_command_timeout_s": 2.0,
        "database_connect_timeout_s": 2.0,
        "database_retry_s_max": 0.5,
        "artifacts_dir": tmp_path / "artifacts",
        "broker_provisioning": "file",
        "broker_credentials_file": tmp_path / "credentials.json",
        "login_attempts_address_max": 10_000,
    }
    async with running_hub(HubSettings(**hub_settings | more)) as running:
        yield running


@pytest.fixture
async def world(hub: Hub) -> World:
    password_hash = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
    return await lay_out(hub, password_hash, "owner")


async def ask(world: World, row: str) -> httpx.Response:
    """A request that is right in all, from the one who may."""
    method, path = row.split()
    asked = Request(query={"token": new_token()}) if row == "GET /sign-in" else REQUESTS.get(row, Request())
    for name, value in NAMED.items():
        path = path.replace(f"{{{name}}}", value)
    async with world.client("sensor" if row == "POST /api/v1/telemetry" else "owner") as client:
        return await client.request(
            method,
            world.filled(path),
            params=world.filled(asked.query),
            json=world.filled(asked.json),
            content=asked.content,
        )


async def wrong_answers(world: World) -> list[str]:
    """What is not 503 with Retry-After, of all routes asked at once."""
    rows = [" ".join(line.split()[:2]) for line in TABLE.strip().splitlines() if not line.startswith("#")]
    async with asyncio.TaskGroup() as group:
        asked = {row: group.create_task(ask(world, row)) for row in rows}
    wrong = []
    for row, task in asked.items():
        answer = task.result()
        if row in WITHOUT_DATABASE:
            right = answer.status_code == 200
        elif row == "GET /health/ready":
            right = answer.status_code == 503 and answer.json()["database"] == "unavailable"
        else:
            right = answer.status_code == 503 and int(answer.headers["retry-after"]) > 0
            right = right and answer.headers["content-type"] == "application/problem+json"
        if not right:
            wrong.append(f"{row}: {answer.status_code} {answer.text[:200]}")
    return wrong


async def counts(hub: Hub) -> dict[str, int]:
    async with hub.services.pool.acquire() as connection:
        return {table: await connection.fetchval(f"select count(*) from {table}") for table in COUNTED}


async def hub_has_noticed(hub: Hub) -> None:
    """Only `/health/ready` tells what the hub knows; all other routes ask the database itself."""
    while hub.services.storage.is_ready:
        await asyncio.sleep(0.01)


async def works_again(hub: Hub) -> None:
    """The hub finds its database by itself, and takes a project."""
    async with asyncio.timeout(60):
        while (await hub.client().get("/health/ready")).json()["database"] != "ok":
            await asyncio.sleep(0.1)
    client = await hub.signed_in(password=ADMIN_PASSWORD)
    made = await client.post("/projects", json={"name": f"after {time.monotonic()}"})
    assert made.status_code == 201, made.text
    await client.aclose()


async def test_without_a_database_every_route_says_when_to_come_again(server: Server, hub: Hub, world: World) -> None:
    before = await counts(hub)
    server.stop()
    try:
        async with asyncio.timeout(ANSWER_S_MAX):
            await hub_has_noticed(hub)
            assert not (wrong := await wrong_answers(world)), "\n".join(wrong)
    finally:
        server.start()
    async with asyncio.timeout(60):
        await hub.services.storage.ready()
    assert await counts(hub) == before
    await works_again(hub)


async def test_with_a_database_that_hangs_every_route_gives_up_in_time(server: Server, hub: Hub, world: World) -> None:
    before = await counts(hub)
    with server.held():
        async with asyncio.timeout(ANSWER_S_MAX):
            await hub_has_noticed(hub)
            assert not (wrong := await wrong_answers(world)), "\n".join(wrong)
    async with asyncio.timeout(60):
        await hub.services.storage.ready()
    assert await counts(hub) == before
    await works_again(hub)
