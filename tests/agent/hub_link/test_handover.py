"""Batches that go straight from the writer to the uplink."""

from __future__ import annotations

from agent.hub_link.handover import HANDED_MAX, Handover
from agent.spool.batch import StoredBatch
from shared.wire import Kind


def batches(first: int, count: int) -> list[StoredBatch]:
    return [StoredBatch(n, b"e" * 16, n, Kind.DATA, 1, 0, 0, b"") for n in range(first, first + count)]


def test_what_is_offered_is_taken_once_in_its_order_and_wakes_once() -> None:
    woken: list[bool] = []
    handover = Handover(lambda: woken.append(True))
    assert handover.offer(batches(1, 2))
    assert handover.offer(batches(3, 1))
    assert handover.take() == (batches(1, 3), False)
    assert handover.take() == ([], False)
    assert len(woken) == 1
    handover.offer(batches(4, 1))
    assert len(woken) == 2


def test_what_there_is_no_room_for_is_refused_whole_and_said_to_be_missing() -> None:
    woken: list[bool] = []
    handover = Handover(lambda: woken.append(True))
    assert handover.offer(batches(1, HANDED_MAX - 1))
    assert not handover.offer(batches(HANDED_MAX, 2))
    assert handover.take() == (batches(1, HANDED_MAX - 1), True)
    assert handover.take() == ([], False)
    assert not handover.offer(batches(1, HANDED_MAX + 1))
    assert handover.take() == ([], True)
    assert len(woken) == 2, "who has nothing to take is told to look at the disk"
