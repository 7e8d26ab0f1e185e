"""What ingest remembers through changes: a dictionary is made anew only where what it rests on has changed."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any
from uuid import UUID

import pytest

from hub.database.ids import uuid7
from hub.database.pool import transaction
from hub.ingest import lookup as lookups
from hub.ingest.catalogue import Catalogue
from hub.ingest.dictionary import Dictionary
from hub.ingest.lookup import PIECE, Lookup, Reach
from hub.ingest.profiles import Profiles
from hub.ingest.quick import QuickGroup
from tests.hub.ingest.conftest import NOW_US, Agent, Room, columns

SESSION = """
insert into experiments (id, project_id, owner_id, name) select $1, id, owner_id, 'e' from projects;
insert into runs (id, experiment_id, project_id, name) select $1, $1, id, 'r' from projects;
insert into capture_sessions (id, run_id, project_id, ordinal_number, status, started_at, stopped_at)
    select $1, $1, id, 1, 'succeeded', '2026-01-01', '2026-01-02' from projects;
insert into session_sensors select $1, id, '2026-01-01', '2026-01-02' from sensors where name = 'oven';
"""
PROFILE = """
insert into conversion_profiles
    (id, sensor_id, version, kind, payload, status, published_at, valid_from, split_session_ids)
select gen_random_uuid(), s.id, gen_random_uuid(), 'linear', '{{"a": 2.0, "b": 0.0}}', {status}, {published}, {since},
       {split}
from sensors s where s.name = {name}
"""
DRAFT = {"status": "'draft'", "published": "null", "since": "null", "split": "null", "name": "'oven'"}
ACTIVE = DRAFT | {"status": "'active'", "published": "now()"}
RULING = (
    PROFILE.format(**DRAFT)
    + """;
insert into profile_rulings (sensor_id, profile_id, time_from, time_to, decided_at)
select sensor_id, id, null, '2026-06-01', now() from conversion_profiles where status = 'draft'
"""
)
CONCERNED = {
    "the sensor is decommissioned": "update sensors set status = 'decommissioned' where name = 'oven'",
    "the sensor moves": """
        with p as (insert into projects (id, owner_id, name) select gen_random_uuid(), owner_id, 'b' from projects
                   returning id)
        update sensors set project_id = (select id from p) where name = 'oven'
    """,
    "the sensor is taken from the agent": "update agent_bindings set state = 'refused' where sensor_name = 'oven'",
    "a profile is published": PROFILE.format(**ACTIVE | {"since": "'2026-05-01'"}),
    "a profile ends": "update conversion_profiles set valid_to = now() where published_at is not null",
    "a profile begins": "update conversion_profiles set valid_from = '2026-03-01' where published_at is not null",
    "a profile is split off": PROFILE.format(**ACTIVE | {"split": "array(select id from capture_sessions)"}),
    "a recalculation rules": RULING,
    "a session is archived": "update capture_sessions set status = 'archived', archived = true",
    "the project takes less": "insert into project_policies (project_id, retention_days) select id, 5 from projects",
}
"""What is done, and what it says to the database; each is told by the trigger, and changes the dictionary of `oven`."""
UNCONCERNED = {
    "a draft": PROFILE.format(**DRAFT),
    "another sensor's profile": PROFILE.format(**ACTIVE | {"name": "'pump'"}),
    "another sensor's end": "update sensors set status = 'decommissioned' where name = 'pump'",
    "nothing": "update sensors set status = status",
}


@pytest.fixture
async def oven(room: Room) -> Agent:
    """An agent with the sensor `oven`, which has a profile and was in a session; another one has `pump`."""
    agent, other = await room.agent("one"), await room.agent("other")
    async with room.writing() as writer:
        await room.send(writer, other, other.opening(), other.dictionary("pump"))
        await room.send(writer, agent, agent.opening(), agent.dictionary("oven"))
    async with transaction(room.bench.pool) as connection:
        session_id = uuid7()
        for statement in SESSION.strip().split(";\n"):
            await connection.execute(statement.rstrip(";\n"), session_id)
        await connection.execute(PROFILE.format(**ACTIVE))
    return agent


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many dictionaries of epochs were made, a number a time."""
    found: list[int] = []
    epochs = Lookup.epochs

    async def counted(self: Lookup, epoch_ids: Collection[int]) -> dict[int, Dictionary]:
        found.append(len(epoch_ids))
        return await epochs(self, epoch_ids)

    monkeypatch.setattr(Lookup, "epochs", counted)
    return found


async def look(room: Room, agent: Agent) -> tuple[bytes, Dictionary]:
    """The digest, and what it stands for."""
    epoch_id = await room.value("select id from epochs where epoch = $1", agent.epoch)
    async with transaction(room.bench.pool) as connection:
        lookup = Lookup(connection, Profiles(), Reach())
        digests, dictionaries = await lookup.digests([epoch_id]), await lookup.epochs([epoch_id])
    return digests[epoch_id], dictionaries[epoch_id]


def said(dictionary: Dictionary) -> list[Any]:
    """What a dictionary decides."""
    timelines = [slot.timeline for slot in dictionary.slots]
    return [
        (slot.verdict, slot.series_id, slot.project_id, slot.archived_us, slot.narrowing, slot.named is None)
        for slot in dictionary.slots
    ] + [(line._starts.tolist(), line._profiles.tolist()) for line in timelines]


