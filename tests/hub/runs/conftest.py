"""A project with one member of each role, an experiment, and what it takes to make runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from hub.database.pool import acquire
from hub.settings import HubSettings
from tests.hub.conftest import Hub, running_hub

_EXPERIMENT = """
    insert into experiments (id, project_id, owner_id, name, status)
    select $1, id, owner_id, $2, $4 from projects where id = $3
"""
_SESSION = """
    insert into capture_sessions (id, run_id, project_id, ordinal_number, status, started_at, stopped_at)
    select $1, id, project_id, $3, $4, now(), case when $4 in ('running', 'draft') then null else now() end
    from runs where id = $2
"""


@dataclass
class Lab:
    """Who works in a laboratory, and on what."""

    hub: Hub
    owner: httpx.AsyncClient
    editor: httpx.AsyncClient
    viewer: httpx.AsyncClient
    stranger: httpx.AsyncClient
    project_id: str
    experiment_id: str

    @property
    def runs_url(self) -> str:
        """Of the experiment."""
        return f"/api/v1/experiments/{self.experiment_id}/runs"

    async def new_experiment(self, name: str = "Creep", status: str = "draft", project_id: str = "") -> str:
        """Another experiment."""
        experiment_id = uuid4()
        await self.execute(_EXPERIMENT, experiment_id, name, UUID(project_id or self.project_id), status)
        return str(experiment_id)

    async def new_run(self, name: str = "first", **fields: Any) -> dict[str, Any]:
        """A run, by the editor."""
        answer = await self.editor.post(self.runs_url, json={"name": name, **fields})
        assert answer.status_code == 201, answer.text
        run: dict[str, Any] = answer.json()
        return run

    async def new_session(self, run_id: str, status: str, ordinal_number: int = 1) -> str:
        """A capture session of the run."""
        session_id = uuid4()
        await self.execute(_SESSION, session_id, UUID(run_id), ordinal_number, status)
        return str(session_id)

    async def set_sessions(self, run_id: str, status: str) -> None:
        """Give all sessions of the run another status."""
        await self.execute("update capture_sessions set status = $2 where run_id = $1", UUID(run_id), status)

    async def set_status(self, run_id: str, status: str) -> dict[str, Any]:
        """Let the editor give the run another status."""
        answer = await self.editor.patch(run_url(run_id), json={"status": status})
        assert answer.status_code == 200, answer.text
        run: dict[str, Any] = answer.json()
        return run

    async def events(self, run_id: str) -> list[dict[str, Any]]:
        """What is told of the run, oldest first."""
        answer = await self.viewer.get(f"{run_url(run_id)}/events", params={"page_size": 100})
        assert answer.status_code == 200, answer.text
        events: list[dict[str, Any]] = answer.json()["events"]
        return events[::-1]

    async def event_types(self, run_id: str) -> list[str]:
        """Their types."""
        return [event["event_type"] for event in await self.events(run_id)]

    async def execute(self, statement: str, *arguments: object) -> None:
        """SQL."""
        async with acquire(self.hub.services.pool) as connection:
            await connection.execute(statement, *arguments)


def run_url(run_id: str, *further: str) -> str:
    """Where a run is."""
    return "/".join((f"/api/v1/runs/{run_id}", *further))


def fields_of(answer: httpx.Response) -> list[str]:
    """The fields that a refusal names."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return [error["field"] for error in answer.json().get("errors", [])]


def refused(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of a refusal."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return answer.status_code, answer.json()["code"]


async def blocked(lab: Lab) -> None:
    """Until somebody waits for a lock."""
    waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    async with asyncio.timeout(30), acquire(lab.hub.services.pool) as connection:
        while not await connection.fetchval(waiting):
            await asyncio.sleep(0.01)


async def furnish(hub: Hub) -> Lab:
    """A laboratory on this hub."""
    owner = await hub.member("olive")
    people = {name: await hub.member(name) for name in ("edgar", "vera", "stan")}
    project = (await owner.post("/projects", json={"name": "Lab"})).json()["id"]
    for name, role in (("edgar", "editor"), ("vera", "viewer")):
        answer = await owner.post(f"/projects/{project}/members", json={"username": name, "role": role})
        assert answer.status_code == 201, answer.text
    lab = Lab(hub, owner, people["edgar"], people["vera"], people["stan"], project, "")
    lab.experiment_id = await lab.new_experiment()
    return lab


@pytest.fixture
async def lab(hub_settings: dict[str, Any]) -> AsyncIterator[Lab]:
    """A laboratory on a hub of its own."""
    async with running_hub(HubSettings(**hub_settings)) as hub:
        yield await furnish(hub)
