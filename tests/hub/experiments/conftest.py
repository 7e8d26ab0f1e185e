"""A laboratory with a project, and what its tests do again and again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
import pytest

from hub.database.ids import uuid7
from hub.database.pool import acquire
from tests.hub.conftest import Hub

EXPERIMENTS = "/api/v1/experiments"


@dataclass
class Lab:
    """A hub with a project of Ann's."""

    hub: Hub
    ann: httpx.AsyncClient
    project: str

    async def add(self, name: str = "Annealing", **fields: Any) -> dict[str, Any]:
        """A new experiment of Ann's."""
        answer = await self.ann.post(EXPERIMENTS, json={"project_id": self.project, "name": name, **fields})
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    async def member(self, username: str, role: str) -> httpx.AsyncClient:
        """Someone else with a role in the project."""
        client = await self.hub.member(username)
        answer = await self.ann.post(f"/projects/{self.project}/members", json={"username": username, "role": role})
        assert answer.status_code == 201, answer.text
        return client

    async def new_project(self, name: str) -> str:
        """One more project of Ann's."""
        answer = await self.ann.post("/projects", json={"name": name})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def add_run(self, experiment_id: str, **columns: Any) -> str:
        """A run, as the table has it."""
        run_id = uuid7()
        fields = {"id": run_id, "experiment_id": experiment_id, "project_id": self.project, "name": "r", **columns}
        places = ", ".join(f"${place}" for place in range(1, len(fields) + 1))
        statement = f"insert into runs ({', '.join(fields)}) values ({places})"
        async with acquire(self.hub.services.pool) as connection:
            await connection.execute(statement, *fields.values())
        return str(run_id)

    async def events(self, experiment_id: str) -> list[dict[str, Any]]:
        """What was told of an experiment, oldest first."""
        async with acquire(self.hub.services.pool) as connection:
            rows = await connection.fetch("select * from events where subject_id = $1 order by id", UUID(experiment_id))
        return [dict(row) for row in rows]


@pytest.fixture
async def lab(hub: Hub) -> Lab:
    """A hub with a project of Ann's."""
    ann = await hub.member("ann")
    answer = await ann.post("/projects", json={"name": "Lab"})
    return Lab(hub, ann, str(answer.json()["id"]))
