"""Periodic jobs: each on its own interval, never twice at once, and again after a failure."""

from __future__ import annotations

import asyncio
import logging
from typing import cast

import pytest

from hub.database.storage import Storage
from hub.timetable import Job, Timetable
from shared.errors import StorageUnavailable


class Database:
    """A storage that may be away."""

    def __init__(self) -> None:
        self.there = asyncio.Event()

    async def ready(self) -> None:
        await self.there.wait()


class Work:
    """Counts how often it was done, and how often at once."""

    def __init__(self, *, lasts_s: float = 0.0, failures: int = 0) -> None:
        self.done = 0
        self.at_once = self.at_once_max = 0
        self._lasts_s, self._failures = lasts_s, failures

    async def __call__(self) -> None:
        self.at_once += 1
        self.at_once_max = max(self.at_once_max, self.at_once)
        try:
            await asyncio.sleep(self._lasts_s)
            if self._failures:
                self._failures -= 1
                raise StorageUnavailable("away")
            self.done += 1
        finally:
            self.at_once -= 1


async def run_until(database: Database, jobs: list[Job], condition: object) -> None:
    timetable = Timetable(cast(Storage, database), jobs)
    running = asyncio.create_task(timetable.run())
    try:
        async with asyncio.timeout(10):
            while not condition():  # type: ignore[operator]
                await asyncio.sleep(0.01)
    finally:
        running.cancel()
        await asyncio.wait([running])
    assert running.cancelled()


async def test_jobs_are_done_at_once_and_again() -> None:
    database, quick, rare = Database(), Work(), Work()
    database.there.set()
    jobs = [Job("quick", 0.05, quick), Job("rare", 3600.0, rare)]
    await run_until(database, jobs, lambda: quick.done >= 3 and rare.done >= 1)
    assert rare.done == 1


async def test_a_job_that_takes_long_never_runs_twice_at_once() -> None:
    database, slow = Database(), Work(lasts_s=0.2)
    database.there.set()
    await run_until(database, [Job("slow", 0.05, slow)], lambda: slow.done >= 3)
    assert slow.at_once_max == 1


async def test_nothing_is_done_while_the_database_is_away() -> None:
    database, work = Database(), Work()
    running = asyncio.create_task(run_until(database, [Job("work", 0.05, work)], lambda: work.done >= 1))
    await asyncio.sleep(0.2)
    assert work.done == 0
    database.there.set()
    await running


async def test_a_failure_is_logged_once_and_the_job_is_done_again(caplog: pytest.LogCaptureFixture) -> None:
    database, work = Database(), Work(failures=3)
    database.there.set()
    with caplog.at_level(logging.INFO, "hub.timetable"):
        await run_until(database, [Job("work", 0.05, work)], lambda: work.done >= 2)
    said = [record.getMessage().split()[0] for record in caplog.records if record.name == "hub.timetable"]
    assert said == ["event=job_failed", "event=job_recovered"]
