"""Which profile is in force when, for one sensor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from uuid import UUID

import numpy as np

from shared.readings import Int64

SINCE_EVER_US = -(1 << 63)
FOR_EVER_US = (1 << 63) - 1
NO_PROFILE = 0


@dataclass(frozen=True, slots=True)
class Term:
    """A profile's time in force: from `from_us` until before `to_us`.

    Attributes:
        profile: its place in the hub's `ProfileTable`, from 1.
        decided_us: when it was published, or ruled.
        is_ruling: whether a recalculation has decided it, over all that was published until then.
        is_split: whether it is for some sessions only, over all profiles that are for every session.
        session_ids: for which readings: None for all; empty for those that name no session; else for posts that name
            one of these.
    """

    profile: int
    from_us: int = SINCE_EVER_US
    to_us: int = FOR_EVER_US
    decided_us: int = SINCE_EVER_US
    is_ruling: bool = False
    is_split: bool = False
    session_ids: frozenset[UUID] | None = None


class Timeline:
    """The profiles of one sensor over time, without overlap: where two hold, the one that began later does.

    Agents decide by the same rule, so that what they converted with is what is in force here. Within a session that a
    profile was split off for, that one holds, whatever is published for all sessions; of two such, the later one. A
    recalculation rules for a stretch of the past, of which agents know nothing: its profile holds there until another
    one is published that would hold there.

    Args:
        terms: of two that began together the first holds, of splits and rulings the last.

    Attributes:
        last_from_us, last_profile: from when on the last stretch holds, for ever, and what holds then.
    """

    __slots__ = ("_profiles", "_starts", "last_from_us", "last_profile")

    def __init__(self, terms: Sequence[Term] = ()) -> None:
        stretches = list(_stretches(terms))
        kept = [one for place, one in enumerate(stretches) if place == 0 or one[1] != stretches[place - 1][1]]
        self._starts = np.array([start_us for start_us, _ in kept], np.int64)
        self._profiles = np.array([profile for _, profile in kept], np.int64)
        self.last_from_us, self.last_profile = kept[-1]

    def at(self, time_us: Int64) -> Int64:
        """The profile in force at each time, 0 where there is none.

        Args:
            time_us: int64 (n,)
        """
        return self._profiles[np.searchsorted(self._starts, time_us, side="right") - 1]


class _Last:
    """Of the terms that have begun, the last in their order that has not ended."""

    __slots__ = ("_begun",)

    def __init__(self) -> None:
        self._begun: list[tuple[int, Term]] = []

    def begin(self, place: int, term: Term) -> None:
        heappush(self._begun, (-place, term))

    def at(self, time_us: int) -> Term | None:
        """Times are asked for in their order: what has ended by then is forgotten."""
        while self._begun and self._begun[0][1].to_us <= time_us:
            heappop(self._begun)
        return self._begun[0][1] if self._begun else None


def _stretches(terms: Sequence[Term]) -> Iterator[tuple[int, int]]:
    """(start, profile) from each start of a term and each end on.

    A sensor may have been in thousands of sessions, and recalculated as often; of its other profiles few overlap.
    """
    begun: dict[int, list[int]] = {SINCE_EVER_US: []}
    for place, term in enumerate(terms):
        if term.from_us < term.to_us:
            begun.setdefault(term.from_us, []).append(place)
            begun.setdefault(term.to_us, [])
    begun.pop(FOR_EVER_US, None)
    splits, rulings, others = _Last(), _Last(), list[Term]()
    for start_us in sorted(begun):
        others = [term for term in others if term.to_us > start_us]
        for place in begun[start_us]:
            term = terms[place]
            if term.is_ruling or term.is_split:
                (rulings if term.is_ruling else splits).begin(place, term)
            else:
                others.append(term)
        yield start_us, _decided(splits.at(start_us), others, rulings.at(start_us))


def _decided(split: Term | None, others: Sequence[Term], ruling: Term | None) -> int:
    """The profile of the term that holds over the others, of all that hold."""
    published = others if split is None else [split]
    if ruling is not None:
        published = [term for term in published if term.decided_us > ruling.decided_us] or [ruling]
    return max(published, key=lambda term: term.from_us).profile if published else NO_PROFILE


class NamedTimelines:
    """The timelines of one sensor for posts that name their session: a post obeys what was ruled for that one alone.

    Args:
        terms: of the sensor, those for readings that name no session included.
    """

    __slots__ = ("_found", "_sessions", "_terms")

    def __init__(self, terms: Sequence[Term]) -> None:
        self._terms = terms
        self._sessions = frozenset[UUID]().union(*(term.session_ids or () for term in terms))
        self._found: dict[UUID | None, Timeline] = {}

    def of(self, session_id: UUID) -> Timeline:
        """For posts that name this session."""
        key = session_id if session_id in self._sessions else None
        if key not in self._found:
            holding = [one for one in self._terms if one.session_ids is None or key in one.session_ids]
            self._found[key] = Timeline(holding)
        return self._found[key]


RAW_FOR_EVER = Timeline()
