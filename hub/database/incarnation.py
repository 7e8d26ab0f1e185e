"""The database's incarnation: a UUID that changes when the database may have gone back in time.

A restored backup, a promoted standby or a database moved to another server may lack what an agent was told is stored.
The incarnation is drawn for a fingerprint (the cluster's system identifier, its timeline, the database's oid); when
the fingerprint is another, so is the incarnation, and agents offer again all that they hold. A copy of the data
directory put back in place looks the same as before: then it is the agents who know better (hub.ingest.claims), and
`labrelay hub restored` draws a new one by hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from hub.database.ids import uuid7
from hub.database.pool import Connection
from shared.errors import StorageUnavailable

_FINGERPRINT = """
    select case when pg_is_in_recovery() then null else
        (select system_identifier::text from pg_control_system())
        || '/' || left(pg_walfile_name(pg_current_wal_lsn()), 8)
        || '/' || (select oid from pg_database where datname = current_database())
    end
"""
_READ = f"select ({_FINGERPRINT}) as here, (select value from hub_state where key = 'incarnation') as drawn"
_WRITE = """
    insert into hub_state (key, value) values ('incarnation', $1)
    on conflict (key) do update set value = excluded.value
"""


@dataclass(frozen=True, slots=True)
class Incarnation:
    """An incarnation and the fingerprint that it was drawn for."""

    id: UUID
    fingerprint: str


async def establish(connection: Connection) -> Incarnation:
    """The incarnation in force, drawn now if there is none for this fingerprint. Raises: StorageUnavailable."""
    async with connection.transaction():
        await connection.execute("lock table hub_state in share row exclusive mode")
        here = await _fingerprint(connection)
        standing = await read(connection)
        return standing if standing is not None else await _draw(connection, here)


async def redraw(connection: Connection) -> Incarnation:
    """A new incarnation, whatever the fingerprint: an operator knows that the database went back."""
    async with connection.transaction():
        return await _draw(connection, await _fingerprint(connection))


async def replace(connection: Connection, standing: UUID) -> Incarnation:
    """A new incarnation in the place of `standing`; what is in force, where somebody has replaced that one already."""
    async with connection.transaction():
        await connection.execute("lock table hub_state in share row exclusive mode")
        here = await _fingerprint(connection)
        now = await read(connection)
        return now if now is not None and now.id != standing else await _draw(connection, here)


async def read(connection: Connection) -> Incarnation | None:
    """The incarnation that was drawn for the database as it is, None if there is none."""
    row = await connection.fetchrow(_READ)
    if row is None or row["here"] is None or row["drawn"] is None or row["drawn"]["fingerprint"] != row["here"]:
        return None
    return Incarnation(UUID(row["drawn"]["id"]), row["here"])


async def _fingerprint(connection: Connection) -> str:
    here: str | None = await connection.fetchval(_FINGERPRINT)
    if here is None:
        raise StorageUnavailable("the database is a standby and read-only", hint="give the hub the primary's address")
    return here


async def _draw(connection: Connection, fingerprint: str) -> Incarnation:
    drawn = Incarnation(uuid7(), fingerprint)
    await connection.execute(_WRITE, {"id": str(drawn.id), "fingerprint": fingerprint})
    return drawn
