"""Runs that end by themselves."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from hub.database.pool import acquire
from hub.events.change import begin_change
from hub.events.event import HUB
from hub.runs import store
from hub.runs.auto_complete import complete_overdue
from hub.settings import HubSettings
from hub.telemetry.moments import to_us
from tests.hub.conftest import Hub, running_hub
from tests.hub.runs.conftest import Lab, blocked, furnish, run_url


class SetClock:
    """Stands where it was set."""

    def __init__(self, moment: datetime) -> None:
        self._us = to_us(moment)

    def now_us(self) -> int:
        return self._us


async def status_of(lab: Lab, run_id: str) -> str:
    return str((await lab.viewer.get(run_url(run_id))).json()["status"])


async def test_a_run_succeeds_once_its_minutes_are_over(lab: Lab) -> None:
    run = await lab.new_run(status="running", auto_complete_after_minutes=5)
    draft = await lab.new_run(auto_complete_after_minutes=5)
    endless = await lab.new_run(status="running")
    storage, start = lab.hub.services.storage, datetime.fromisoformat(run["started_at"])
    assert await complete_overdue(storage, SetClock(start + timedelta(minutes=5, microseconds=-1))) == 0
    assert await complete_overdue(storage, SetClock(start + timedelta(minutes=5))) == 1
    ended = (await lab.viewer.get(run_url(run["id"]))).json()
    assert (ended["status"], ended["duration_seconds"]) == ("succeeded", 300.0)
    assert [await status_of(lab, one["id"]) for one in (draft, endless)] == ["draft", "running"]
    told = (await lab.events(run["id"]))[-2:]
    assert [event["event_type"] for event in told] == ["run.status_changed", "run.finished"]
    assert [(event["actor_type"], event["payload"]["reason"]) for event in told] == [("hub", "auto_complete")] * 2


async def test_a_run_with_an_active_session_goes_on_until_that_has_ended(lab: Lab) -> None:
    run = await lab.new_run(status="running", auto_complete_after_minutes=1)
    await lab.new_session(run["id"], "running")
    storage, later = lab.hub.services.storage, SetClock(lab.hub.services.now() + timedelta(hours=1))
    for status in ("draft", "running", "backfilling"):
        await lab.set_sessions(run["id"], status)
        assert await complete_overdue(storage, later) == 0
    await lab.set_sessions(run["id"], "succeeded")
    assert await complete_overdue(storage, later) == 1
    assert await status_of(lab, run["id"]) == "succeeded"


async def test_what_somebody_does_to_a_run_in_the_last_moment_counts(lab: Lab) -> None:
    """The job finds the run due, waits for whoever has locked it, and looks again."""
    session = """
        insert into capture_sessions (id, run_id, project_id, ordinal_number, status, started_at)
        select gen_random_uuid(), id, project_id, 1, 'running', now() from runs where id = $1
    """
    services = lab.hub.services
    later = SetClock(services.now() + timedelta(hours=1))
    for statement in (session, "update runs set auto_complete_after_minutes = 90 where id = $1"):
        run = await lab.new_run(status="running", auto_complete_after_minutes=1)
        async with begin_change(services.pool, HUB, services.now()) as change:
            await store.lock(change.connection, [UUID(run["id"])], None)
            completing = asyncio.create_task(complete_overdue(services.storage, later))
            await blocked(lab)
            await change.connection.execute(statement, UUID(run["id"]))
        assert await completing == 0
        assert await status_of(lab, run["id"]) == "running"


async def test_hubs_that_do_so_at_once_end_each_run_once(lab: Lab) -> None:
    runs = [await lab.new_run(f"run {n}", status="running", auto_complete_after_minutes=1) for n in range(4)]
    later = SetClock(lab.hub.services.now() + timedelta(hours=1))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(complete_overdue(lab.hub.services.storage, later)) for _ in range(5)]
    assert sum(task.result() for task in tasks) == 4
    for run in runs:
        assert (await lab.event_types(run["id"])).count("run.finished") == 1


async def test_a_hub_that_starts_ends_what_became_due_meanwhile(hub_settings: dict[str, Any]) -> None:
    async with running_hub(HubSettings(**hub_settings)) as hub:
        lab = await furnish(hub)
        run = await lab.new_run(status="running", auto_complete_after_minutes=1)
        await lab.execute("update runs set started_at = started_at - interval '1 hour'")
    async with running_hub(HubSettings(**hub_settings)) as hub, asyncio.timeout(30):
        while not await _told(hub, run["id"]):
            await asyncio.sleep(0.02)


async def _told(hub: Hub, run_id: str) -> bool:
    async with acquire(hub.services.pool) as connection:
        told = "select exists (select from events where subject_id = $1 and event_type = 'run.finished')"
        return bool(await connection.fetchval(told, UUID(run_id)))
