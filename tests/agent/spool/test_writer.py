from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from agent.spool.batch import Standing
from agent.spool.reader import SpoolReader
from shared.clock import ManualClock
from shared.errors import SpoolUnavailable
from shared.records import ClockRecord, Dictionary, Gap, Opening
from shared.wire import Kind
from tests.agent.spool.contents import contents, gaps, numbers, records
from tests.agent.spool.readings import BEGIN_US, batch, open_spool


def test_what_was_appended_is_there_in_order_after_reopening(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.append([batch(0, 3), batch(3, 2)])
    spool.append([batch(5, 1)])
    spool.close()
    assert numbers(tmp_path) == [0, 1, 2, 3, 4, 5]


def test_the_first_batch_of_an_epoch_names_the_one_before_and_its_last_seq(tmp_path: Path) -> None:
    first = open_spool(tmp_path)
    first.append([batch(0, 3)])
    first.close()
    second = open_spool(tmp_path)
    second.close()
    openings = records(tmp_path, Opening)
    assert openings[0].previous_epoch == ""
    assert openings[1].previous_epoch == first.epoch.hex()
    assert openings[1].previous_last_seq == 3  # opening, dictionary, data
    assert first.epoch != second.epoch


def test_seq_counts_from_one_without_holes(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    for number in range(5):
        spool.append([batch(number, 1)])
    spool.close()
    assert [found.batch.header.seq for found in contents(tmp_path)] == [1, 2, 3, 4, 5, 6, 7]


def test_a_dictionary_precedes_the_first_batch_that_uses_it(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.append([batch(0, 1)])
    spool.close()
    kinds = [found.batch.header.kind for found in contents(tmp_path)]
    assert kinds == [Kind.OPENING, Kind.DICTIONARY, Kind.DATA]
    assert [entry.sensor for entry in records(tmp_path, Dictionary)[0].series] == ["sensor 1", "sensor 2", "sensor 3"]


def test_the_time_that_the_agent_was_down_is_a_gap_from_its_last_watermark(tmp_path: Path) -> None:
    clock = ManualClock(BEGIN_US)
    first = open_spool(tmp_path, clock=clock)
    first.append([batch(0, 10)])
    first.close()
    clock.advance_s(60)
    open_spool(tmp_path, clock=clock).close()
    assert gaps(tmp_path, "downtime") == [Gap("downtime", BEGIN_US + 9000, BEGIN_US + 60_000_000)]


def test_last_seq_outlives_the_batches(tmp_path: Path) -> None:
    first = open_spool(tmp_path, retain_acked_s=0.0, clock=(clock := ManualClock(BEGIN_US)))
    first.append([batch(0, 1), batch(1, 1)])
    first.marks.acknowledge(first.epoch, 1, 4)
    clock.advance_s(1)
    first.flush()
    clock.advance_s(1)
    first.flush()
    first.close()
    assert numbers(tmp_path) == []
    open_spool(tmp_path).close()
    assert records(tmp_path, Opening)[-1].previous_last_seq == 4


def test_two_agents_never_share_a_spool(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    with pytest.raises(SpoolUnavailable, match="another agent"):
        open_spool(tmp_path)
    spool.close()
    open_spool(tmp_path).close()


def test_an_acknowledgement_lets_go_only_after_the_retention(tmp_path: Path) -> None:
    clock = ManualClock(BEGIN_US)
    spool = open_spool(tmp_path, clock=clock, retain_acked_s=100.0)
    spool.append([batch(0, 5)])
    spool.marks.acknowledge(spool.epoch, 1, 3)
    spool.flush()
    assert spool.state().pending_batches == 0
    assert numbers(tmp_path, standing=Standing.ACKED) == [0, 1, 2, 3, 4]
    clock.advance_s(101)
    spool.flush()
    assert numbers(tmp_path) == []
    assert records(tmp_path, Dictionary), "the running epoch's dictionary stays"
    spool.close()


def test_an_acknowledgement_rides_along_with_the_next_append(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.append([batch(0, 1)])
    spool.marks.acknowledge(spool.epoch, 1, 3)
    assert spool.state().pending_batches == 3
    spool.append([batch(1, 1)])
    assert spool.state().pending_batches == 1
    spool.close()


def test_an_old_epochs_dictionary_goes_with_its_last_batch(tmp_path: Path) -> None:
    clock = ManualClock(BEGIN_US)
    first = open_spool(tmp_path, clock=clock, retain_acked_s=0.0)
    first.append([batch(0, 1), batch(1, 1)])
    first.marks.acknowledge(first.epoch, 1, 3)
    first.close()
    second = open_spool(tmp_path, clock=clock, retain_acked_s=0.0)
    clock.advance_s(1)
    second.flush()
    assert len(records(tmp_path, Dictionary)) == 2, "a batch of the first epoch still waits, so its dictionary is kept"
    second.marks.acknowledge(first.epoch, 4, 4)
    for _ in range(3):
        second.flush()
        clock.advance_s(1)
    assert {found.batch.header.epoch for found in contents(tmp_path)} == {second.epoch}
    second.close()


def test_another_database_is_offered_everything_again(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.append([batch(0, 5)])
    assert not spool.meet("one")
    spool.marks.acknowledge(spool.epoch, 1, 3)
    spool.flush()
    assert spool.state().pending_batches == 0
    assert spool.meet("two")
    spool.flush()
    assert spool.state().pending_batches == 3
    spool.close()
    assert open_and_close_incarnation(tmp_path) == "two"


def open_and_close_incarnation(folder: Path) -> str:
    spool = open_spool(folder)
    spool.close()
    return spool.incarnation


def test_a_relabelled_batch_gets_an_identity_and_names_of_the_running_epoch(tmp_path: Path) -> None:
    first = open_spool(tmp_path)
    first.append([batch(0, 4, series=2)])
    first.close()
    second = open_spool(tmp_path)
    victim = next(found for found in contents(tmp_path) if found.batch.header.kind is Kind.DATA)
    second.marks.relabel(victim.id, first.epoch, 3)
    second.flush()
    second.close()
    after = next(found for found in contents(tmp_path) if found.id == victim.id)
    assert after.batch.header.epoch == second.epoch
    columns = after.batch.content.columns  # type: ignore[union-attr]
    assert columns.raw.tolist() == [0, 1, 2, 3]
    adopted = {entry.ref: entry.sensor for record in records(tmp_path, Dictionary) for entry in record.series}
    assert adopted[int(columns.series[0])] == "sensor 2"


def test_a_conflict_in_the_running_epoch_opens_a_new_one(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.append([batch(0, 2)])
    before = spool.epoch
    spool.marks.relabel(3, before, 3)
    spool.flush()
    assert spool.epoch != before
    spool.append([batch(2, 1)])
    spool.close()
    assert sorted(numbers(tmp_path)) == [0, 1, 2]
    declared = [r for r in contents(tmp_path) if isinstance(r.batch.content, Dictionary)]
    assert spool.epoch in {found.batch.header.epoch for found in declared}


def test_an_operators_requests_are_carried_out(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.append([batch(0, 1), batch(1, 1)])
    spool.marks.quarantine(3, "not_yours")
    spool.marks.quarantine(4, "not_yours")
    spool.flush()
    assert spool.state().quarantined_batches == 2
    with sqlite3.connect(tmp_path / "spool.db") as db:
        db.execute("INSERT INTO requests (verb, batch_id) VALUES ('resend', 3), ('discard', 4)")
    db.close()
    spool.flush()
    assert spool.state().quarantined_batches == 0
    assert numbers(tmp_path) == [0]
    spool.close()


def test_the_reader_gives_pending_batches_page_by_page(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.append([batch(number, 1) for number in range(10)])
    reader = SpoolReader(spool.path)
    first = reader.pending(0, limit=5, bytes_max=1 << 20)
    assert [one.seq for one in first] == [1, 2, 3, 4, 5]
    assert [one.seq for one in reader.pending(first[-1].id, limit=50, bytes_max=1 << 20)] == [6, 7, 8, 9, 10, 11, 12]
    assert len(reader.pending(0, limit=50, bytes_max=1)) == 1
    reader.close()
    spool.close()


def test_depth_is_the_same_before_and_after_reopening(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.append([batch(0, 5), batch(5, 5)])
    spool.marks.acknowledge(spool.epoch, 3, 3)
    spool.marks.quarantine(4, "corrupt")
    spool.flush()
    before = spool.state()
    spool.close()
    after = open_spool(tmp_path)
    state = after.state()
    after.close()
    assert (state.pending_batches, state.pending_readings) == (before.pending_batches + 2, before.pending_readings)
    assert state.quarantined_batches == before.quarantined_batches == 1


def test_what_is_claimed_to_be_taken_is_in_the_time_of_the_batchs_own_clock_segment(tmp_path: Path) -> None:
    clock = ManualClock(BEGIN_US)
    spool = open_spool(tmp_path, clock=clock)
    spool.append([batch(1000, 1)])
    clock.step_s(-3600)
    spool.note(Gap("overflow", BEGIN_US, BEGIN_US))
    spool.append([batch(0, 1, segment=2)])
    spool.close()
    claimed = [(one.batch.header.clock_segment, one.batch.header.taken_through_us) for one in contents(tmp_path)]
    assert claimed == [(1, 0), (1, 0), (1, BEGIN_US + 1_000_000), (2, 0), (2, BEGIN_US)]


def test_an_epoch_that_takes_over_says_again_what_is_known_of_the_clock(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.append([batch(0, 1)])
    spool.note(record := ClockRecord(1, BEGIN_US, 250, 40, BEGIN_US))
    spool.append([batch(1, 1)])
    [data, *_] = [one for one in contents(tmp_path) if one.batch.header.kind is Kind.DATA]
    first = spool.epoch
    spool.marks.relabel(data.id, first, data.batch.header.seq)
    spool.flush()
    spool.close()
    told = [one.batch.header.epoch for one in contents(tmp_path) if one.batch.content == record]
    assert told == [first, spool.epoch]
