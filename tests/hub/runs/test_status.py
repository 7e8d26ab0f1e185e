"""The life of a run over HTTP: what each status sets, what forbids it, and what is told."""

from __future__ import annotations

import asyncio
from datetime import datetime

from hub.access.identity import Role, User
from hub.database.pool import acquire
from hub.events.change import begin_change
from hub.events.event import HUB
from hub.experiments.rules import NEXT, Status
from hub.runs.access import find_run, lock_run
from hub.runs.lifecycle import start_run
from tests.hub.runs.conftest import Lab, blocked, refused, run_url

WAY: dict[Status, tuple[Status, ...]] = {
    Status.DRAFT: (),
    Status.RUNNING: (Status.RUNNING,),
    Status.SUCCEEDED: (Status.RUNNING, Status.SUCCEEDED),
    Status.FAILED: (Status.RUNNING, Status.FAILED),
    Status.ARCHIVED: (Status.ARCHIVED,),
}
"""How a draft gets there."""


async def test_running_and_ending_set_the_times(lab: Lab) -> None:
    run = await lab.new_run()
    started = await lab.set_status(run["id"], "running")
    assert started["started_at"] is not None
    assert (started["finished_at"], started["duration_seconds"]) == (None, None)
    ended = await lab.set_status(run["id"], "failed")
    length = datetime.fromisoformat(ended["finished_at"]) - datetime.fromisoformat(ended["started_at"])
    assert (ended["started_at"], ended["duration_seconds"]) == (started["started_at"], length.total_seconds())
    archived = await lab.set_status(run["id"], "archived")
    kept = ("started_at", "finished_at", "duration_seconds")
    assert [archived[name] for name in kept] == [ended[name] for name in kept]


async def test_each_status_tells_everyone(lab: Lab) -> None:
    run = await lab.new_run(tags=["a"])
    for status in ("running", "running", "succeeded", "archived"):
        await lab.set_status(run["id"], status)
    assert await lab.event_types(run["id"]) == [
        "run.created",
        "run.status_changed",
        "run.started",
        "run.status_changed",
        "run.finished",
        "run.status_changed",
        "run.archived",
    ]
    finished = (await lab.events(run["id"]))[4]["payload"]
    assert (finished["run_id"], finished["status"], finished["previous_status"]) == (run["id"], "succeeded", "running")
    assert finished["duration_seconds"] >= 0
    async with acquire(lab.hub.services.pool) as connection:
        assert await connection.fetchval("select count(*) from events where is_public") == 6


async def test_only_the_drawn_ways_are_open(lab: Lab) -> None:
    for status, way in WAY.items():
        for wanted in Status:
            run = await lab.new_run()
            for step in way:
                await lab.set_status(run["id"], step)
            answer = await lab.editor.patch(run_url(run["id"]), json={"status": wanted})
            if wanted is status or wanted in NEXT[status]:
                assert (answer.status_code, answer.json()["status"]) == (200, wanted), (status, wanted)
            else:
                assert refused(answer) == (409, "invalid_transition"), (status, wanted)
                assert (answer.json()["from_status"], answer.json()["to_status"]) == (status, wanted)


async def test_a_refused_status_leaves_all_else_of_the_change_undone(lab: Lab) -> None:
    run = await lab.new_run()
    answer = await lab.editor.patch(run_url(run["id"]), json={"name": "new", "status": "succeeded"})
    assert refused(answer) == (409, "invalid_transition")
    assert (await lab.viewer.get(run_url(run["id"]))).json() == run
    assert await lab.event_types(run["id"]) == ["run.created"]


async def test_a_run_does_not_end_while_a_session_of_it_is_active(lab: Lab) -> None:
    run = await lab.new_run(status="running")
    session_id = await lab.new_session(run["id"], "running")
    for session in ("draft", "running", "backfilling"):
        await lab.set_sessions(run["id"], session)
        for status in ("succeeded", "failed"):
            answer = await lab.editor.patch(run_url(run["id"]), json={"status": status})
            assert refused(answer) == (409, "active_sessions"), session
            assert answer.json()["capture_session_ids"] == [session_id]
    for session in ("failed", "succeeded", "archived"):
        other = await lab.new_run(status="running")
        await lab.new_session(other["id"], session)
        await lab.set_status(other["id"], "succeeded")


