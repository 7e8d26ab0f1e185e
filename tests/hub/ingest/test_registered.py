"""A sensor that an agent brings is told of once, as the agent's doing."""

from __future__ import annotations

from tests.hub.ingest.conftest import Room


async def test_new_sensors_of_an_agent_are_told_of_once(room: Room) -> None:
    agent, other = await room.agent(), await room.agent("other")
    async with room.writing() as writer:
        await room.send(writer, agent, agent.opening(), agent.dictionary("oven", "pump"))
        await room.send(writer, agent, agent.dictionary("oven", "pump"))
        await room.send(writer, other, other.opening(), other.dictionary("pump", "valve"))
    rows = await room.fetch("select * from events where event_type = 'sensor.registered' order by id")
    assert sorted(row["payload"]["name"] for row in rows) == ["oven", "pump", "valve"]
    by = {row["payload"]["name"]: (row["actor_type"], row["actor_id"]) for row in rows}
    assert by == {"oven": ("agent", agent.id), "pump": ("agent", agent.id), "valve": ("agent", other.id)}
    assert all(row["is_public"] and row["project_id"] == room.bench.project_id for row in rows)
