"""The first administrator, made from the settings when the hub first meets its database."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import asyncpg

from hub.access.passwords import Passwords, weakness
from hub.accounts import store
from hub.database.ids import uuid7
from hub.database.pool import Connection
from hub.events import store as events
from hub.events.event import HUB, NewEvent, SubjectType
from hub.settings import HubSettings, read_secret
from shared.errors import ConfigurationError

log = logging.getLogger(__name__)


async def ensure_admin(connection: Connection, settings: HubSettings, passwords: Passwords) -> None:
    """Make `admin_username` with the password in `admin_password_file`, unless there is such a user or no such file.

    Raises: ConfigurationError when the file cannot be read or its password is too weak.
    """
    if settings.admin_password_file is None or await store.is_taken(connection, settings.admin_username):
        return
    password = read_secret(settings.admin_password_file).get_secret_value()
    await add_admin(connection, passwords, settings.admin_username, f"{settings.admin_username}@localhost", password)


async def add_admin(connection: Connection, passwords: Passwords, username: str, email: str, password: str) -> bool:
    """Make an administrator. Returns: False if name or address is taken. Raises: ConfigurationError."""
    if lacking := weakness(password):
        raise ConfigurationError(f"the administrator's password {lacking}", key=("admin_password_file",))
    password_hash = await passwords.hash(password)
    user_id, now = uuid7(), datetime.now(UTC)
    try:
        async with connection.transaction():
            await store.add_user(
                connection,
                user_id=user_id,
                username=username,
                email=email,
                password_hash=password_hash,
                is_admin=True,
                now=now,
            )
            made = NewEvent(
                "user.registered", SubjectType.USER, user_id, payload={"username": username, "is_admin": True}
            )
            await events.add(connection, HUB, [made], now)
    except asyncpg.UniqueViolationError:
        return False
    log.info("event=admin_made username=%s", username)
    return True
