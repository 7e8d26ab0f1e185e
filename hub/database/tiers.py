"""Storage tiers: what this PostgreSQL can do for readings, and the table `readings` laid out for it.

=========  ==========================  ============
tier       `readings` is               compression
=========  ==========================  ============
community  a hypertable                columnstore
apache     a hypertable                none
plain      natively range-partitioned  none
=========  ==========================  ============

The columns are the same everywhere. TimescaleDB cannot take over a natively partitioned table, so the layout is chosen
when the table is made and kept in `hub_state`: a hypertable may change between community and apache with the server's
licence, `plain` stays `plain`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

import asyncpg

from hub.database.pool import Connection
from shared.errors import MigrationError

log = logging.getLogger(__name__)

TIERS_LOCK = 0x6C61_6272_0002
"""Advisory lock for whoever changes the layout of `readings`."""

_COLUMNS = """
    series_id integer not null,
    profile integer not null default 0,
    time timestamptz not null,
    id bigint not null,
    raw double precision,
    physical double precision,
    status smallint not null
"""
_INDEXES = """
    create unique index readings_series_time on readings (series_id, time);
    create index readings_id on readings using brin (id);
    comment on table readings is
        'status is a status byte; profile is conversion_profiles.ref, 0 for none; id rises in commit order.'
"""


class Tier(StrEnum):
    """What the database offers."""

    COMMUNITY = "community"
    APACHE = "apache"
    PLAIN = "plain"

    @property
    def has_hypertables(self) -> bool:
        """Whether TimescaleDB makes the chunks."""
        return self is not Tier.PLAIN


@dataclass(frozen=True, slots=True)
class Layout:
    """How `readings` is laid out in this database.

    Attributes:
        chunk_days: days in a chunk or partition; fixed when the table was made.
    """

    tier: Tier
    chunk_days: int


async def detect(connection: Connection) -> Tier:
    """The best tier this database can be; creates the extension where that is allowed. Hubs do it one at a time."""
    async with connection.transaction():
        await connection.execute("select pg_advisory_xact_lock($1)", TIERS_LOCK)
        installed = await connection.fetchval(
            "select installed_version is not null from pg_available_extensions where name = 'timescaledb'"
        )
        if installed is None or not (installed or await _create_extension(connection)):
            return Tier.PLAIN
        licence = await connection.fetchval("select current_setting('timescaledb.license', true)")
    return Tier.COMMUNITY if licence == "timescale" else Tier.APACHE


async def _create_extension(connection: Connection) -> bool:
    try:
        async with connection.transaction():
            await connection.execute("create extension timescaledb")
    except asyncpg.PostgresError as error:
        log.warning("event=timescaledb_unused reason=%r", str(error))
        return False
    return True


async def prepare(connection: Connection, tier: Tier, chunk_days: int, compress_after_days: int = 7) -> Layout:
    """Make `readings` if it is not there, and see to its compression. Safe to call from several hubs.

    Returns: the layout in force, which is the one of the table's making.
    Raises: MigrationError when a hypertable is there and TimescaleDB is not.
    """
    async with connection.transaction():
        await connection.execute("select pg_advisory_xact_lock($1)", TIERS_LOCK)
        made = await connection.fetchval("select value from hub_state where key = 'readings_layout'")
        if made is None:
            await _create(connection, tier, chunk_days)
            made = {"hypertable": tier.has_hypertables, "chunk_days": chunk_days}
            await connection.execute("insert into hub_state (key, value) values ('readings_layout', $1)", made)
        layout = Layout(_tier_in_force(tier, hypertable=made["hypertable"]), made["chunk_days"])
        if layout.tier is Tier.COMMUNITY:
            await _compress(connection, compress_after_days)
    if layout.chunk_days != chunk_days:
        log.warning("event=chunk_days_kept in_force=%d configured=%d", layout.chunk_days, chunk_days)
    return layout


def _tier_in_force(offered: Tier, *, hypertable: bool) -> Tier:
    if not hypertable:
        return Tier.PLAIN
    if not offered.has_hypertables:
        raise MigrationError(
            "readings are in a TimescaleDB hypertable, but TimescaleDB is not there",
            hint="load the extension (shared_preload_libraries) and restart PostgreSQL",
        )
    return offered


async def _create(connection: Connection, tier: Tier, chunk_days: int) -> None:
    partitioned = "" if tier.has_hypertables else "partition by range (time)"
    await connection.execute(f"create table readings ({_COLUMNS}) {partitioned}")
    if tier.has_hypertables:
        await connection.execute(
            "select create_hypertable('readings', 'time', chunk_time_interval => $1::interval,"
            " create_default_indexes => false)",
            timedelta(days=chunk_days),
        )
    await connection.execute(_INDEXES)


async def _compress(connection: Connection, after_days: int) -> None:
    """Compress old chunks by series and time; a changed age replaces the policy.

    Ids are in the order, after the unique time, for the least and greatest id that each batch of rows then carries:
    readers of new ids pass over compressed batches by these.
    """
    compressed = await connection.fetchval(
        "select compression_enabled from timescaledb_information.hypertables where hypertable_name = 'readings'"
    )
    if not compressed:
        await connection.execute(
            "alter table readings set (timescaledb.compress, timescaledb.compress_segmentby = 'series_id',"
            " timescaledb.compress_orderby = 'time, id')"
        )
    after = timedelta(days=after_days)
    standing = await connection.fetchval(
        "select (config ->> 'compress_after')::interval from timescaledb_information.jobs"
        " where proc_name = 'policy_compression' and hypertable_name = 'readings'"
    )
    if standing == after:
        return
    if standing is not None:
        await connection.execute("select remove_compression_policy('readings')")
    await connection.execute("select add_compression_policy('readings', $1::interval)", after)
