"""Passwords: what they must look like, and their argon2id hashes.

Hashing takes tens of milliseconds and 64 MiB on purpose, so it runs on threads, a few at a time, and no more than a
bounded number wait. Checking a user who does not exist costs the same as checking one who does.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from hub.errors import too_many

LENGTH_MIN = 8
LENGTH_MAX = 100


def weakness(password: str) -> str:
    """What the password lacks, empty if it will do."""
    if not LENGTH_MIN <= len(password) <= LENGTH_MAX:
        return f"must have {LENGTH_MIN} to {LENGTH_MAX} characters"
    wanted = {
        "an upper-case letter": any(character.isupper() for character in password),
        "a lower-case letter": any(character.islower() for character in password),
        "a digit": any(character.isdigit() for character in password),
    }
    missing = [name for name, there in wanted.items() if not there]
    return f"must have {' and '.join(missing)}" if missing else ""


class Passwords:
    """Makes and checks hashes.

    Args:
        concurrent: hashes computed at the same time.
        waiting_max: how many may wait for their turn; further ones get 429.
    """

    def __init__(self, *, concurrent: int, waiting_max: int, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._slots = asyncio.Semaphore(concurrent)
        self._in_house = 0
        self._in_house_max = concurrent + waiting_max
        self._nobody = self._hasher.hash(secrets.token_urlsafe(16))

    async def hash(self, password: str) -> str:
        """The argon2id hash, with its parameters and salt in it."""
        async with self._turn():
            return await asyncio.to_thread(self._hasher.hash, password)

    async def matches(self, password: str, password_hash: str | None) -> bool:
        """Whether the password is the one hashed; None stands for a user who is not there."""
        async with self._turn():
            right = await asyncio.to_thread(self._verify, password_hash or self._nobody, password)
        return right and password_hash is not None

    def is_outdated(self, password_hash: str) -> bool:
        """Whether the hash was made with other parameters than are used now."""
        return self._hasher.check_needs_rehash(password_hash)

    def _verify(self, password_hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(password_hash, password)
        except (VerificationError, InvalidHashError):
            return False

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        if self._in_house >= self._in_house_max:
            raise too_many("too many sign-ins at once", retry_after_s=2)
        self._in_house += 1
        try:
            async with self._slots:
                yield
        finally:
            self._in_house -= 1