async def test_a_run_is_not_archived_while_a_session_of_it_is_active(lab: Lab) -> None:
    draft = await lab.new_run()
    await lab.new_session(draft["id"], "draft")
    ended = await lab.new_run(status="running")
    await lab.set_status(ended["id"], "succeeded")
    await lab.new_session(ended["id"], "backfilling")
    for run in (draft, ended):
        answer = await lab.editor.patch(run_url(run["id"]), json={"status": "archived"})
        assert refused(answer) == (409, "active_sessions")
        await lab.set_sessions(run["id"], "failed")
        await lab.set_status(run["id"], "archived")


async def test_of_ways_that_part_one_is_taken(lab: Lab) -> None:
    run = await lab.new_run(status="running")
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(lab.editor.patch(run_url(run["id"]), json={"status": status}))
            for status in ["succeeded", "failed"] * 8
        ]
    statuses = [task.result().status_code for task in tasks]
    assert statuses.count(200) == 8  # one changes it, seven find it so
    assert statuses.count(409) == 8
    assert (await lab.event_types(run["id"])).count("run.finished") == 1


async def test_a_session_that_starts_a_run_and_a_run_that_ends_wait_for_each_other(lab: Lab) -> None:
    """Whoever has locked the run decides; the other one sees what was decided."""
    run = await lab.new_run(status="running")
    me = await user_of(lab)
    async with begin_change(lab.hub.services.pool, HUB, lab.hub.services.now()) as change:
        row = await lock_run(change.connection, me, run["id"])
        ending = asyncio.create_task(lab.editor.patch(run_url(run["id"]), json={"status": "succeeded"}))
        await blocked(lab)
        await change.connection.execute(
            "insert into capture_sessions (id, run_id, project_id, ordinal_number, status, started_at) "
            "values (gen_random_uuid(), $1, $2, 1, 'running', now())",
            row["id"],
            row["project_id"],
        )
    assert refused(await ending) == (409, "active_sessions")


async def test_a_removed_run_starts_no_more(lab: Lab) -> None:
    run = await lab.new_run()
    async with begin_change(lab.hub.services.pool, HUB, lab.hub.services.now()) as change:
        await lock_run(change.connection, await user_of(lab), run["id"])
        starting = asyncio.create_task(lab.editor.patch(run_url(run["id"]), json={"status": "running"}))
        await blocked(lab)
        await change.connection.execute("delete from runs where id = $1", run["id"])
    assert (await starting).status_code == 404


async def test_an_experiment_that_is_being_removed_starts_no_run(lab: Lab) -> None:
    run = await lab.new_run()
    async with begin_change(lab.hub.services.pool, HUB, lab.hub.services.now()) as change:
        await change.connection.execute("select from experiments where id = $1 for update", lab.experiment_id)
        starting = asyncio.create_task(lab.editor.patch(run_url(run["id"]), json={"status": "running"}))
        await blocked(lab)
        await change.connection.execute("delete from experiments where id = $1", lab.experiment_id)
    assert (await starting).status_code == 404


async def test_a_session_sets_a_draft_run_running_once(lab: Lab) -> None:
    run, me = await lab.new_run(), await user_of(lab)
    for started in (True, False):
        async with begin_change(lab.hub.services.pool, HUB, lab.hub.services.now()) as change:
            row = await lock_run(change.connection, me, run["id"])
            assert await start_run(change, row) is started
    async with acquire(lab.hub.services.pool) as connection:
        row = await find_run(connection, me, run["id"], Role.EDITOR)
    assert (row["status"], row["version"]) == ("running", 2)
    assert (await lab.event_types(run["id"]))[1:] == ["run.status_changed", "run.started"]


async def user_of(lab: Lab) -> User:
    """The editor."""
    async with acquire(lab.hub.services.pool) as connection:
        row = await connection.fetchrow("select * from users where username = 'edgar'")
    assert row is not None
    names = ("id", "username", "email", "is_active", "is_admin", "password_change_required", "created_at")
    return User(**{name: row[name] for name in names})
