"""Exported spools are cut into their batches however they arrive, and damage costs what is damaged."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import assume, given
from hypothesis import strategies as st

from hub.database.ids import uuid7
from hub.ingest.spool_file import SpoolFile
from shared import wire
from tests.hub.ingest.conftest import Agent, columns

AGENT = Agent(uuid7())
BATCHES = [
    AGENT.seal(wire.data_body(columns([1] * size, range(size), [0.5] * size), derivable=False)) for size in (1, 300, 7)
]
FILE = b"".join(BATCHES)
VERSION_AT = 3


def _seqs(pieces: list[bytes]) -> tuple[list[int], int]:
    file = SpoolFile()
    found = [one for piece in pieces for one in file.feed(piece)] + list(file.end())
    return [one.batch.header.seq for one in found if one.batch is not None], file.unreadable_bytes


@given(st.lists(st.integers(0, len(FILE)), max_size=20))
def test_pieces_do_not_matter(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(FILE)]
    assert _seqs([FILE[start:end] for start, end in pairwise(edges)]) == ([1, 2, 3], 0)


@given(st.integers(0, len(FILE) - 1), st.integers(1, 255))
def test_a_flipped_byte_costs_its_batch_and_no_other(place: int, flip: int) -> None:
    ends = [len(b"".join(BATCHES[: count + 1])) for count in range(3)]
    hit = next(number for number, end in enumerate(ends) if place < end)
    assume(place - ends[hit] + len(BATCHES[hit]) != VERSION_AT)
    damaged = bytearray(FILE)
    damaged[place] ^= flip
    seqs, unreadable = _seqs([bytes(damaged)])
    assert seqs == [seq for seq in (1, 2, 3) if seq != hit + 1]
    assert unreadable == len(BATCHES[hit])


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_what_stands_around_batches_is_counted(before: bytes, behind: bytes) -> None:
    seqs, unreadable = _seqs([before + FILE + behind])
    assert (seqs, unreadable) == ([1, 2, 3], len(before) + len(behind))


def test_a_version_of_the_future_is_told_apart() -> None:
    future = bytearray(BATCHES[0])
    future[VERSION_AT] = 99
    found = list(SpoolFile().feed(bytes(future) + BATCHES[1]))
    assert [one.batch is None for one in found] == [True, False]
