"""Errors of the database library, translated at one border."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from hub.database.pool import UnstorableValue, translate, translated
from shared.errors import StorageUnavailable


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.AdminShutdownError("terminating connection due to administrator command"),
        asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"),
        asyncpg.InterfaceError("the underlying connection is closed"),
        asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress"),
        asyncpg.DeadlockDetectedError("deadlock detected"),
        ConnectionRefusedError(111, "Connection refused"),
        TimeoutError(),
    ],
)
async def test_a_lost_connection_is_a_database_that_is_away(error: Exception) -> None:
    with pytest.raises(StorageUnavailable), translated():
        raise error


def test_a_value_that_cannot_be_stored_is_not_the_databases_fault() -> None:
    assert isinstance(translate(asyncpg.DataError("invalid byte sequence")), UnstorableValue)


@pytest.mark.parametrize("error", [asyncpg.UniqueViolationError("twice"), KeyError("a bug")])
async def test_other_errors_pass_as_they_are(error: Exception) -> None:
    with pytest.raises(type(error)), translated():
        raise error


async def test_a_cancelled_task_ends_even_when_giving_back_its_connection_fails() -> None:
    waiting = asyncio.Event()

    async def work() -> None:
        while True:
            try:
                with translated():
                    try:
                        waiting.set()
                        await asyncio.sleep(60)
                    finally:
                        raise asyncpg.InterfaceError("connection has been released back to the pool")
            except StorageUnavailable:
                await asyncio.sleep(0)

    task = asyncio.create_task(work())
    await waiting.wait()
    task.cancel()
    await asyncio.wait([task], timeout=5)
    assert task.cancelled()
