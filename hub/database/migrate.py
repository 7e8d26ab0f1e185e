"""Migrations: numbered `.sql` files, applied once each, in order, under an advisory lock.

A file is named `NNNN_what.sql` and applied in a transaction of its own with its record (number, name, SHA-256).
A file that was applied never changes; a database that has more than we know belongs to a newer hub. Both are refused.
Each file must leave a schema that the previous hub can still work on (expand first, contract a release later).
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from hub.database.pool import Connection
from shared.errors import MigrationError

log = logging.getLogger(__name__)

_LOCK = 0x6C61_6272_0001
_NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
_TABLE = """
    create table if not exists schema_migrations (
        number integer primary key,
        name text not null,
        checksum bytea not null,
        applied_at timestamptz not null default now()
    )
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file."""

    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> bytes:
        """SHA-256 of the text, whatever its line ends."""
        return hashlib.sha256(self.sql.replace("\r\n", "\n").encode()).digest()


def bundled_migrations() -> list[Migration]:
    """The migrations that this hub knows, in order. Raises: MigrationError when their numbers have a hole."""
    found: list[Migration] = []
    for file in files("hub.database").joinpath("migrations").iterdir():
        if match := _NAME.fullmatch(file.name):
            found.append(Migration(int(match.group(1)), file.name, file.read_text(encoding="utf-8")))
    found.sort(key=lambda migration: migration.number)
    if [migration.number for migration in found] != list(range(1, len(found) + 1)):
        raise MigrationError("the numbers of the migrations do not count 1, 2, 3, …")
    return found


async def migrate(connection: Connection, migrations: Sequence[Migration] | None = None) -> int:
    """Bring the schema up to date; waits while another hub does it.

    Returns: how many migrations were applied.
    Raises: MigrationError when the schema is newer than this hub or an applied file has changed.
    """
    known = bundled_migrations() if migrations is None else list(migrations)
    await connection.execute("select pg_advisory_lock($1)", _LOCK)
    try:
        await connection.execute(_TABLE)
        applied = {row["number"]: row for row in await connection.fetch("select * from schema_migrations")}
        _check(known, {number: row["checksum"] for number, row in applied.items()})
        pending = [migration for migration in known if migration.number not in applied]
        for migration in pending:
            await _apply(connection, migration)
        return len(pending)
    finally:
        if not connection.is_closed():
            await connection.execute("select pg_advisory_unlock($1)", _LOCK)


def _check(known: Sequence[Migration], applied: dict[int, bytes]) -> None:
    newest = max(applied, default=0)
    if newest > len(known):
        raise MigrationError(
            f"the database has schema {newest}, this hub knows {len(known)}",
            hint="start a hub of the newer version, or restore a backup from before the upgrade",
        )
    for migration in known:
        checksum = applied.get(migration.number)
        if checksum is None and migration.number < newest:
            raise MigrationError(f"migration {migration.name} was left out")
        if checksum is not None and checksum != migration.checksum:
            raise MigrationError(
                f"migration {migration.name} is not the one that was applied to this database",
                hint="applied migrations never change; this database was made by another build",
            )


async def _apply(connection: Connection, migration: Migration) -> None:
    async with connection.transaction():
        await connection.execute(migration.sql)
        await connection.execute(
            "insert into schema_migrations (number, name, checksum) values ($1, $2, $3)",
            migration.number,
            migration.name,
            migration.checksum,
        )
    log.info("event=migrated number=%d name=%s", migration.number, migration.name)
