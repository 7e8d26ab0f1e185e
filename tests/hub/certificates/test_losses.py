"""What gap records say of a session: how much, and of which time, by whatever clock they are."""

from __future__ import annotations

from typing import Any

from shared.records import ClockRecord, Gap
from tests.hub.certificates.conftest import Box, at, at_us, box, certificate, rows, stop
from tests.hub.sessions.conftest import Lab

HOUR_US = 3_600_000_000
FAST_US = -HOUR_US
"""What is added to the time of a clock that is an hour ahead."""


async def missing(lab: Lab, session: dict[str, Any]) -> dict[str, Any]:
    """All that a session's one sensor misses, by cause."""
    (sensor,) = (await certificate(lab, session))["sensors"]
    return {one["cause"]: one for one in sensor["missing"]}


async def recorded(lab: Lab) -> tuple[Box, dict[str, Any]]:
    """An agent, and a session that ran from second 0 to 10."""
    agent = await box(lab, "oven")
    session = await lab.started(await lab.run(), started_at=at(0).isoformat())
    await stop(lab, session, 10)
    return agent, session


def clock(segment: int, seconds: float, offset_us: int) -> ClockRecord:
    """A segment that was measured."""
    opened_us = at_us(seconds) - offset_us
    return ClockRecord(segment, opened_us, offset_us, 1000, opened_us)


def shown(seconds: float) -> str:
    """A moment as certificates have it."""
    return at(seconds).isoformat().replace("+00:00", "Z")


async def test_an_empty_batch_that_was_dropped_costs_no_reading(lab: Lab) -> None:
    agent, session = await recorded(lab)
    agent.batch({}, at(5))
    gap = Gap("quota_oldest", at_us(5), at_us(5), 0, batches=[(agent.epoch.hex(), agent.seq, agent.seq)])
    await agent.deliver(agent.record(gap), agent.batch({}, at(12)))
    final = await certificate(lab, session)
    assert final["state"] == "final"
    assert final["sensors"][0]["missing"] == []
    assert (final["totals"]["missing"], final["totals"]["missing_uncounted"]) == (0, 0)


async def test_a_loss_lies_where_the_clock_that_it_names_puts_it(lab: Lab) -> None:
    agent, session = await recorded(lab)
    agent.segment = 2
    await agent.deliver(agent.record(clock(2, 0, FAST_US)), agent.batch({}, at(3600)))
    agent.segment = 3
    lost = Gap(
        "quota_oldest",
        at_us(1) - FAST_US,
        at_us(3) - FAST_US,
        5,
        [(1, 5)],
        [(agent.epoch.hex(), agent.seq + 1, agent.seq + 1)],
        clock=(agent.epoch.hex(), 2),
    )
    agent.batch({}, at(3))
    await agent.deliver(agent.record(lost), agent.batch({}, at(12)))
    found = await missing(lab, session)
    assert (found["quota_oldest"]["readings"], found["quota_oldest"]["reaches_beyond"]) == (5, False)
    assert (found["quota_oldest"]["time_from"], found["quota_oldest"]["time_to"]) == (shown(1), shown(3))


async def test_a_loss_of_all_that_a_clock_had_lies_where_that_was_measured(lab: Lab) -> None:
    agent, session = await recorded(lab)
    agent.segment = 2
    await agent.deliver(agent.record(clock(2, 0, FAST_US)))
    before, lost = agent.epoch, agent.batch({}, at(3)).header.seq
    agent.segment = 1
    await agent.start(at(4))
    times = at_us(1) - FAST_US, at_us(3) - FAST_US
    gap = Gap("quota_thin", *times, 5, [(1, 5)], [(before.hex(), lost, lost)], clock=(before.hex(), 2))
    await agent.deliver(agent.record(gap), agent.batch({}, at(12)))
    found = await missing(lab, session)
    assert (found["quota_thin"]["time_from"], found["quota_thin"]["time_to"]) == (shown(1), shown(3))
    assert (await certificate(lab, session))["state"] == "final"


async def test_a_loss_by_a_clock_that_the_hub_never_heard_of_is_taken_as_it_is(lab: Lab) -> None:
    agent, session = await recorded(lab)
    gap = Gap("overflow", at_us(1), at_us(3), 5, [(1, 5)], clock=("ab" * 16, 7))
    await agent.deliver(agent.record(gap), agent.batch({}, at(12)))
    assert (await missing(lab, session))["overflow"]["time_from"] == shown(1)


async def test_a_downtime_begins_by_the_clock_of_the_process_that_ended(lab: Lab) -> None:
    agent, session = await recorded(lab)
    agent.segment = 2
    await agent.deliver(agent.record(clock(2, 0, FAST_US)), agent.batch({}, at(3602)))
    agent.segment = 1
    await agent.start(at(6))
    ends_us = max(at_us(6), at_us(3602))  # a record never ends before it begins
    await agent.deliver(agent.record(Gap("downtime", at_us(3602), ends_us)), agent.batch({}, at(12)))
    found = await missing(lab, session)
    assert (found["downtime"]["time_from"], found["downtime"]["time_to"]) == (shown(2), shown(6))
    assert (found["downtime"]["uncounted"], found["downtime"]["reaches_beyond"]) == (1, False)


async def test_what_is_released_and_set_aside_again_is_the_agents_as_before(lab: Lab) -> None:
    agent, session = await recorded(lab)
    await agent.deliver(agent.batch({}, at(12)))
    answer = await lab.owner.patch(lab.path(session), json={"status": "archived"})
    assert answer.status_code == 200, answer.text
    agent.segment = 2
    opened, late = agent.record(clock(2, 13, FAST_US)), agent.batch({at(3605): 1.0, at(3606): 2.0}, at(3613))
    await agent.deliver(opened, late)
    query = "select agent_id, epoch_id, seq, clock_segment, correction_us, timestamps_us, reason from set_aside"
    before = await rows(lab, query)
    assert before[0][0] == agent.id
    assert before[0][4:] == (FAST_US, [at_us(5), at_us(6)], "archived_session")
    ((aside,),) = await rows(lab, "select id from set_aside")
    answer = await lab.owner.post(f"/api/v1/set-aside/{aside}/release")
    assert (answer.status_code, answer.json()["set_aside"]) == (200, 2), answer.text
    assert await rows(lab, query) == before
    (sensor,) = (await certificate(lab, session))["sensors"]
    assert (sensor["agents"]["set_aside"], sensor["posts"]["set_aside"]) == ({"archived_session": 2}, {})
