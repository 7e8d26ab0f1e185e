"""What the hub does from time to time: jobs, each with an interval of its own, while the database is there.

APScheduler keeps the times; the work is done by one task a job in the hub's task group, so a job never runs twice at
once and ends with the hub. A job that must run on one hub at a time takes an advisory lock of its own. What failed is
done again the next time; the first failure and the recovery are logged.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import asyncpg
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.interval import IntervalTrigger

from hub.database.storage import Storage
from shared.errors import StorageUnavailable

log = logging.getLogger(__name__)

_JITTERED_FROM_S = 60.0
"""Longer intervals vary by a tenth, so that several hubs do not keep meeting."""


@dataclass(frozen=True, slots=True)
class Job:
    """Something to do now and then.

    Attributes:
        every_s: seconds from one start to the next.
    """

    name: str
    every_s: float
    work: Callable[[], Awaitable[object]]


class Timetable:
    """Does the jobs."""

    def __init__(self, storage: Storage, jobs: Sequence[Job]) -> None:
        self._storage = storage
        self._jobs = list(jobs)

    async def run(self) -> None:
        """Until cancelled; the first time at once."""
        scheduler = AsyncIOScheduler(timezone=UTC, job_defaults={"coalesce": True, "misfire_grace_time": None})
        async with asyncio.TaskGroup() as group:
            for job in self._jobs:
                due = asyncio.Event()
                jitter_s = round(job.every_s / 10) if job.every_s >= _JITTERED_FROM_S else None
                trigger = IntervalTrigger(seconds=job.every_s, timezone=UTC, jitter=jitter_s)
                scheduler.add_job(_ring, trigger, args=[due], id=job.name, next_run_time=datetime.now(UTC))
                group.create_task(self._follow(job, due), name=f"job {job.name}")
            scheduler.start()
            try:
                await asyncio.Event().wait()
            finally:
                scheduler.shutdown(wait=False)

    async def _follow(self, job: Job, due: asyncio.Event) -> None:
        failing = False
        while True:
            await due.wait()
            due.clear()
            await self._storage.ready()
            try:
                await job.work()
            except (StorageUnavailable, asyncpg.PostgresError) as error:
                if not failing:
                    log.warning("event=job_failed job=%r error=%r", job.name, str(error))
                failing = True
            else:
                if failing:
                    log.info("event=job_recovered job=%r", job.name)
                failing = False


async def _ring(due: asyncio.Event) -> None:
    due.set()
