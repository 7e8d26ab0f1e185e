"""Readings come out of the database as they went in."""

from __future__ import annotations

import numpy as np
import pytest

from hub.database.pool import acquire
from hub.telemetry.catalogue import Catalogue
from hub.telemetry.extras import metas
from hub.telemetry.query import read_page
from hub.telemetry.scan import Where, decode, horizon, scan
from shared.errors import StorageError
from tests.fixtures.readings import START, Bench, Reading

pytestmark = pytest.mark.every_tier


async def test_columns_keep_every_bit_and_nulls_become_nan(bench: Bench) -> None:
    series = await bench.series(await bench.sensor())
    values = [0.1, -0.0, 5e-324, None, 1.7976931348623157e308]
    await bench.store(series, [Reading(at_s=i * 1e-6, raw=value, status=0) for i, value in enumerate(values)])
    async with acquire(bench.pool) as connection:
        rows = await scan(connection, Where(series=(series,)), limit=10)
    expected = np.array([np.nan if value is None else value for value in values])
    assert rows.raw.view(np.int64).tolist() == expected.view(np.int64).tolist()
    assert np.isnan(rows.physical).all()
    start_us = round(START.timestamp()) * 1_000_000
    assert rows.time_us.tolist() == [start_us + i for i in range(5)]


async def test_ranges_are_half_open_and_limits_hold(bench: Bench) -> None:
    series = await bench.series(await bench.sensor())
    ids = await bench.store(series, [Reading(at_s=i) for i in range(10)])
    async with acquire(bench.pool) as connection:
        some = await scan(connection, Where(id_from=ids[2], id_to=ids[5]), limit=10)
        last = await scan(connection, Where(series=(series,)), limit=3, descending=True)
        none = await scan(connection, Where(series=()), limit=3)
    assert some.id.tolist() == ids[2:5]
    assert last.id.tolist() == ids[:-4:-1]
    assert len(none) == 0


async def test_a_group_that_is_still_open_holds_back_what_was_committed_after_it(bench: Bench) -> None:
    series = await bench.series(await bench.sensor())
    other = await bench.series(await bench.sensor("kiln"))
    async with bench.group(series, [Reading(0)]) as first:
        second = await bench.store(other, [Reading(1)])
        async with acquire(bench.pool) as connection:
            assert await horizon(connection) <= first[0]
    async with acquire(bench.pool) as connection:
        assert await horizon(connection) > second[-1]


async def test_meta_is_found_for_the_readings_that_have_some(bench: Bench) -> None:
    series = await bench.series(await bench.sensor())
    await bench.store(series, [Reading(0), Reading(1), Reading(1.5)])
    async with acquire(bench.pool) as connection:
        await connection.execute(
            "insert into reading_meta values ($1, $2, $3)", series, Reading(1.5).time, {"operator": "ada"}
        )
        rows = await scan(connection, Where(series=(series,)), limit=10)
        found = await metas(connection, rows)
    assert rows.has_meta.tolist() == [False, False, True]
    assert found == {(series, int(rows.time_us[2])): {"operator": "ada"}}


async def test_pages_join_up_in_both_directions(bench: Bench) -> None:
    series = await bench.series(await bench.sensor())
    late = await bench.store(series, [Reading(at_s=100 + i) for i in range(4)])
    early = await bench.store(series, [Reading(at_s=i) for i in range(3)])
    assert await _walk(bench, series, descending=False) == late + early
    assert await _walk(bench, series, descending=True) == (late + early)[::-1]


async def _walk(bench: Bench, series: int, *, descending: bool) -> list[int]:
    catalogue = Catalogue()
    seen: list[int] = []
    cursor: int | None = None
    async with acquire(bench.pool) as connection:
        while True:
            where = Where(series=(series,))
            page = await read_page(connection, catalogue, where, since_id=cursor, limit=2, descending=descending)
            seen += [int(point.split(b",", 1)[0].removeprefix(b'{"id":')) for point in page.points]
            cursor = page.next_since_id
            if cursor is None:
                return seen


def test_bytes_that_are_not_rows_are_refused() -> None:
    with pytest.raises(StorageError, match="not the rows"):
        decode(b"PGCOPY\n\xff\r\n\0" + bytes(8) + b"x" * 20)
