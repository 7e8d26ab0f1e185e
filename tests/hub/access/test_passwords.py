"""Passwords: their hashes, and how many are computed at once."""

from __future__ import annotations

import asyncio
import threading

import pytest
from argon2 import PasswordHasher

from hub.access.passwords import Passwords, weakness
from hub.errors import Problem

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@pytest.mark.parametrize("password", ["Password1", "Ünderß9x", "A1" + "b" * 98])
def test_good_passwords_lack_nothing(password: str) -> None:
    assert weakness(password) == ""


@pytest.mark.parametrize("password", ["Short1a", "lowercase1", "UPPERCASE1", "NoDigitsAtAll", "A1" + "b" * 99])
def test_what_a_weak_password_lacks_is_said(password: str) -> None:
    assert weakness(password).startswith("must have")


async def test_hashes_are_argon2id_and_salted() -> None:
    passwords = Passwords(concurrent=2, waiting_max=2)
    one, other = await passwords.hash("Password1"), await passwords.hash("Password1")
    assert one.startswith("$argon2id$")
    assert one != other
    assert await passwords.matches("Password1", one)
    assert not await passwords.matches("Password2", one)


async def test_nobody_never_matches_and_garbage_is_no_hash() -> None:
    passwords = Passwords(concurrent=1, waiting_max=1, hasher=CHEAP)
    assert not await passwords.matches("Password1", None)
    assert not await passwords.matches("Password1", "garbage")


async def test_a_hash_of_other_parameters_is_outdated() -> None:
    assert Passwords(concurrent=1, waiting_max=1).is_outdated(CHEAP.hash("Password1"))


async def test_hashing_is_bounded_and_the_surplus_is_told_to_wait() -> None:
    release, counting = threading.Event(), threading.Lock()
    running, most = 0, 0

    class Slow(PasswordHasher):
        def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
            nonlocal running, most
            with counting:
                running += 1
                most = max(most, running)
            release.wait(10)
            with counting:
                running -= 1
            return CHEAP.hash(password, salt=salt)

    release.set()
    passwords = Passwords(concurrent=2, waiting_max=3, hasher=Slow())
    release.clear()
    tasks = [asyncio.ensure_future(passwords.hash("Password1")) for _ in range(9)]
    await asyncio.sleep(0.05)
    refused = [task.exception() for task in tasks if task.done()]
    release.set()
    assert [error.status for error in refused if isinstance(error, Problem)] == [429] * 4
    await asyncio.wait(tasks)
    assert most == 2
    await passwords.hash("Password1")
