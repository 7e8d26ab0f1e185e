"""Idempotency keys: what a caller was answered under a key of its own.

A claim is a row, made first in the transaction that creates. A parallel request with the same key waits for that row,
and then finds the answer, or, where the first one failed, claims it itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from hub.database.pool import Connection, affected
from hub.errors import conflict

KEY_LENGTH_MAX = 255

_CLAIM = """
    insert into idempotency_keys (caller, key, fingerprint, created_at) values ($1, $2, $3, $4)
    on conflict (caller, key) do nothing returning key
"""
_KNOWN = "select fingerprint, status, body, headers from idempotency_keys where caller = $1 and key = $2"
_KEEP = "update idempotency_keys set status = $3, body = $4, headers = $5 where caller = $1 and key = $2"
_PURGE = """
    delete from idempotency_keys where (caller, key) in (
        select caller, key from idempotency_keys where created_at < $1 order by created_at limit $2
    )
"""


@dataclass(frozen=True, slots=True)
class Key:
    """A key that came with a request.

    Attributes:
        caller: whose it is.
        fingerprint: SHA-256 of what the request asks for.
    """

    caller: str
    text: str
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered under a key."""

    status: int
    body: bytes
    headers: dict[str, str]


async def claim(connection: Connection, key: Key, now: datetime) -> Answer | None:
    """Take a key for this transaction. Returns: the answer, where one was given under it before.

    Raises: Problem 409 for a key that was used for something else.
    """
    if await connection.fetchval(_CLAIM, key.caller, key.text, key.fingerprint, now) is not None:
        return None
    row = await connection.fetchrow(_KNOWN, key.caller, key.text)
    if row is None:  # purged between the two statements
        return await claim(connection, key, now)
    if row["fingerprint"] != key.fingerprint:
        raise conflict("this Idempotency-Key was used for another request", code="idempotency_conflict")
    return Answer(row["status"], row["body"], row["headers"])


async def keep(connection: Connection, key: Key, answer: Answer) -> None:
    """Remember what is answered."""
    await connection.execute(_KEEP, key.caller, key.text, answer.status, answer.body, answer.headers)


async def purge(connection: Connection, before: datetime, limit: int) -> int:
    """Forget at most so many keys from before this moment. Returns: how many."""
    return affected(await connection.execute(_PURGE, before, limit))
