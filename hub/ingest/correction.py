"""What is added to the times of a clock segment: decided once, with its first readings, and never changed. Pure.

The order of what is believed, and the `basis` that is noted:

============  =====================================================================================================
`measured`    the hub's clock was asked in this segment; an offset within its own uncertainty is zero
`derived`     it was asked in another segment of the same process, and every step of the clock in between is known
`vouched`     the operating system kept its clock by a time service
`neighbours`  the segment fits between what came before and what came after, by the correction of either
`unstated`    nothing was said about its clock at all (a sender that has none to speak of): as sent
============  =====================================================================================================

Nothing of these: the segment has no place, and its readings are set aside until an owner gives it one.

Corrections keep the order of an agent's readings. One and the same number for a whole segment cannot reorder what is in
it; and a segment that would begin before its predecessor's end, by no more than both uncertainties explain, begins
right there. A greater overlap means that one of the two clocks was wrong by more than was known; then the measurement
stands as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from shared.records import ADOPTED_FROM

Basis = Literal["measured", "derived", "vouched", "neighbours", "unstated", "owner"]

OVERLAP_US = 1_000_000
"""Overlaps up to this much are taken for inexactness even where uncertainties are smaller (a clock that drifted)."""


class Placing(Enum):
    """What can be said about a segment's times now."""

    PLACED = "placed"
    LATER = "later"
    UNPLACED = "unplaced"


@dataclass(frozen=True, slots=True)
class Correction:
    """What is added to a segment's times.

    Attributes:
        uncertainty_us: ±, None where nobody knows.
    """

    correction_us: int
    uncertainty_us: int | None
    basis: Basis


@dataclass(frozen=True, slots=True)
class Segment:
    """What an agent has said about a segment; the fields are those of `shared.records.ClockRecord`."""

    segment: int
    opened_us: int
    offset_us: int
    uncertainty_us: int
    step_us: int
    source: str


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A segment whose correction is decided, before or after the one in question.

    Attributes:
        edge_us: its end (before) or its beginning (after), corrected.
    """

    edge_us: int
    correction_us: int
    uncertainty_us: int | None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is known around a segment.

    Attributes:
        own: what was said about it, None if nothing was.
        siblings: what was said about the segments of its epoch, by number, itself included.
        before: the segment right before it, if it has a place.
        after: the first that certainly came later, if it has one.
        enrolled_us: when the agent was enrolled, by the hub's clock; readings of an ended process came after it, if
            they do not say otherwise.
        ended: whether the segment's process is gone, so that nobody can measure it any more.
        from_us, through_us: the segment's readings (its opening included), by its own clock.
    """

    own: Segment | None
    siblings: Mapping[int, Segment]
    before: Neighbour | None
    after: Neighbour | None
    from_us: int
    through_us: int
    enrolled_us: int | None = None
    ended: bool = False


def decide(around: Surroundings) -> Correction | None:
    """The correction from what is certain; None where only neighbours, or an owner, can help."""
    own = around.own
    if own is None:
        return Correction(0, None, "unstated")
    if own.source == "hub":
        return in_order(offset_of(own.offset_us, own.uncertainty_us, "measured"), around)
    derived = _derived(own, around.siblings)
    if derived is not None:
        return in_order(derived, around)
    if own.source == "system":
        return in_order(Correction(0, own.uncertainty_us, "vouched"), around)
    return None


def fit(around: Surroundings) -> Correction | None:
    """The correction with which a segment that nobody vouches for lies between its neighbours, if one does.

    A machine's clock runs on through a restart, so the neighbours' own corrections are tried, the later one's first.
    For an agent's first segment its enrolment is what came before.
    """
    before, after = around.before, around.after
    edge_us = around.enrolled_us if before is None else before.edge_us
    if edge_us is None or after is None:
        return None
    for neighbour in (after, before or after):
        correction_us = neighbour.correction_us
        early_us = around.from_us + correction_us - edge_us
        late_us = after.edge_us - around.through_us - correction_us
        if early_us >= 0 and late_us >= 0:
            return Correction(correction_us, max(early_us, late_us), "neighbours")
    return None


def offset_of(offset_us: int, uncertainty_us: int, basis: Basis) -> Correction:
    """The correction for a measured offset: nothing where it does not exceed its own uncertainty."""
    return Correction(0 if abs(offset_us) <= uncertainty_us else offset_us, uncertainty_us, basis)


def in_order(found: Correction, around: Surroundings) -> Correction:
    """The correction, enlarged where the segment would begin a little before its predecessor's end."""
    before = around.before
    if before is None:
        return found
    overlap_us = before.edge_us - (around.from_us + found.correction_us) + 1
    tolerated_us = max((found.uncertainty_us or 0) + (before.uncertainty_us or 0), OVERLAP_US)
    if 0 < overlap_us <= tolerated_us:
        return Correction(found.correction_us + overlap_us, found.uncertainty_us, found.basis)
    return found


def _derived(own: Segment, siblings: Mapping[int, Segment]) -> Correction | None:
    """From the nearest measured segment of the process: a step moves the agent's clock alone, not the hub's."""
    measured = [one for one in siblings.values() if one.source == "hub" and one.segment < ADOPTED_FROM]
    if own.segment >= ADOPTED_FROM:
        return None
    for one in sorted(measured, key=lambda one: abs(one.segment - own.segment)):
        low, high = sorted((own.segment, one.segment))
        steps = _steps(range(low + 1, high + 1), siblings)
        if steps is not None:
            offset_us = one.offset_us + (steps if own.segment < one.segment else -steps)
            return offset_of(offset_us, one.uncertainty_us, "derived")
    return None


def _steps(numbers: Sequence[int], siblings: Mapping[int, Segment]) -> int | None:
    """The sum of the steps with which these segments opened; None where one is not known."""
    found = [siblings[number].step_us for number in numbers if number in siblings]
    return sum(found) if len(found) == len(numbers) else None
