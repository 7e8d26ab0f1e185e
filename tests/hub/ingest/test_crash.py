"""A hub that is killed at any border stores each reading once, and never acknowledges what is not stored."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import msgspec
import pytest
from pydantic import SecretStr

from hub.ingest.arrivals import Arrival
from shared import wire
from shared.clock import AnchoredClock
from shared.messages import Ack
from shared.records import Dictionary, SeriesEntry
from tests.hub.ingest.conftest import NOW_US, Room, columns

pytestmark = pytest.mark.every_tier

SCRIPT = Path(__file__).with_name("dying_writer.py")
BATCHES, READINGS = 6, 40


@pytest.fixture
def room_now(room: Room, database_url: str) -> Room:
    """The room on the present day, as the dying process is."""
    room.clock = AnchoredClock()  # type: ignore[assignment]
    room.settings = room.settings.model_copy(update={"database_url": SecretStr(database_url)})
    return room


@pytest.mark.parametrize(
    "place",
    ["before commit:1", "after commit:1", "before commit:2", "after commit:2", "before commit:4", "after commit:4"],
)
async def test_a_killed_writer_leaves_each_reading_stored_once(
    room_now: Room, database_url: str, tmp_path: Path, place: str
) -> None:
    room = room_now
    agent = await room.agent()
    now_us = room.clock.now_us()
    sealed = [agent.seal(wire.record_body(Dictionary([SeriesEntry(1, "oven"), SeriesEntry(2, "pump")])))]
    for number in range(BATCHES):
        times = [now_us + number * 1000 + step for step in range(READINGS // 2)]
        readings = columns([1] * len(times) + [2] * len(times), times * 2, [float(number)] * READINGS)
        sealed.append(agent.seal(wire.data_body(readings, derivable=False)))
    file = tmp_path / "message"
    file.write_bytes(b"".join(sealed))

    process = await asyncio.create_subprocess_exec(
        sys.executable, str(SCRIPT), database_url, place, str(file), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == -9

    acked = {
        seq
        for line in output.splitlines()
        for one in msgspec.json.decode(line, type=Ack).acked
        for seq in range(one.first, one.last + 1)
    }
    stored = {row["seq"] for row in await room.fetch("select seq from ledger")}
    assert acked <= stored
    assert await room.value("select count(*) from readings") == READINGS * len(stored - {1})

    async with room.writing() as writer:
        agent.seq = 0
        again = [wire.decode(batch) for batch in sealed]
        await room.send(writer, agent, *[agent_arrival(batch) for batch in again])
    assert await room.value("select count(*) from readings") == BATCHES * READINGS
    assert await room.value("select count(distinct (series_id, time)) from readings") == BATCHES * READINGS
    assert await room.value("select sum(stored) from ledger") == BATCHES * READINGS
    assert await room.value("select count(*) from set_aside") == 0


def agent_arrival(batch: wire.Batch) -> Arrival:
    """A batch offered again."""
    return Arrival(batch.header, batch.content, 0)


async def test_a_database_that_dies_in_the_middle_costs_nothing(room: Room) -> None:
    agent = await room.agent()
    arrivals = [agent.dictionary("oven")]
    arrivals += [agent.data(columns([1], [NOW_US + place], [float(place)])) for place in range(300)]
    async with room.writing() as writer:
        killer = asyncio.create_task(_kill_backends(room))
        for arrival in arrivals:
            writer.offer(arrival)
            await asyncio.sleep(0.003)
        killer.cancel()
        await asyncio.wait([killer])
        wanted = set(range(1, len(arrivals) + 1))
        await room.publisher.until(lambda: wanted <= room.publisher.acked(agent.epoch), timeout_s=60)
    assert await room.value("select count(*) from readings") == 300
    assert await room.value("select sum(stored) from ledger") == 300


async def _kill_backends(room: Room) -> None:
    """End all other connections of the database, again and again."""
    while True:
        await asyncio.sleep(0.1)
        await room.value(
            """
            select count(pg_terminate_backend(pid)) from pg_stat_activity
            where datname = current_database() and pid <> pg_backend_pid()
            """
        )
