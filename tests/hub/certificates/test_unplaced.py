"""An agent that starts again without knowing the time: its certificate waits for it, wherever its clock stands."""

from __future__ import annotations

from datetime import timedelta

from shared.records import ClockRecord
from tests.hub.certificates.conftest import Box, at, at_us, box, certificate, rows, stop
from tests.hub.sessions.conftest import Lab

BEHIND = timedelta(days=14_000)
"""A clock that began at its manufacture."""
BEHIND_US = BEHIND // timedelta(microseconds=1)


async def start_blind(agent: Box, seconds: float) -> None:
    """The agent starts again at a second of which its clock knows nothing, and tells that much."""
    await agent.tell(at(seconds) - BEHIND)
    opened_us = at_us(seconds) - BEHIND_US
    await agent.deliver(agent.record(ClockRecord(1, opened_us, 0, -1, opened_us, source="none")))


async def test_what_it_may_hold_is_waited_for(lab: Lab) -> None:
    agent = await box(lab, "oven")
    session = await lab.started(await lab.run(), started_at=at(0).isoformat())
    await agent.deliver(agent.batch({at(1): 1.0}, at(2)))
    await start_blind(agent, 3)
    held = agent.batch({at(5) - BEHIND: 5.0}, at(12) - BEHIND)
    await stop(lab, session, 10)
    (wait,) = (await certificate(lab, session))["waits"]
    assert (wait["reason"], wait["epoch"]) == ("taken_through", agent.epoch.hex())
    await agent.tell(at(20))
    await agent.deliver(held, agent.batch({}, at(21)))
    assert [one["reason"] for one in (await certificate(lab, session))["waits"]] == ["clock"]
    ((aside,),) = await rows(lab, "select id from set_aside")
    answer = await lab.owner.post(f"/api/v1/set-aside/{aside}/release", json={"offset_us": BEHIND_US})
    assert (answer.status_code, answer.json()["stored"]) == (200, 1), answer.text
    final = await certificate(lab, session)
    assert (final["state"], final["totals"]["agents"]["stored"]) == ("final", 2)
    assert len(final["agents"][0]["epochs"]) == 2


async def test_one_of_which_its_heir_tells_is_no_follower_of_that(lab: Lab) -> None:
    agent = await box(lab, "oven")
    session = await lab.started(await lab.run(), started_at=at(0).isoformat())
    await start_blind(agent, 1)
    await agent.start(at(3))
    await stop(lab, session, 10)
    reasons = {one["epoch"]: one["reason"] for one in (await certificate(lab, session))["waits"]}
    assert reasons[agent.epoch.hex()] == "taken_through", "it is not one whose end nobody knows"
