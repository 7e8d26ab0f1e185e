"""What certificates say equals what was counted outside the product, and they are final when nothing can come."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

from hub.ingest.fold import LedgerFolding
from shared.records import ClockRecord, Gap
from tests.hub.certificates.conftest import Box, at, at_us, box, certificate, rows, stop
from tests.hub.sessions.conftest import Lab

FIVE = {at(second): float(second) for second in range(5)}


async def recorded(lab: Lab, *names: str) -> tuple[Box, str, dict[str, Any]]:
    """An agent, one sensor of its own, and a session that runs since second 0."""
    agent = await box(lab, *names)
    found = await rows(lab, "select id::text from sensors where name = $1", names[0])
    token = await lab.owner.post(f"/api/v1/sensors/{found[0][0]}/rotate-token")
    lab.tokens[found[0][0]] = token.json()["token"]
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


async def test_what_an_agent_took_while_it_was_away_is_waited_for_and_counts(lab: Lab) -> None:
    agent, _, session = await recorded(lab, "oven")
    away = [agent.batch(FIVE, at(5)), agent.batch({at(7): 7.0}, at(12))]
    await stop(lab, session, 10)
    assert (await certificate(lab, session))["waits"][0]["reason"] == "taken_through"
    await agent.deliver(away[1])
    (wait,) = (await certificate(lab, session))["waits"]
    assert (wait["reason"], wait["seqs"]) == ("batches", [{"first": 4, "last": 4}]), "as one in quarantine would be"
    await agent.deliver(away[0])
    final = await certificate(lab, session)
    assert (final["state"], final["totals"]["agents"]["stored"]) == ("final", 6)
    assert await rows(lab, "select count(*) from readings") == [(6,)]


async def test_a_kill_in_between_is_named_and_both_epochs_are_accounted_for(lab: Lab) -> None:
    agent, oven, session = await recorded(lab, "oven")
    await agent.deliver(agent.batch({at(0): 0.0, at(1): 1.0}, at(1)))
    unsent = agent.batch({at(2): 2.0}, at(2))
    first = agent.epoch
    await agent.start(at(6))
    await agent.deliver(agent.record(Gap("downtime", at_us(2), at_us(6))), agent.batch({at(7): 7.0}, at(12)))
    await stop(lab, session, 10)
    (wait,) = (await certificate(lab, session))["waits"]
    assert (wait["reason"], wait["epoch"], wait["seqs"]) == ("batches", first.hex(), [{"first": 5, "last": 5}])
    await agent.deliver(unsent)
    final = await certificate(lab, session)
    assert final["state"] == "final"
    (sensor,) = final["sensors"]
    assert (sensor["sensor_id"], sensor["agents"]["stored"]) == (oven, 4)
    (gap,) = sensor["missing"]
    assert (gap["cause"], gap["uncounted"], gap["reaches_beyond"]) == ("downtime", 1, False)
    assert [one["epoch"] for one in final["agents"][0]["epochs"]] == [first.hex(), agent.epoch.hex()]


async def test_what_the_quota_dropped_is_missing_by_cause_and_not_unexplained(lab: Lab) -> None:
    agent, _, session = await recorded(lab, "oven", "pump")
    agent.batch({at(0): 0.0}, at(0))
    agent.batch({at(1): 1.0}, at(1), ref=2)
    batches = [(agent.epoch.hex(), 4, 5)]
    gap = Gap("quota_oldest", at_us(0), at_us(1), 2, [(1, 1), (2, 1)], batches)
    await agent.deliver(agent.record(gap), agent.batch({at(3): 3.0}, at(12)))
    await stop(lab, session, 10)
    final = await certificate(lab, session)
    assert final["state"] == "final"
    missing = {one["name"]: [(gap["cause"], gap["readings"]) for gap in one["missing"]] for one in final["sensors"]}
    assert missing == {"oven": [("quota_oldest", 1)], "pump": [("quota_oldest", 1)]}
    assert (final["totals"]["missing"], final["totals"]["unexplained_batches"]) == (2, 0)


async def test_repeats_conflicts_and_what_was_discarded_are_told_apart(lab: Lab) -> None:
    agent, oven, session = await recorded(lab, "oven")
    await agent.deliver(agent.batch(FIVE, at(4)))
    await agent.deliver(agent.batch({at(1): 1.0, at(2): 99.0, at(3): 98.0}, at(5)), agent.batch({at(-30): 1.0}, at(6)))
    await lab.post(oven, {at(4): 4.0, at(8): 8.0})
    ((aside, readings),) = await rows(lab, "select id, readings from set_aside")
    assert readings == 2
    await agent.deliver(agent.batch({}, at(12)))
    await stop(lab, session, 10)
    (sensor,) = (await certificate(lab, session))["sensors"]
    expected = {"taken": 8, "stored": 5, "held": 0, "repeated": 1, "set_aside": {"conflicting_value": 2}}
    assert sensor["agents"] == expected
    assert sensor["posts"] == {"taken": 2, "stored": 1, "held": 0, "repeated": 1, "set_aside": {}}
    answer = await lab.owner.post(f"/api/v1/set-aside/{aside}/discard", json={"reason": "a bad probe"})
    assert answer.status_code == 200, answer.text
    changed = await certificate(lab, session)
    assert changed["sensors"][0]["agents"] == expected | {"set_aside": {"discarded": 2}}
    assert changed["version"] == 2
    assert (await certificate(lab, session, version=1))["sensors"][0]["agents"] == expected


async def test_what_comes_again_counts_to_the_session_that_the_reading_named(lab: Lab) -> None:
    agent, oven, session = await recorded(lab, "oven")
    for _ in range(2):
        answer = await lab.post(oven, {at(-20): 1.0, at(-19): 2.0}, capture_session_id=session["id"])
        assert answer.status_code == 202, answer.text
    await agent.deliver(agent.batch({}, at(12)))
    await stop(lab, session, 10)
    (sensor,) = (await certificate(lab, session))["sensors"]
    assert sensor["posts"] == {"taken": 4, "stored": 2, "held": 0, "repeated": 2, "set_aside": {}}


async def test_late_posts_are_held_and_a_backfill_makes_a_new_version(lab: Lab) -> None:
    agent, oven, session = await recorded(lab, "oven")
    await agent.deliver(agent.batch(FIVE, at(12)))
    await stop(lab, session, 10)
    assert (await certificate(lab, session))["version"] == 1
    await lab.post(oven, {at(6): 6.0, at(7): 7.0})
    held = await certificate(lab, session)
    assert (held["version"], held["sensors"][0]["posts"]["stored"], held["sensors"][0]["posts"]["held"]) == (2, 2, 2)
    await lab.owner.post(f"{lab.path(session)}/backfill/start")
    under_way = await certificate(lab, session)
    assert [one["reason"] for one in under_way["waits"]] == ["backfill"]
    await lab.owner.post(f"{lab.path(session)}/backfill/complete")
    counted = await certificate(lab, session)
    assert (counted["version"], counted["sensors"][0]["posts"]["held"], counted["state"]) == (3, 0, "final")
    versions = (await lab.owner.get(f"{lab.path(session)}/certificate/versions")).json()["certificates"]
    assert [one["version"] for one in versions] == [3, 2, 1]


async def test_two_sessions_back_to_back_share_no_reading(lab: Lab) -> None:
    agent, _, first = await recorded(lab, "oven")
    await stop(lab, first, 3)
    second = await lab.started(await lab.run(), started_at=at(3).isoformat())
    await agent.deliver(agent.batch(FIVE, at(12)))
    await stop(lab, second, 10)
    counted = [(await certificate(lab, one))["totals"]["agents"]["taken"] for one in (first, second)]
    assert counted == [3, 2]


async def test_rows_that_vanished_behind_the_hubs_back_are_unexplained(lab: Lab) -> None:
    agent, _, session = await recorded(lab, "oven")
    await agent.deliver(agent.batch(FIVE, at(12)))
    await stop(lab, session, 10)
    await rows(lab, "delete from readings where time = $1", at(2))
    said = await certificate(lab, session)
    assert (said["totals"]["agents"]["stored"], said["totals"]["unexplained_readings"]) == (4, 1)


async def test_a_lost_disk_is_waited_for_until_an_owner_closes_the_epoch(lab: Lab) -> None:
    agent, _, session = await recorded(lab, "oven")
    await agent.deliver(agent.batch(FIVE, at(4)))
    lost, agent.epoch = agent.epoch, b""
    await agent.start(at(7))
    await agent.deliver(agent.batch({at(8): 8.0}, at(12)))
    await stop(lab, session, 10)
    (wait,) = (await certificate(lab, session))["waits"]
    assert (wait["reason"], wait["epoch"]) == ("unknown_tail", lost.hex())
    path = f"/api/v1/agents/{agent.id}/epochs/{lost.hex()}/close"
    assert (await lab.owner.post(path, json={"reason": "the disk broke"})).status_code == 200
    final = await certificate(lab, session)
    assert final["state"] == "final"
    assert final["agents"][0]["epochs"][0]["closed_reason"] == "the disk broke"


async def test_the_hub_issues_what_has_become_final_by_itself(lab: Lab) -> None:
    agent, _, session = await recorded(lab, "oven")
    await agent.deliver(agent.batch(FIVE, at(12)))
    await stop(lab, session, 10)
    async with asyncio.timeout(20):
        while not await rows(lab, "select from certificates"):
            await asyncio.sleep(0.05)
    told = await rows(lab, "select payload ->> 'version' from events where event_type = 'capture_session.certified'")
    assert told == [("1",)]


async def test_a_session_without_agents_is_final_at_its_end_and_vouches_for_no_post(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    session = await lab.started(await lab.run(), started_at=at(0).isoformat())
    await lab.post(oven, FIVE)
    await stop(lab, session, 10)
    final = await certificate(lab, session)
    assert (final["state"], final["totals"]["posts"]["taken"], final["totals"]["agents"]["taken"]) == ("final", 5, 0)


async def test_a_folded_ledger_says_the_same(lab: Lab) -> None:
    agent, _, session = await recorded(lab, "oven")
    await agent.deliver(agent.batch(FIVE, at(12)))
    await rows(lab, "update ledger set committed_at = committed_at - interval '2 days'")
    services = lab.hub.services
    assert await LedgerFolding(services.storage, services.clock).once() == 4
    await stop(lab, session, 10)
    final = await certificate(lab, session)
    assert (final["state"], final["totals"]["agents"]["stored"]) == ("final", 5)
    assert final["agents"][0]["epochs"][0]["folded_through"] == 4


async def test_a_draft_is_open_and_empty(lab: Lab) -> None:
    draft = await lab.started(await lab.run(), status="draft")
    said = await certificate(lab, draft)
    assert (said["state"], said["sensors"], said["version"]) == ("open", [], 0)


async def test_versions_and_sessions_that_are_not_there_are_not_found(lab: Lab) -> None:
    draft = await lab.started(await lab.run(), status="draft")
    path = lab.path(draft)
    assert (await lab.owner.get(f"{path}/certificate", params={"version": 1})).status_code == 404
    other = path.replace(draft["id"], draft["run_id"])
    for end in ("", "/versions"):
        assert (await lab.owner.get(f"{other}/certificate{end}")).status_code == 404
    for wrong in ({"version": 0}, {"format": "pdf"}, {"versions": 1}):
        assert (await lab.owner.get(f"{path}/certificate", params=wrong)).status_code == 422


async def test_a_browser_gets_a_page_with_the_same_figures(lab: Lab) -> None:
    agent, _, session = await recorded(lab, "oven <b>")
    await agent.deliver(agent.batch(FIVE, at(12)))
    await stop(lab, session, 10)
    path = f"{lab.path(session)}/certificate"
    page = await lab.owner.get(path, headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert page.headers["content-type"].startswith("text/html")
    assert "oven &lt;b&gt;" in page.text
    assert "<script" not in page.text
    assert (await lab.owner.get(path, params={"format": "html"})).text == page.text
    assert (await lab.owner.get(path)).headers["content-type"] == "application/json"


async def test_a_clock_that_nobody_knows_is_waited_for_until_an_owner_places_it(lab: Lab) -> None:
    agent, _, session = await recorded(lab, "oven")
    await agent.deliver(agent.batch(FIVE, at(4)))
    agent.segment = 2
    opened = agent.record(ClockRecord(2, at_us(-86_400), 0, -1, at_us(-86_400), source="none"))
    later = agent.batch({at(-86_395): 5.0}, at(-86_388))
    agent.segment = 1
    await agent.start(at(11))
    await agent.deliver(opened, later)
    await stop(lab, session, 10)
    ((aside, reason),) = await rows(lab, "select id, reason from set_aside")
    assert reason == "clock_unsynchronised"
    said = await certificate(lab, session)
    assert "clock" in {one["reason"] for one in said["waits"]}
    assert said["sensors"][0]["waiting_for_clock"] == 1
    body = {"offset_us": 86_400_000_000}
    assert (await lab.owner.post(f"/api/v1/set-aside/{aside}/release", json=body)).json()["stored"] == 1
    placed = await certificate(lab, session)
    assert "clock" not in {one["reason"] for one in placed["waits"]}
    assert placed["totals"]["agents"]["stored"] == 6
    assert [one["basis"] for one in placed["agents"][0]["epochs"][0]["clock"]] == ["unstated", "owner"]


async def test_a_sensor_that_was_decommissioned_sets_aside_and_the_certificate_says_so(lab: Lab) -> None:
    agent, oven, session = await recorded(lab, "oven")
    await agent.deliver(agent.batch(FIVE, at(4)))
    await rows(lab, "update sensors set status = 'decommissioned' where id = $1", UUID(oven))
    await agent.deliver(agent.batch({at(5): 5.0, at(20): 6.0}, at(22)))
    await stop(lab, session, 10)
    (sensor,) = (await certificate(lab, session))["sensors"]
    assert sensor["agents"] == {
        "taken": 6, "stored": 5, "held": 0, "repeated": 0, "set_aside": {"sensor_decommissioned": 1}
    }  # fmt: skip


async def test_what_retention_dropped_is_counted_by_its_minutes(lab: Lab) -> None:
    agent, _, session = await recorded(lab, "oven")
    minute = at(60).replace(second=0)
    await agent.deliver(agent.batch({minute + timedelta(seconds=one): 1.0 for one in range(7)}, at(400)))
    await stop(lab, session, 300)
    before = await certificate(lab, session)
    async with asyncio.timeout(30):
        while await rows(lab, "select from aggregates_1m") == []:
            await asyncio.sleep(0.1)
    span = minute, minute + timedelta(minutes=1)
    await rows(lab, "insert into dropped_ranges values ($1, $2)", *span)
    await rows(lab, "delete from readings")
    after = await certificate(lab, session)
    assert (before["totals"]["agents"]["stored"], after["totals"]["agents"]["stored"]) == (7, 0)
    assert (after["totals"]["dropped_by_retention"], after["totals"]["unexplained_readings"]) == (7, 0)
    assert (len(after["retention"]), after["version"]) == (1, 2)


async def test_an_owner_gives_up_batches_that_were_discarded_and_they_stay_unexplained(lab: Lab) -> None:
    agent, _, session = await recorded(lab, "oven")
    agent.batch({at(1): 1.0}, at(1))
    await agent.deliver(agent.batch({at(3): 3.0}, at(4)))
    first = agent.epoch
    await agent.start(at(11))
    await stop(lab, session, 10)
    assert [one["reason"] for one in (await certificate(lab, session))["waits"]] == ["batches"]
    path = f"/api/v1/agents/{agent.id}/epochs/{first.hex()}/close"
    assert (await lab.owner.post(path, json={"reason": "garbage of a test"})).status_code == 200
    assert (await lab.owner.post(path, json={"reason": "again"})).status_code == 409
    final = await certificate(lab, session)
    assert (final["state"], final["totals"]["unexplained_batches"]) == ("final", 1)
    assert final["sensors"][0]["unexplained_batches"] == 1
