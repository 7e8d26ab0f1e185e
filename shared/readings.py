"""Readings as columns: what a driver returns, what a batch carries, what the hub stores.

A reading is (series, timestamp, raw, physical, status, profile). A *series* is one signal of one sensor. Inside the
program readings travel as parallel arrays and never as objects, because the hot path costs by the array, not by the
reading.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Int64: TypeAlias = NDArray[np.int64]
UInt32: TypeAlias = NDArray[np.uint32]
UInt8: TypeAlias = NDArray[np.uint8]
Float64: TypeAlias = NDArray[np.float64]

DEFAULT_SIGNAL = "value"
"""The signal of a sensor that has only one."""


class Status(IntEnum):
    """How a reading's physical value came about; the low four bits of a status byte."""

    RAW_ONLY = 0
    CONVERTED = 1
    CLIENT_PROVIDED = 2
    CONVERSION_FAILED = 3

    @property
    def label(self) -> str:
        """The contract's word, e.g. ``conversion_failed``."""
        return self.name.lower()


class Reason(IntEnum):
    """Why a reading failed; the high four bits of a status byte. Zero unless the status is CONVERSION_FAILED."""

    NONE = 0
    NOT_A_NUMBER = 1
    INFINITE = 2
    OUT_OF_RANGE = 3
    """Outside the range that the point's configuration declares as valid."""
    NOT_REPRESENTABLE = 4
    """A 64-bit integer that float64 cannot hold exactly."""
    CONVERSION_OVERFLOW = 5
    """The profile's result is not finite."""
    CONVERSION_DOMAIN = 6
    """The profile's formula has no value there (square root of a negative, division by zero)."""
    INSTRUMENT = 7
    """The instrument itself marked the value as bad."""

    @property
    def label(self) -> str:
        """The word used in ``meta.__system.reason``, e.g. ``not_a_number``."""
        return self.name.lower()


def status_byte(status: Status, reason: Reason = Reason.NONE) -> int:
    """The byte that stands for both."""
    return int(status) | int(reason) << 4


def status_of(byte: int) -> Status:
    """The status in a status byte. Raises: ValueError for an unknown one."""
    return Status(byte & 0x0F)


def reason_of(byte: int) -> Reason:
    """The reason in a status byte. Raises: ValueError for an unknown one."""
    return Reason(byte >> 4)


FAILED_NOT_A_NUMBER = status_byte(Status.CONVERSION_FAILED, Reason.NOT_A_NUMBER)
FAILED_INFINITE = status_byte(Status.CONVERSION_FAILED, Reason.INFINITE)


@dataclass(frozen=True, slots=True)
class Samples:
    """What a driver returns from one exchange, before conversion.

    Attributes:
        point: uint32 (n,), index of the point within its device.
        timestamp_us: int64 (n,), UTC microseconds of the exchange with the instrument.
        raw: float64 (n,), the value as read; NaN where `reason` says that there is none.
        reason: uint8 (n,), a `Reason`; 0 for a good reading.
    """

    point: UInt32
    timestamp_us: Int64
    raw: Float64
    reason: UInt8

    def __len__(self) -> int:
        return len(self.raw)

    @staticmethod
    def empty() -> Samples:
        """No readings."""
        return Samples(np.empty(0, np.uint32), np.empty(0, np.int64), np.empty(0, np.float64), np.empty(0, np.uint8))

    @staticmethod
    def concatenate(parts: list[Samples]) -> Samples:
        """All readings of `parts`, in order."""
        if len(parts) == 1:
            return parts[0]
        if not parts:
            return Samples.empty()
        return Samples(
            np.concatenate([part.point for part in parts]),
            np.concatenate([part.timestamp_us for part in parts]),
            np.concatenate([part.raw for part in parts]),
            np.concatenate([part.reason for part in parts]),
        )


@dataclass(frozen=True, slots=True)
class Columns:
    """Readings of many series, sorted by (series, timestamp).

    `series` and `profile` are references into a dictionary; whose dictionary it is, the holder knows (an epoch's on
    the agent and on the wire, the database's at the hub).

    Attributes:
        series: uint32 (n,)
        timestamp_us: int64 (n,), strictly rising within a series.
        raw: float64 (n,), NaN for a failed reading without a value.
        physical: float64 (n,), NaN where there is none.
        status: uint8 (n,), status bytes (`status_byte`).
        profile: uint32 (n,), 0 where no profile was applied.
    """

    series: UInt32
    timestamp_us: Int64
    raw: Float64
    physical: Float64
    status: UInt8
    profile: UInt32

    def __len__(self) -> int:
        return len(self.raw)

    def rows(self, which: slice | NDArray[np.intp]) -> Columns:
        """Some of the readings. Args: which: a slice, or rows' numbers, intp (m,)."""
        return Columns(
            self.series[which],
            self.timestamp_us[which],
            self.raw[which],
            self.physical[which],
            self.status[which],
            self.profile[which],
        )
