"""What certificates say equals what was counted outside the product, and they are final when nothing can come."""

from __future__ import annotations

from typing import Any

from tests.hub.certificates.conftest import Box, at, box, certificate, rows, stop
from tests.hub.sessions.conftest import Lab

FIVE = {at(second): float(second) for second in range(5)}


async def recorded(lab: Lab, *names: str) -> tuple[Box, str, dict[str, Any]]:
    """An agent, one sensor of its own, and a session that runs since second 0."""
    agent = await box(lab, *names)
    found = await rows(lab, "select id::text from sensors where name = $1", names[0])
    return agent, found[0][0], await lab.started(await lab.run(), started_at=at(0).isoformat())


async def test_a_clean_session_is_final_once_its_agent_has_said_that_all_was_taken(lab: Lab) -> None:
    agent, _, session = await recorded(lab, "oven")
    await agent.deliver(agent.batch(FIVE, at(4)))
    assert (await certificate(lab, session))["state"] == "open"
    await stop(lab, session, 10)
    waiting = await certificate(lab, session)
    assert (waiting["state"], waiting["version"]) == ("waiting", 0)
    (wait,) = waiting["waits"]
    assert (wait["reason"], wait["agent_id"], wait["epoch"]) == ("taken_through", str(agent.id), agent.epoch.hex())
    await agent.deliver(agent.batch({}, at(11)))
    final = await certificate(lab, session)
    assert (final["state"], final["version"], final["waits"]) == ("final", 1, [])
    (sensor,) = final["sensors"]
    assert sensor["agents"] == {"taken": 5, "stored": 5, "held": 0, "repeated": 0, "set_aside": {}}
    assert sensor["posts"]["taken"] == 0
    assert await rows(lab, "select count(*), min(time), max(time) from readings") == [(5, at(0), at(4))]
    assert (sensor["first_at"], sensor["last_at"]) == tuple(
        one.isoformat().replace("+00:00", "Z") for one in (at(0), at(4))
    )
    assert final["totals"]["unexplained_readings"] == final["totals"]["unexplained_batches"] == 0
    (epoch,) = final["agents"][0]["epochs"]
    assert (epoch["stored"], epoch["present"], epoch["clock"][0]["basis"]) == (5, 5, "unstated")
    again = await certificate(lab, session)
    assert again == final, "what has not changed is not issued again"
