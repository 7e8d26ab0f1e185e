"""The database over a hub's life: away at the start, lost and found again, replaced by another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit, urlunsplit

import pytest
from pydantic import SecretStr

from hub.database import incarnation
from hub.database.pool import Connection, UnstorableValue, acquire, transaction
from hub.database.storage import Storage, connect
from hub.settings import HubSettings
from shared.errors import MigrationError, StorageUnavailable
from tests.fixtures.proxy import FaultProxy

pytestmark = pytest.mark.every_tier


@asynccontextmanager
async def running(settings: HubSettings) -> AsyncIterator[Storage]:
    storage = Storage(settings)
    await storage.open()
    task = asyncio.ensure_future(storage.run())
    try:
        yield storage
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, MigrationError):
            await task
        await storage.close()


async def ready(storage: Storage) -> None:
    async with asyncio.timeout(20):
        await storage.ready()


async def test_the_incarnation_outlives_the_hub(settings: HubSettings) -> None:
    seen = set()
    for _ in range(2):
        async with running(settings) as storage:
            await ready(storage)
            seen.add(storage.incarnation)
    assert len(seen) == 1


async def test_two_hubs_that_start_together_agree_on_the_incarnation(settings: HubSettings) -> None:
    async with running(settings) as one, running(settings) as other:
        await ready(one)
        await ready(other)
        assert one.incarnation == other.incarnation


async def test_another_fingerprint_draws_another_incarnation(settings: HubSettings, connection: Connection) -> None:
    async with running(settings) as storage:
        await ready(storage)
        before = storage.incarnation
    await connection.execute(
        "update hub_state set value = value || '{\"fingerprint\": \"another/server/1\"}' where key = 'incarnation'"
    )
    async with running(settings) as storage:
        await ready(storage)
        assert storage.incarnation != before


async def test_a_database_that_went_back_is_noticed_by_the_next_connection(settings: HubSettings) -> None:
    async with running(settings) as storage:
        await ready(storage)
        before = storage.incarnation
        operator = await connect(settings)
        try:
            drawn = await incarnation.redraw(operator)
        finally:
            await operator.close()
        await storage.pool.expire_connections()
        with pytest.raises(StorageUnavailable):
            async with acquire(storage.pool) as connection:
                await connection.fetchval("select 1")
        async with asyncio.timeout(20):
            while not storage.is_ready or storage.incarnation == before:
                await asyncio.sleep(0.02)
        assert storage.incarnation == drawn.id


async def test_an_absent_database_is_waited_for(settings: HubSettings, database_url: str) -> None:
    url = urlsplit(database_url)
    async with FaultProxy(url.hostname or "", url.port or 0) as proxy:
        await proxy.cut()
        through = settings.model_copy(update={"database_url": SecretStr(_at(database_url, proxy.port))})
        async with running(through) as storage:
            await asyncio.sleep(0.3)
            assert not storage.is_ready
            with pytest.raises(StorageUnavailable):
                storage.check_ready()
            proxy.forward()
            await ready(storage)


async def test_a_lost_database_is_noticed_and_found_again(settings: HubSettings, database_url: str) -> None:
    url = urlsplit(database_url)
    async with FaultProxy(url.hostname or "", url.port or 0) as proxy:
        through = settings.model_copy(update={"database_url": SecretStr(_at(database_url, proxy.port))})
        async with running(through) as storage:
            await ready(storage)
            before = storage.incarnation
            await proxy.cut()
            async with asyncio.timeout(20):
                while storage.is_ready:
                    await asyncio.sleep(0.05)
            assert storage.error
            proxy.forward()
            await ready(storage)
            assert storage.incarnation == before
            async with acquire(storage.pool) as connection:
                assert await connection.fetchval("select 1") == 1


async def test_a_hub_that_is_stopped_just_as_its_database_goes_ends(settings: HubSettings) -> None:
    storage = Storage(settings)
    await storage.open()
    task = asyncio.create_task(storage.run())
    await ready(storage)
    await asyncio.sleep(0.1)
    storage._lost.set()
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task], timeout=10)
    assert task.cancelled()
    await storage.close()


def _at(url: str, port: int) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{port}"))


async def test_a_schema_that_is_newer_ends_the_run(settings: HubSettings, connection: Connection) -> None:
    async with running(settings) as storage:
        await ready(storage)
    await connection.execute("insert into schema_migrations values (9999, '9999_future.sql', '')")
    with pytest.raises(MigrationError):
        async with asyncio.timeout(20):
            await Storage(settings).run()


async def test_a_server_that_may_lose_commits_is_refused(settings: HubSettings, connection: Connection) -> None:
    name = await connection.fetchval("select current_database()")
    await connection.execute(f"alter database {name} set synchronous_commit = off")
    storage = Storage(settings)
    with pytest.raises(StorageUnavailable, match="synchronous_commit"):
        await storage.prepare()


async def test_a_wrong_password_or_database_is_unavailable_not_a_crash(settings: HubSettings) -> None:
    url = settings.database_url.get_secret_value()
    wrong = settings.model_copy(update={"database_url": SecretStr(url + "_missing")})
    with pytest.raises(StorageUnavailable):
        await connect(wrong)


async def test_values_that_postgres_cannot_hold_are_told_from_its_absence(settings: HubSettings) -> None:
    async with running(settings) as storage:
        await ready(storage)
        for query, value in (
            ("select $1::text", "a\0b"),
            ("select $1::text", "\ud800"),
            ("select $1::bigint", 1 << 64),
            ("select $1::jsonb", {"a": "\0"}),
            ("select $1::jsonb", {"a": 1 << 70}),
        ):
            with pytest.raises(UnstorableValue):
                async with transaction(storage.pool) as connection:
                    await connection.fetchval(query, value)


async def test_a_transaction_is_rolled_back_on_error_and_cancellation(settings: HubSettings) -> None:
    async with running(settings) as storage:
        await ready(storage)

        async def insert_and_wait() -> None:
            async with transaction(storage.pool) as connection:
                await connection.execute("insert into hub_state values ('half', '1')")
                await asyncio.sleep(60)

        task = asyncio.ensure_future(insert_and_wait())
        await asyncio.sleep(0.2)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        async with acquire(storage.pool) as connection:
            assert await connection.fetchval("select count(*) from hub_state where key = 'half'") == 0


async def test_a_statement_that_takes_too_long_is_ended(settings: HubSettings) -> None:
    async with running(settings.model_copy(update={"database_command_timeout_s": 0.3})) as storage:
        await ready(storage)
        with pytest.raises(StorageUnavailable):
            async with acquire(storage.pool) as connection:
                await connection.execute("select pg_sleep(30)")


async def test_json_values_survive(settings: HubSettings) -> None:
    value = {"a": [1, 2.5, None, True, "ü"], "b": {}}
    async with running(settings) as storage:
        await ready(storage)
        async with acquire(storage.pool) as connection:
            assert await connection.fetchval("select $1::jsonb", value) == value
            assert await connection.fetchval("select $1::json", value) == value


async def test_an_owner_who_is_no_superuser_suffices(settings: HubSettings, connection: Connection) -> None:
    name = await connection.fetchval("select current_database()")
    role = f"{name}_owner"
    await connection.execute(f"create role {role} login password 'plain'")
    try:
        await connection.execute(f"alter database {name} owner to {role}")
        await connection.execute(f"alter schema public owner to {role}")
        url = urlsplit(settings.database_url.get_secret_value())
        there = urlunsplit(url._replace(netloc=f"{role}:plain@{url.hostname}:{url.port}"))
        async with running(settings.model_copy(update={"database_url": SecretStr(there)})) as storage:
            await ready(storage)
            assert storage.incarnation
    finally:
        await connection.execute(f"alter database {name} owner to current_user")
        await connection.execute(f"reassign owned by {role} to current_user")
        await connection.execute(f"drop owned by {role}")
        await connection.execute(f"drop role {role}")
