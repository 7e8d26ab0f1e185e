"""The order of messages in streams, apart from any database."""

from __future__ import annotations

from uuid import UUID

import pytest

from hub.ingest.streams import StreamPlace, Turn, turns

KEY = (UUID(int=1), "s")
OTHER = (UUID(int=2), "s")


@pytest.mark.parametrize(
    ("places", "last_seq", "expected"),
    [
        ([(1, 0), (2, 1)], 0, [Turn.NEXT, Turn.NEXT]),
        ([(3, 2), (4, 3)], 3, [Turn.KNOWN, Turn.NEXT]),
        ([(3, 2), (4, 3)], 1, [Turn.EARLY, Turn.EARLY]),
        ([(9, 4)], 4, [Turn.NEXT]),
        ([(1, 0), (1, 0), (2, 1)], 0, [Turn.NEXT, Turn.KNOWN, Turn.NEXT]),
    ],
)
def test_a_message_goes_in_once_and_only_behind_the_one_before_it(
    places: list[tuple[int, int]], last_seq: int, expected: list[Turn]
) -> None:
    messages = [(at, KEY, StreamPlace("s", seq, after)) for at, (seq, after) in enumerate(places)]
    assert turns(messages, {KEY: last_seq}) == expected


def test_streams_do_not_wait_for_one_another() -> None:
    messages = [(0, KEY, StreamPlace("s", 5, 4)), (1, OTHER, StreamPlace("s", 1, 0))]
    assert turns(messages, {KEY: 0, OTHER: 0}) == [Turn.EARLY, Turn.NEXT]
