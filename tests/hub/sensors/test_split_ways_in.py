"""However readings come, and whenever their session does: they are converted as their session is."""

from __future__ import annotations

from tests.hub.sensors.splitting import DEFAULT, SPLIT, at, factors, post, publish, split
from tests.hub.sessions.conftest import Lab, lab

__all__ = ["lab"]


async def test_a_post_may_name_a_draft_that_was_made_since(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    await publish(lab, oven, DEFAULT)
    run = await lab.run((oven,))
    await split(lab, oven, SPLIT, run_ids=[run])
    first = await lab.started(run, status="draft")
    await post(lab, oven, 1, capture_session_id=first["id"])
    later = await lab.started(run, status="draft")
    await post(lab, oven, 2, capture_session_id=later["id"])
    assert await factors(lab, oven) == {1: 10, 2: 10}


async def test_a_post_may_name_a_session_that_records_other_sensors(lab: Lab) -> None:
    oven, scale = await lab.sensor("oven"), await lab.sensor("scale")
    await publish(lab, oven, DEFAULT)
    busy, run = await lab.run((oven,)), await lab.run()
    await lab.started(busy, started_at=at(0).isoformat())
    await split(lab, oven, SPLIT, run_ids=[run])
    await post(lab, oven, 1)
    session = await lab.started(run, started_at=at(0).isoformat())
    await post(lab, oven, 2, capture_session_id=session["id"])
    assert await factors(lab, oven) == {1: 2, 2: 10}
    assert await factors(lab, scale) == {}
