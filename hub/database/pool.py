"""Connections to PostgreSQL, and the one border where its errors become ours.

Every statement has a timeout on both sides; a session that is left idle in a transaction is ended by the server.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg
import orjson

from hub.settings import HubSettings, read_secret
from shared.errors import LabrelayError, StorageUnavailable

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Pool: TypeAlias = asyncpg.Pool[asyncpg.Record]
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]
else:
    Pool: TypeAlias = asyncpg.Pool
    Connection: TypeAlias = asyncpg.Connection

_UNAVAILABLE = (
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.TransactionRollbackError,
    asyncpg.QueryCanceledError,
    asyncpg.LockNotAvailableError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.PostgresSystemError,
    asyncpg.TargetServerAttributeNotMatched,
    OSError,
    TimeoutError,
)


class UnstorableValue(LabrelayError):
    """A value that PostgreSQL cannot hold: a NUL in a text, an integer beyond 64 bits, a date beyond its range."""


def create_pool(settings: HubSettings, prepare: Callable[[Connection], Awaitable[None]] | None = None) -> Pool:
    """A pool that connects when first used, so that it can be made while the database is away.

    Args:
        prepare: called with each new connection before anyone else sees it.

    Raises: ConfigurationError when the password's file cannot be read.
    """

    async def init(connection: Connection) -> None:
        await set_codecs(connection)
        if prepare is not None:
            await prepare(connection)

    return asyncpg.create_pool(
        settings.database_url.get_secret_value(),
        password=database_password(settings),
        min_size=0,
        max_size=settings.database_connections_max,
        init=init,
        timeout=settings.database_connect_timeout_s,
        command_timeout=settings.database_command_timeout_s,
        max_inactive_connection_lifetime=60.0,
        server_settings=server_settings(settings),
    )


def database_password(settings: HubSettings) -> str | None:
    """What wins over the URL's password; None leaves it to the URL and to PostgreSQL's own places.

    Raises: ConfigurationError when its file cannot be read.
    """
    file = settings.database_password_file
    return None if file is None else read_secret(file).get_secret_value()


def server_settings(settings: HubSettings) -> dict[str, str]:
    """What each session asks of the server."""
    statement_ms = round(settings.database_command_timeout_s * 1000)
    return {
        "application_name": "labrelay-hub",
        "timezone": "UTC",
        "jit": "off",
        "statement_timeout": str(statement_ms),
        "idle_in_transaction_session_timeout": str(2 * statement_ms),
        # A group is bounded by ourselves; where TimescaleDB's own bound is lower, late data would never go in.
        "timescaledb.max_tuples_decompressed_per_dml_transaction": "0",
    }


async def set_codecs(connection: Connection) -> None:
    """Let json and jsonb columns take and give plain Python values."""
    for name in ("json", "jsonb"):
        await connection.set_type_codec(name, encoder=_to_json, decoder=orjson.loads, schema="pg_catalog")


@asynccontextmanager
async def acquire(pool: Pool, *, timeout_s: float = 5.0) -> AsyncIterator[Connection]:
    """A connection, each statement its own transaction. Raises: StorageUnavailable, UnstorableValue."""
    with translated():
        async with pool.acquire(timeout=timeout_s) as connection:
            yield connection


@asynccontextmanager
async def transaction(
    pool: Pool, *, timeout_s: float = 5.0, isolation: Any = None, readonly: bool = False
) -> AsyncIterator[Connection]:
    """A connection in a transaction, committed at the end and rolled back on any error or cancellation.

    Raises: StorageUnavailable, UnstorableValue.
    """
    with translated():
        async with (
            pool.acquire(timeout=timeout_s) as connection,
            connection.transaction(isolation=isolation, readonly=readonly),
        ):
            yield connection


def affected(status: str) -> int:
    """How many rows a statement changed, by what the server says of it (`DELETE 3`)."""
    return int(status.rpartition(" ")[2])


@contextmanager
def translated() -> Iterator[None]:
    """Turn asyncpg's errors into ours. Errors that mean a broken constraint or a wrong statement pass as they are.

    A cancelled task stays cancelled when giving back a lost connection fails on top: else whoever tries again after
    StorageUnavailable would never end.
    """
    try:
        yield
    except (asyncio.CancelledError, LabrelayError):
        raise
    except Exception as error:
        ours = translate(error)
        if ours is None:
            raise
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError from error
        raise ours from error


def translate(error: BaseException) -> LabrelayError | None:
    """The product's error that this one of asyncpg's stands for, None if there is none."""
    if isinstance(error, asyncpg.DataError | asyncpg.exceptions._base.DataError):
        return UnstorableValue(f"the database cannot hold this value: {error}")
    if isinstance(error, _UNAVAILABLE):
        return StorageUnavailable(
            f"the database is not available: {error or type(error).__name__}",
            hint="the hub goes on by itself as soon as the database answers",
        )
    if isinstance(error, asyncpg.InterfaceError | asyncpg.InternalClientError) and not isinstance(error, ValueError):
        return StorageUnavailable(f"the connection to the database was lost: {error}")
    return None


def _to_json(value: Any) -> str:
    return orjson.dumps(value).decode()
