"""Clock segments against a real database: corrected once, both times kept, and set aside where nothing is known."""

from __future__ import annotations

from dataclasses import replace

from hub.ingest.arrivals import Arrival
from hub.ingest.clocks import GRACE_S
from shared.readings import Columns
from shared.records import ClockRecord, Opening
from tests.hub.ingest.conftest import NOW_US, Agent, Room, columns

S = 1_000_000
HOUR_US = 3600 * S
_TIMES = """
select (extract(epoch from time) * 1000000)::bigint as corrected,
       (extract(epoch from time) * 1000000)::bigint - reading_correction_us(id) as original
from readings order by time
"""


def opened(at_us: int = NOW_US) -> ClockRecord:
    return ClockRecord(1, at_us, 0, -1, at_us, 0, "none")


def measured(offset_us: int, segment: int = 1, at_us: int = NOW_US, step_us: int = 0) -> ClockRecord:
    return ClockRecord(segment, at_us, offset_us, 900, at_us + S, step_us)


def in_segment(arrival: Arrival, segment: int) -> Arrival:
    """The batch as if it had been taken in another segment."""
    return replace(arrival, header=replace(arrival.header, clock_segment=segment))


def one(time_us: int, raw: float = 1.0) -> Columns:
    return columns([1], [time_us], [raw])


async def times(room: Room) -> list[tuple[int, int]]:
    return [(row["corrected"], row["original"]) for row in await room.fetch(_TIMES)]


async def test_readings_are_stored_with_corrected_times_and_the_original_ones_can_be_had(room: Room) -> None:
    agent, exact = await room.agent(), await room.agent("exact")
    late = [NOW_US - HOUR_US, NOW_US - HOUR_US + S]
    async with room.writing() as writer:
        start = [agent.opening(), agent.record(opened()), agent.record(measured(HOUR_US)), agent.dictionary("oven")]
        await room.send(writer, agent, *start, agent.data(one(late[0]), taken_through_us=late[0]))
        await room.send(
            writer, exact, exact.record(measured(800)), exact.dictionary("pump"), exact.data(one(NOW_US + 5))
        )
        await room.send(writer, agent, agent.data(one(late[1]), taken_through_us=late[1]))
    assert await times(room) == [(NOW_US, late[0]), (NOW_US + 5, NOW_US + 5), (NOW_US + S, late[1])]
    through = "select (extract(epoch from taken_through) * 1000000)::bigint from epochs where epoch = $1"
    assert await room.value(through, agent.epoch) == NOW_US + S


async def test_what_was_decided_stays_when_the_offset_is_measured_again_or_another_hub_takes_over(room: Room) -> None:
    agent = await room.agent()
    async with room.writing() as writer:
        await room.send(writer, agent, agent.record(measured(5 * S)), agent.dictionary("oven"), agent.data(one(NOW_US)))
        await room.send(writer, agent, agent.record(measured(9 * S, at_us=NOW_US + 7)), agent.data(one(NOW_US + S)))
    async with room.writing() as writer:
        await room.send(writer, agent, agent.data(one(NOW_US + 2 * S)))
    assert [corrected - original for corrected, original in await times(room)] == [5 * S] * 3
    assert await room.value("select basis from clock_corrections") == "measured"


async def test_a_segment_before_a_step_is_placed_by_what_was_measured_after_it(room: Room) -> None:
    agent = await room.agent()
    async with room.writing() as writer:
        records = [agent.record(opened()), agent.record(measured(0, 2, step_us=HOUR_US)), agent.dictionary("oven")]
        before = in_segment(agent.data(one(NOW_US - HOUR_US)), 1)
        after = in_segment(agent.data(one(NOW_US + S)), 2)
        await room.send(writer, agent, *records, before, after)
    assert await times(room) == [(NOW_US, NOW_US - HOUR_US), (NOW_US + S, NOW_US + S)]


