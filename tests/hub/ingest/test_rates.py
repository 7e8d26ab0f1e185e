"""How much a sensor may send."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from hub.ingest.rates import BURST_S, Rates
from shared.clock import ManualClock
from tests.fixtures.websocket import connected
from tests.hub.sessions.conftest import Lab, lab

__all__ = ["lab"]

OVEN, KILN = UUID(int=1), UUID(int=2)


def test_a_burst_goes_in_and_what_follows_waits_as_long_as_it_takes() -> None:
    clock = ManualClock()
    rates = Rates(clock, per_s_max=100)
    assert rates.take(OVEN, int(100 * BURST_S) + 500) == 0
    assert rates.take(OVEN, 1) == 5.0
    assert rates.take(KILN, 1) == 0
    clock.advance_s(5.1)
    assert rates.take(OVEN, 1) == 0


def test_over_time_no_more_goes_in_than_the_rate_says() -> None:
    clock = ManualClock()
    rates, taken = Rates(clock, per_s_max=0), 0
    for _ in range(1000):
        clock.advance_s(0.1)
        taken += 20 if rates.take(OVEN, 20, 50) == 0 else 0
    assert 50 * 100 <= taken <= 50 * (100 + BURST_S) + 20


def test_without_a_rate_everything_goes_in() -> None:
    rates = Rates(ManualClock(), per_s_max=0)
    assert {rates.take(OVEN, 10_000) for _ in range(100)} == {0}


async def test_posts_beyond_the_sensors_rate_get_429_and_its_neighbours_do_not(lab: Lab) -> None:
    oven, kiln = await lab.sensor("oven"), await lab.sensor("kiln")
    changed = await lab.owner.patch(f"/api/v1/sensors/{oven}", json={"readings_per_s_max": 1})
    assert changed.json()["readings_per_s_max"] == 1
    now = datetime.now(UTC)
    readings = {now + timedelta(milliseconds=n): 1.0 for n in range(100)}
    assert (await lab.post(oven, readings)).status_code == 202
    refused = await lab.post(oven, {now - timedelta(hours=1): 1.0})
    assert refused.status_code == 429
    assert 60 <= int(refused.headers["Retry-After"]) <= 91
    assert (await lab.post(kiln, readings)).status_code == 202
    async with connected(lab.hub.app, "/api/v1/telemetry/ws", token=lab.tokens[oven]) as client:
        await client.say({"type": "open", "stream": "s"})
        assert (await client.hear())["type"] == "ready"
        await client.say({"type": "readings", "seq": 1, "columns": {"timestamp_us": [1], "raw_value": [1.0]}})
        assert (await client.hear())["problem"]["status"] == 429
        assert await client.closed() == 1013
    assert (await lab.owner.patch(f"/api/v1/sensors/{oven}", json={"readings_per_s_max": 0})).status_code == 200
    assert (await lab.post(oven, {now - timedelta(hours=1): 1.0})).status_code == 202
