"""Keeps the block-range index on ids up to date, so that readers of new readings need not read much else.

PostgreSQL summarises new blocks when it vacuums, or a minute after they were filled; until then each question for a
range of ids reads all of them. So the hub has it done every second where a partition has grown. It never waits for a
lock as long as would make an autovacuum give way.
"""

from __future__ import annotations

from hub.database.pool import Pool, transaction
from hub.database.storage import Storage

# Partitions of plain PostgreSQL and chunks of TimescaleDB are both children of `readings`.
_INDEXES = """
select i.indexrelid as index, pg_relation_size(i.indrelid) as bytes
from pg_inherits h
join pg_index i on i.indrelid = h.inhrelid
join pg_class x on x.oid = i.indexrelid and x.relkind = 'i'
join pg_am a on a.oid = x.relam and a.amname = 'brin'
where h.inhparent = 'readings'::regclass
"""
_LOCK_TIMEOUT = "set local lock_timeout = '100ms'"
_SUMMARISE = "select brin_summarize_new_values($1::oid::regclass)"


class Summaries:
    """What has been summarised, by index."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._bytes: dict[int, int] = {}

    async def once(self) -> int:
        """Summarise the partitions that have grown; what is locked waits for the next time.

        Returns: how many. Raises: StorageUnavailable.
        """
        pool: Pool = self._storage.pool
        done = 0
        async with transaction(pool) as connection:
            found = await connection.fetch(_INDEXES)
        for record in found:
            if self._bytes.get(record["index"]) == record["bytes"]:
                continue
            async with transaction(pool) as connection:
                await connection.execute(_LOCK_TIMEOUT)
                await connection.execute(_SUMMARISE, record["index"])
            self._bytes[record["index"]] = record["bytes"]
            done += 1
        return done
