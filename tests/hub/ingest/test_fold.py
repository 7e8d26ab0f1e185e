"""The ledger folds: fewer rows, the same knowledge of what came, and nothing stored twice."""

from __future__ import annotations

from hub.ingest.fold import LedgerFolding
from shared.records import ClockRecord, Gap
from tests.hub.ingest.conftest import NOW_US, Agent, Room, columns

DAY_S = 86_400


def folding(room: Room) -> LedgerFolding:
    return LedgerFolding(room.bench.storage, room.clock)


async def _age(room: Room, agent: Agent) -> None:
    """Let a day pass for what the agent has sent so far."""
    query = """
    update ledger set committed_at = to_timestamp($1::float8)
    where epoch_id in (select id from epochs where epoch = $2)
    """
    await room.fetch(query, NOW_US / 1e6 - DAY_S - 1, agent.epoch)


async def _deliver(room: Room) -> Agent:
    """An agent with readings in two series, in one epoch: seq 2 … 4, the clock 5 s behind."""
    agent = await room.agent()
    async with room.writing() as writer:
        await room.send(
            writer,
            agent,
            agent.record(ClockRecord(1, NOW_US, 5_000_000, 10, NOW_US)),
            agent.dictionary("oven", "pump"),
            agent.data(columns([1, 1, 2], [NOW_US, NOW_US + 1, NOW_US], [1.0, 2.0, 3.0])),
            agent.data(columns([2], [NOW_US + 2], [4.0])),
        )
    return agent


async def test_old_entries_become_one_row_an_hour_with_counts_by_series(room: Room) -> None:
    agent = await _deliver(room)
    assert await folding(room).once() == 0, "they are not old enough"
    await _age(room, agent)
    assert await folding(room).once() == 4
    assert await folding(room).once() == 0
    (row,) = await room.fetch("select * from ledger_folded")
    assert (row["first_seq"], row["last_seq"], row["batches"]) == (1, 4, 4)
    assert (row["readings"], row["stored"], row["repeated"], row["set_aside"]) == (4, 4, 0, 0)
    names = "select x.id, s.name from series x join sensors s on s.id = x.sensor_id"
    ids = {one["name"]: str(one["id"]) for one in await room.fetch(names)}
    assert row["series"] == {ids["oven"]: 2, ids["pump"]: 2}
    assert await room.value("select folded_through from epochs") == 4
    assert await room.value("select count(*) from ledger") == 0
    moved = "select array_agg(distinct reading_correction_us(id)) from readings"
    assert await room.value(moved) == [5_000_000], "the original times can still be had"


async def test_a_repeat_of_a_folded_batch_is_acknowledged_and_not_stored(room: Room) -> None:
    agent = await _deliver(room)
    await _age(room, agent)
    room.publisher.acks.clear()
    async with room.writing() as writer:
        await room.send(writer, agent, agent.data(columns([2], [NOW_US + 9], [5.0])))  # the writer is warm
        await folding(room).once()
        again = agent.data(columns([2], [NOW_US + 2], [4.0]), seq=4)
        await room.send(writer, agent, again)
        state = writer.state()
    assert state.stored == 1
    assert await room.value("select count(*) from readings") == 5
    assert await room.value("select array_agg(seq) from ledger") == [5]


async def test_folding_stops_at_the_lowest_open_seq_and_passes_what_a_gap_explains(room: Room) -> None:
    agent = await _deliver(room)
    async with room.writing() as writer:
        late = [agent.data(columns([1], [NOW_US + 100 + seq], [1.0]), seq=seq) for seq in (6, 7, 9)]
        await room.send(writer, agent, *late)
        await _age(room, agent)
        assert await folding(room).once() == 4
        assert await folding(room).once() == 0, "5 is open"
        gap = Gap("quota_oldest", NOW_US, NOW_US, 3, batches=[(agent.epoch.hex(), 5, 5)])
        await room.send(writer, agent, agent.record(gap, seq=10))
    assert await folding(room).once() == 2
    assert await room.value("select folded_through from epochs") == 7
    assert await room.value("select array_agg(seq order by seq) from ledger") == [9, 10]
    assert await room.value("select count(*) from gaps") == 1
