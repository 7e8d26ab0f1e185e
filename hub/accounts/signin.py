"""Signing in and staying signed in: families of refresh tokens, one-time links.

A refresh token is good once. Using it again ends the sign-in that it came from, for one of the two who used it is not
its owner. Requests that were on their way together when it was used (two tabs of a browser) cannot know of one another:
one of them gets the next tokens, the others 409, and nothing ends. Nobody ever gets two successors of one token.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import UUID

from hub.access import store as people
from hub.access.credentials import user_of
from hub.access.principals import User
from hub.access.tokens import TOKEN_LENGTH_MAX, AccessClaims, new_token, token_hash
from hub.accounts import store
from hub.database.ids import uuid7
from hub.database.pool import acquire
from hub.errors import Problem, conflict, invalid, too_many, unauthorized
from hub.events.change import Change, Changes, begin_change
from hub.events.event import ActorType, NewEvent, SubjectType

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Session:
    """A sign-in and its tokens."""

    user: User
    access_token: str
    refresh_token: str


async def sign_in(changes: Changes, login: str, password: str) -> Session:
    """A session for a name (or e-mail address) and password. Raises: Problem 401, 429."""
    services, address = changes.services, changes.actor.address
    wait_s = services.throttle.begin(login, address)
    if wait_s:
        log.warning("event=sign_in_throttled client=%s", address)
        raise too_many("too many attempts to sign in", wait_s)
    async with acquire(services.pool) as connection:
        row = await people.user_by_login(connection, login)
    matches = await services.passwords.matches(password, row["password_hash"] if row else None)
    if row is None or not matches or not row["is_active"]:
        log.info("event=sign_in_refused client=%s", address)
        async with changes.begin() as change:  # whether there is such a user or not, so that it takes as long
            change.record(NewEvent("user.sign_in_failed", SubjectType.USER, row["id"] if row else None))
        raise unauthorized("wrong user name or password")
    services.throttle.succeed(login, address)
    renewed = await services.passwords.hash(password) if services.passwords.is_outdated(row["password_hash"]) else None
    async with change_by(changes, row["id"]) as change:
        if renewed is not None:
            await store.renew_hash(change.connection, row["id"], renewed)
        return await begin_session(changes, change, row, "password")


async def refresh(changes: Changes, token: str) -> Session:
    """The next tokens of a sign-in. A token that was used before ends it. Raises: Problem 401, 409."""
    services = changes.services
    arrived = services.now()
    if not token or len(token) > TOKEN_LENGTH_MAX:
        raise unauthorized("sign in again")
    answer: Session | Problem = unauthorized("sign in again")
    async with changes.begin() as change:
        row = await store.lock_refresh(change.connection, token_hash(token))
        if row is not None and row["revoked_at"] is None and row["used_at"] is not None:
            if row["used_at"] >= arrived:
                answer = conflict("another request has just used this token: use the tokens it got", "refresh_race")
            else:
                log.warning("event=refresh_token_reused user_id=%s family=%s", row["id"], row["family"])
                await store.revoke_family(change.connection, row["family"], change.now)
                change.record(NewEvent("user.refresh_token_reused", SubjectType.USER, row["id"]))
        elif row is not None and row["revoked_at"] is None and row["expires_at"] > arrived and row["is_active"]:
            await store.use_refresh(change.connection, token_hash(token), services.now())
            answer = await _continue(changes, change, row, row["family"])
    if isinstance(answer, Problem):
        raise answer
    return answer


async def sign_out(changes: Changes, user: User | None, refresh_token: str) -> None:
    """End the sign-in that the request, or the refresh token, belongs to."""
    async with changes.begin() as change:
        ended: dict[UUID, UUID] = {user.family: user.id} if user and user.family else {}
        if refresh_token and len(refresh_token) <= TOKEN_LENGTH_MAX:
            row = await store.lock_refresh(change.connection, token_hash(refresh_token))
            if row is not None and row["revoked_at"] is None:
                ended[row["family"]] = row["id"]
        for family, user_id in ended.items():
            await store.revoke_family(change.connection, family, change.now)
            change.record(NewEvent("user.signed_out", SubjectType.USER, user_id))


async def change_password(changes: Changes, user: User, current: str, new: str) -> User:
    """Another password; all other sign-ins of the user end. Raises: Problem 401, 422 for the same one again, 429."""
    services, address = changes.services, changes.actor.address
    wait_s = services.throttle.begin(user.username, address)
    if wait_s:
        raise too_many("too many attempts", wait_s)
    async with acquire(services.pool) as connection:
        row = await people.user(connection, user.id)
    if row is None or not await services.passwords.matches(current, row["password_hash"]):
        raise unauthorized("the current password is wrong")
    services.throttle.succeed(user.username, address)
    if new == current:
        raise invalid("new_password", "must be another one than the current")
    password_hash = await services.passwords.hash(new)
    async with changes.begin() as change:
        await store.set_password(change.connection, user.id, password_hash)
        await store.revoke_user(change.connection, user.id, change.now, except_family=user.family)
        changed = await people.user(change.connection, user.id)
        change.record(NewEvent("user.password_changed", SubjectType.USER, user.id))
    if changed is None:
        raise unauthorized("this account is gone")
    return user_of(changed, user.family)


async def sign_in_by_link(changes: Changes, token: str) -> Session | None:
    """A session for a one-time link, None if it was used, has expired or never was."""
    if not token or len(token) > TOKEN_LENGTH_MAX:
        return None
    async with changes.begin() as change:
        row = await store.use_link(change.connection, token_hash(token), change.now)
        return await begin_session(changes, change, row, "link") if row else None


async def begin_session(changes: Changes, change: Change, row: store.Row, means: str) -> Session:
    """Sign the user of this row in, within a change.

    Args:
        means: how he got in, for the audit.
    """
    change.record(NewEvent("user.signed_in", SubjectType.USER, row["id"], payload={"by": means}))
    return await _continue(changes, change, row, uuid7())


@asynccontextmanager
async def change_by(changes: Changes, user_id: UUID) -> AsyncIterator[Change]:
    """A change made by someone who has just shown who he is. Raises: StorageUnavailable."""
    actor = replace(changes.actor, type=ActorType.USER, id=user_id)
    async with begin_change(changes.services.pool, actor, changes.services.now()) as change:
        yield change


async def _continue(changes: Changes, change: Change, row: store.Row, family: UUID) -> Session:
    services = changes.services
    refresh_token = new_token()
    expires = change.now + timedelta(days=services.settings.refresh_token_days)
    await store.add_refresh(change.connection, token_hash(refresh_token), family, row["id"], change.now, expires)
    claims = AccessClaims(row["id"], family, int(change.now.timestamp()) + services.settings.access_token_s)
    return Session(user_of(row, family), services.signer.sign(claims), refresh_token)
