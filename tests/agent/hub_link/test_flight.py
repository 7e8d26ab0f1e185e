from __future__ import annotations

from agent.hub_link.flight import ALONE_AFTER, GIVEN_UP_AFTER, TIMEOUT_S_MAX, Timeout, Window
from agent.spool.batch import StoredBatch
from shared.wire import Kind

EPOCH = b"e" * 16


def stored(seq: int, size: int = 100) -> StoredBatch:
    return StoredBatch(seq, EPOCH, seq, Kind.DATA, 1, 0, 0, bytes(size))


def window(*seqs: int, granted: int = 64, size: int = 100) -> Window:
    made = Window(granted=granted)
    made.add([stored(seq, size) for seq in seqs])
    return made


def seqs(message: list[StoredBatch]) -> list[int]:
    return [batch.seq for batch in message]


def test_the_oldest_go_first_and_no_more_than_granted() -> None:
    some = window(1, 2, 3, 4, 5, granted=3)
    assert seqs(some.next_message(0.0, 1 << 20)) == [1, 2, 3]
    assert seqs(some.next_message(0.0, 1 << 20)) == []
    some.acknowledge(EPOCH, 1, 2, 0.1)
    assert seqs(some.next_message(0.1, 1 << 20)) == [4, 5]


def test_a_message_holds_what_fits_and_at_least_one() -> None:
    some = window(1, 2, 3, size=100)
    assert seqs(some.next_message(0.0, 250)) == [1, 2]
    assert seqs(some.next_message(0.0, 10)) == [3]


def test_what_stays_unanswered_is_sent_again_and_all_of_it_after_a_reconnect() -> None:
    some = window(1, 2)
    some.next_message(0.0, 1 << 20)
    assert seqs(some.next_message(1.0, 1 << 20)) == []
    assert seqs(some.next_message(20.0, 1 << 20)) == [1, 2]
    some.all_due()
    assert seqs(some.next_message(20.0, 1 << 20)) == [1, 2]


def test_the_time_out_doubles_up_to_a_limit_while_nothing_passes() -> None:
    some = window(1)
    now_s, waits = 0.0, []
    for _ in range(8):
        assert some.next_message(now_s, 1 << 20)
        due_s = some.next_due_s()
        assert due_s is not None
        waits.append(due_s - now_s)
        now_s = due_s
    assert waits[1] > waits[0]
    assert all(wait <= TIMEOUT_S_MAX * 1.2 for wait in waits)
    assert waits[-1] >= TIMEOUT_S_MAX * 0.8


def test_one_that_never_answers_is_sent_alone_and_given_up_while_others_pass() -> None:
    some = window(1)
    alone = together = 0
    for other in range(2, 100):
        some.add([stored(other)])
        message = some.next_message(other * 1000.0, 1 << 20)
        assert 1 in seqs(message)
        alone, together = (alone + 1, together) if seqs(message) == [1] else (alone, together + 1)
        if seqs(message) == [1]:
            assert seqs(some.next_message(other * 1000.0, 1 << 20)) == [other]
        some.acknowledge(EPOCH, other, other, other * 1000.0)
        if given_up := some.give_up():
            break
    assert seqs(given_up) == [1]
    assert (together, alone) == (ALONE_AFTER, GIVEN_UP_AFTER)
    assert some.flights == {}


def test_nothing_is_given_up_while_nothing_passes() -> None:
    some = window(1)
    for round_ in range(100):
        assert seqs(some.next_message(round_ * 1000.0, 1 << 20)) == [1]
        assert some.give_up() == []


def test_parked_batches_leave_the_window_to_others() -> None:
    some = window(1, 2, 3, granted=2)
    some.next_message(0.0, 1 << 20)
    assert some.park(EPOCH, 1, 2, 5.0) == [1, 2]
    assert seqs(some.next_message(0.0, 1 << 20)) == [3]
    assert some.unpark(4.0, 10) == []
    assert some.unpark(5.0, 10) == [1, 2]


def test_a_batch_is_never_under_way_twice() -> None:
    some = window(1, 2)
    some.next_message(0.0, 1 << 20)
    assert some.add([stored(1), stored(2), stored(3)]) == [3]


def test_an_acknowledgement_also_takes_what_has_not_been_sent() -> None:
    some = window(1, 2, 3, granted=1)
    some.next_message(0.0, 1 << 20)
    assert some.acknowledge(EPOCH, 1, 2, 0.1) == [1, 2]
    assert seqs(some.next_message(0.1, 1 << 20)) == [3]


def test_the_time_out_follows_the_latency() -> None:
    timeout = Timeout()
    for _ in range(50):
        timeout.observe(3.0)
    assert 2.4 <= timeout.seconds(0, 0.5) <= 4.0
