"""Groups that need nothing unusual: they leave behind what the long way would, and anything unusual takes that way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hub.ingest.commit import GroupCommit
from hub.ingest.quick import READINGS_MAX
from hub.ingest.write import IngestWriter
from tests.hub.ingest.conftest import NOW_US, Agent, Room, columns

pytestmark = pytest.mark.every_tier

MINUTE_US = 60_000_000
_LEFT = """
select l.seq, l.readings, l.stored, l.repeated, l.clock_segment, l.taken_through_us,
       (select count(*) from readings r where r.id between l.first_id and l.last_id) as between,
       l.last_id - l.first_id + 1 as ids
from ledger l where l.kind = 3 order by l.seq
"""


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many items took the long way, a number a group."""
    found: list[int] = []
    run = GroupCommit.run

    async def counted(self: GroupCommit, connection: Any) -> None:
        found.append(len(self._items))
        await run(self, connection)

    monkeypatch.setattr(GroupCommit, "run", counted)
    return found


async def _known(room: Room, writer: IngestWriter, *names: str) -> Agent:
    """An agent whose dictionary ingest remembers."""
    agent = await room.agent(names[0])
    await room.send(writer, agent, agent.dictionary(*names))
    await room.send(writer, agent, agent.data(columns([1], [NOW_US - MINUTE_US], [0.0])))
    return agent


def _many(agent: Agent, count: int, *, at_us: int = NOW_US) -> Any:
    return agent.data(
        columns([1] * count, range(at_us, at_us + count), np.arange(count).tolist()), taken_through_us=at_us
    )


@pytest.mark.parametrize("count", [READINGS_MAX // 2, READINGS_MAX], ids=["in one statement", "in one transaction"])
async def test_ledger_ids_minutes_and_watermark_are_those_of_the_long_way(
    room: Room, slow: list[int], count: int
) -> None:
    async with room.writing() as writer:
        agent = await _known(room, writer, "oven")
        slow.clear()
        await room.send(writer, agent, _many(agent, count), _many(agent, count, at_us=NOW_US + MINUTE_US))
        assert not slow
    rows = await room.fetch(_LEFT)
    assert [(row["stored"], row["between"], row["ids"]) for row in rows[1:]] == [(count, count, count)] * 2
    assert [row["taken_through_us"] for row in rows[1:]] == [NOW_US, NOW_US + MINUTE_US]
    assert await room.value("select count(*) from readings where raw is null") == 0
    assert await room.value("select (extract(epoch from taken_through) * 1000000)::bigint from epochs") == (
        NOW_US + MINUTE_US
    )
    assert await room.value("select count(*) from dirty_minutes where bucket_to >= to_timestamp($1)", NOW_US / 1e6 - 60)


async def test_minutes_far_apart_are_marked_apart(room: Room, slow: list[int]) -> None:
    async with room.writing() as writer:
        agent = await _known(room, writer, "oven", "pump")
        slow.clear()
        days_us = 3 * 86_400_000_000
        await room.value("delete from dirty_minutes")
        old = agent.data(columns([2], [NOW_US - days_us], [1.0]))
        await room.send(writer, agent, old, agent.data(columns([1], [NOW_US], [1.0])))
        assert not slow
    marks = await room.fetch(
        "select cardinality(series_ids) as series, bucket_to - bucket_from as length from dirty_minutes"
    )
    assert [(mark["series"], mark["length"].total_seconds()) for mark in marks] == [(1, 0.0)] * 2


async def test_a_group_with_a_batch_that_is_known_goes_the_long_way_and_is_stored_once(
    room: Room, slow: list[int]
) -> None:
    async with room.writing() as writer:
        agent = await _known(room, writer, "oven")
        first = _many(agent, READINGS_MAX)
        await room.send(writer, agent, first)
        slow.clear()
        room.publisher.acks.clear()
        await room.send(writer, agent, first, _many(agent, READINGS_MAX, at_us=NOW_US + MINUTE_US))
        assert slow == [2]
    assert await room.value("select count(*) from readings") == 1 + 2 * READINGS_MAX
    assert await room.value("select sum(stored) from ledger") == 1 + 2 * READINGS_MAX


async def test_a_group_that_was_judged_by_an_older_catalogue_is_judged_again(room: Room, slow: list[int]) -> None:
    async with room.writing() as writer:
        agent = await _known(room, writer, "oven")
        await room.value("update sensors set status = 'decommissioned' returning 1")
        slow.clear()
        await room.send(writer, agent, _many(agent, READINGS_MAX + 1))
        assert slow == [1]
    assert await room.value("select reason from set_aside") == "sensor_decommissioned"
    assert await room.value("select count(*) from readings") == 1


async def test_readings_that_stand_there_already_are_repeats_in_large_groups_too(room: Room) -> None:
    async with room.writing() as writer:
        agent = await _known(room, writer, "oven")
        first = _many(agent, READINGS_MAX + 1)
        await room.send(writer, agent, first)
        again = _many(agent, READINGS_MAX + 1)
        await room.send(writer, agent, again)
    assert await room.value("select repeated from ledger where seq = $1", again.header.seq) == READINGS_MAX + 1
    assert await room.value("select count(*) from readings") == READINGS_MAX + 2
