"""What a token stands for, as the database has it now: a person's sign-in, a personal token, a sensor."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from hub.access import store
from hub.access.principals import PersonalToken, Principal, SensorPrincipal, TokenScope, User
from hub.access.tokens import PERSONAL_PREFIX, TOKEN_LENGTH_MAX, token_hash
from hub.database.pool import Connection, acquire
from hub.services import Services


async def user_of_token(services: Services, token: str) -> User | None:
    """The active person whose access token or personal token this is."""
    if not token or len(token) > TOKEN_LENGTH_MAX:
        return None
    if token.startswith(PERSONAL_PREFIX):
        async with acquire(services.pool, timeout_s=services.settings.database_acquire_timeout_s) as connection:
            row = await store.user_of_personal_token(connection, token_hash(token), services.now())
        return user_of(row, token=_personal(row)) if row else None
    claims = services.signer.read(token, services.clock.now_us() / 1e6)
    if claims is None:
        return None
    async with acquire(services.pool, timeout_s=services.settings.database_acquire_timeout_s) as connection:
        row = await store.user_of_family(connection, claims.user_id, claims.family)
    return user_of(row, claims.family) if row else None


async def sensor_of_token(services: Services, token: str) -> SensorPrincipal | None:
    """The sensor whose token this is."""
    if not token or len(token) > TOKEN_LENGTH_MAX:
        return None
    hashed = token_hash(token)
    async with acquire(services.pool, timeout_s=services.settings.database_acquire_timeout_s) as connection:
        row = await store.sensor_of_token(connection, hashed)
    if row is None:
        return None
    projects = frozenset((row["project_id"], *row["project_ids"]))
    return SensorPrincipal(
        row["id"], row["name"], row["status"], row["project_id"], projects, hashed, row["readings_per_s_max"]
    )


async def still_good(connection: Connection, principal: Principal, now: datetime) -> bool:
    """Whether what the principal came with is still good; for streams, which outlive the look at their start.

    A person's is not while the password must be changed first. That an access token expires ends nothing: what counts
    is the sign-in that it came from.
    """
    if isinstance(principal, SensorPrincipal):
        return await store.is_token_of_sensor(connection, principal.id, principal.token_hash)
    if principal.token is not None:
        return await store.is_token_of_user(connection, principal.id, principal.token.id, now)
    if principal.family is None:
        return False
    row = await store.user_of_family(connection, principal.id, principal.family)
    return row is not None and not row["password_change_required"]


def user_of(row: store.Row, family: UUID | None = None, token: PersonalToken | None = None) -> User:
    """The user in a row of the table `users`."""
    return User(
        id=row["id"],
        username=row["username"],
        email=row["email"],
        is_active=row["is_active"],
        is_admin=row["is_admin"],
        password_change_required=row["password_change_required"],
        created_at=row["created_at"],
        family=family,
        token=token,
    )


def _personal(row: store.Row) -> PersonalToken:
    return PersonalToken(row["token_id"], frozenset(map(TokenScope, row["token_scopes"])))
