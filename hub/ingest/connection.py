"""A writer's own connection to the database, kept from one group to the next."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

import asyncpg

from hub.database.pool import Connection, Pool, translated

ACQUIRE_TIMEOUT_S = 5.0


class Pooled(Protocol):
    """Where connections come from (`hub.database.storage.Storage`)."""

    @property
    def pool(self) -> Pool: ...


class OwnConnection:
    """One connection out of the pool, for one user at a time.

    The pool resets a connection each time that it gets it back, which is a round trip more than a small group needs. So
    it is given back only after a failure, when nobody knows in which state it is, and at the end.
    """

    def __init__(self, database: Pooled) -> None:
        self._database = database
        self._held: tuple[Pool, Connection] | None = None

    @asynccontextmanager
    async def use(self) -> AsyncIterator[Connection]:
        """The connection, each statement its own transaction. Raises: StorageUnavailable, UnstorableValue."""
        with translated():
            connection = await self._sound()
            try:
                yield connection
            except BaseException:
                await self.give_back()
                raise

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """The connection in a transaction, committed at the end and rolled back on any error or cancellation.

        Raises: StorageUnavailable, UnstorableValue.
        """
        async with self.use() as connection, connection.transaction():
            yield connection

    async def give_back(self) -> None:
        """Let it go; the next use takes another."""
        held, self._held = self._held, None
        if held is not None:
            pool, connection = held
            await pool.release(connection)  # type: ignore[arg-type]

    async def _sound(self) -> Connection:
        if self._held is not None and _is_lost(self._held[1]):
            await self.give_back()
        if self._held is None:
            pool = self._database.pool
            self._held = pool, await pool.acquire(timeout=ACQUIRE_TIMEOUT_S)
        return self._held[1]


def _is_lost(connection: Connection) -> bool:
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:  # the pool has taken a closed one back already
        return True
