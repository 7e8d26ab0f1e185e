"""Signing in and staying signed in: accounts, families of refresh tokens, one-time links."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import asyncpg

from hub.access import store
from hub.access.identity import User, user_of
from hub.access.tokens import TOKEN_LENGTH_MAX, AccessClaims, new_token, token_hash
from hub.database.ids import uuid7
from hub.database.pool import Connection, transaction
from hub.errors import conflict, too_many, unauthorized
from hub.services import Services

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Session:
    """A sign-in and its tokens."""

    user: User
    access_token: str
    refresh_token: str


async def sign_in(services: Services, login: str, password: str, address: str) -> Session:
    """A session for a name (or e-mail address) and password. Raises: Problem 401, 429."""
    wait_s = services.throttle.begin(login, address)
    if wait_s:
        log.warning("event=sign_in_throttled client=%s", address)
        raise too_many("too many attempts to sign in", wait_s)
    async with transaction(services.pool) as connection:
        row = await store.user_by_login(connection, login)
    matches = await services.passwords.matches(password, row["password_hash"] if row else None)
    if row is None or not matches or not row["is_active"]:
        log.info("event=sign_in_refused client=%s", address)
        raise unauthorized("wrong user name or password")
    services.throttle.succeed(login, address)
    renewed = await services.passwords.hash(password) if services.passwords.is_outdated(row["password_hash"]) else None
    async with transaction(services.pool) as connection:
        if renewed is not None:
            await store.renew_hash(connection, row["id"], renewed)
        return await _begin(services, connection, row)


async def register(services: Services, *, username: str, email: str, password: str, is_admin: bool = False) -> Session:
    """A new account, signed in. Raises: Problem 409 when name or address is taken."""
    password_hash = await services.passwords.hash(password)
    try:
        async with transaction(services.pool) as connection:
            row = await store.add_user(
                connection,
                user_id=uuid7(),
                username=username,
                email=email,
                password_hash=password_hash,
                is_admin=is_admin,
                now=services.now(),
            )
            return await _begin(services, connection, row)
    except asyncpg.UniqueViolationError as error:
        taken = "user name" if error.constraint_name == "users_username" else "e-mail address"
        raise conflict(f"this {taken} is taken", code="taken") from None


async def refresh(services: Services, token: str) -> Session:
    """The next tokens of a sign-in. A token that was used before ends it. Raises: Problem 401."""
    if not token or len(token) > TOKEN_LENGTH_MAX:
        raise unauthorized("sign in again")
    now = services.now()
    session = None
    async with transaction(services.pool) as connection:
        row = await store.lock_refresh(connection, token_hash(token))
        if row is not None and row["used_at"] is not None:
            log.warning("event=refresh_token_reused user_id=%s family=%s", row["id"], row["family"])
            await store.revoke_family(connection, row["family"], now)
        elif row is not None and row["revoked_at"] is None and row["expires_at"] > now and row["is_active"]:
            await store.use_refresh(connection, token_hash(token), now)
            session = await _continue(services, connection, row, row["family"])
    if session is None:
        raise unauthorized("sign in again")
    return session


async def sign_out(services: Services, user: User | None, refresh_token: str) -> None:
    """End the sign-in that the request, or the refresh token, belongs to."""
    async with transaction(services.pool) as connection:
        families: set[UUID] = {user.family} if user and user.family else set()
        if refresh_token and len(refresh_token) <= TOKEN_LENGTH_MAX:
            row = await store.lock_refresh(connection, token_hash(refresh_token))
            families |= {row["family"]} if row else set()
        for family in families:
            await store.revoke_family(connection, family, services.now())


async def change_password(services: Services, user: User, current: str, new: str, address: str) -> User:
    """Another password; all other sign-ins of the user end. Raises: Problem 401, 429."""
    wait_s = services.throttle.begin(user.username, address)
    if wait_s:
        raise too_many("too many attempts", wait_s)
    async with transaction(services.pool) as connection:
        row = await store.user(connection, user.id)
    if row is None or not await services.passwords.matches(current, row["password_hash"]):
        raise unauthorized("the current password is wrong")
    services.throttle.succeed(user.username, address)
    password_hash = await services.passwords.hash(new)
    async with transaction(services.pool) as connection:
        await store.set_password(connection, user.id, password_hash)
        await store.revoke_user(connection, user.id, services.now(), except_family=user.family)
        changed = await store.user(connection, user.id)
    if changed is None:
        raise unauthorized("this account is gone")
    return user_of(changed, user.family)


async def sign_in_by_link(services: Services, token: str) -> Session | None:
    """A session for a one-time link, None if it was used, has expired or never was."""
    if not token or len(token) > TOKEN_LENGTH_MAX:
        return None
    async with transaction(services.pool) as connection:
        row = await store.use_link(connection, token_hash(token), services.now())
        return await _begin(services, connection, row) if row else None


async def _begin(services: Services, connection: Connection, row: store.Row) -> Session:
    return await _continue(services, connection, row, uuid7())


async def _continue(services: Services, connection: Connection, row: store.Row, family: UUID) -> Session:
    settings, now = services.settings, services.now()
    refresh_token = new_token()
    expires = now + timedelta(days=settings.refresh_token_days)
    await store.add_refresh(connection, token_hash(refresh_token), family, row["id"], now, expires)
    claims = AccessClaims(row["id"], family, int(now.timestamp()) + settings.access_token_s)
    return Session(user_of(row, family), services.signer.sign(claims), refresh_token)