async def test_a_segment_that_may_still_be_measured_waits_on_its_agents_disk(room: Room) -> None:
    agent = await room.agent()
    data = agent.data(one(NOW_US), seq=4)
    agent.seq = 0
    async with room.writing() as writer:
        await room.send(writer, agent, agent.record(opened()), agent.dictionary("oven"))
        writer.offer(data)
        await room.publisher.until(lambda: any(ack.later for _, ack in room.publisher.acks))
        assert await room.value("select count(*) from readings") == 0
        await room.send(writer, agent, agent.record(measured(7 * S)), data)
    assert await times(room) == [(NOW_US + 7 * S, NOW_US)]


async def _restarted_offline(room: Room, clock_us: int) -> tuple[Agent, Agent]:
    """A measured epoch, one that was never measured and whose clock said `clock_us`, and the running one."""
    first = await room.agent()
    offline, running = Agent(first.id), Agent(first.id)
    async with room.writing() as writer:
        await room.send(
            writer,
            first,
            first.record(measured(0)),
            first.dictionary("oven"),
            first.data(one(NOW_US), taken_through_us=NOW_US),
        )
        await room.send(writer, running, running.record(measured(0, at_us=NOW_US + 600 * S)))
        opening = offline.record(Opening(clock_us, first.epoch.hex(), first.seq))
        await room.send(writer, offline, opening, offline.record(opened(at_us=clock_us)), offline.dictionary("oven"))
        data = offline.data(one(clock_us + S, 2.0), taken_through_us=clock_us + S)
        writer.offer(data)
        await room.publisher.until(lambda: any(ack.later for _, ack in room.publisher.acks))
        room.clock.advance_s(GRACE_S)
        await room.send(writer, offline, offline.record(opened(at_us=clock_us)))
        await room.send(writer, offline, data)
    return first, offline


async def test_a_restart_without_a_link_is_accepted_where_it_fits_between_its_neighbours(room: Room) -> None:
    _, offline = await _restarted_offline(room, NOW_US + 60 * S)
    assert await times(room) == [(NOW_US, NOW_US), (NOW_US + 61 * S, NOW_US + 61 * S)]
    query = "select basis, uncertainty_us from clock_corrections join epochs e on e.id = epoch_id where epoch = $1"
    (row,) = await room.fetch(query, offline.epoch)
    assert row["basis"] == "neighbours"
    assert row["uncertainty_us"] >= 500 * S, "it lies somewhere within ten minutes"


async def test_what_a_clone_of_the_agent_did_before_is_no_later_neighbour(room: Room) -> None:
    first = await room.agent()
    clone, offline, running = Agent(first.id), Agent(first.id), Agent(first.id)
    async with room.writing() as writer:
        start = [first.record(measured(0)), first.dictionary("oven")]
        await room.send(writer, first, *start, first.data(one(NOW_US), taken_through_us=NOW_US))
        await room.send(writer, clone, clone.record(measured(0, at_us=NOW_US - 60 * S)))
        opening = running.record(Opening(NOW_US + 600 * S, offline.epoch.hex(), 4))
        await room.send(writer, running, opening, running.record(measured(0, at_us=NOW_US + 600 * S)))
        opening = offline.record(Opening(NOW_US + 60 * S, first.epoch.hex(), first.seq))
        start = [opening, offline.record(opened(at_us=NOW_US + 60 * S)), offline.dictionary("oven")]
        await room.send(writer, offline, *start, offline.data(one(NOW_US + 61 * S, 2.0)))
    assert await times(room) == [(NOW_US, NOW_US), (NOW_US + 61 * S, NOW_US + 61 * S)]


async def test_a_restart_without_a_link_and_without_a_battery_clock_is_set_aside(room: Room) -> None:
    _, offline = await _restarted_offline(room, 86_400 * S)
    assert await times(room) == [(NOW_US, NOW_US)]
    (row,) = await room.fetch("select reason, timestamps_us, clock_segment, correction_us from set_aside")
    assert row == {
        "reason": "clock_unsynchronised",
        "timestamps_us": [86_401 * S],
        "clock_segment": 1,
        "correction_us": 0,
    }
    assert await room.value("select taken_through from epochs where epoch = $1", offline.epoch) is None
