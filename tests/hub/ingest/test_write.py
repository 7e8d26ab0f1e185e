"""The writer against a real database: once, whole, and only then acknowledged."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from hub.database.ids import uuid7
from hub.database.pool import acquire, transaction
from hub.ingest.arrivals import Outcome, Submission
from shared import wire
from shared.conversion import ProfileTable
from shared.errors import StorageUnavailable
from shared.readings import Columns, Status
from shared.records import ClockRecord, Dictionary, Gap, SeriesEntry
from tests.hub.ingest.conftest import NOW_US, Agent, Room, columns

pytestmark = pytest.mark.every_tier

LINEAR = ("linear", {"a": 2.0, "b": 1.0})
NAN = float("nan")


async def test_readings_of_a_new_agent_are_stored_with_their_sensors(room: Room) -> None:
    agent = await room.agent()
    readings = columns([1, 1, 2], [NOW_US, NOW_US + 1, NOW_US], [1.5, -0.0, NAN], status=[0, 0, 0x13])
    async with room.writing() as writer:
        dictionary = agent.dictionary("oven", "pump")
        await room.send(writer, agent, agent.opening(), dictionary, agent.data(readings, taken_through_us=NOW_US))
    rows = await room.fetch(
        """
        select s.name, x.signal, x.unit, (extract(epoch from r.time) * 1000000)::bigint as us, r.raw, r.status
        from readings r join series x on x.id = r.series_id join sensors s on s.id = x.sensor_id order by r.id
        """
    )
    assert [(row["name"], row["signal"], row["unit"], row["us"], row["raw"]) for row in rows] == [
        ("oven", "value", "V", NOW_US, 1.5),
        ("oven", "value", "V", NOW_US + 1, -0.0),
        ("pump", "value", "V", NOW_US, None),
    ]
    assert [row["status"] for row in rows] == [0, 0, 0x13]
    assert np.signbit(rows[1]["raw"])
    assert await room.value("select count(*) from ledger") == 3
    assert await room.value("select host from epochs") == "bench"
    assert await room.value("select (extract(epoch from taken_through) * 1000000)::bigint from epochs") == NOW_US
    assert room.tail.notified


async def test_a_batch_sent_again_is_acknowledged_again_and_stored_once(room: Room) -> None:
    agent = await room.agent()
    readings = columns([1, 1], [NOW_US, NOW_US + 1], [1.0, 2.0])
    async with room.writing() as writer:
        await room.send(writer, agent, agent.dictionary("oven"), agent.data(readings))
        room.publisher.acks.clear()
        await room.send(writer, agent, agent.data(readings, seq=2))
    assert await room.value("select count(*) from readings") == 2


async def test_another_content_under_a_known_identity_is_a_conflict_and_changes_nothing(room: Room) -> None:
    agent = await room.agent()
    async with room.writing() as writer:
        await room.send(writer, agent, agent.dictionary("oven"), agent.data(columns([1], [NOW_US], [1.0])))
        writer.offer(agent.data(columns([1], [NOW_US + 9], [2.0]), seq=2))
        await room.publisher.until(lambda: any(ack.refused for _, ack in room.publisher.acks))
    (refusal,) = [one for _, ack in room.publisher.acks for one in ack.refused]
    assert (refusal.seq, refusal.reason) == (2, "conflict")
    assert await room.value("select array_agg(raw) from readings") == [1.0]


async def test_readings_that_stand_there_already_are_repeats_and_others_in_their_place_are_set_aside(
    room: Room,
) -> None:
    agent, restored = await room.agent(), Agent(uuid7())
    restored.id = agent.id
    async with room.writing() as writer:
        await room.send(
            writer,
            agent,
            agent.dictionary("oven"),
            agent.data(columns([1, 1], [NOW_US, NOW_US + 1], [1.0, NAN], status=[0, 0x13])),
        )
        again = columns(
            [1, 1, 1, 1], [NOW_US - 1, NOW_US, NOW_US + 1, NOW_US + 2], [5.0, 7.0, NAN, 8.0], status=[0, 0, 0x13, 0]
        )
        await room.send(writer, restored, restored.dictionary("oven"), restored.data(again))
        state = writer.state()
    assert await room.value("select array_agg(raw order by time) from readings") == [5.0, 1.0, None, 8.0]
    (row,) = await room.fetch("select * from set_aside")
    assert (row["reason"], row["raw"], row["sensor_name"], row["seq"]) == ("conflicting_value", [7.0], "oven", 2)
    assert row["timestamps_us"] == [NOW_US]
    (entry,) = await room.fetch("select readings, stored, repeated, set_aside from ledger where readings = 4")
    assert entry == {"readings": 4, "stored": 2, "repeated": 1, "set_aside": 1}
    assert (state.stored, state.repeated, state.set_aside) == (4, 1, 1)


async def test_a_batch_whose_dictionary_is_missing_is_asked_for_and_goes_in_after_it(room: Room) -> None:
    agent = await room.agent()
    data = agent.data(columns([1], [NOW_US], [1.0]), seq=2)
    async with room.writing() as writer:
        writer.offer(data)
        await room.publisher.until(lambda: any(ack.dictionary for _, ack in room.publisher.acks))
        (ack,) = [ack for _, ack in room.publisher.acks]
        assert ack.dictionary == [agent.epoch.hex()]
        assert [(one.first, one.last) for one in ack.later] == [(2, 2)]
        agent.seq = 0
        await room.send(writer, agent, agent.dictionary("oven"), data)
    assert await room.value("select count(*) from readings") == 1


async def test_a_dictionary_that_gives_a_reference_another_meaning_is_refused(room: Room) -> None:
    agent = await room.agent()
    async with room.writing() as writer:
        await room.send(writer, agent, agent.dictionary("oven"))
        writer.offer(agent.dictionary("pump"))
        await room.publisher.until(lambda: any(ack.refused for _, ack in room.publisher.acks))
    assert await room.value("select array_agg(sensor_name) from dictionary_series") == ["oven"]


async def test_batches_of_strangers_and_of_retired_agents_are_refused(room: Room) -> None:
    stranger, retired = Agent(uuid7()), await room.agent()
    async with room.writing() as writer:
        await room.send(writer, retired, retired.dictionary("oven"))
        async with transaction(room.bench.pool) as connection:
            await connection.execute("update agents set status = 'retired', refused_since = now()")
        writer.offer(retired.data(columns([1], [NOW_US], [1.0])))
        writer.offer(stranger.opening())
        await room.publisher.until(lambda: sum(len(ack.refused) for _, ack in room.publisher.acks) == 2)
    assert {one.reason for _, ack in room.publisher.acks for one in ack.refused} == {"not_yours"}
    assert await room.value("select count(*) from readings") == 0


async def test_each_series_gets_its_own_verdict(room: Room) -> None:
    agent = await room.agent()
    day_us = 86_400_000_000
    times = [NOW_US, NOW_US, NOW_US, NOW_US + 2 * day_us, NOW_US - 4000 * day_us, NOW_US - day_us]
    async with room.writing() as writer:
        await room.send(writer, agent, agent.dictionary("good", "gone", "old", "ahead", "ancient", "dropped"))
        async with transaction(room.bench.pool) as connection:
            await connection.execute("update sensors set status = 'decommissioned' where name = 'old'")
            await connection.execute(
                "update agent_bindings set state = 'deleted', sensor_id = null where sensor_name = 'gone'"
            )
            start = datetime.fromtimestamp((NOW_US - 2 * day_us) / 1e6, UTC)
            await connection.execute("insert into dropped_ranges values ($1, $2)", start, start + timedelta(days=1.5))
        await room.send(writer, agent, agent.data(columns([1, 2, 3, 4, 5, 6], times, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0])))
    assert await room.value("select array_agg(raw) from readings") == [1.0]
    reasons = {
        row["sensor_name"]: row["reason"] for row in await room.fetch("select sensor_name, reason from set_aside")
    }
    assert reasons == {
        "gone": "sensor_deleted",
        "old": "sensor_decommissioned",
        "ahead": "future",
        "ancient": "too_old",
        "dropped": "dropped_range",
    }


async def test_names_beyond_the_bound_are_refused_and_a_known_sensor_is_bound_by_its_name(room: Room) -> None:
    room.settings = room.settings.model_copy(update={"sensors_per_agent_max": 2})
    agent = await room.agent()
    standing = await room.bench.sensor("Oven")
    async with room.writing() as writer:
        await room.send(
            writer,
            agent,
            agent.dictionary("oven", "a", "b"),
            agent.data(columns([1, 2, 3], [NOW_US] * 3, [1.0, 2.0, 3.0])),
        )
    bindings = {row["sensor_name"]: row for row in await room.fetch("select * from agent_bindings")}
    assert [bindings[name]["state"] for name in ("a", "b", "oven")] == ["bound", "bound", "refused"]
    assert standing is not None
    assert await room.value("select array_agg(sensor_name) from set_aside where reason = 'sensor_refused'") == ["oven"]


async def test_a_sensor_of_the_project_is_bound_by_its_name_whatever_the_case(room: Room) -> None:
    agent = await room.agent()
    standing = await room.bench.sensor("Oven")
    async with room.writing() as writer:
        await room.send(writer, agent, agent.dictionary("oven"), agent.data(columns([1], [NOW_US], [1.0])))
    assert await room.value("select sensor_id from agent_bindings") == standing
    assert await room.value("select count(*) from sensors") == 1


async def _with_profile(
    room: Room, agent: Agent, *, valid_from: datetime | None = None
) -> tuple[Columns, list[object]]:
    sensor_id = await room.value("select id from sensors")
    profile_id = await room.profile(sensor_id, *LINEAR, valid_from=valid_from)
    raw = np.array([0.1, 0.2, 0.3])
    status = np.zeros(3, np.uint8)
    refs = np.ones(3, np.uint32)
    physical, status = ProfileTable([LINEAR]).convert(refs, raw, status)
    return Columns(refs, np.arange(NOW_US, NOW_US + 3), raw, physical, status, refs), [profile_id]


async def test_physical_values_that_were_left_out_are_derived_bit_for_bit(room: Room) -> None:
    agent = await room.agent()
    async with room.writing() as writer:
        await room.send(writer, agent, agent.dictionary("oven"))
        readings, profiles = await _with_profile(room, agent)
        known = agent.record(Dictionary([], agent.dictionary("x", profiles=profiles).content.profiles), seq=2)  # type: ignore[union-attr]
        await room.send(writer, agent, known, agent.data(readings, derivable=True, seq=3))
    rows = await room.fetch("select physical, status, profile from readings order by time")
    assert [row["physical"] for row in rows] == readings.physical.tolist()
    assert {row["status"] for row in rows} == {Status.CONVERTED}
    assert {row["profile"] for row in rows} == {await room.value("select ref from conversion_profiles")}


async def test_physical_values_that_do_not_come_out_the_same_are_asked_for(room: Room) -> None:
    agent = await room.agent()
    async with room.writing() as writer:
        await room.send(writer, agent, agent.dictionary("oven"))
        readings, profiles = await _with_profile(room, agent)
        readings.physical[1] += 1e-9
        known = agent.record(Dictionary([], agent.dictionary("x", profiles=profiles).content.profiles), seq=2)  # type: ignore[union-attr]
        await room.send(writer, agent, known)
        writer.offer(agent.data(readings, derivable=True, seq=3))
        await room.publisher.until(lambda: any(ack.physical for _, ack in room.publisher.acks))
        await room.send(writer, agent, agent.data(readings, derivable=False, seq=4))
    assert await room.value("select array_agg(physical order by time) from readings") == readings.physical.tolist()


async def test_what_comes_raw_while_a_profile_is_in_force_is_converted_at_the_hub(room: Room) -> None:
    agent = await room.agent()
    since = datetime.fromtimestamp(NOW_US / 1e6, UTC)
    async with room.writing() as writer:
        await room.send(writer, agent, agent.dictionary("oven"), agent.data(columns([1], [NOW_US - 5], [4.0])))
        await room.profile(await room.value("select id from sensors"), *LINEAR, valid_from=since)
        await room.send(writer, agent, agent.data(columns([1, 1], [NOW_US - 1, NOW_US], [5.0, 6.0])))
    rows = await room.fetch("select raw, physical, status from readings order by time")
    assert [(row["raw"], row["physical"], row["status"]) for row in rows] == [
        (4.0, None, 0),
        (5.0, None, 0),
        (6.0, 13.0, 1),
    ]


async def test_what_was_converted_with_another_profile_is_converted_again_from_raw(room: Room) -> None:
    agent = await room.agent()
    async with room.writing() as writer:
        await room.send(writer, agent, agent.dictionary("oven"))
        readings, profiles = await _with_profile(room, agent)
        async with transaction(room.bench.pool) as connection:
            await connection.execute("update conversion_profiles set status = 'deprecated', valid_to = to_timestamp(0)")
        await room.profile(await room.value("select id from sensors"), "linear", {"a": 10.0, "b": 0.0}, version="2")
        known = agent.record(Dictionary([], agent.dictionary("x", profiles=profiles).content.profiles), seq=2)  # type: ignore[union-attr]
        await room.send(writer, agent, known, agent.data(readings, derivable=True, seq=3))
    rows = await room.fetch(
        "select r.physical, p.version from readings r join conversion_profiles p on p.ref = r.profile order by time"
    )
    assert [row["physical"] for row in rows] == (10.0 * readings.raw).tolist()
    assert {row["version"] for row in rows} == {"2"}
    (kept,) = await room.fetch(
        "select h.*, p.version, (select count(*) from readings where id between h.first_id and h.last_id) as own "
        "from previous_profiles h join conversion_profiles p on p.ref = h.profile"
    )
    assert (kept["version"], kept["task_id"]) == ("1", None)
    assert kept["readings"] == kept["own"] == len(readings)


async def test_a_publication_under_way_is_waited_for(room: Room) -> None:
    agent = await room.agent()
    async with room.writing() as writer:
        await room.send(writer, agent, agent.dictionary("oven"), agent.data(columns([1], [NOW_US], [1.0])))
        sensor_id = await room.value("select id from sensors")
        async with transaction(room.bench.pool) as connection:
            await connection.execute(
                """
                insert into conversion_profiles (id, sensor_id, version, kind, payload, status, published_at)
                values ($1, $2, '1', 'linear', $3, 'active', now())
                """,
                uuid7(),
                sensor_id,
                LINEAR[1],
            )
            writer.offer(agent.data(columns([1], [NOW_US + 1], [2.0])))
            await asyncio.sleep(0.3)
            assert room.publisher.acked(agent.epoch) == {1, 2}
        await room.publisher.until(lambda: 3 in room.publisher.acked(agent.epoch))
    assert await room.value("select array_agg(physical order by time) from readings") == [None, 5.0]


async def test_gaps_and_clock_offsets_are_noted(room: Room) -> None:
    agent = await room.agent()
    async with room.writing() as writer:
        gap = Gap("downtime", NOW_US - 10, NOW_US, counts=[(1, 5)])
        await room.send(writer, agent, agent.record(gap), agent.record(ClockRecord(1, NOW_US, 250, 40, NOW_US)))
    (row,) = await room.fetch("select cause, readings, record from gaps")
    assert (row["cause"], row["readings"], row["record"]["counts"]) == ("downtime", None, [[1, 5]])
    assert await room.value("select offset_us from clock_segments") == 250


async def test_a_batch_that_cannot_be_committed_does_not_hold_up_the_others(room: Room) -> None:
    agent, other = await room.agent(), await room.agent("other")
    bad = agent.record(Dictionary([SeriesEntry(1, "no\0name")]))
    async with room.writing() as writer:
        writer.offer(bad)
        await room.send(writer, other, other.dictionary("oven"), other.data(columns([1], [NOW_US], [1.0])))
        state = writer.state()
    assert state.failed == 1
    assert not room.publisher.acked(agent.epoch)


def _post(sensor_id: object, raw: list[float], *, signal: str = "value", meta: object = None) -> Submission:
    readings = columns([1] * len(raw), list(range(NOW_US, NOW_US + len(raw))), raw)
    return Submission(sensor_id, (signal,), readings, ((0, meta),) if meta else ())  # type: ignore[arg-type]


async def test_posts_go_the_same_way_and_count_what_is_new(room: Room) -> None:
    sensor_id = await room.bench.sensor()
    async with room.writing() as writer:
        assert await writer.submit(_post(sensor_id, [1.0, 2.0], meta={"a": 1})) == Outcome(2)
        assert await writer.submit(_post(sensor_id, [1.0, 2.0, 3.0])) == Outcome(1, repeated=2)
        assert await writer.submit(_post(sensor_id, [9.0])) == Outcome(0, set_aside=1)
        assert await writer.submit(_post(sensor_id, [9.0], signal="other")) == Outcome(1)
    assert await room.value("select meta from reading_meta") == {"a": 1}
    assert await room.value("select count(*) from ledger") == 0
    assert await room.value("select count(*) from series") == 2


async def test_a_post_with_one_timestamp_twice_keeps_the_first_and_sets_the_other_aside(room: Room) -> None:
    sensor_id = await room.bench.sensor()
    readings = columns([1, 1, 1], [NOW_US, NOW_US, NOW_US], [1.0, 1.0, 2.0])
    async with room.writing() as writer:
        assert await writer.submit(Submission(sensor_id, ("value",), readings)) == Outcome(1, 1, 1)


async def test_while_the_database_is_away_nothing_is_acknowledged_and_everything_waits(room: Room) -> None:
    agent = await room.agent()
    sensor_id = await room.bench.sensor()
    async with room.writing() as writer:
        await room.send(writer, agent, agent.dictionary("oven"))
        pool = room.bench.storage.pool
        room.bench.storage.pool = _Away()  # type: ignore[assignment]
        async with acquire(pool) as connection:
            await connection.execute(_END_ALL_OTHERS)
        writer.offer(agent.data(columns([1], [NOW_US], [1.0])))
        with pytest.raises(StorageUnavailable):
            await writer.submit(_post(sensor_id, [1.0]))
        while not writer.state().error:
            await asyncio.sleep(0.01)
        with pytest.raises(StorageUnavailable):
            await writer.submit(_post(sensor_id, [1.0]))
        assert room.publisher.acked(agent.epoch) == {1}
        room.bench.storage.pool = pool
        await room.publisher.until(lambda: 2 in room.publisher.acked(agent.epoch))
        assert not writer.state().error
    assert await room.value("select count(*) from readings") == 1


_END_ALL_OTHERS = """
select pg_terminate_backend(pid) from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid()
"""


class _Away:
    def acquire(self, *, timeout: float) -> object:
        raise ConnectionRefusedError("nobody there")


async def test_two_hubs_that_get_the_same_batches_store_them_once(room: Room) -> None:
    agent = await room.agent()
    arrivals = [agent.dictionary("oven", "pump")]
    arrivals += [
        agent.data(columns([1, 2], [NOW_US + place, NOW_US + place], [float(place), 1.0])) for place in range(200)
    ]
    second = Room(room.bench, room.settings)
    async with room.writing() as one, second.writing() as two:
        for arrival in arrivals:
            one.offer(arrival)
        for arrival in arrivals:
            two.offer(arrival)
        wanted = set(range(1, len(arrivals) + 1))
        await room.publisher.until(lambda: wanted <= room.publisher.acked(agent.epoch))
        await second.publisher.until(lambda: wanted <= second.publisher.acked(agent.epoch))
    assert await room.value("select count(*) from readings") == 400
    assert await room.value("select sum(stored) from ledger") == 400


async def test_series_and_minutes_that_were_touched_are_marked(room: Room) -> None:
    agent = await room.agent()
    hour_us = 3_600_000_000
    async with room.writing() as writer:
        old = agent.data(columns([1], [NOW_US - 48 * hour_us], [1.0]), seq=2)
        new = agent.data(columns([1, 2], [NOW_US, NOW_US], [1.0, 2.0]), seq=3)
        agent.seq = 0
        await room.send(writer, agent, agent.dictionary("oven", "pump"), old, new)
    rows = await room.fetch("select series_ids, bucket_from, bucket_to from dirty_minutes order by bucket_from")
    assert [len(row["series_ids"]) for row in rows] == [1, 2]
    assert all(row["bucket_from"].second == 0 for row in rows)


def test_bodies_fit_the_wire() -> None:
    assert wire.data_body(columns([1], [NOW_US], [1.0]), derivable=False).readings == 1
