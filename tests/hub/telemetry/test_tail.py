"""Committed readings, each once, in order of id, however slow or late the subscriber."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import orjson
import pytest

from hub.telemetry import tail as tails
from hub.telemetry import windows
from hub.telemetry.moments import to_us
from hub.telemetry.tail import Since, Subscription, Tail
from hub.wake import set_within
from shared.errors import StorageUnavailable
from tests.fixtures.readings import Bench, Reading

pytestmark = pytest.mark.every_tier


@asynccontextmanager
async def running(bench: Bench) -> AsyncIterator[Tail]:
    tail = Tail(bench.pool, poll_s=0.05)
    task = asyncio.create_task(tail.run())
    try:
        yield tail
    finally:
        task.cancel()
        await asyncio.wait([task])


async def collect(
    tail: Tail, sensors: frozenset[UUID], count: int, cursor: int, since: Since | None = None
) -> list[int]:
    """Ids of the next `count` events."""
    wake = asyncio.Event()
    seen: list[int] = []
    async with asyncio.timeout(20):
        with tail.subscribe(wake, cursor, since) as subscription:
            while len(seen) < count:
                wake.clear()
                seen += take_ids(subscription, sensors)
                if subscription.fetching or not subscription.behind:
                    await set_within(wake, 1.0)
    return seen


def take_ids(subscription: Subscription, sensors: frozenset[UUID], limit: int | None = None) -> list[int]:
    if not subscription.behind:
        return []
    delivery = subscription.take(sensors, limit)
    ids = [int(line[4:]) for line in delivery.body.split(b"\n") if line.startswith(b"id: ")]
    assert len(ids) == delivery.count
    return ids


async def test_readings_committed_while_subscribed_come_in_order_of_id_late_ones_too(bench: Bench) -> None:
    sensor = await bench.sensor()
    series = await bench.series(sensor)
    async with running(bench) as tail:
        start = await tail.last_id()
        following = asyncio.create_task(collect(tail, frozenset((sensor,)), 5, start))
        stored = await bench.store(series, [Reading(100), Reading(101)])
        tail.notify()
        stored += await bench.store(series, [Reading(5)])
        stored += await bench.store(series, [Reading(102), Reading(4)])
        assert await following == stored


async def test_nothing_is_skipped_when_an_earlier_group_commits_later(bench: Bench) -> None:
    sensor = await bench.sensor()
    series, other = await bench.series(sensor), await bench.series(sensor, "other")
    async with running(bench) as tail:
        start = await tail.last_id()
        following = asyncio.create_task(collect(tail, frozenset((sensor,)), 2, start))
        async with bench.group(series, [Reading(0)]) as first:
            second = await bench.store(other, [Reading(1)])
            await asyncio.sleep(0.3)
            assert not following.done()
        assert await following == first + second


async def test_a_subscriber_far_behind_catches_up_from_the_database_and_joins_the_ring(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "CHUNK_ROWS_MAX", 7)
    monkeypatch.setattr(tails, "ROWS_MAX", 20)
    sensor, other = await bench.sensor(), await bench.sensor("kiln")
    series, noise = await bench.series(sensor), await bench.series(other)
    stored: list[int] = []
    for group in range(10):
        stored += await bench.store(series, [Reading(group * 100 + i) for i in range(9)])
        await bench.store(noise, [Reading(group * 100 + i) for i in range(20)])
    async with running(bench) as tail:
        following = asyncio.create_task(collect(tail, frozenset((sensor,)), 100, 0))
        await asyncio.sleep(0.2)
        stored += await bench.store(series, [Reading(5000 + i) for i in range(10)])
        assert await following == stored


async def test_since_a_moment_leaves_out_older_readings_of_before_but_not_late_ones_of_after(bench: Bench) -> None:
    sensor = await bench.sensor()
    series, other = await bench.series(sensor), await bench.series(sensor, "other")
    old = await bench.store(series, [Reading(1), Reading(50), Reading(60)])
    tie = await bench.store(other, [Reading(50)])
    async with running(bench) as tail:
        until = await tail.last_id()
        since = Since((to_us(Reading(50).time), old[1]), until)
        following = asyncio.create_task(collect(tail, frozenset((sensor,)), 3, 0, since))
        await asyncio.sleep(0.2)
        late = await bench.store(series, [Reading(2)])
        assert await following == [old[2], *tie, *late]


async def test_a_limit_is_kept_and_the_rest_follows(bench: Bench) -> None:
    sensor = await bench.sensor()
    series = await bench.series(sensor)
    async with running(bench) as tail:
        start = await tail.last_id()
        with tail.subscribe(asyncio.Event(), start) as subscription:
            stored = await bench.store(series, [Reading(i) for i in range(5)])
            await _until_behind(subscription)
            sensors = frozenset((sensor,))
            assert take_ids(subscription, sensors, 2) == stored[:2]
            assert subscription.cursor == stored[1]
            assert take_ids(subscription, sensors) == stored[2:]


async def test_the_first_subscriber_is_woken_for_what_was_stored_before_it_came(bench: Bench) -> None:
    sensor = await bench.sensor()
    stored = await bench.store(await bench.series(sensor), [Reading(0)])
    async with running(bench) as tail:
        wake = asyncio.Event()
        with tail.subscribe(wake, 0) as subscription:
            seen: list[int] = []
            async with asyncio.timeout(10):
                while not seen:
                    await wake.wait()
                    wake.clear()
                    while subscription.behind and not subscription.fetching:
                        seen += take_ids(subscription, frozenset((sensor,)))
    assert seen == stored


async def test_streams_of_other_sensors_move_on_without_events(bench: Bench) -> None:
    sensor, other = await bench.sensor(), await bench.sensor("kiln")
    series = await bench.series(sensor)
    async with running(bench) as tail:
        start = await tail.last_id()
        with tail.subscribe(asyncio.Event(), start) as subscription:
            stored = await bench.store(series, [Reading(0)])
            async with asyncio.timeout(10):
                while subscription.cursor < stored[-1]:
                    assert take_ids(subscription, frozenset((other,))) == []
                    await asyncio.sleep(0.01)


async def test_readings_of_a_deleted_series_are_passed_over(bench: Bench) -> None:
    sensor = await bench.sensor()
    gone, kept = await bench.series(sensor), await bench.series(sensor, "kept")
    async with running(bench) as tail:
        start = await tail.last_id()
        await bench.store(gone, [Reading(0)])
        async with bench.pool.acquire() as connection:
            await connection.execute("delete from series where id = $1", gone)
        following = asyncio.create_task(collect(tail, frozenset((sensor,)), 1, start))
        stored = await bench.store(kept, [Reading(0)])
        assert await following == stored


async def test_many_subscribers_with_random_pauses_all_see_everything_once(bench: Bench) -> None:
    sensors = [await bench.sensor(f"oven {number}") for number in range(3)]
    series = [await bench.series(sensor) for sensor in sensors]
    rng = random.Random(4)
    async with running(bench) as tail:
        start = await tail.last_id()
        expected: dict[UUID, list[int]] = {sensor: [] for sensor in sensors}
        followers = [asyncio.create_task(collect(tail, frozenset((sensor,)), 40, start)) for sensor in sensors * 3]
        for group in range(20):
            for sensor, ref in zip(sensors, series, strict=True):
                expected[sensor] += await bench.store(
                    ref, [Reading(group * 10), Reading(group * 10 + rng.random() + 1)]
                )
                if rng.random() < 0.2:
                    await asyncio.sleep(rng.random() / 20)
        for follower, sensor in zip(followers, sensors * 3, strict=True):
            assert await follower == expected[sensor]


async def test_without_subscribers_nothing_is_read_and_no_connection_is_held(bench: Bench) -> None:
    sensor = await bench.sensor()
    series = await bench.series(sensor)
    async with running(bench) as tail:
        start = await tail.last_id()
        stored = await bench.store(series, [Reading(0)])
        assert await collect(tail, frozenset((sensor,)), 1, start) == stored
        async with asyncio.timeout(5):
            while bench.pool.get_idle_size() < bench.pool.get_size():
                await asyncio.sleep(0.02)
        assert tail.subscribers == 0


async def test_events_carry_the_reading_as_json(bench: Bench) -> None:
    sensor = await bench.sensor()
    series = await bench.series(sensor)
    async with running(bench) as tail:
        (id_,) = await bench.store(series, [Reading(0, raw=2.5)])
        with tail.subscribe(asyncio.Event(), id_ - 1) as subscription:
            await _until_behind(subscription)
            async with asyncio.timeout(10):
                while not (delivery := subscription.take(frozenset((sensor,)))).count:
                    await asyncio.sleep(0.01)
    head, event, data = delivery.body.rstrip(b"\n").split(b"\n")
    assert head == b"id: %d" % id_
    assert event == b"event: telemetry"
    assert orjson.loads(data.removeprefix(b"data: "))["raw_value"] == 2.5


async def test_a_lost_database_ends_subscriptions_and_later_ones_work_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tails, "RETRY_S", 0.05)
    sensor = await bench.sensor()
    series = await bench.series(sensor)
    async with running(bench) as tail:
        start = await tail.last_id()
        wake = asyncio.Event()
        with tail.subscribe(wake, start) as subscription:
            await asyncio.wait_for(wake.wait(), 10)
            async with bench.pool.acquire() as connection:
                await connection.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity "
                    "where datname = current_database() and pid <> pg_backend_pid()"
                )
            with pytest.raises(StorageUnavailable):
                await _until_behind(subscription)
        stored = await bench.store(series, [Reading(0)])
        assert await collect(tail, frozenset((sensor,)), 1, start) == stored


async def _until_behind(subscription: Subscription) -> None:
    async with asyncio.timeout(10):
        while not subscription.behind:
            await asyncio.sleep(0.01)
