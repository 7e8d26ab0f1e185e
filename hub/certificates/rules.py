"""When a session is complete, and whom it waits for otherwise. Pure; times are UTC microseconds, corrected.

An agent's epochs follow one another, and an epoch's batches do so by their seq. Some of them say through when
everything was taken (`taken_through`). So what an epoch has of a window is known to be here once one of its batches
says so for a time at or after the window's end, and all batches up to that one are stored, or named by a gap record. An
epoch that has ended before needs all of its batches, and one whose end nobody knows (an unknown tail) an owner who
closes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from hub.agents.epochs import Range, missing


class State(StrEnum):
    """How far a certificate has come."""

    OPEN = "open"
    WAITING = "waiting"
    FINAL = "final"


class WaitReason(StrEnum):
    """What is still to come before a certificate is final."""

    TAKEN_THROUGH = "taken_through"
    BATCHES = "batches"
    UNKNOWN_TAIL = "unknown_tail"
    UNSEEN_EPOCH = "unseen_epoch"
    UNHEARD_AGENT = "unheard_agent"
    CLOCK = "clock"
    BACKFILL = "backfill"


@dataclass(frozen=True, slots=True)
class Span:
    """From `from_us` to before `to_us`."""

    from_us: int
    to_us: int


@dataclass(frozen=True, slots=True)
class Epoch:
    """What is known of an epoch.

    Attributes:
        started_us: None where its clock has no place yet.
        ended_us: when the next epoch began, None where none is known to have followed.
        through_us: all samples up to then were taken in batches that came; None where none says so.
        last_seq: that anybody has told of.
        told_last_seq: of its successor, None without one.
        has_followers: the agent has gone on in another epoch, or is not to go on.
        closed: an owner has said that nothing more will come.
        known, explained: batches that are stored, and that gap records name.
        covering_seq: the first one that says all up to the window's end was taken, None if none does.
        before_seq: the last one that says so for a time before the window, 0 if none does.
    """

    started_us: int | None
    ended_us: int | None
    through_us: int | None
    last_seq: int
    told_last_seq: int | None
    has_followers: bool
    closed: bool
    known: Sequence[Range] = ()
    explained: Sequence[Range] = ()
    covering_seq: int | None = None
    before_seq: int = 0


@dataclass(frozen=True, slots=True)
class Standing:
    """How an epoch stands to a window.

    Attributes:
        reason: what it waits for, None for nothing.
        seqs: the batches that may have readings of the window, as far as is known.
        missing: those of them that are neither stored nor explained.
    """

    reason: WaitReason | None
    seqs: Range
    missing: Sequence[Range]


def is_concerned(epoch: Epoch, window: Span) -> bool:
    """Whether an epoch may have samples of the window."""
    if epoch.started_us is not None and epoch.started_us >= window.to_us:
        return False
    if epoch.ended_us is not None and epoch.ended_us <= window.from_us:
        return False
    ended = epoch.closed or epoch.told_last_seq is not None
    complete = epoch.last_seq >= (epoch.told_last_seq or 0) and not missing(
        epoch.last_seq, (*epoch.known, *epoch.explained)
    )
    before = epoch.through_us is not None and epoch.through_us < window.from_us
    return not (before and ended and (complete or epoch.closed))


def standing_of(epoch: Epoch) -> Standing:
    """What an epoch that is concerned still has to say."""
    last = epoch.covering_seq or max(epoch.last_seq, epoch.told_last_seq or 0)
    seqs = Range(min(epoch.before_seq + 1, last), last)
    holes = within(missing(last, (*epoch.known, *epoch.explained)), seqs)
    if epoch.closed:
        return Standing(None, seqs, holes)
    if holes:
        return Standing(WaitReason.BATCHES, seqs, holes)
    if epoch.covering_seq is not None or epoch.told_last_seq is not None:
        return Standing(None, seqs, ())
    return Standing(WaitReason.UNKNOWN_TAIL if epoch.has_followers else WaitReason.TAKEN_THROUGH, seqs, ())


def within(ranges: Iterable[Range], bounds: Range) -> list[Range]:
    """The parts of the ranges that lie within the bounds."""
    cut = (Range(max(one.first, bounds.first), min(one.last, bounds.last)) for one in ranges)
    return [one for one in cut if one.first <= one.last]


def count(ranges: Iterable[Range]) -> int:
    """How many seqs the ranges have."""
    return sum(one.last - one.first + 1 for one in ranges)
