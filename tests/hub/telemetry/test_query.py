"""Pages are exact, however times and ids lie to each other; and quick, where they rise together."""

from __future__ import annotations

import random

import orjson
import pytest

from hub.database.pool import acquire
from hub.telemetry.catalogue import Catalogue
from hub.telemetry.moments import to_us
from hub.telemetry.query import Page, read_page
from hub.telemetry.scan import Where
from hub.telemetry.summaries import Summaries
from tests.fixtures.readings import START, Bench, Reading

pytestmark = pytest.mark.every_tier

START_US = to_us(START)


async def page(bench: Bench, where: Where, since_id: int | None, limit: int, *, descending: bool) -> Page:
    async with acquire(bench.pool) as connection:
        return await read_page(connection, Catalogue(), where, since_id=since_id, limit=limit, descending=descending)


async def walk(bench: Bench, where: Where, limit: int, *, descending: bool) -> list[int]:
    """The ids of all pages."""
    seen: list[int] = []
    cursor: int | None = None
    while True:
        found = await page(bench, where, cursor, limit, descending=descending)
        seen += [orjson.loads(point)["id"] for point in found.points]
        cursor = found.next_since_id
        if cursor is None:
            return seen
        assert len(found.points) == limit


@pytest.mark.parametrize("seed", range(3))
async def test_all_pages_together_are_all_readings_once_in_order_of_id(bench: Bench, seed: int) -> None:
    rng = random.Random(seed)
    sensor = await bench.sensor()
    series = [await bench.series(sensor, name) for name in "abc"]
    stored: list[tuple[int, int, int]] = []
    now_s = 0.0
    for _ in range(25):
        now_s += rng.choice([0.5, 5, 600])
        at_s = now_s if rng.random() < 0.7 else rng.uniform(-5000, now_s)  # late, or out of order
        ref = rng.choice(series)
        times = sorted({round(at_s + rng.uniform(0, 3), 6) for _ in range(rng.randrange(1, 6))})
        ids = await bench.store(ref, [Reading(time) for time in times])
        stored += [(id_, ref, to_us(Reading(time).time)) for id_, time in zip(ids, times, strict=True)]
    for _ in range(6):
        chosen = tuple(rng.sample(series, rng.randrange(1, 4)))
        low, high = sorted(START_US + round(rng.uniform(-6000, now_s + 10) * 1e6) for _ in range(2))
        where = Where(series=chosen, time_from_us=rng.choice([None, low]), time_to_us=rng.choice([None, high]))
        expected = sorted(
            id_
            for id_, ref, time_us in stored
            if ref in chosen
            and (where.time_from_us is None or time_us >= where.time_from_us)
            and (where.time_to_us is None or time_us < where.time_to_us)
        )
        limit = rng.randrange(1, 12)
        assert await walk(bench, where, limit, descending=False) == expected
        assert await walk(bench, where, limit, descending=True) == expected[::-1]


async def test_a_cursor_that_is_no_readings_id_works_as_well(bench: Bench) -> None:
    series = await bench.series(await bench.sensor())
    ids = await bench.store(series, [Reading(i) for i in range(5)])
    where = Where(series=(series,))
    everything = await page(bench, where, 0, 10, descending=False)
    assert len(everything.points) == 5
    assert (await page(bench, where, ids[-1] + 1000, 10, descending=False)).points == []
    assert len((await page(bench, where, ids[-1] + 1000, 10, descending=True)).points) == 5


async def test_no_series_and_no_time_give_an_empty_page(bench: Bench) -> None:
    assert await page(bench, Where(series=()), None, 10, descending=False) == Page([], None)
    nothing = Where(series=(1,), time_from_us=5, time_to_us=5)
    assert await page(bench, nothing, None, 10, descending=False) == Page([], None)


async def test_summaries_are_made_where_a_partition_has_grown(bench: Bench) -> None:
    series = await bench.series(await bench.sensor())
    await bench.store(series, [Reading(i) for i in range(5)])
    summaries = Summaries(bench.storage)
    assert await summaries.once() >= 1
    assert await summaries.once() == 0
    await bench.store(series, [Reading(i) for i in range(5, 2000)])
    assert await summaries.once() == 1
