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


async def test_a_draft_that_starts_is_heard_of_at_once(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    await publish(lab, oven, DEFAULT)
    run = await lab.run((oven,))
    named = await lab.started(run, status="draft")
    await split(lab, oven, SPLIT, capture_session_ids=[named["id"]])
    await post(lab, oven, 1)
    body = {"status": "running", "started_at": at(0).isoformat()}
    assert (await lab.owner.patch(lab.path(named), json=body)).status_code == 200
    await post(lab, oven, 2)
    assert await factors(lab, oven) == {1: 2, 2: 10}
