"""The hub's database over its life: away, being prepared, ready, replaced.

`Storage` gives out the pool at once. Its `run` connects with bounded back-off, migrates, lays out `readings`,
establishes the incarnation, and then watches: when the database goes away, or is another than before (restore,
promotion), it prepares again. Each new connection of the pool is checked against the incarnation before anyone uses it,
so nobody acknowledges to the wrong one.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID

import asyncpg

from hub.database import incarnation as incarnations
from hub.database import tiers
from hub.database.incarnation import Incarnation
from hub.database.migrate import migrate
from hub.database.partitions import CHANGED, Partitions
from hub.database.pool import (
    Connection,
    Pool,
    acquire,
    create_pool,
    database_password,
    server_settings,
    set_codecs,
    translated,
)
from hub.database.tiers import Layout, Tier
from hub.settings import HubSettings
from shared.errors import StorageError, StorageUnavailable

if TYPE_CHECKING:
    DirectConnection: TypeAlias = asyncpg.Connection[asyncpg.Record]
else:
    DirectConnection: TypeAlias = asyncpg.Connection

log = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.2
_WATCH_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is known of a database that was prepared."""

    layout: Layout
    incarnation: Incarnation
    partitions: Partitions


class Storage:
    """Connections, and what is known of the database behind them.

    Args:
        first_steps: called with a connection each time the database has been prepared, before anyone else uses it.
    """

    def __init__(
        self, settings: HubSettings, first_steps: Callable[[Connection], Awaitable[None]] | None = None
    ) -> None:
        self._settings = settings
        self._first_steps = first_steps
        self._prepared: Prepared | None = None
        self._ready = asyncio.Event()
        self._lost = asyncio.Event()
        self.connects = 0
        """How often the hub has sought the database anew; in between nobody can have put another one in its place."""
        self.error = "not connected yet"
        """Why the database is not ready, empty when it is."""
        self.pool: Pool = create_pool(settings, self._check_connection)

    @property
    def is_ready(self) -> bool:
        """Whether the database answered lately and is prepared."""
        return self._ready.is_set()

    @property
    def tier(self) -> Tier:
        """The storage tier. Raises: StorageUnavailable."""
        return self._known().layout.tier

    @property
    def layout(self) -> Layout:
        """How `readings` is laid out. Raises: StorageUnavailable."""
        return self._known().layout

    @property
    def incarnation(self) -> UUID:
        """The database's incarnation. Raises: StorageUnavailable."""
        return self._known().incarnation.id

    @property
    def partitions(self) -> Partitions:
        """The partitions of `readings`. Raises: StorageUnavailable."""
        return self._known().partitions

    def check_ready(self) -> None:
        """Raises: StorageUnavailable while the database was never prepared or is another than before."""
        self._known()

    async def ready(self) -> None:
        """Wait until the database is prepared."""
        await self._ready.wait()

    async def open(self) -> None:
        """Make the pool usable; connects to nothing yet."""
        await self.pool

    async def run(self) -> None:
        """Keep the database prepared until cancelled. Raises: MigrationError, which needs an operator."""
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                async with self._connected() as connection:
                    await self._prepare(connection)
                    pause_s = _FIRST_PAUSE_S
                    await self._watch(connection)
            except StorageError as error:
                self._note(error)
                if not error.retryable:
                    raise
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
            pause_s = min(pause_s * 2, self._settings.database_retry_s_max)

    async def prepare(self) -> None:
        """Connect, migrate, lay out `readings` and establish the incarnation, once. Raises: StorageError."""
        async with self._connected() as connection:
            await self._prepare(connection)

    async def close(self) -> None:
        """End all connections, after those in use are given back or 5 s have passed."""
        try:
            async with asyncio.timeout(5.0):
                await self.pool.close()
        except TimeoutError:
            self.pool.terminate()

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[DirectConnection]:
        """A connection beside the pool, so that a pool in full use is not taken for a database that is away."""
        self._lost.clear()
        self.connects += 1
        connection = await connect(self._settings)
        connection.add_termination_listener(lambda _: self._lost.set())
        try:
            with translated():
                await connection.add_listener(CHANGED, self._on_partitions_changed)
                yield connection
        finally:
            connection.terminate()

    def _on_partitions_changed(self, *_: object) -> None:
        if self._prepared is not None:
            self._prepared.partitions.forget()

    async def _prepare(self, connection: DirectConnection) -> None:
        settings = self._settings
        async with asyncio.timeout(settings.database_migration_timeout_s):
            await migrate(connection)
            await _check_durable(connection)
            tier = await tiers.detect(connection)
            layout = await tiers.prepare(connection, tier, settings.chunk_days, settings.compress_after_days)
            drawn = await incarnations.establish(connection)
            if self._first_steps is not None:
                await self._first_steps(connection)
        self._become_ready(Prepared(layout, drawn, Partitions(self.pool, layout)))

    def _become_ready(self, prepared: Prepared) -> None:
        before = self._prepared
        if before is not None and before.incarnation.id != prepared.incarnation.id:
            log.warning("event=incarnation_changed was=%s is=%s", before.incarnation.id, prepared.incarnation.id)
        self._prepared = prepared
        self.error = ""
        self._ready.set()
        log.info("event=database_ready tier=%s incarnation=%s", prepared.layout.tier, prepared.incarnation.id)

    async def went_back(self, standing: UUID) -> None:
        """The database lacks what was acknowledged in this incarnation: draw another one and prepare again.

        Raises: StorageUnavailable.
        """
        async with acquire(self.pool) as connection:
            await incarnations.replace(connection, standing)
        if self._prepared is not None and self._prepared.incarnation.id == standing:
            self._prepared = None
            self._lost.set()

    async def _watch(self, connection: DirectConnection) -> None:
        """Return never; raise StorageUnavailable as soon as the database is away or another."""
        while True:
            try:
                async with asyncio.timeout(_WATCH_EVERY_S):
                    await self._lost.wait()
            except TimeoutError:
                async with asyncio.timeout(self._settings.database_connect_timeout_s):
                    await self._check_connection(connection)
            else:
                raise StorageUnavailable("the connection was lost, or leads to another database than before")

    async def _check_connection(self, connection: Connection) -> None:
        """Raises: StorageUnavailable when this connection leads to another incarnation than the one prepared."""
        prepared = self._prepared
        if prepared is None:
            raise StorageUnavailable("the database is not prepared yet")
        try:
            here = await incarnations.read(connection)
        except asyncpg.UndefinedTableError:
            here = None
        if here != prepared.incarnation:
            self._prepared = None
            self._lost.set()
            raise StorageUnavailable("the database is another than before")

    def _known(self) -> Prepared:
        if self._prepared is None:
            raise StorageUnavailable(f"the database is not ready: {self.error}")
        return self._prepared

    def _note(self, error: StorageError) -> None:
        if self._ready.is_set() or self.error != error.message:
            log.warning("event=database_away reason=%r hint=%r", error.message, error.hint)
        self._ready.clear()
        self.error = error.message


async def connect(settings: HubSettings) -> DirectConnection:
    """One connection outside the pool, for migrations and the command line.

    Raises: StorageUnavailable, ConfigurationError.
    """
    limits = server_settings(settings) | {"statement_timeout": "0"}
    with translated():
        connection = await asyncpg.connect(
            settings.database_url.get_secret_value(),
            password=database_password(settings),
            timeout=settings.database_connect_timeout_s,
            command_timeout=settings.database_migration_timeout_s,
            server_settings=limits,
        )
        await set_codecs(connection)
    return connection


async def _check_durable(connection: Connection) -> None:
    """An acknowledgement means that the reading is on disk. Raises: StorageUnavailable."""
    if await connection.fetchval("select current_setting('synchronous_commit')") == "off":
        raise StorageUnavailable(
            "PostgreSQL runs with synchronous_commit = off, so that it may lose what the hub has acknowledged",
            hint="set synchronous_commit = on",
        )
    if await connection.fetchval("select current_setting('fsync')") == "off":
        log.warning("event=fsync_off consequence='a power failure may destroy the database'")
