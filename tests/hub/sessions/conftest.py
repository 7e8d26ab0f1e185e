"""A laboratory with sensors, runs and sessions, over HTTP."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import httpx
import pytest

from hub.database.ids import uuid7
from hub.database.pool import acquire
from tests.hub.conftest import Hub


@dataclass
class Lab:
    """An owner's project with sensors and runs."""

    hub: Hub
    owner: httpx.AsyncClient
    project: str
    tokens: dict[str, str] = field(default_factory=dict)

    async def sensor(self, name: str, **more: Any) -> str:
        """A sensor of the project."""
        answer = await self.owner.post("/api/v1/sensors", json={"project_id": self.project, "name": name, **more})
        assert answer.status_code == 201, answer.text
        sensor_id = str(answer.json()["sensor"]["id"])
        self.tokens[sensor_id] = answer.json()["token"]
        return sensor_id

    async def post(self, sensor: str, readings: dict[datetime, float], **more: Any) -> httpx.Response:
        """What a sensor posts: raw values by time."""
        rows = [{"timestamp": at.isoformat(), "raw_value": raw} for at, raw in readings.items()]
        headers = {"Authorization": f"Bearer {self.tokens[sensor]}"}
        body = {"sensor_id": sensor, "readings": rows, **more}
        return await self.owner.post("/api/v1/telemetry", json=body, headers=headers)

    async def points(self, **parameters: Any) -> list[dict[str, Any]]:
        """What a query answers."""
        answer = await self.owner.get("/api/v1/telemetry/query", params=parameters)
        assert answer.status_code == 200, answer.text
        points: list[dict[str, Any]] = answer.json()["points"]
        return points

    async def counted(self, session: dict[str, Any], **more: Any) -> list[float]:
        """Raw values of the readings that belong to a session."""
        return [one["raw_value"] for one in await self.points(capture_session_id=session["id"], **more)]

    async def run(self, sensors: tuple[str, ...] = (), status: str = "draft") -> str:
        """A run, with sensors attached to it."""
        experiment_id, run_id = uuid7(), uuid7()
        async with acquire(self.hub.services.pool) as connection:
            await connection.execute(
                "insert into experiments (id, project_id, owner_id, name) select $1, id, owner_id, $3 "
                "from projects where id = $2",
                experiment_id,
                UUID(self.project),
                str(experiment_id),
            )
            await connection.execute(
                "insert into runs (id, experiment_id, project_id, name, status) values ($1, $2, $3, 'run', $4)",
                run_id,
                experiment_id,
                UUID(self.project),
                status,
            )
            for sensor in sensors:
                await connection.execute("insert into run_sensors values ($1, $2)", run_id, UUID(sensor))
        return str(run_id)

    async def start(self, run: str, **body: Any) -> httpx.Response:
        """Ask for a session."""
        return await self.owner.post(f"/api/v1/runs/{run}/capture-sessions", json=body)

    async def started(self, run: str, **body: Any) -> dict[str, Any]:
        """A session that starts."""
        answer = await self.start(run, **body)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    def path(self, session: dict[str, Any]) -> str:
        """Where a session is."""
        return f"/api/v1/runs/{session['run_id']}/capture-sessions/{session['id']}"

    async def member(self, name: str, role: str) -> httpx.AsyncClient:
        """Someone else in the project."""
        client = await self.hub.member(name)
        answer = await self.owner.post(f"/projects/{self.project}/members", json={"username": name, "role": role})
        assert answer.status_code == 201, answer.text
        return client


@pytest.fixture
async def lab(hub: Hub) -> Lab:
    """A project of one owner."""
    owner = await hub.member("ann")
    project = (await owner.post("/projects", json={"name": "Lab"})).json()["id"]
    return Lab(hub, owner, project)
