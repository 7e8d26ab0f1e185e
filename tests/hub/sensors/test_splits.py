"""Two profiles active by run or session: which one holds for which reading, however it comes and whenever."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from hub.database.pool import transaction
from hub.sensors import profiles, store
from hub.sensors.profiles import activate_scheduled
from hub.sensors.views import Split
from hub.telemetry.moments import to_us
from shared.readings import Status
from tests.hub.ingest.conftest import columns
from tests.hub.recalculation.test_tasks import draft, path, recalculated
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
    stop,
)
from tests.hub.sessions.agents import Delivery
from tests.hub.sessions.conftest import Lab, lab

__all__ = ["lab"]


async def test_sessions_of_a_run_are_converted_with_a_profile_of_their_own_also_ones_that_start_later(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    default = await publish(lab, oven, DEFAULT)
    run = await lab.run((oven,))
    first = await lab.started(run, started_at=at(10).isoformat())
    off = await split(lab, oven, SPLIT, run_ids=[run])
    await post(lab, oven, 5, 15)
    await stop(lab, first, 20)
    await post(lab, oven, 16, 25)
    second = await lab.started(run, started_at=at(30).isoformat())
    await post(lab, oven, 28, 35)
    await stop(lab, second, 40)
    await post(lab, oven, 36, 45)
    found = await factors(lab, oven)
    assert found == {5: 2, 15: 10, 16: 10, 25: 2, 28: 2, 35: 10, 36: 10, 45: 2}
    assert (off["status"], (await shown(lab, default))["status"]) == ("active", "active")
    assert (await lab.owner.get(f"/api/v1/sensors/{oven}")).json()["active_profile_id"] == default["id"]
    points = await lab.points(sensor_id=oven, include_late=True)
    assert {one["conversion_profile_id"] for one in points} == {default["id"], off["id"]}


async def test_a_session_alone_has_a_profile_of_its_own(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    await publish(lab, oven, DEFAULT)
    run = await lab.run((oven,))
    named = await lab.started(run, status="draft")
    await split(lab, oven, SPLIT, capture_session_ids=[named["id"]])
    times = {"started_at": at(0).isoformat(), "stopped_at": at(10).isoformat()}
    await lab.started(run, **times)
    started = {"status": "running", "started_at": at(10).isoformat()}
    assert (await lab.owner.patch(lab.path(named), json=started)).status_code == 200
    await post(lab, oven, 5, 15)
    assert await factors(lab, oven) == {5: 2, 15: 10}


async def test_a_split_is_shown_told_and_never_changes(lab: Lab) -> None:
    oven, run = await lab.sensor("oven"), await lab.run()
    default = await publish(lab, oven, DEFAULT)
    off = await split(lab, oven, SPLIT, run_ids=[run])
    wanted = {"run_ids": [run], "capture_session_ids": []}
    assert (off["split"], (await shown(lab, off))["split"], default["split"]) == (wanted, wanted, None)
    told = (await lab.owner.get("/api/v1/events", params={"project_id": lab.project})).json()["events"]
    (event,) = [one for one in told if one["payload"].get("split")]
    assert (event["event_type"], event["payload"]["split"]) == ("conversion_profile.published", wanted)
    again = await lab.owner.post(f"{path(oven)}/{off['id']}/publish", json={"split": {"run_ids": [run]}})
    assert (again.status_code, again.json()["code"]) == (409, "published")
    assert (await lab.owner.delete(f"/api/v1/runs/{run}")).status_code == 204
    assert (await shown(lab, off))["split"] == wanted


async def test_a_split_holds_from_its_publication_on_unless_told_otherwise(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    await publish(lab, oven, DEFAULT)
    run = await lab.run((oven,))
    session = await lab.started(run, started_at=at(0).isoformat())
    off = await publish(lab, oven, SPLIT, split={"run_ids": [run]})
    assert off["valid_from"] is not None
    await post(lab, oven, 10)
    await lab.post(oven, {datetime.now(UTC): 1.0}, capture_session_id=session["id"])
    assert [*(await factors(lab, oven)).values()] == [2, 10]


async def test_a_post_that_names_a_session_is_converted_as_that_session_is(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    await publish(lab, oven, DEFAULT)
    run, other = await lab.run((oven,)), await lab.run((oven,))
    mine = await lab.started(run, started_at=at(10).isoformat(), stopped_at=at(20).isoformat())
    theirs = await lab.started(other, started_at=at(30).isoformat(), stopped_at=at(40).isoformat())
    await split(lab, oven, SPLIT, run_ids=[run])
    await post(lab, oven, 1, 11, 31, capture_session_id=mine["id"])
    await post(lab, oven, 2, 12, 32, capture_session_id=theirs["id"])
    await post(lab, oven, 3, 13, 33)
    assert await factors(lab, oven) == {1: 10, 11: 10, 31: 10, 2: 2, 12: 2, 32: 2, 3: 2, 13: 10, 33: 2}


async def test_what_an_agent_converted_with_the_default_is_converted_again_and_that_is_noted(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    default = await publish(lab, oven, DEFAULT)
    run = await lab.run((oven,))
    off = await split(lab, oven, SPLIT, run_ids=[run])
    delivery = Delivery(lab.hub, lab.project)
    await delivery.enrol("oven")
    ingest, agent = lab.hub.services.ingest, delivery.agent
    ingest.offer(agent.dictionary("oven", profiles=[UUID(default["id"]), UUID(off["id"])]))

    async def deliver(factor: float, profile: int, *seconds: float) -> None:
        rows = columns(
            [1] * len(seconds),
            [to_us(at(one)) for one in seconds],
            [1.0] * len(seconds),
            physical=[factor] * len(seconds),
            status=int(Status.CONVERTED),
            profile=profile,
        )
        ingest.offer(agent.data(rows, derivable=True))
        await delivery.settled(agent.seq)

    await deliver(DEFAULT, 1, 5, 15)
    session = await lab.started(run, started_at=at(20).isoformat())
    await deliver(DEFAULT, 1, 18, 25)
    await deliver(SPLIT, 2, 26, 45)
    await stop(lab, session, 40)
    await deliver(SPLIT, 2, 27, 46)
    assert await factors(lab, oven) == {5: 2, 15: 2, 18: 2, 25: 10, 26: 10, 45: 10, 27: 10, 46: 2}
    kept = (await lab.owner.get(f"/api/v1/sensors/{oven}/previous-profiles")).json()["previous_profiles"]
    noted = [(one["conversion_profile_id"], one["time_from"][:19]) for one in kept]
    assert noted == [(default["id"], at(25).isoformat()[:19]), (off["id"], at(46).isoformat()[:19])]


async def test_another_default_does_not_end_a_split(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    old = await publish(lab, oven, DEFAULT)
    run = await lab.run((oven,))
    await lab.started(run, started_at=at(10).isoformat(), stopped_at=at(20).isoformat())
    off = await split(lab, oven, SPLIT, run_ids=[run])
    new = await publish(lab, oven, OTHER, valid_from=at(5).isoformat())
    await post(lab, oven, 1, 6, 11, 21)
    assert await factors(lab, oven) == {1: 2, 6: 100, 11: 10, 21: 100}
    status = [(await shown(lab, one))["status"] for one in (old, off, new)]
    assert status == ["deprecated", "active", "active"]


async def test_of_two_splits_for_a_session_the_later_holds_and_when_it_ends_the_earlier_again(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    await publish(lab, oven, DEFAULT)
    run = await lab.run((oven,))
    first = await lab.started(run, started_at=at(0).isoformat(), stopped_at=at(10).isoformat())
    await lab.started(run, started_at=at(10).isoformat(), stopped_at=at(20).isoformat())
    wide = await split(lab, oven, SPLIT, run_ids=[run])
    narrow = await split(lab, oven, OTHER, capture_session_ids=[first["id"]])
    await post(lab, oven, 1, 11, 21)
    assert await factors(lab, oven) == {1: 100, 11: 10, 21: 2}
    assert [(await shown(lab, one))["status"] for one in (wide, narrow)] == ["active", "active"]
    await post(lab, oven, 101, capture_session_id=first["id"])
    await deprecate(lab, narrow)
    ahead = datetime.now(UTC)
    await lab.post(oven, {ahead: 1.0}, capture_session_id=first["id"])
    found = await factors(lab, oven)
    assert (found[101], found[max(found)]) == (100, 10)


async def test_of_two_splits_the_one_drafted_first_holds_if_it_is_published_last(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    run, other = await lab.run((oven,)), await lab.run()
    await lab.started(run, started_at=at(0).isoformat())
    first = await draft(lab, oven, "first", SPLIT)
    await split(lab, oven, OTHER, run_ids=[run, other])
    body = {"valid_from": at(0).isoformat(), "split": {"run_ids": [run]}}
    assert (await lab.owner.post(f"{path(oven)}/{first}/publish", json=body)).status_code == 200
    await post(lab, oven, 1)
    assert await factors(lab, oven) == {1: 10}


async def test_of_two_splits_the_one_published_first_holds_once_it_is_in_force_if_that_is_later(lab: Lab) -> None:
    oven, run = await lab.sensor("oven"), await lab.run()
    session = await lab.started(run, started_at=at(0).isoformat())
    await split(lab, oven, SPLIT, valid_from=at(AHEAD), run_ids=[run])
    await split(lab, oven, OTHER, run_ids=[run])
    await post(lab, oven, 1, AHEAD)
    await post(lab, oven, 2, AHEAD + 1, capture_session_id=session["id"])
    assert await factors(lab, oven) == {1: 100, 2: 100, AHEAD: 10, AHEAD + 1: 10}


async def test_without_a_default_all_else_stays_raw_and_the_first_default_holds_for_all_times(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    run = await lab.run((oven,))
    await lab.started(run, started_at=at(10).isoformat(), stopped_at=at(20).isoformat())
    await split(lab, oven, SPLIT, run_ids=[run])
    await post(lab, oven, 5, 15)
    assert await factors(lab, oven) == {5: None, 15: 10}
    assert (await lab.owner.get(f"/api/v1/sensors/{oven}")).json()["active_profile_id"] is None
    assert (await publish(lab, oven, DEFAULT))["valid_from"] is None
    await post(lab, oven, 6, 16)
    assert await factors(lab, oven) == {5: None, 15: 10, 6: 2, 16: 10}


async def test_a_split_is_scheduled_and_activated_when_due(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    default = await publish(lab, oven, DEFAULT)
    run = await lab.run((oven,))
    session = await lab.started(run, started_at=at(0).isoformat())
    standing = await split(lab, oven, OTHER, run_ids=[run])
    soon = at(AHEAD)
    off = await split(lab, oven, SPLIT, valid_from=soon, run_ids=[run])
    assert (off["status"], off["split"]["run_ids"]) == ("scheduled", [run])
    await post(lab, oven, 1, AHEAD, capture_session_id=session["id"])
    assert await factors(lab, oven) == {1: 100, AHEAD: 10}
    async with transaction(lab.hub.services.pool) as connection:
        ((_, published),) = await activate_scheduled(connection, soon)
    assert [str(one) for one in published.deprecated] == [standing["id"]]
    status = [(await shown(lab, one))["status"] for one in (default, standing, off)]
    assert status == ["active", "deprecated", "active"]
    assert (await lab.owner.get(f"/api/v1/sensors/{oven}")).json()["active_profile_id"] == default["id"]


async def test_the_past_of_a_split_is_recalculated_and_the_default_does_not_come_back(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    default = await publish(lab, oven, DEFAULT)
    run = await lab.run((oven,))
    session = await lab.started(run, started_at=at(10).isoformat(), stopped_at=at(20).isoformat())
    await post(lab, oven, 5, 15)
    off = await publish(lab, oven, SPLIT, split={"run_ids": [run]})
    await post(lab, oven, 16)
    assert await factors(lab, oven) == {5: 2, 15: 2, 16: 2}
    scope = {"scope": "capture_sessions", "capture_session_ids": [session["id"]]}
    assert (await recalculated(lab, oven, off["id"], **scope))["changed_records"] == 2
    await post(lab, oven, 6, 17)
    assert await factors(lab, oven) == {5: 2, 15: 10, 16: 10, 6: 2, 17: 10}
    await publish(lab, oven, OTHER)
    await post(lab, oven, 7, 18)
    assert (await factors(lab, oven))[18] == 10
    assert (await recalculated(lab, oven, default["id"]))["changed_records"] == 4
    await post(lab, oven, 19)
    assert set((await factors(lab, oven)).values()) == {2}


async def test_a_split_for_one_sensor_leaves_the_others_alone(lab: Lab) -> None:
    oven, scale = await lab.sensor("oven"), await lab.sensor("scale")
    run = await lab.run((oven, scale))
    for sensor in (oven, scale):
        await publish(lab, sensor, DEFAULT)
    await split(lab, oven, SPLIT, run_ids=[run])
    await lab.started(run, started_at=at(0).isoformat())
    for sensor in (oven, scale):
        await post(lab, sensor, 1)
    assert (await factors(lab, oven), await factors(lab, scale)) == ({1: 10}, {1: 2})
    off = await split(lab, scale, OTHER, run_ids=[run])
    for sensor in (oven, scale):
        await post(lab, sensor, 2)
    assert (await factors(lab, oven), await factors(lab, scale)) == ({1: 10, 2: 10}, {1: 2, 2: 100})
    as_of = await lab.points(sensor_id=scale, as_of_profile=off["id"])
    assert [one["physical_value"] for one in as_of] == [100, 100]


async def test_a_session_that_is_deleted_leaves_its_times_to_the_default(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    await publish(lab, oven, DEFAULT)
    run = await lab.run((oven,))
    session = await lab.started(run, started_at=at(0).isoformat(), stopped_at=at(10).isoformat())
    await split(lab, oven, SPLIT, run_ids=[run])
    await post(lab, oven, 1)
    assert (await lab.owner.delete(lab.path(session))).status_code == 204
    await post(lab, oven, 2)
    assert await factors(lab, oven) == {1: 10, 2: 2}


class Died(Exception):
    """Whoever did it is gone."""


async def test_a_publication_that_was_not_committed_has_never_been(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    await publish(lab, oven, DEFAULT)
    run = await lab.run((oven,))
    await lab.started(run, started_at=at(0).isoformat())
    standing = await split(lab, oven, OTHER, run_ids=[run])
    await post(lab, oven, 1)
    profile_id, owner_id = UUID(await draft(lab, oven, "next", SPLIT)), UUID(standing["published_by"])

    async def die() -> None:
        wanted = Split(run_ids=[UUID(run)])
        async with transaction(lab.hub.services.pool) as connection:
            await store.lock_catalogue(connection)
            row = await profiles.one(connection, profile_id, UUID(oven))
            assert row is not None
            now = datetime.now(UTC)
            made = await profiles.publish(
                connection, row, published_by=owner_id, valid_from=at(0), now=now, split=wanted
            )
            assert [str(one) for one in made.deprecated] == [standing["id"]]
            raise Died

    with pytest.raises(Died):
        await die()
    await post(lab, oven, 2)
    assert await factors(lab, oven) == {1: 100, 2: 100}
    assert (await shown(lab, standing))["status"] == "active"


async def test_a_session_that_was_not_committed_has_never_been(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    await publish(lab, oven, DEFAULT)
    run = await lab.run((oven,))
    session = await lab.started(run, started_at=at(0).isoformat(), stopped_at=at(10).isoformat())
    await split(lab, oven, SPLIT, run_ids=[run])
    await post(lab, oven, 1)

    async def last_longer(*, dies: bool) -> None:
        longer = "update session_sensors set time_to = time_to + interval '1 minute' where session_id = $1"
        async with transaction(lab.hub.services.pool) as connection:
            await connection.execute(longer, UUID(session["id"]))
            if dies:
                raise Died

    with pytest.raises(Died):
        await last_longer(dies=True)
    await post(lab, oven, 11)
    await last_longer(dies=False)
    await post(lab, oven, 12)
    assert await factors(lab, oven) == {1: 10, 11: 2, 12: 10}
