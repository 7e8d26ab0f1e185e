"""Profiles that hold for some sessions only, told so that an agent's own rule comes to what holds at the hub. Pure.

An agent knows profiles from a time on and until a time: of two, the one that began later holds; of two that began
together, the one that is listed first. So a split is told as a profile of its sessions' windows, listed first and begun
anew wherever one begins that holds for all sessions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import msgspec

from shared.messages import Profile

STRETCHES_MAX = 50
"""Of one sensor, the latest: agents convert what they take now, and the hub whatever else there is."""
_FOR_EVER_US = 1 << 63


def with_splits(profiles: Sequence[Profile], splits: Sequence[Profile]) -> list[Profile]:
    """What an agent is told of a sensor.

    Args:
        profiles: for all sessions, oldest first.
        splits: their windows; of two that overlap the later one in the list holds.
    """
    return [*_stretches(profiles, splits)[-STRETCHES_MAX:], *profiles] if splits else list(profiles)


def _stretches(profiles: Sequence[Profile], splits: Sequence[Profile]) -> list[Profile]:
    edges = sorted({*_starts([*profiles, *splits]), *(_end_us(one) for one in splits)})
    found = []
    for from_us, to_us in pairwise([*edges, _FOR_EVER_US]):
        holding = [one for one in splits if (one.valid_from_us or 0) <= from_us < _end_us(one)]
        if holding:
            until_us = None if to_us == _FOR_EVER_US else to_us
            found.append(msgspec.structs.replace(holding[-1], valid_from_us=from_us, valid_to_us=until_us))
    return found


def _starts(profiles: Iterable[Profile]) -> list[int]:
    return [one.valid_from_us for one in profiles if one.valid_from_us is not None]


def _end_us(profile: Profile) -> int:
    return _FOR_EVER_US if profile.valid_to_us is None else profile.valid_to_us
