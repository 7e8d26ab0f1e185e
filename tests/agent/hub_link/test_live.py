from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest

from agent.hub_link.live import LiveLane
from shared.messages import Live, decode
from shared.readings import Columns, Status
from shared.records import SeriesEntry

SERIES = [SeriesEntry(1, "a", "value", "K"), SeriesEntry(2, "b")]


def row(series: int, timestamp_us: int, raw: float) -> Columns:
    return Columns(
        np.array([series], np.uint32),
        np.array([timestamp_us]),
        np.array([raw]),
        np.array([np.nan]),
        np.array([Status.RAW_ONLY], np.uint8),
        np.zeros(1, np.uint32),
    )


def test_the_latest_of_each_series_counts_in_whatever_order_they_come() -> None:
    lane = LiveLane(SERIES)
    lane.offer(row(1, 20, 2.0))
    lane.offer(row(1, 10, 1.0))
    lane.offer(row(2, 5, float("nan")))
    first, second = lane.take()
    assert (first.sensor, first.raw, first.timestamp_us, first.unit) == ("a", 2.0, 20, "K")
    assert (second.sensor, second.raw, second.physical) == ("b", None, None)
    assert lane.take() == []


async def test_the_first_change_goes_at_once_and_the_rest_conflated() -> None:
    lane = LiveLane(SERIES, interval_s=0.2)
    messages: list[Live] = []

    async def publish(payload: bytes) -> None:
        messages.append(decode(payload, Live))

    task = asyncio.create_task(lane.run(publish), name="live")
    await asyncio.sleep(0.05)
    loop = asyncio.get_running_loop()
    began = loop.time()
    thread = threading.Thread(target=lambda: [lane.offer(row(1, n, float(n))) for n in range(1000)])
    thread.start()
    while not messages:
        await asyncio.sleep(0.001)
    assert loop.time() - began < 0.15
    await asyncio.sleep(0.3)
    thread.join()
    task.cancel()
    await asyncio.wait((task,))
    assert len(messages) <= 3
    assert messages[-1].values[0].raw == 999.0


async def test_what_could_not_be_published_is_offered_to_the_next_connection() -> None:
    lane = LiveLane(SERIES)
    lane.offer(row(1, 1, 1.0))

    async def broken(_: bytes) -> None:
        raise OSError("line lost")

    with pytest.raises(OSError, match="line lost"):
        await lane.run(broken)
    assert [value.sensor for value in lane.take()] == ["a"]
