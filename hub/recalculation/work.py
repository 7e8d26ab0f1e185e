"""Does the tasks: each hub looks for what is to be done, and one of them does a sensor's oldest task.

A task that was under way when its hub ended goes on where its slices stand, on whichever hub looks first. A few
connections work on different slices at once; what the database cannot do now is done the next time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from hub.database.pool import Connection, acquire, transaction
from hub.database.storage import Storage
from hub.events.change import begin_change
from hub.events.event import HUB, PublicEvent
from hub.recalculation import plan, rulings, store
from hub.recalculation.chunk import Step
from hub.recalculation.events import task_event
from hub.recalculation.rules import TaskStatus
from hub.recalculation.store import Row, Slice
from hub.sensors.store import lock_catalogue
from hub.telemetry.as_of import load_as_of
from hub.telemetry.moments import to_datetime
from shared.clock import Clock
from shared.errors import LabrelayError

CONNECTIONS = 3
"""Slices that are worked on at once."""

log = logging.getLogger(__name__)

_TRY_LOCK = "select pg_try_advisory_lock(x'6c616273'::int, hashtext($1))"
_UNLOCK = "select pg_advisory_unlock(x'6c616273'::int, hashtext($1))"


class Recalculation:
    """A job: what is to be recalculated.

    Args:
        connections: slices that are worked on at once.
    """

    def __init__(self, storage: Storage, clock: Clock, connections: int = CONNECTIONS) -> None:
        self._storage = storage
        self._clock = clock
        self._connections = connections

    async def once(self) -> int:
        """Do all that is to be done and that no other hub does.

        Returns: how many tasks ended. Raises: StorageUnavailable.
        """
        ended = 0
        while tasks := await self._next():
            done = [await self._do(task) for task in tasks]
            ended += sum(done)
            if not any(done):
                break
        return ended

    async def _next(self) -> list[Row]:
        async with acquire(self._storage.pool) as connection:
            return await store.next_tasks(connection)

    async def _do(self, task: Row) -> bool:
        """Bring a task to its end. Returns: whether it ended here."""
        async with self._alone(task["sensor_id"]) as alone:
            if not alone:
                return False
            try:
                if task["status"] == TaskStatus.PENDING:
                    await self._start(task)
                await self._work(task)
            except LabrelayError as error:  # a profile that does not compile, or a sensor that is gone
                if error.retryable:
                    raise
                return await self._end(task["id"], TaskStatus.FAILED, error.message)
            return await self._end(task["id"], TaskStatus.SUCCEEDED, None)

    @asynccontextmanager
    async def _alone(self, sensor_id: UUID) -> AsyncIterator[bool]:
        """Whether this hub has the sensor to itself while the block lasts; a hub that dies leaves it to others."""
        async with acquire(self._storage.pool) as connection:
            locked: bool = await connection.fetchval(_TRY_LOCK, str(sensor_id))
            try:
                yield locked
            finally:
                if locked:
                    await connection.execute(_UNLOCK, str(sensor_id))

    async def _start(self, task: Row) -> None:
        async with transaction(self._storage.pool) as connection:
            slices = await plan.slices(connection, task)
            reach = await plan.reach(connection, task)
        condition = "" if reach is None else reach.condition()
        total = 0
        for one in slices:
            async with transaction(self._storage.pool) as connection:
                total += await plan.count(connection, one, condition, task["before_id"])
        async with begin_change(self._storage.pool, HUB, to_datetime(self._clock.now_us())) as change:
            if await store.start(change.connection, task["id"], slices, total, change.now):
                row = await _row(change.connection, task["id"])
                change.record(task_event(PublicEvent.PROFILE_BACKFILL_STARTED, row))
                log.info("event=recalculation_started task=%s readings=%d", task["id"], total)

    async def _work(self, task: Row) -> None:
        async with acquire(self._storage.pool) as connection:
            profile = await load_as_of(connection, task["profile_id"])
            reach = await plan.reach(connection, task)
            waiting = await store.slices(connection, task["id"])
        step = Step(task["id"], profile, task["before_id"], reach)
        waiting.reverse()
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(min(self._connections, len(waiting))):
                    group.create_task(self._work_through(step, waiting), name=f"recalculation {number}")
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from failures

    async def _work_through(self, step: Step, waiting: list[Slice]) -> None:
        while waiting:
            one = waiting.pop()
            while await step.run(self._storage.pool, one.number, to_datetime(self._clock.now_us())):
                pass

    async def _end(self, task_id: UUID, status: TaskStatus, error: str | None) -> bool:
        async with begin_change(self._storage.pool, HUB, to_datetime(self._clock.now_us())) as change:
            await lock_catalogue(change.connection)
            if not await store.end(change.connection, task_id, status, error, change.now):
                return True
            if status is TaskStatus.SUCCEEDED:
                await rulings.drop_overruled(change.connection, task_id)
            else:
                await rulings.withdraw(change.connection, task_id)
            row = await _row(change.connection, task_id)
            change.record(task_event(PublicEvent.PROFILE_BACKFILL_COMPLETED, row))
        log.info("event=recalculation_ended task=%s status=%s changed=%d", task_id, status, row["changed_records"])
        return True


async def _row(connection: Connection, task_id: UUID) -> Row:
    row = await store.one(connection, task_id)
    assert row is not None  # it is changed in this transaction
    return row
