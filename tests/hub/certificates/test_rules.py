"""Whom a certificate waits for, against a model that knows every sample."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from hub.agents.epochs import Range
from hub.certificates.rules import Epoch, Span, WaitReason, count, is_concerned, standing_of, within


@dataclass(frozen=True)
class Run:
    """One run of an agent: a batch each second from `start`, each with the sample of its second."""

    start: int
    length: int
    came: frozenset[int]
    """Seqs that the hub has."""

    @property
    def seqs(self) -> range:
        return range(1, self.length + 1)

    def sample_at(self, seq: int) -> int:
        return self.start + seq


@st.composite
def runs(draw: st.DrawFn) -> Run:
    length = draw(st.integers(1, 12))
    return Run(draw(st.integers(0, 20)), length, frozenset(draw(st.sets(st.integers(1, length), min_size=1))))


def seen(run: Run, window: Span, *, told: bool, ended: int | None, closed: bool) -> Epoch:
    """What the hub knows of a run: batch `seq` says that all up to its own sample was taken."""
    claims = {seq: run.sample_at(seq) for seq in run.came}
    return Epoch(
        started_us=run.start,
        ended_us=ended,
        through_us=max(claims.values()),
        last_seq=max(max(run.came), run.length if told else 0),
        told_last_seq=run.length if told else None,
        has_followers=ended is not None,
        closed=closed,
        known=[Range(seq, seq) for seq in run.came],
        covering_seq=min((seq for seq, through in claims.items() if through >= window.to_us), default=None),
        before_seq=max((seq for seq, through in claims.items() if through < window.from_us), default=0),
    )


@given(runs(), st.integers(0, 25), st.integers(1, 15), st.booleans(), st.booleans())
def test_nothing_is_waited_for_exactly_when_nothing_of_the_window_can_still_come(
    run: Run, start: int, length: int, told: bool, followed: bool
) -> None:
    window = Span(start, start + length)
    ended = run.start + run.length + 1 if told or followed else None
    epoch = seen(run, window, told=told, ended=ended, closed=False)
    lost = [seq for seq in run.seqs if seq not in run.came and window.from_us <= run.sample_at(seq) < window.to_us]
    if not is_concerned(epoch, window):
        assert not lost
        return
    standing = standing_of(epoch)
    if standing.reason is None:
        assert not lost
    if lost and standing.reason is WaitReason.BATCHES:
        assert any(one.first <= seq <= one.last for one in standing.missing for seq in lost) or not told
    if set(run.seqs) == run.came and told:
        assert standing.reason is None, "all is here, and its end is known"


@given(runs(), st.integers(0, 25), st.integers(1, 15))
def test_an_epoch_that_an_owner_closed_waits_for_nothing_and_names_its_holes(run: Run, start: int, length: int) -> None:
    window = Span(start, start + length)
    standing = standing_of(seen(run, window, told=False, ended=None, closed=True))
    assert standing.reason is None
    assert not {seq for one in standing.missing for seq in range(one.first, one.last + 1)} & run.came


def test_an_epoch_that_goes_on_has_to_say_so_and_one_that_does_not_has_no_known_end() -> None:
    run, window = Run(0, 3, frozenset({1, 2, 3})), Span(0, 10)
    assert standing_of(seen(run, window, told=False, ended=None, closed=False)).reason is WaitReason.TAKEN_THROUGH
    assert standing_of(seen(run, window, told=False, ended=12, closed=False)).reason is WaitReason.UNKNOWN_TAIL


def test_ranges_are_cut_and_counted() -> None:
    assert within([Range(1, 3), Range(5, 9)], Range(3, 6)) == [Range(3, 3), Range(5, 6)]
    assert count([Range(3, 3), Range(5, 6)]) == 3
