"""Migrations: once each, in order, by one hub at a time, and never a changed one."""

from __future__ import annotations

import asyncio
import dataclasses

import asyncpg
import pytest

from hub.database.migrate import Migration, bundled_migrations, migrate
from hub.database.pool import Connection
from hub.database.storage import connect
from hub.settings import HubSettings
from shared.errors import MigrationError

ONE = Migration(1, "0001_one.sql", "create table one (id integer);")
TWO = Migration(2, "0002_two.sql", "create table two (id integer); insert into two values (1);")


async def test_migrations_are_applied_once_and_in_order(connection: Connection) -> None:
    assert await migrate(connection, [ONE]) == 1
    assert await migrate(connection, [ONE, TWO]) == 1
    assert await migrate(connection, [ONE, TWO]) == 0
    assert await connection.fetchval("select count(*) from two") == 1


async def test_a_changed_migration_is_refused(connection: Connection) -> None:
    await migrate(connection, [ONE])
    with pytest.raises(MigrationError, match=r"0001_one\.sql is not the one"):
        await migrate(connection, [dataclasses.replace(ONE, sql="create table other ();")])


async def test_line_ends_do_not_count_as_a_change(connection: Connection) -> None:
    await migrate(connection, [dataclasses.replace(ONE, sql="create table one (\n id integer);")])
    await migrate(connection, [dataclasses.replace(ONE, sql="create table one (\r\n id integer);")])


async def test_a_newer_schema_is_refused(connection: Connection) -> None:
    await migrate(connection, [ONE, TWO])
    with pytest.raises(MigrationError, match="schema 2, this hub knows 1"):
        await migrate(connection, [ONE])


async def test_a_failing_migration_leaves_nothing_behind(connection: Connection) -> None:
    broken = Migration(2, "0002_broken.sql", "create table half (id integer); select 1 / 0;")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(connection, [ONE, broken])
    assert await connection.fetchval("select to_regclass('half')") is None
    assert await migrate(connection, [ONE, TWO]) == 1


async def test_hubs_that_start_together_migrate_one_after_the_other(settings: HubSettings) -> None:
    connections = [await connect(settings) for _ in range(4)]
    try:
        async with asyncio.TaskGroup() as group:
            applied = [group.create_task(migrate(connection)) for connection in connections]
        assert sorted(task.result() for task in applied) == [0, 0, 0, len(bundled_migrations())]
    finally:
        for connection in connections:
            connection.terminate()


def test_bundled_migrations_count_from_one() -> None:
    assert [migration.number for migration in bundled_migrations()][:1] == [1]
