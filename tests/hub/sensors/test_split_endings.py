"""When a split ends: with its deprecation, or once others are for all that it names."""

from __future__ import annotations

from datetime import UTC, datetime

from tests.hub.sensors.splitting import (
    AHEAD,
    DEFAULT,
    OTHER,
    SPLIT,
    at,
    deprecate,
    factors,
    post,
    publish,
    shown,
    split,
)
from tests.hub.sessions.conftest import Lab, lab

__all__ = ["lab"]


async def test_a_deprecated_split_leaves_later_readings_to_the_default(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    default = await publish(lab, oven, DEFAULT)
    run = await lab.run((oven,))
    await lab.started(run, started_at=at(0).isoformat())
    off = await split(lab, oven, SPLIT, run_ids=[run])
    await post(lab, oven, 1)
    await deprecate(lab, off)
    await post(lab, oven, 2)
    now = datetime.now(UTC)
    await lab.post(oven, {now: 1.0})
    found = await factors(lab, oven)
    assert (found.pop(1), found.pop(2), [*found.values()]) == (10, 10, [2])
    assert (await lab.owner.get(f"/api/v1/sensors/{oven}")).json()["active_profile_id"] == default["id"]


async def test_a_scheduled_split_that_is_withdrawn_never_holds(lab: Lab) -> None:
    oven, run = await lab.sensor("oven"), await lab.run()
    await publish(lab, oven, DEFAULT)
    await lab.started(run, started_at=at(0).isoformat())
    off = await split(lab, oven, SPLIT, valid_from=at(AHEAD), run_ids=[run])
    await post(lab, oven, 1, AHEAD)
    await deprecate(lab, off)
    await post(lab, oven, 2, AHEAD + 1)
    assert await factors(lab, oven) == {1: 2, 2: 2, AHEAD: 10, AHEAD + 1: 2}


async def test_a_split_of_which_nothing_is_left_is_deprecated(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    await publish(lab, oven, DEFAULT)
    run, other = await lab.run((oven,)), await lab.run((oven,))
    session = await lab.started(run, started_at=at(0).isoformat(), stopped_at=at(10).isoformat())
    narrow = await split(lab, oven, 3.0, capture_session_ids=[session["id"]])
    both = await split(lab, oven, SPLIT, run_ids=[run, other])
    only = await split(lab, oven, OTHER, valid_from=at(5), run_ids=[run])
    status = [(await shown(lab, one))["status"] for one in (narrow, both, only)]
    assert status == ["deprecated", "active", "active"]
    told = (await lab.owner.get("/api/v1/events", params={"project_id": lab.project})).json()["events"]
    ended = [one["payload"]["profile_id"] for one in told if one["event_type"] == "conversion_profile.deprecated"]
    assert ended == [narrow["id"]]
    await post(lab, oven, 1, 6)
    assert await factors(lab, oven) == {1: 10, 6: 100}


async def test_a_split_for_sessions_ends_once_others_name_each_that_there_is(lab: Lab) -> None:
    oven, run = await lab.sensor("oven"), await lab.run()
    first, second, third = [(await lab.started(run, status="draft"))["id"] for _ in range(3)]
    both = await split(lab, oven, DEFAULT, capture_session_ids=[first, second])
    await split(lab, oven, OTHER, valid_from=at(5), capture_session_ids=[second])
    assert (await shown(lab, both))["status"] == "active"
    all_three = await split(lab, oven, SPLIT, valid_from=at(7), capture_session_ids=[third, second, first])
    ended = await shown(lab, both)
    assert (ended["status"], datetime.fromisoformat(ended["valid_to"])) == ("deprecated", at(7))
    assert (await lab.owner.delete(f"/api/v1/runs/{run}/capture-sessions/{third}")).status_code == 204
    await split(lab, oven, OTHER, capture_session_ids=[first, second])
    assert (await shown(lab, all_three))["status"] == "deprecated"
