"""The values of a group's readings: what senders left out is derived, what is stale converted anew. Pure.

The hub's published profiles decide by the reading's time, and recalculations over that. What the agent converted with
the profile in force is kept bit for bit; what came raw, or was converted with another profile, is converted from raw
with the one in force (the agent's value is not kept: its profile is, by `hub.ingest.previous`, and raw is, so it can be
had again). What a client provided is left alone, and a reading that failed at the instrument stays failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from hub.ingest.dictionary import UNKNOWN
from shared.columns import DecodedColumns, physical_digest
from shared.conversion import ProfileTable, before_conversion, convertible
from shared.readings import (
    FAILED_INFINITE,
    FAILED_NOT_A_NUMBER,
    Float64,
    Int64,
    Reason,
    Status,
    UInt8,
    status_byte,
)

_Scalar = TypeVar("_Scalar", bound=np.generic)

_CONVERTED = int(Status.CONVERTED)
_OVERFLOW = status_byte(Status.CONVERSION_FAILED, Reason.CONVERSION_OVERFLOW)


@dataclass(frozen=True, slots=True)
class Values:
    """What is stored of readings.

    Attributes:
        raw, physical: float64 (n,), NaN where there is none; finite otherwise.
        status: uint8 (n,), status bytes.
        profile: int64 (n,), place in the hub's `ProfileTable`, 0 for none.
        replaced: int64 (n,), the one that its sender had converted it with, where another is in force; else 0.
    """

    raw: Float64
    physical: Float64
    status: UInt8
    profile: Int64
    replaced: Int64


def derive(left_out: Sequence[tuple[DecodedColumns, Int64]], table: ProfileTable) -> list[Float64 | None]:
    """Physical columns that senders left out; None where one does not come out the same here, bit for bit.

    All are converted in one go: by the batch it would cost more than all the rest of the verdict.

    Args:
        left_out: contents, and int64 (n,), the places of the profiles that they were converted with.
    """
    if not left_out:
        return []
    sent = joined([profile for _, profile in left_out], np.int64)
    raw = joined([content.columns.raw for content, _ in left_out], np.float64)
    before = before_conversion(joined([content.columns.status for content, _ in left_out], np.uint8))
    physical, status = table.convert(np.maximum(sent, 0).astype(np.uint32), raw, before)
    physical[(status & 0x0F) != _CONVERTED] = np.nan
    columns: list[Float64 | None] = []
    start = 0
    for content, profile in left_out:
        derived = physical[start : start + len(profile)]
        columns.append(derived if _is_as_sent(content, profile, derived) else None)
        start += len(profile)
    return columns


def _is_as_sent(content: DecodedColumns, profile: Int64, derived: Float64) -> bool:
    """Whether a derived column is the sender's.

    With a profile that the hub does not know, nothing can be compared; its readings are converted anew anyway.
    """
    comparable = not len(profile) or int(profile.min()) != UNKNOWN
    return not comparable or physical_digest(derived) == content.physical_digest


def settle(raw: Float64, physical: Float64, status: UInt8, sent: Int64, expected: Int64, table: ProfileTable) -> Values:
    """The values as they are stored.

    Args:
        raw, physical: float64 (n,), as they were sent.
        status: uint8 (n,), the same.
        sent, expected: int64 (n,), places of the profiles that they were converted with, and of those in force.
    """
    if _is_usual(raw, physical, status, sent, expected):
        return Values(raw, physical, status, expected, np.zeros(len(raw), np.int64))
    physical, status, profile, replaced = _converted(raw, physical, status, sent, expected, table)
    return Values(*_finite(raw, physical, status), profile, replaced)


def _is_usual(raw: Float64, physical: Float64, status: UInt8, sent: Int64, expected: Int64) -> bool:
    """Whether all was converted with the profile in force, and to numbers, so that nothing remains to be done.

    A small batch is paid for by the call, and what follows has some forty.
    """
    return bool(
        (status == _CONVERTED).all()
        and (sent == expected).all()
        and np.isfinite(physical).all()
        and np.isfinite(raw).all()
    )


def _converted(
    raw: Float64, physical: Float64, status: UInt8, sent: Int64, expected: Int64, table: ProfileTable
) -> tuple[Float64, UInt8, Int64, Int64]:
    kind = status & 0x0F
    ours = convertible(status)
    stale = (sent != expected) | ((kind == Status.RAW_ONLY) & (expected != 0))
    stale |= (kind == Status.CONVERTED) & np.isnan(physical)
    again = np.flatnonzero(stale & ours)
    profile = np.where(ours, expected, np.maximum(sent, 0))
    replaced = np.zeros(len(raw), np.int64)
    if len(again):
        had = (sent[again] != expected[again]) & (kind[again] != Status.RAW_ONLY)
        replaced[again] = np.where(had, np.maximum(sent[again], 0), 0)
        physical, status = physical.copy(), status.copy()
        cleared = before_conversion(status[again])
        physical[again], status[again] = table.convert(expected[again].astype(np.uint32), raw[again], cleared)
    return physical, status, profile, replaced


def _finite(raw: Float64, physical: Float64, status: UInt8) -> tuple[Float64, Float64, UInt8]:
    """The columns without infinities, and with a reason wherever a value is missing that the status promises."""
    kind = status & 0x0F
    raw_bad = ~np.isfinite(raw)
    physical_bad = ((kind == Status.CONVERTED) | (kind == Status.CLIENT_PROVIDED)) & ~np.isfinite(physical)
    void = (kind == Status.RAW_ONLY) | (kind == Status.CONVERSION_FAILED)
    if not raw_bad.any() and not physical_bad.any() and not (void & ~np.isnan(physical)).any():
        return raw, physical, status
    status = status.copy()
    given = kind == Status.CLIENT_PROVIDED
    status[physical_bad] = _OVERFLOW
    status[physical_bad & given & np.isinf(physical)] = FAILED_INFINITE
    status[physical_bad & given & np.isnan(physical)] = FAILED_NOT_A_NUMBER
    good_before = raw_bad & ((status < 16) | physical_bad) & ~given
    status[good_before & np.isinf(raw)] = FAILED_INFINITE
    status[good_before & np.isnan(raw)] = FAILED_NOT_A_NUMBER
    lost = (status & 0x0F == Status.RAW_ONLY) | (status & 0x0F == Status.CONVERSION_FAILED)
    return np.where(raw_bad, np.nan, raw), np.where(lost, np.nan, physical), status


def joined(parts: Sequence[NDArray[_Scalar]], dtype: type[_Scalar]) -> NDArray[_Scalar]:
    """All of them, one behind the other; a single one is not copied."""
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if parts else np.empty(0, dtype)
