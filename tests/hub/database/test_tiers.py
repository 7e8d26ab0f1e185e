"""The layout of `readings` and its partitions, on whatever tier the test database is."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg
import numpy as np
import pytest

from hub.database.migrate import migrate
from hub.database.partitions import (
    DAY_US,
    NEW_PER_CALL_MAX,
    TIME_US_MAX,
    ImplausibleTime,
    Partitions,
    TooManyPartitions,
    ensure_partitions,
)
from hub.database.pool import Connection, acquire
from hub.database.storage import Storage, connect
from hub.database.tiers import Layout, Tier, detect, prepare
from hub.settings import HubSettings
from shared.errors import MigrationError
from tests.fixtures.optional import skip_or_fail
from tests.fixtures.tiers import VARIABLE, timescale_servers

pytestmark = pytest.mark.every_tier

NOW_US = 1_773_300_000_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


async def laid_out(connection: Connection, chunk_days: int = 7) -> Layout:
    await migrate(connection)
    return await prepare(connection, await detect(connection), chunk_days)


async def store(connection: Connection, time_us: int, series: int = 1, raw: float = 1.0) -> None:
    time = EPOCH + timedelta(microseconds=time_us)
    await connection.execute(
        "insert into readings (series_id, time, id, raw, status) values ($1, $2, 1, $3, 0)", series, time, raw
    )


async def partitions(connection: Connection) -> list[str]:
    rows = await connection.fetch(
        "select relname from pg_inherits join pg_class c on c.oid = inhrelid"
        " where inhparent = 'readings'::regclass and c.relkind in ('r', 'p') order by relname"
    )
    return [row["relname"] for row in rows]


def test_there_is_a_server_with_timescaledb_to_test_on() -> None:
    if not timescale_servers():
        command = f'set {VARIABLE} to the URL of a server, or on Debian as root: eval "$(.ci/timescaledb start)"'
        skip_or_fail("without TimescaleDB, storage is tested on plain PostgreSQL only", command)


async def test_laying_out_again_changes_nothing(connection: Connection) -> None:
    first = await laid_out(connection)
    assert await prepare(connection, first.tier, 7) == first


async def test_the_days_of_a_chunk_are_those_of_the_first_start(connection: Connection) -> None:
    first = await laid_out(connection, chunk_days=3)
    assert (await prepare(connection, first.tier, 30)).chunk_days == 3


async def test_plain_stays_plain_when_timescaledb_appears(connection: Connection) -> None:
    await migrate(connection)
    await prepare(connection, Tier.PLAIN, 7)
    assert (await prepare(connection, Tier.COMMUNITY, 7)).tier is Tier.PLAIN


async def test_a_hypertable_without_timescaledb_is_refused(connection: Connection) -> None:
    await migrate(connection)
    layout = {"hypertable": True, "chunk_days": 7}
    await connection.execute("insert into hub_state values ('readings_layout', $1)", layout)
    with pytest.raises(MigrationError, match="TimescaleDB is not there"):
        await prepare(connection, Tier.PLAIN, 7)


async def test_a_series_has_one_reading_a_moment(connection: Connection) -> None:
    layout = await laid_out(connection)
    await ensure_partitions(connection, layout, NOW_US, NOW_US)
    await store(connection, NOW_US)
    await store(connection, NOW_US, series=2)
    await store(connection, NOW_US + 1)
    with pytest.raises(asyncpg.UniqueViolationError):
        await store(connection, NOW_US, raw=2.0)


async def test_readings_find_room_at_both_edges_of_every_partition(connection: Connection) -> None:
    layout = await laid_out(connection)
    chunk_us = layout.chunk_days * DAY_US
    start = NOW_US // chunk_us * chunk_us
    await ensure_partitions(connection, layout, start, start + 2 * chunk_us)
    for moment in (start, start + chunk_us - 1, start + chunk_us, start + 2 * chunk_us, start + 3 * chunk_us - 1):
        await store(connection, moment)


async def test_any_time_from_1970_to_9999_can_be_stored(connection: Connection) -> None:
    layout = await laid_out(connection, chunk_days=5)
    for moment in (0, DAY_US * 365 * 300, TIME_US_MAX - 1_000):
        await ensure_partitions(connection, layout, moment, moment)
        await store(connection, moment)
    for moment in (-1, TIME_US_MAX):
        with pytest.raises(ImplausibleTime):
            await ensure_partitions(connection, layout, moment, moment)


@pytest.mark.parametrize("chunk_days", [1, 7, 30, 366])
async def test_the_year_9999_can_be_stored_whatever_the_days_of_a_chunk(
    connection: Connection, chunk_days: int
) -> None:
    layout = await laid_out(connection, chunk_days)
    await ensure_partitions(connection, layout, TIME_US_MAX - 1, TIME_US_MAX - 1_000)
    await store(connection, TIME_US_MAX - 1_000)


async def test_several_writers_make_the_same_partitions_at_once(settings: HubSettings, connection: Connection) -> None:
    layout = await laid_out(connection)
    writers = [await connect(settings) for _ in range(4)]

    async def write(number: int, writer: Connection) -> None:
        for week in range(8):
            moment = NOW_US + (week if number % 2 else 7 - week) * 7 * DAY_US
            async with writer.transaction():
                await ensure_partitions(writer, layout, moment, moment)
                await store(writer, moment, series=number)

    try:
        async with asyncio.TaskGroup() as group:
            for number, writer in enumerate(writers):
                group.create_task(write(number, writer))
        assert await connection.fetchval("select count(*) from readings") == 32
    finally:
        for writer in writers:
            writer.terminate()


async def test_a_new_partition_does_not_wait_for_readers_and_writers_of_others(
    settings: HubSettings, connection: Connection
) -> None:
    layout = await laid_out(connection)
    await ensure_partitions(connection, layout, NOW_US, NOW_US)
    writer = await connect(settings)
    try:
        async with writer.transaction():
            await store(writer, NOW_US)
            await writer.fetch("select * from readings")
            async with asyncio.timeout(10):
                await ensure_partitions(connection, layout, NOW_US + 9 * DAY_US, NOW_US + 9 * DAY_US)
    finally:
        writer.terminate()


async def test_two_writers_of_a_new_partition_do_not_wait_for_each_other(
    settings: HubSettings, connection: Connection
) -> None:
    storage = Storage(settings)
    await storage.open()
    try:
        await storage.prepare()
        await storage.partitions.ensure(np.array([NOW_US], np.int64))
        async with acquire(storage.pool) as other, connection.transaction():
            await store(connection, NOW_US)
            async with asyncio.timeout(10):
                await store(other, NOW_US, series=2)
        assert await connection.fetchval("select count(*) from readings") == 2
    finally:
        await storage.close()


async def test_too_many_new_partitions_at_once_are_refused(settings: HubSettings) -> None:
    storage = Storage(settings)
    await storage.open()
    try:
        await storage.prepare()
        far = np.arange(NEW_PER_CALL_MAX + 1, dtype=np.int64) * 7 * DAY_US
        with pytest.raises(TooManyPartitions):
            await storage.partitions.ensure(far)
        await storage.partitions.ensure(far[:-1])
        await storage.partitions.ensure(far)
        with pytest.raises(ImplausibleTime):
            await storage.partitions.ensure(np.array([-1], np.int64))
        await storage.partitions.ensure(np.empty(0, np.int64))
    finally:
        await storage.close()


async def test_known_partitions_cost_no_query(connection: Connection, settings: HubSettings) -> None:
    layout = await laid_out(connection)
    storage = Storage(settings)
    await storage.open()
    try:
        await storage.prepare()
        known = Partitions(storage.pool, layout)
        times = np.array([NOW_US, NOW_US + DAY_US], np.int64)
        await known.ensure(times)
        before = storage.pool.get_size(), await partitions(connection)
        storage.pool.terminate()
        await known.ensure(times)
        assert before[1] == await partitions(connection)
    finally:
        await storage.close()


async def test_the_tier_is_what_the_server_offers(connection: Connection) -> None:
    offered = await connection.fetchval("select true from pg_available_extensions where name = 'timescaledb'")
    layout = await laid_out(connection)
    licence = await connection.fetchval("select current_setting('timescaledb.license', true)")
    expected = Tier.PLAIN if not offered else Tier.COMMUNITY if licence == "timescale" else Tier.APACHE
    assert layout.tier is expected
    if expected.has_hypertables:
        await store(connection, NOW_US)
        assert await connection.fetchval("select count(*) from timescaledb_information.chunks") == 1
