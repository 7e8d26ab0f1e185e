"""Who waits for whom: sessions that are made, readings that come, and publications."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from hub.database.pool import acquire, transaction
from tests.hub.sensors.splitting import DEFAULT, SPLIT, at, factors, post, publish, split
from tests.hub.sessions.conftest import Lab, lab

__all__ = ["lab"]

_WAITS = """
    select exists (
        select from pg_locks l join pg_database d on d.oid = l.database
        where l.locktype = 'advisory' and not l.granted and l.classid = 1280459057 and l.objid = 1
          and d.datname = current_database()
    )
"""
_TAKES_PART = """
    insert into session_sensors (session_id, sensor_id, time_from, time_to) values ($1, $2, $3, $4)
"""


async def _somebody_waits(lab: Lab) -> None:
    """Return when somebody waits for the catalogue lock."""
    async with asyncio.timeout(30):
        while True:
            async with acquire(lab.hub.services.pool) as connection:
                if await connection.fetchval(_WAITS):
                    return
            await asyncio.sleep(0.01)


@asynccontextmanager
async def _starting(lab: Lab, sensor: str, session: dict[str, Any]) -> AsyncIterator[None]:
    """A session starts, and has started when the block is left."""
    async with transaction(lab.hub.services.pool) as connection:
        await connection.execute(_TAKES_PART, UUID(session["id"]), UUID(sensor), at(0), at(10))
        yield


async def test_readings_wait_for_a_session_that_a_profile_was_split_off_for(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    await publish(lab, oven, DEFAULT)
    run = await lab.run((oven,))
    session = await lab.started(run, status="draft")
    await split(lab, oven, SPLIT, run_ids=[run])
    await post(lab, oven, 1)
    async with asyncio.TaskGroup() as group, _starting(lab, oven, session):
        group.create_task(post(lab, oven, 2), name="post")
        await _somebody_waits(lab)
    await post(lab, oven, 3)
    assert await factors(lab, oven) == {1: 2, 2: 10, 3: 10}


async def test_readings_wait_for_no_other_session_but_a_publication_does(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    await publish(lab, oven, DEFAULT)
    run = await lab.run((oven,))
    session = await lab.started(run, status="draft")
    async with asyncio.TaskGroup() as group, _starting(lab, oven, session):
        await post(lab, oven, 1)
        group.create_task(split(lab, oven, SPLIT, run_ids=[run]), name="publication")
        await _somebody_waits(lab)
    await post(lab, oven, 2)
    assert await factors(lab, oven) == {1: 2, 2: 10}


async def test_a_publication_waits_for_a_draft_of_which_it_is_to_be_heard(lab: Lab) -> None:
    oven = await lab.sensor("oven")
    await publish(lab, oven, DEFAULT)
    run, made = await lab.run((oven,)), UUID(int=7)
    await post(lab, oven, 1)
    async with asyncio.TaskGroup() as group, transaction(lab.hub.services.pool) as connection:
        await connection.execute(
            "insert into capture_sessions (id, run_id, project_id, ordinal_number) values ($1, $2, $3, 1)",
            made,
            UUID(run),
            UUID(lab.project),
        )
        group.create_task(split(lab, oven, SPLIT, run_ids=[run]), name="publication")
        await _somebody_waits(lab)
    await post(lab, oven, 2, capture_session_id=str(made))
    assert await factors(lab, oven) == {1: 2, 2: 10}
