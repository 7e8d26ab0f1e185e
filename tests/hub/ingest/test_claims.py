"""A database that was put back from a copy of its files: agents know more of it than it does itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from itertools import pairwise
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr

from hub.broker.lanes import UpMessage
from hub.database.ids import uuid7
from hub.database.pool import transaction
from hub.database.storage import Storage
from hub.ingest.claims import REDRAW_EVERY_S, ClaimCheck, missing_of
from hub.settings import HubSettings
from shared.clock import ManualClock
from shared.errors import StorageUnavailable
from shared.messages import EpochRange, State, encode

EPOCH = bytes(range(16))
SEQS = 20


@pytest.fixture
async def storage(database_url: str) -> AsyncIterator[Storage]:
    storage = Storage(HubSettings(database_url=SecretStr(database_url), database_retry_s_max=0.3))
    await storage.open()
    task = asyncio.ensure_future(storage.run())
    try:
        async with asyncio.timeout(20):
            await storage.ready()
        yield storage
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await storage.close()


@pytest.fixture
async def agent_id(storage: Storage) -> UUID:
    """An agent with batches 1 … `SEQS` in the ledger."""
    user, project, agent = uuid7(), uuid7(), uuid7()
    async with transaction(storage.pool) as connection:
        await connection.execute(
            "insert into users (id, username, email, password_hash) values ($1, 'owner', 'o@example.org', 'x')", user
        )
        await connection.execute("insert into projects (id, name, owner_id) values ($1, 'Lab', $2)", project, user)
        await connection.execute(
            "insert into agents (id, project_id, name, mqtt_username) values ($1, $2, 'a', 'a')", agent, project
        )
        epoch = await connection.fetchval(
            "insert into epochs (agent_id, epoch) values ($1, $2) returning id", agent, EPOCH
        )
        await connection.execute(
            "insert into ledger (epoch_id, seq, checksum, kind, clock_segment, taken_through_us)"
            " select $1, seq, 0, 3, 1, 0 from generate_series(1, $2::int) seq",
            epoch,
            SEQS,
        )
    return agent


def nobody(agent_id: UUID, incarnation: UUID) -> None:
    """Nobody who is told is looked at."""


def claims(storage: Storage, *ranges: tuple[int, int], incarnation: str | None = None) -> State:
    named = str(storage.incarnation) if incarnation is None else incarnation
    acknowledged = [EpochRange(EPOCH.hex(), first, last) for first, last in ranges]
    return State("online", "1" * 32, incarnation=named, acknowledged=acknowledged)


async def say(check: ClaimCheck, agent_id: UUID, state: State) -> None:
    """The agent says so, and the check has its time."""
    await check.receive(UpMessage(agent_id, "state", encode(state), False))
    task = asyncio.ensure_future(check.run())
    await asyncio.sleep(0.5)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_what_is_in_the_ledger_is_not_missing(storage: Storage, agent_id: UUID) -> None:
    assert await missing_of(storage.pool, agent_id, [EpochRange(EPOCH.hex(), 1, SEQS)]) == 0
    assert await missing_of(storage.pool, agent_id, [EpochRange(EPOCH.hex(), SEQS - 1, SEQS + 3)]) == 3
    assert await missing_of(storage.pool, agent_id, [EpochRange("ab" * 16, 1, 2)]) == 2
    assert await missing_of(storage.pool, agent_id, [EpochRange("no epoch", 1, 2), EpochRange(EPOCH.hex(), 2, 1)]) == 0
    assert await missing_of(storage.pool, uuid4(), [EpochRange(EPOCH.hex(), 1, 99)]) == 0, "not an agent of ours"


async def test_a_ledger_that_lacks_an_acknowledged_batch_makes_it_another_database(
    storage: Storage, agent_id: UUID
) -> None:
    before = storage.incarnation
    await say(ClaimCheck(storage, ManualClock(), nobody), agent_id, claims(storage, (1, SEQS + 1)))
    async with asyncio.timeout(20):
        while not storage.is_ready or storage.error or _incarnation(storage) in (None, before):
            await asyncio.sleep(0.02)


async def test_claims_that_hold_or_are_of_another_database_change_nothing(storage: Storage, agent_id: UUID) -> None:
    before = storage.incarnation
    check = ClaimCheck(storage, ManualClock(), nobody)
    await say(check, agent_id, claims(storage, (1, SEQS + 9), incarnation=str(uuid4())))
    await say(check, agent_id, claims(storage, (1, SEQS)))
    assert storage.incarnation == before


async def test_an_agent_is_told_of_another_incarnation_until_it_names_that(storage: Storage, agent_id: UUID) -> None:
    told: list[tuple[UUID, UUID]] = []
    check = ClaimCheck(storage, ManualClock(), lambda agent, incarnation: told.append((agent, incarnation)))
    old = str(uuid4())
    await say(check, agent_id, claims(storage, incarnation=old))
    await say(check, agent_id, claims(storage, (1, SEQS), incarnation=old))
    assert told == [(agent_id, storage.incarnation)] * 2
    for state in (
        claims(storage),
        claims(storage, incarnation=""),  # it was never told of any
        State("offline", "1" * 32, incarnation=old),
    ):
        await say(check, agent_id, state)
    await say(check, uuid4(), claims(storage, incarnation=old))  # enrolled after the backup
    assert len(told) == 2


async def test_an_agent_is_not_believed_all_the_time(storage: Storage, agent_id: UUID) -> None:
    clock = ManualClock()
    check = ClaimCheck(storage, clock, nobody)
    seen = [storage.incarnation]
    for pause_s in (0.0, 1.0, REDRAW_EVERY_S):
        clock.advance_s(pause_s)
        await storage.ready()
        await say(check, agent_id, claims(storage, (1, SEQS + 1)))
        async with asyncio.timeout(20):
            while _incarnation(storage) is None:
                await asyncio.sleep(0.02)
        seen.append(storage.incarnation)
    assert [one == other for one, other in pairwise(seen)] == [False, True, False]


def _incarnation(storage: Storage) -> UUID | None:
    try:
        return storage.incarnation
    except StorageUnavailable:
        return None