@pytest.mark.parametrize("change", CONCERNED.values(), ids=CONCERNED)
async def test_what_changes_a_dictionary_changes_its_digest(room: Room, oven: Agent, change: str) -> None:
    digest, before = await look(room, oven)
    generation = await room.value("select last_value from catalogue_generation")
    async with transaction(room.bench.pool) as connection:
        await connection.execute(change)
    changed, behind = await look(room, oven)
    assert said(before) != said(behind)
    assert digest != changed
    assert await room.value("select last_value from catalogue_generation") > generation


@pytest.mark.parametrize("change", UNCONCERNED.values(), ids=UNCONCERNED)
async def test_what_does_not_change_a_dictionary_leaves_its_digest(room: Room, oven: Agent, change: str) -> None:
    digest, before = await look(room, oven)
    async with transaction(room.bench.pool) as connection:
        await connection.execute(change)
    same, behind = await look(room, oven)
    assert said(before) == said(behind)
    assert digest == same


async def test_a_change_that_is_none_of_an_agents_costs_it_one_comparison(
    room: Room, oven: Agent, made: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    quick: list[int] = []
    run = QuickGroup.run

    async def counted(self: QuickGroup, *rest: Any) -> Any:
        outcome = await run(self, *rest)
        quick.append(len(outcome))
        return outcome

    monkeypatch.setattr(QuickGroup, "run", counted)
    async with room.writing() as writer:
        await room.send(writer, oven, oven.data(columns([1], [NOW_US], [0.0])))
        made.clear()
        async with transaction(room.bench.pool) as connection:
            await connection.execute(UNCONCERNED["a draft"])
        for second in range(1, 4):
            await room.send(writer, oven, oven.data(columns([1], [NOW_US + second * 1_000_000], [0.0])))
        assert not made
        assert quick == [0, 1, 1], "judged by an older catalogue once, and compared"
    assert await room.value("select count(*) from readings") == 4


async def test_a_change_that_concerns_an_agent_holds_for_its_next_batch(room: Room, oven: Agent) -> None:
    async with room.writing() as writer:
        await room.send(writer, oven, oven.data(columns([1], [NOW_US], [1.0])))
        async with transaction(room.bench.pool) as connection:
            await connection.execute(CONCERNED["the sensor is decommissioned"])
        await room.send(writer, oven, oven.data(columns([1], [NOW_US + 1], [1.0])))
    assert await room.value("select count(*) from readings") == 1
    assert await room.value("select reason from set_aside") == "sensor_decommissioned"


async def test_what_a_rolled_back_group_had_written_is_not_believed(room: Room, oven: Agent) -> None:
    failures = [OSError("the line was cut")]

    async def cut(place: str) -> None:
        if place == "before commit" and failures and await_second:
            raise failures.pop()

    await_second = False
    room.checkpoint = cut
    async with room.writing() as writer:
        await room.send(writer, oven, oven.data(columns([1], [NOW_US], [1.0])))
        await_second = True
        both = [oven.dictionary("oven", "valve"), oven.data(columns([2], [NOW_US + 1], [2.0]))]
        await room.send(writer, oven, *both)
    assert not failures
    assert await room.value("select count(*) from readings") == 2


async def test_others_get_their_turn_while_a_large_dictionary_is_made(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns, at_turn = 0, list[int]()

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    slot = lookups._slot

    def counted(*rest: Any) -> Any:
        at_turn.append(turns)
        return slot(*rest)

    monkeypatch.setattr(lookups, "_slot", counted)
    agent = await room.agent()
    names = [f"sensor {number}" for number in range(4 * PIECE)]
    async with room.writing() as writer:
        await room.send(writer, agent, agent.opening(), agent.dictionary(*names))
        at_turn.clear()
        other = asyncio.create_task(take_turns())
        await room.send(writer, agent, agent.data(columns([1], [NOW_US], [1.0])))
        other.cancel()
        await asyncio.wait([other])
    assert len(at_turn) == 4 * PIECE
    assert max(at_turn.count(turn) for turn in set(at_turn)) <= PIECE


async def test_a_profile_of_another_database_is_not_kept(room: Room, oven: Agent, made: list[int]) -> None:
    """While one writer looks dictionaries up, another one may learn that the database was sought anew."""
    catalogue = Catalogue()
    epoch_id: int = await room.value("select id from epochs where epoch = $1", oven.epoch)
    digests = Lookup.digests

    async def met_meanwhile(self: Lookup, epoch_ids: Collection[int]) -> dict[int, bytes]:
        catalogue.meet(uuid7(), 2)
        return await digests(self, epoch_ids)

    catalogue.meet(uuid7(), 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Lookup, "digests", met_meanwhile)
        async with transaction(room.bench.pool) as connection:
            await catalogue.enter(connection, [epoch_id])
            known = await catalogue.load(connection, [epoch_id], [])
    assert known.dictionaries[epoch_id].slots
    keys: dict[tuple[UUID, bytes], int] = {(oven.id, oven.epoch): epoch_id}
    assert catalogue.recall(keys) is None
    async with transaction(room.bench.pool) as connection:
        await catalogue.enter(connection, [epoch_id])
        await catalogue.load_agents(connection, [oven.id])
        await catalogue.load(connection, [epoch_id], [])
    assert made == [1, 1]
    assert catalogue.recall(keys) is not None
