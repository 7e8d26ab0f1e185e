"""Which sensors an agent means by its names, as people see it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from hub.database.pool import transaction
from hub.ingest.register import register
from shared.records import SeriesEntry
from tests.hub.conftest import Hub

_AGENT = "insert into agents (id, project_id, name, mqtt_username) values ($1, $2, 'bench', 'm')"


class Bench:
    """A project with an agent in it."""

    def __init__(self, hub: Hub, owner: httpx.AsyncClient, project_id: str, agent_id: UUID) -> None:
        self.hub = hub
        self.owner = owner
        self.project_id = project_id
        self.agent_id = agent_id

    async def uses(self, names: Sequence[tuple[str, str, str]], *, sensors_max: int = 100) -> None:
        """The agent names series: (sensor, signal, unit)."""
        entries = [SeriesEntry(ref, *name) for ref, name in enumerate(names, start=1)]
        async with transaction(self.hub.services.pool) as connection:
            await register(connection, self.agent_id, entries, sensors_max=sensors_max)

    async def bindings(self, **query: Any) -> dict[str, Any]:
        """What the owner is shown."""
        answer = await self.owner.get(f"/api/v1/agents/{self.agent_id}/bindings", params=query)
        assert answer.status_code == 200, answer.text
        shown: dict[str, Any] = answer.json()
        return shown


@pytest.fixture
async def bench(hub: Hub) -> Bench:
    owner = await hub.member("ann")
    project_id, agent_id = (await owner.post("/projects", json={"name": "Lab"})).json()["id"], uuid4()
    async with transaction(hub.services.pool) as connection:
        await connection.execute(_AGENT, agent_id, UUID(project_id))
    return Bench(hub, owner, project_id, agent_id)


async def test_an_agent_that_has_named_nothing_has_no_bindings(bench: Bench) -> None:
    assert await bench.bindings() == {"bindings": [], "total": 0, "page": 1, "page_size": 50}


async def test_a_binding_shows_the_sensor_that_a_name_stands_for_and_its_signals(bench: Bench) -> None:
    body = {
        "project_id": bench.project_id,
        "name": "Oven",
        "conversion_profile": {"version": "1", "kind": "linear", "payload": {"a": 2, "b": 0}},
    }
    oven = (await bench.owner.post("/api/v1/sensors", json=body)).json()["sensor"]
    await bench.uses([("oven", "power", "W"), ("oven", "core", "°C"), ("balance", "value", "g")])
    await bench.owner.patch(f"/api/v1/sensors/{oven['id']}", json={"name": "Furnace"})
    shown = await bench.bindings()
    balance, named = shown["bindings"]
    assert named == {
        "sensor_name": "oven",
        "state": "bound",
        "sensor_id": oven["id"],
        "name": "Furnace",
        "status": oven["status"],
        "active_profile_id": oven["active_profile_id"],
        "signals": [{"signal": "core", "unit": "°C"}, {"signal": "power", "unit": "W"}],
    }
    assert named["active_profile_id"] is not None
    assert (balance["sensor_name"], balance["name"], balance["state"]) == ("balance", "balance", "bound")
    assert (balance["status"], balance["signals"]) == ("active", [{"signal": "value", "unit": "g"}])
    listed = (await bench.owner.get(f"/api/v1/agents/{bench.agent_id}")).json()
    assert listed["sensors"] == shown["total"] == 2


async def test_what_is_refused_or_gone_is_shown_as_such_and_can_be_asked_for(bench: Bench) -> None:
    await bench.uses([("a", "value", ""), ("b", "value", ""), ("c", "value", "")], sensors_max=2)
    first, _, _ = (await bench.bindings())["bindings"]
    await bench.owner.delete(f"/api/v1/sensors/{first['sensor_id']}")
    states = {one["sensor_name"]: one["state"] for one in (await bench.bindings())["bindings"]}
    assert states == {"a": "deleted", "b": "bound", "c": "refused"}
    gone: dict[str, Any] = {"sensor_id": None, "name": None, "status": None, "active_profile_id": None, "signals": []}
    for name, state in states.items():
        found = await bench.bindings(state=state)
        assert ([one["sensor_name"] for one in found["bindings"]], found["total"]) == ([name], 1)
        assert state == "bound" or found["bindings"] == [gone | {"sensor_name": name, "state": state}]
    wrong = await bench.owner.get(f"/api/v1/agents/{bench.agent_id}/bindings?state=lost")
    assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "state")


async def test_bindings_come_a_page_at_a_time_by_name(bench: Bench) -> None:
    await bench.uses([(f"s{number}", "value", "") for number in range(5)])
    names = [one["sensor_name"] for one in (await bench.bindings(limit=2, offset=2))["bindings"]]
    assert names == ["s2", "s3"]
    last = await bench.bindings(page=3, page_size=2)
    assert ([one["sensor_name"] for one in last["bindings"]], last["total"], last["page"]) == (["s4"], 5, 3)


async def test_only_members_of_the_agents_project_see_its_bindings(bench: Bench) -> None:
    path = f"/api/v1/agents/{bench.agent_id}/bindings"
    for outsider in (await bench.hub.member("eve"), await bench.hub.signed_in()):
        assert (await outsider.get(path)).status_code == 404
    assert (await bench.hub.client().get(path)).status_code == 401
    viewer = await bench.hub.member("vic")
    await bench.owner.post(f"/projects/{bench.project_id}/members", json={"username": "vic", "role": "viewer"})
    assert (await viewer.get(path)).status_code == 200
    assert (await bench.owner.get(f"/api/v1/agents/{uuid4()}/bindings")).status_code == 404
