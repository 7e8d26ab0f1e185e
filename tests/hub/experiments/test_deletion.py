"""An experiment goes with its runs, but never under a run that is going on."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

from hub.database.ids import uuid7
from hub.database.pool import acquire
from tests.hub.experiments.conftest import EXPERIMENTS, Lab


async def add_session(lab: Lab, run_id: str, status: str) -> None:
    async with acquire(lab.hub.services.pool) as connection:
        await connection.execute(
            "insert into capture_sessions (id, run_id, project_id, ordinal_number, status) values ($1, $2, $3, 3, $4)",
            uuid7(),
            UUID(run_id),
            UUID(lab.project),
            status,
        )


async def test_a_deleted_experiment_takes_its_runs_along(lab: Lab) -> None:
    experiment = await lab.add()
    run_id = await lab.add_run(experiment["id"], status="succeeded")
    await add_session(lab, run_id, "succeeded")
    path = f"{EXPERIMENTS}/{experiment['id']}"
    assert (await lab.ann.delete(path)).status_code == 204
    assert (await lab.ann.get(path)).status_code == (await lab.ann.delete(path)).status_code == 404
    async with acquire(lab.hub.services.pool) as connection:
        assert await connection.fetchval("select count(*) from runs") == 0
        assert await connection.fetchval("select count(*) from capture_sessions") == 0
    deleted = (await lab.events(experiment["id"]))[-1]
    assert (deleted["event_type"], deleted["payload"]["runs_deleted"]) == ("experiment.deleted", 1)
    await lab.add()


async def test_an_experiment_with_a_running_run_stays(lab: Lab) -> None:
    experiment = await lab.add()
    await lab.add_run(experiment["id"], name="done", status="failed")
    run_id = await lab.add_run(experiment["id"], name="night", status="running")
    refused = await lab.ann.delete(f"{EXPERIMENTS}/{experiment['id']}")
    assert (refused.status_code, refused.json()["code"], refused.json()["run_id"]) == (409, "run_active", run_id)
    assert "'night'" in refused.json()["detail"]
    assert (await lab.ann.get(f"{EXPERIMENTS}/{experiment['id']}")).status_code == 200


async def test_an_experiment_stays_while_a_session_takes_in_late_data(lab: Lab) -> None:
    experiment = await lab.add()
    run_id = await lab.add_run(experiment["id"], name="night", status="succeeded")
    await add_session(lab, run_id, "backfilling")
    refused = await lab.ann.delete(f"{EXPERIMENTS}/{experiment['id']}")
    assert (refused.status_code, refused.json()["run_id"]) == (409, run_id)
    assert "session 3 of its run 'night' is backfilling" in refused.json()["detail"]


async def test_of_delete_and_start_at_the_same_time_one_wins(lab: Lab) -> None:
    experiments = [await lab.add(f"E{number}") for number in range(50)]
    run_ids = [await lab.add_run(one["id"]) for one in experiments]
    outcomes: set[tuple[int, int]] = set()

    async def both(experiment: dict[str, Any], run_id: str, start_first: bool) -> None:
        async with asyncio.TaskGroup() as group:
            calls = [
                ("start", lab.ann.patch(f"/api/v1/runs/{run_id}", json={"status": "running"})),
                ("delete", lab.ann.delete(f"{EXPERIMENTS}/{experiment['id']}")),
            ]
            tasks = {name: group.create_task(call) for name, call in calls[:: 1 if start_first else -1]}
        started, deleted = tasks["start"].result(), tasks["delete"].result()
        outcomes.add((started.status_code, deleted.status_code))
        left = (await lab.ann.get(f"{EXPERIMENTS}/{experiment['id']}")).status_code
        run = await lab.ann.get(f"/api/v1/runs/{run_id}")
        if deleted.status_code == 204:
            assert (left, run.status_code) == (404, 404)
        else:
            assert (left, run.json()["status"]) == (200, "running")

    async with asyncio.TaskGroup() as group:
        for number, (experiment, run_id) in enumerate(zip(experiments, run_ids, strict=True)):
            group.create_task(both(experiment, run_id, number % 2 == 0))
    assert outcomes <= {(200, 409), (404, 204)}
    assert len(outcomes) == 2, "neither ever won"
