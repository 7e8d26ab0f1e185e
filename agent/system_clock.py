"""What the operating system says about its own clock: whether a time service keeps it, and how far it may be off."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass

from shared.records import ClockRecord

VOUCHED_US_MAX = 1_000_000
"""A clock that may be off by more is not vouched for, whatever the system calls it."""

_STA_UNSYNC = 0x0040
_TIME_ERROR = 5


class _Timex(ctypes.Structure):
    """`struct timex` of adjtimex(2), with the room at its end that the kernel may write to."""

    _fields_ = [
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    ]


@dataclass(frozen=True, slots=True)
class Vouch:
    """The system keeps its clock by a time service; it is off by at most so much."""

    error_us: int


def system_vouch() -> Vouch | None:
    """What the system says, None where it says nothing good or cannot be asked (anything but Linux)."""
    if sys.platform != "linux":
        return None
    timex = _Timex()
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    except (OSError, AttributeError):
        return None
    return vouch_of(state, timex.status, timex.maxerror)


def vouch_of(state: int, status: int, error_us: int) -> Vouch | None:
    """What the answer of adjtimex(2) means.

    Args:
        state: returned; -1 when asking is not allowed.
        status: bits `STA_…`.
        error_us: `maxerror`.
    """
    if state < 0 or state == _TIME_ERROR or status & _STA_UNSYNC or not 0 <= error_us <= VOUCHED_US_MAX:
        return None
    return Vouch(error_us)


def opened_segment(segment: int, opened_us: int, step_us: int = 0) -> ClockRecord:
    """The record with which a clock segment opens, before the hub's clock can be asked."""
    vouch = system_vouch()
    if vouch is None:
        return ClockRecord(segment, opened_us, 0, -1, opened_us, step_us, "none")
    return ClockRecord(segment, opened_us, 0, vouch.error_us, opened_us, step_us, "system")
