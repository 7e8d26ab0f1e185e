"""The writer against a real database: once, whole, and only then acknowledged."""

from __future__ import annotations

import numpy as np

from shared.readings import Status
from tests.hub.ingest.conftest import NOW_US, Room, columns


async def test_readings_of_a_new_agent_are_stored_with_their_sensors(room: Room) -> None:
    agent = await room.agent()
    readings = columns([1, 1, 2], [NOW_US, NOW_US + 1, NOW_US], [1.5, -0.0, float("nan")], status=[0, 0, 0x13])
    async with room.writing() as writer:
        await room.send(
            writer, agent, agent.opening(), agent.dictionary("oven", "pump"), agent.data(readings, taken_through_us=NOW_US)
        )
    rows = await room.fetch(
        """
        select s.name, x.signal, x.unit, (extract(epoch from r.time) * 1000000)::bigint as us, r.raw, r.physical, r.status
        from readings r join series x on x.id = r.series_id join sensors s on s.id = x.sensor_id order by r.id
        """
    )
    assert [(row["name"], row["signal"], row["unit"], row["us"], row["raw"]) for row in rows] == [
        ("oven", "value", "V", NOW_US, 1.5),
        ("oven", "value", "V", NOW_US + 1, -0.0),
        ("pump", "value", "V", NOW_US, None),
    ]
    assert [row["status"] for row in rows] == [0, 0, 0x13]
    assert np.signbit(rows[1]["raw"])
    assert await room.value("select count(*) from ledger") == 3
    assert await room.value("select host from epochs") == "bench"
    assert await room.value("select (extract(epoch from taken_through) * 1000000)::bigint from epochs") == NOW_US
    assert room.tail.notified


async def test_a_batch_sent_again_is_acknowledged_again_and_stored_once(room: Room) -> None:
    agent = await room.agent()
    readings = columns([1, 1], [NOW_US, NOW_US + 1], [1.0, 2.0])
    async with room.writing() as writer:
        await room.send(writer, agent, agent.dictionary("oven"), agent.data(readings))
        room.publisher.acks.clear()
        await room.send(writer, agent, agent.data(readings, seq=2))
    assert await room.value("select count(*) from readings") == 2
    assert await room.value("select status from readings limit 1") == Status.RAW_ONLY
