"""Gap records about batches of this spool.

They are joined, so that a long outage leaves a few large ones instead of filling the spool with small ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec

from agent.spool.store import Row
from shared.errors import WireError
from shared.records import Gap
from shared.wire import Batch, decode

JOINED_BYTES_MAX = 48 * 1024
"""A record as large as this is left as it is, and the next one begins anew."""
UNREADABLE = "unreadable"
"""Why a batch is in quarantine that does not verify; a record of its loss was written with that."""


def unreadable(row: Row, epoch: bytes) -> Gap:
    """What is lost with a batch of readings that does not verify: how many there were, and nothing of which series."""
    return Gap("corrupt", row.from_us, row.to_us, row.readings, batches=[(epoch.hex(), row.seq, row.seq)])


def clock_of(batch: Batch) -> tuple[str, int]:
    """Epoch and segment of the clock in whose time a gap record is."""
    own = batch.header.epoch.hex(), batch.header.clock_segment
    return batch.content.clock or own if isinstance(batch.content, Gap) else own


def merged(before: bytes, gap: Gap, identity: tuple[str, int]) -> Gap | None:
    """One record for two of the same cause and clock, which also explains why the first one's own identity never comes.

    Args:
        before: the earlier record's batch.
        identity: its epoch (hex) and seq.

    Returns: None where they are not to be joined.
    """
    try:
        batch = decode(before)
    except WireError:
        return None
    earlier = batch.content
    if not isinstance(earlier, Gap) or (earlier.cause, earlier.clock) != (gap.cause, gap.clock):
        return None
    if len(before) > JOINED_BYTES_MAX or min(earlier.readings, gap.readings) < 0:
        return None
    epoch, seq = identity
    joined = Gap(
        cause=gap.cause,
        from_us=min(earlier.from_us, gap.from_us),
        to_us=max(earlier.to_us, gap.to_us),
        readings=earlier.readings + gap.readings,
        counts=_added(earlier.counts, gap.counts),
        batches=ranges([*earlier.batches, *gap.batches, (epoch, seq, seq)]),
        clock=gap.clock,
    )
    return joined if len(msgspec.json.encode(joined)) <= 4 * JOINED_BYTES_MAX else None


def _added(*parts: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    counts: Counter[int] = Counter()
    for part in parts:
        for ref, count in part:
            counts[ref] += count
    return sorted(counts.items())


def ranges(batches: Iterable[tuple[str, int, int]]) -> list[tuple[str, int, int]]:
    """The same identities in as few ranges as possible."""
    joined: list[tuple[str, int, int]] = []
    for epoch, first, last in sorted(batches):
        if joined and joined[-1][0] == epoch and first <= joined[-1][2] + 1:
            joined[-1] = (epoch, joined[-1][1], max(last, joined[-1][2]))
        else:
            joined.append((epoch, first, last))
    return joined
