"""The bodies of batches that are not readings: how an epoch opens, its dictionary, gaps, clock offsets. JSON inside.

They travel through spool, wire and ledger exactly like data, so what they say is neither lost nor told twice.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar
from uuid import UUID

import msgspec

from shared.errors import CorruptBatch
from shared.readings import DEFAULT_SIGNAL

ENTRIES_MAX = 500
"""Series or profiles in one dictionary batch; a larger dictionary takes several."""

ADOPTED_FROM = 0x8000_0000
"""References and clock segments from here on stand for those of other epochs, in no order."""

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Ref = Annotated[int, msgspec.Meta(ge=1, le=0xFFFFFFFF)]
Epoch = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]


class Opening(msgspec.Struct, frozen=True, omit_defaults=True):
    """First batch (seq 1) of every epoch: which epoch came before it, and that one's last seq.

    Attributes:
        previous_epoch: 32 hex digits, empty for an agent's first epoch.
        started_us: when the process started, by its own clock.
    """

    started_us: int
    previous_epoch: Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{32})?$")] = ""
    previous_last_seq: Count = 0
    version: str = ""
    host: str = ""


class SeriesEntry(msgspec.Struct, frozen=True, array_like=True):
    """What a series reference of this epoch stands for. Sensors are bound by name."""

    ref: Ref
    sensor: Name
    signal: Name = DEFAULT_SIGNAL
    unit: Annotated[str, msgspec.Meta(max_length=50)] = ""


class ProfileEntry(msgspec.Struct, frozen=True, array_like=True):
    """What a profile reference of this epoch stands for."""

    ref: Ref
    profile_id: UUID


class Dictionary(msgspec.Struct, frozen=True, omit_defaults=True):
    """Additions to the epoch's dictionary; precede their first use in seq order."""

    series: Annotated[list[SeriesEntry], msgspec.Meta(max_length=ENTRIES_MAX)] = []
    profiles: Annotated[list[ProfileEntry], msgspec.Meta(max_length=ENTRIES_MAX)] = []


class Gap(msgspec.Struct, frozen=True, omit_defaults=True):
    """Readings that will never come, and why.

    Attributes:
        cause: `quota_oldest` and `quota_thin` dropped from the spool, `blocked` not taken because the spool was full,
            `downtime` between the last watermark and this start, `corrupt` unreadable on disk, `overflow` not accepted
            by the agent's own queue.
        from_us, to_us: the time concerned.
        readings: how many, -1 where nobody can know (the agent was not running).
        counts: per series reference of this epoch.
        batches: identities that will not come: epoch (hex), first and last seq.
        clock: epoch (hex) and clock segment in whose time they are, where that is not the record's own.
    """

    cause: Literal["quota_oldest", "quota_thin", "blocked", "downtime", "corrupt", "overflow"]
    from_us: int
    to_us: int
    readings: int = -1
    counts: list[tuple[int, int]] = []
    batches: list[tuple[str, int, int]] = []
    clock: tuple[Epoch, Annotated[int, msgspec.Meta(ge=0, le=0xFFFFFFFF)]] | None = None


class ClockRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of a clock segment. One is written as it opens, and one whenever the hub's clock was asked.

    Attributes:
        segment: number within the epoch.
        opened_us: the segment's first moment, by the segment's own clock.
        offset_us: hub minus agent; 0 unless measured.
        uncertainty_us: half the round trip of the best exchange; of `system`, the greatest error that the operating
            system admits; of `none`, -1.
        measured_us: when, by the segment's own clock.
        step_us: by how much the system's clock had been stepped as the segment opened.
        source: `hub` measured against the hub; `system` the operating system vouches for its clock (it is kept by a
            time service); `none` nobody does.
    """

    segment: int
    opened_us: int
    offset_us: int
    uncertainty_us: int
    measured_us: int
    step_us: int = 0
    source: Literal["hub", "system", "none"] = "hub"


Record = Opening | Dictionary | Gap | ClockRecord
R = TypeVar("R", bound=msgspec.Struct)

_encoder = msgspec.json.Encoder()


def encode_record(record: Record) -> bytes:
    """The record's body."""
    return _encoder.encode(record)


def decode_record(body: bytes | memoryview, kind: type[R]) -> R:
    """The record in a body. Raises: CorruptBatch."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptBatch(f"not a {kind.__name__} record: {error}") from None
