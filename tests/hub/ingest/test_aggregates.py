"""What is summed up equals what was delivered, whatever became of the readings since: folded, compressed, dropped."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from hub.database.partitions import DAY_US, drop_partition, partitions_of
from hub.database.pool import acquire, transaction
from hub.ingest.write import IngestWriter
from hub.telemetry.aggregate import fold_dirty
from hub.telemetry.buckets import MINUTE_US, Extent, read_buckets
from hub.telemetry.catalogue import Catalogue
from hub.telemetry.retention import drop_expired
from shared.clock import ManualClock
from tests.fixtures.tiers import compress
from tests.hub.ingest.conftest import Agent, Room, columns

pytestmark = pytest.mark.every_tier

WEEK_US = 7 * DAY_US
BASE_US = (int(time.time()) * 1_000_000 // WEEK_US + 60) * WEEK_US
"""Weeks from here on, in the future, so that the partitions are made long before they are old."""
WEEKS = 4
SERIES = (1, 2)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

week = st.integers(0, WEEKS - 1)
second = st.integers(0, 6 * 60).map(float) | st.floats(0, 6 * 60, width=32)
value = st.floats(-1e6, 1e6, width=32) | st.just(math.nan)
readings = st.lists(st.tuples(st.sampled_from(SERIES), week, second, value), min_size=1, max_size=30)
Step: TypeAlias = tuple[Any, ...]
step: st.SearchStrategy[Step] = st.one_of(
    st.tuples(st.just("store"), readings),
    st.tuples(st.just("fold"), st.integers(0, WEEKS)),
    st.tuples(st.just("drop"), st.integers(1, WEEKS - 1)),
    st.tuples(st.just("compress"), week),
)
span = st.tuples(week, second, week, second, st.sampled_from([10, 60, 90, 300, 86_400]))


def at_us(week: int, seconds: float) -> int:
    return BASE_US + week * WEEK_US + round(seconds * 1e6)


def moment(time_us: int) -> datetime:
    return EPOCH + timedelta(microseconds=time_us)


@dataclass
class Model:
    """What should be there: raw by (series, time), and the weeks whose readings are dropped."""

    stored: dict[tuple[int, int], float] = field(default_factory=dict)
    weeks: set[int] = field(default_factory=set)
    dropped: set[int] = field(default_factory=set)

    def store(self, batch: dict[tuple[int, int], float]) -> None:
        for (series, time_us), raw in batch.items():
            number = (time_us - BASE_US) // WEEK_US
            if number not in self.dropped:
                self.weeks.add(number)
                self.stored.setdefault((series, time_us), raw)

    def drop(self, before: int) -> None:
        self.dropped |= {number for number in self.weeks if number < before}

    def buckets(self, extent: Extent, interval_us: int) -> dict[tuple[int, int], list[float]]:
        """(bucket, series) → count, average, least and greatest raw value."""
        whole = interval_us % MINUTE_US == 0
        inner = Extent(-(-extent.from_us // MINUTE_US) * MINUTE_US, extent.to_us // MINUTE_US * MINUTE_US)
        groups: dict[tuple[int, int], list[float]] = {}
        for (series, time_us), raw in self.stored.items():
            gone = (time_us - BASE_US) // WEEK_US in self.dropped
            seen = inner if gone else extent
            if seen.from_us <= time_us < seen.to_us and (whole or not gone):
                groups.setdefault((time_us // interval_us * interval_us, series), []).append(raw)
        return {key: [float(len(group)), *_summary(group)] for key, group in groups.items()}


def _summary(raws: list[float]) -> list[float]:
    values = [raw for raw in raws if not math.isnan(raw)]
    return [math.fsum(values) / len(values), min(values), max(values)] if values else [math.nan] * 3


class Laboratory:
    """The real thing beside the model: readings come in through ingest."""

    def __init__(self, room: Room, agent: Agent, writer: IngestWriter) -> None:
        self.room, self.agent, self.writer, self.model = room, agent, writer, Model()

    async def clear(self) -> None:
        """Begin again."""
        self.model = Model()
        async with transaction(self.room.bench.pool) as connection:
            layout = self.room.bench.storage.layout
            for partition in await partitions_of(connection, layout):
                await drop_partition(connection, layout, partition)
            await connection.execute("truncate dirty_minutes, aggregates_1m, set_aside")
            await connection.execute("delete from dropped_ranges")
        self.room.bench.storage.partitions.forget()

    async def do(self, step: Step) -> None:
        """One step, on both."""
        what, argument = step
        pool, layout = self.room.bench.pool, self.room.bench.storage.layout
        if what == "store":
            batch = {(series, at_us(*at)): raw for series, *at, raw in argument}
            series, times = zip(*sorted(batch), strict=True)
            raws = [batch[key] for key in sorted(batch)]
            await self.room.send(self.writer, self.agent, self.agent.data(columns(series, times, raws)))
            self.model.store(batch)
        elif what == "fold":
            await fold_dirty(pool, moment(at_us(argument, 0)))
        elif what == "drop":
            now = moment(at_us(argument, 0)) + timedelta(days=90)
            await drop_expired(pool, layout, now=now, retention_days=90)
            self.model.drop(argument)
        else:
            await compress(self.room.bench.storage, moment(at_us(argument, 0)), moment(at_us(argument + 1, 0)))

    async def check(self, span: tuple[int, float, int, float, int]) -> None:
        """Compare the buckets of a stretch of time."""
        first, second = sorted((at_us(*span[:2]), at_us(*span[2:4])))
        extent, interval_us = Extent(first, second + 1), span[4] * 1_000_000
        expected = self.model.buckets(extent, interval_us)
        found = await buckets(self.room, extent, interval_us)
        note(f"extent={extent} interval_us={interval_us} dropped={self.model.dropped}")
        assert found.keys() == expected.keys()
        for key, values in expected.items():
            assert found[key] == pytest.approx(values, rel=1e-9, abs=1e-6, nan_ok=True)


async def buckets(room: Room, extent: Extent, interval_us: int) -> dict[tuple[int, int], list[float]]:
    catalogue = Catalogue()
    async with acquire(room.bench.pool) as connection:
        sensors = await connection.fetch("select id, name from sensors")
        known = await catalogue.series_of(connection, [record["id"] for record in sensors])
        found = await read_buckets(connection, catalogue, [one.id for one in known], extent, interval_us, 100_000)
    refs = {str(record["id"]): int(record["name"]) for record in sensors}
    return {
        ((one["bucket"] - EPOCH) // timedelta(microseconds=1), refs[one["sensor_id"]]): [
            one["sample_count"],
            *(math.nan if one[key] is None else one[key] for key in ("avg_raw", "min_raw", "max_raw")),
        ]
        for one in found
    }


@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=st.lists(step, min_size=1, max_size=10), spans=st.lists(span, min_size=2, max_size=4))
async def test_buckets_equal_what_was_delivered(room: Room, steps: list[Step], spans: list[Any]) -> None:
    room.clock = ManualClock(at_us(WEEKS, 0))
    agent = await room.agent(str(time.monotonic_ns()))
    async with room.writing() as writer:
        await room.send(writer, agent, agent.dictionary(*map(str, SERIES)))
        laboratory = Laboratory(room, agent, writer)
        await laboratory.clear()
        for step in steps:
            await laboratory.do(step)
            await laboratory.check(spans[0])
        for one in [*spans, (0, 0.0, WEEKS - 1, 360.0, 60)]:
            await laboratory.check(one)
