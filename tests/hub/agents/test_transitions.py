"""Agents that come, go and run twice are told of once, however many hubs hear them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

import pytest

from hub.agents.presence import SILENT_S, PresenceBook
from hub.agents.transitions import LOOK_AGAIN_S, Transitions
from hub.database.ids import uuid7
from hub.database.pool import acquire, transaction
from hub.settings import HubSettings
from hub.telemetry.moments import to_datetime
from shared.clock import ManualClock
from shared.messages import State
from tests.fixtures.readings import Bench, bench

__all__ = ["bench"]

NOW_US = 1_790_000_000_000_000


@dataclass
class Link:
    """A broker that is there, or not."""

    connected: bool = True


@dataclass
class Ear:
    """One hub's hearing."""

    bench: Bench
    clock: ManualClock
    link: Link = field(default_factory=Link)

    def __post_init__(self) -> None:
        self.book = PresenceBook(HubSettings(), self.clock)
        self.transitions = Transitions(self.bench.storage, self.book, self.link, self.clock)

    async def hears(self, agent_id: UUID, status: str, instance: str = "a", *, retained: bool = False) -> None:
        """An agent's state comes, and whoever is told is told."""
        self.book.note(agent_id, State(status, instance, at_us=self.clock.now_us()), retained=retained)  # type: ignore[arg-type]
        await self.book._write(self.bench.pool)
        await self.transitions.once()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW_US)


@pytest.fixture
async def agent_id(bench: Bench) -> UUID:
    """An enrolled agent."""
    agent_id = uuid7()
    async with transaction(bench.pool) as connection:
        await connection.execute(
            "insert into agents (id, project_id, name, mqtt_username) values ($1, $2, 'rig', 'rig')",
            agent_id,
            bench.project_id,
        )
    return agent_id


async def told(bench: Bench) -> list[str]:
    """What was told, in order."""
    async with acquire(bench.pool) as connection:
        rows = await connection.fetch(
            "select event_type, is_public from events where subject_type = 'agent' order by id"
        )
    assert all(row["is_public"] for row in rows)
    return [row["event_type"].removeprefix("agent.") for row in rows]


async def test_each_transition_is_told_once_by_two_hubs(bench: Bench, clock: ManualClock, agent_id: UUID) -> None:
    ears = [Ear(bench, clock), Ear(bench, clock)]
    for status, instance in (("online", "a"), ("online", "a"), ("online", "b"), ("online", "a")):
        for ear in ears:
            await ear.hears(agent_id, status, instance)
    assert await told(bench) == ["online", "conflict"]
    clock.advance_s(61)
    for ear in ears:
        await ear.hears(agent_id, "online")
    for ear in ears:
        await ear.hears(agent_id, "offline")
    assert await told(bench) == ["online", "conflict", "online"]
    clock.advance_s(11)
    for ear in ears:
        await ear.transitions.once()
    assert await told(bench) == ["online", "conflict", "online", "offline"]


async def test_a_restarted_hub_tells_nothing_again(bench: Bench, clock: ManualClock, agent_id: UUID) -> None:
    await Ear(bench, clock).hears(agent_id, "online")
    restarted = Ear(bench, clock)
    await restarted.hears(agent_id, "online", retained=True)
    await restarted.hears(agent_id, "online")
    assert await told(bench) == ["online"]


async def test_what_the_broker_had_kept_is_no_sign_of_life(bench: Bench, clock: ManualClock, agent_id: UUID) -> None:
    ear = Ear(bench, clock)
    await ear.hears(agent_id, "online", retained=True)
    assert await told(bench) == []
    await ear.hears(agent_id, "online")
    assert await told(bench) == ["online"]


async def test_an_agent_that_went_while_no_hub_was_there_is_told_of_later(
    bench: Bench, clock: ManualClock, agent_id: UUID
) -> None:
    await Ear(bench, clock).hears(agent_id, "online")
    restarted = Ear(bench, clock)
    await restarted.transitions.once()
    clock.advance_s(SILENT_S - 1)
    await restarted.transitions.once()
    assert await told(bench) == ["online"]
    clock.advance_s(LOOK_AGAIN_S)
    await restarted.transitions.once()
    assert await told(bench) == ["online", "offline"]


async def test_a_hub_that_hears_nobody_calls_nobody_gone(bench: Bench, clock: ManualClock, agent_id: UUID) -> None:
    deaf, hearing = Ear(bench, clock), Ear(bench, clock)
    for ear in (deaf, hearing):
        await ear.hears(agent_id, "online")
    deaf.link.connected = False
    clock.advance_s(SILENT_S + 30)
    await deaf.transitions.once()
    await hearing.hears(agent_id, "online")
    deaf.link.connected = True
    for _ in range(3):  # it is back, but the agent speaks to the other one alone
        clock.advance_s(SILENT_S / 2)
        await hearing.hears(agent_id, "online")
        await deaf.transitions.once()
    assert await told(bench) == ["online"]
    clock.advance_s(2 * SILENT_S)
    await deaf.transitions.once()
    await hearing.transitions.once()
    assert await told(bench) == ["online", "offline"]


async def test_a_retired_agent_is_not_told_of(bench: Bench, clock: ManualClock, agent_id: UUID) -> None:
    async with transaction(bench.pool) as connection:
        await connection.execute("update agents set status = 'retired' where id = $1", agent_id)
    await Ear(bench, clock).hears(agent_id, "online")
    assert await told(bench) == []


async def test_the_row_says_since_when(bench: Bench, clock: ManualClock, agent_id: UUID) -> None:
    await Ear(bench, clock).hears(agent_id, "online")
    async with acquire(bench.pool) as connection:
        row = await connection.fetchrow("select connection, connection_since, last_seen from agents")
    assert (row["connection"], row["connection_since"]) == ("online", to_datetime(NOW_US))
    assert abs(row["last_seen"] - to_datetime(NOW_US)) < timedelta(seconds=1)
