"""What an agent says that the hub has acknowledged."""

from __future__ import annotations

import sys
import threading

from agent.hub_link.claims import BATCHES_MAX, RANGES_MAX, Claims
from shared.messages import EpochRange

ONE, OTHER = "1" * 32, "2" * 32


def said(claims: Claims) -> list[tuple[str, int, int]]:
    return [(part.epoch, part.first, part.last) for part in claims.ranges()]


def test_ranges_are_joined_in_whatever_order_they_come() -> None:
    claims = Claims()
    for first, last in ((5, 6), (1, 2), (3, 4), (2, 3)):
        claims.add(EpochRange(ONE, first, last))
    assert said(claims) == [(ONE, 1, 6)]


def test_a_hole_stays_a_hole() -> None:
    claims = Claims()
    claims.add(EpochRange(ONE, 1, 2))
    claims.add(EpochRange(ONE, 4, 4))
    assert said(claims) == [(ONE, 1, 2), (ONE, 4, 4)]


def test_only_the_latest_are_kept() -> None:
    claims = Claims()
    claims.add(EpochRange(OTHER, 1, 10))
    for seq in range(1, 4 * RANGES_MAX, 2):
        claims.add(EpochRange(ONE, seq, seq))
    assert len(said(claims)) == RANGES_MAX
    assert said(claims)[-1] == (ONE, 4 * RANGES_MAX - 1, 4 * RANGES_MAX - 1)
    assert OTHER not in {epoch for epoch, *_ in said(claims)}
    claims.clear()
    claims.add(EpochRange(ONE, 1, BATCHES_MAX + 5))
    assert said(claims) == [(ONE, 6, BATCHES_MAX + 5)]


def test_nothing_is_claimed_of_another_database() -> None:
    claims = Claims()
    claims.add(EpochRange(ONE, 1, 2))
    claims.clear()
    assert said(claims) == []


def test_another_thread_may_read_them_while_they_change() -> None:
    claims, ended = Claims(), threading.Event()
    before_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def change() -> None:
        for seq in range(4_000):
            claims.add(EpochRange(f"{seq % 40:032x}", seq + 1, seq + 1))
        ended.set()

    thread = threading.Thread(target=change)
    thread.start()
    try:
        while not ended.is_set():
            assert len(claims.ranges()) <= RANGES_MAX
    finally:
        sys.setswitchinterval(before_s)
        thread.join()
