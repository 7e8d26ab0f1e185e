"""A writer's own connection: kept while all is well, another one after anything else."""

from __future__ import annotations

import asyncpg
import pytest

from hub.database.pool import acquire
from hub.ingest.connection import OwnConnection, _is_lost
from shared.errors import StorageUnavailable
from tests.fixtures.readings import Bench, bench

__all__ = ["bench"]

_PID = "select pg_backend_pid()"


async def _pid(own: OwnConnection) -> int:
    async with own.use() as connection:
        found: int = await connection.fetchval(_PID)
        return found


async def _fail(own: OwnConnection) -> None:
    async with own.transaction() as connection:
        await connection.execute("set statement_timeout = 1")
        await connection.execute("select * from nowhere")


async def _end(own: OwnConnection) -> None:
    async with own.use() as connection:
        await connection.execute("select pg_terminate_backend(pg_backend_pid())")


async def test_it_stays_the_same_from_one_use_to_the_next(bench: Bench) -> None:
    own = OwnConnection(bench.storage)
    first = await _pid(own)
    async with own.transaction() as connection:
        assert await connection.fetchval(_PID) == first
    await own.give_back()


async def test_a_failed_transaction_leaves_nothing_behind_for_the_next_use(bench: Bench) -> None:
    own = OwnConnection(bench.storage)
    with pytest.raises(asyncpg.UndefinedTableError):
        await _fail(own)
    async with own.use() as connection:
        assert await connection.fetchval("show statement_timeout") != "1ms"
        assert not connection.is_in_transaction()
    await own.give_back()


async def test_one_that_the_server_ends_while_it_is_used_is_replaced(bench: Bench) -> None:
    own = OwnConnection(bench.storage)
    pid = await _pid(own)
    with pytest.raises(StorageUnavailable):
        await _end(own)
    assert await _pid(own) != pid
    await own.give_back()


async def test_one_that_the_server_ends_between_uses_is_replaced(bench: Bench) -> None:
    own = OwnConnection(bench.storage)
    pid = await _pid(own)
    assert own._held is not None
    async with acquire(bench.pool) as other:
        await other.execute("select pg_terminate_backend($1)", pid)
        while not _is_lost(own._held[1]):
            await other.fetchval("select 1")
    assert await _pid(own) != pid
    await own.give_back()


async def test_what_was_given_back_is_there_for_others(bench: Bench) -> None:
    own = OwnConnection(bench.storage)
    await _pid(own)
    assert bench.pool.get_idle_size() < bench.pool.get_size()
    await own.give_back()
    assert bench.pool.get_idle_size() == bench.pool.get_size()
