"""Late data for chunks that are compressed (where the tier can) are stored, repeated or set aside as any other."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from hub.database.pool import acquire
from hub.database.tiers import Tier
from hub.telemetry.scan import Where, prefer_indexes, scan
from tests.fixtures.tiers import compress
from tests.hub.ingest.conftest import NOW_US, Room, columns

pytestmark = pytest.mark.every_tier

SERIES, EACH = 120, 16
START_US = NOW_US - 60 * 86_400_000_000
START = datetime.fromtimestamp(START_US / 1e6, UTC)
REFS = list(range(1, SERIES + 1))


def at(step: float) -> list[int]:
    """The same moment for each series."""
    return [START_US + round(step * 1e6)] * SERIES


@pytest.fixture
async def old(room: Room) -> Room:
    """A room with old readings of many series, compressed."""
    agent = await room.agent()
    series = [ref for ref in REFS for _ in range(EACH)]
    times = [START_US + step * 1_000_000 for _ in REFS for step in range(EACH)]
    async with room.writing() as writer:
        await room.send(writer, agent, agent.dictionary(*(f"s{ref}" for ref in REFS)))
        await room.send(writer, agent, agent.data(columns(series, times, [1.0] * len(series))))
    await compress(room.bench.storage, START - timedelta(days=30), START + timedelta(days=30))
    return room


async def test_late_data_are_stored_between_compressed_readings(old: Room) -> None:
    agent = await old.agent("late")
    async with old.writing() as writer:
        await old.send(writer, agent, agent.dictionary(*(f"s{ref}" for ref in REFS)))
        await old.send(writer, agent, agent.data(columns(REFS, at(10.5), [2.0] * SERIES)))
    assert await old.value("select count(*) from readings") == SERIES * (EACH + 1)
    assert await old.value("select count(distinct (series_id, time)) from readings") == SERIES * (EACH + 1)
    if old.bench.storage.tier is Tier.COMMUNITY:
        assert await old.value("select bool_or(is_compressed) from timescaledb_information.chunks")


async def test_repeats_and_conflicts_with_compressed_readings_are_told_apart(old: Room) -> None:
    agent = await old.agent("late")
    async with old.writing() as writer:
        await old.send(writer, agent, agent.dictionary(*(f"s{ref}" for ref in REFS)))
        await old.send(writer, agent, agent.data(columns(REFS, at(5), [1.0] * SERIES)))
        await old.send(writer, agent, agent.data(columns(REFS, at(6), [5.0] * SERIES)))
    counts = await old.fetch("select stored, repeated, set_aside from ledger where readings = $1 order by seq", SERIES)
    assert [tuple(row.values()) for row in counts] == [(0, SERIES, 0), (0, 0, SERIES)]
    assert await old.value("select count(*) from readings") == SERIES * EACH
    assert await old.value("select distinct reason from set_aside") == "conflicting_value"


async def test_readers_of_new_ids_find_what_came_late(old: Room) -> None:
    before = await old.value("select max(id) from readings")
    agent = await old.agent("late")
    async with old.writing() as writer:
        await old.send(writer, agent, agent.dictionary("s1"))
        await old.send(writer, agent, agent.data(columns([1], at(12.5)[:1], [7.0])))
    async with acquire(old.bench.pool) as connection:
        await prefer_indexes(connection)
        rows = await scan(connection, Where(id_from=before + 1), limit=10)
        everything = await scan(connection, Where(id_from=1), limit=100_000)
    assert rows.raw.tolist() == [7.0]
    assert len(everything) == SERIES * EACH + 1
