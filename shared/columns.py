"""The body of a data batch: readings as narrow columns.

Invariants
    * Rows are sorted by (series, timestamp); timestamps rise strictly within a series.
    * Decoding gives back the same bits, NaN payloads aside, or raises `CorruptBatch`; it allocates no more than
      `READINGS_MAX` rows, whatever the bytes say.

Layout (little endian)::

    u16  n          readings, 0 … READINGS_MAX
    u16  k          runs of equal series, 0 … n
    ints refs       k     first differences of the runs' series references (strictly rising, from 1)
    ints lengths    k     readings of each run, ≥ 1
    ints starts     k     first differences of the runs' first timestamps (µs since 1970)
    ints steps      n-k   differences of timestamps within the runs
    u8   raw        1 integers, 2 float32, 3 float64
         …          n     ints, or byte planes
    ints status     n     status bytes
    u8   profile    0 one a run, 1 one a reading
    ints …          k or n
    u8   physical   0 none, 1 derived (8 bytes of digest), 2 float64 (byte planes, n)

`ints` is a code byte (0: all equal, one int64 follows; 1, 2, 4, 8: bytes each) and the values as byte planes: first
all lowest bytes, then all second lowest, and so on, which is what makes the columns compress. `derived` says that the
hub gets the same bits by applying the profiles to raw; the digest of the column proves it.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import CorruptBatch, LimitExceeded
from shared.readings import Columns, Float64, Int64, Reason, Status, UInt32

READINGS_MAX = 2048
"""Readings in one batch; at most 33 bytes each, so that a batch always fits a message."""
TIMESTAMP_US_MAX = 253_402_300_799_999_999
"""The end of the year 9999."""
DIGEST_BYTES = 8
_STEP_US_SAFE = (2**62 - TIMESTAMP_US_MAX) // READINGS_MAX
"""`READINGS_MAX` steps up to this, and a first timestamp, stay within an int64."""

_RAW_INTEGERS, _RAW_FLOAT32, _RAW_FLOAT64 = 1, 2, 3
_PROFILE_PER_RUN, _PROFILE_PER_READING = 0, 1
_PHYSICAL_NONE, _PHYSICAL_DERIVED, _PHYSICAL_EXPLICIT = 0, 1, 2
_COUNTS = struct.Struct("<HH")
_INT64 = struct.Struct("<q")
_SIGNED: dict[int, np.dtype[Any]] = {1: np.dtype("<i1"), 2: np.dtype("<i2"), 4: np.dtype("<i4"), 8: np.dtype("<i8")}
_CODES = {width: bytes((width,)) for width in _SIGNED}
_FEW = 32
"""Up to here Python finds the least and the greatest sooner than numpy does."""
_REASON_MAX = max(Reason)
_STATUS_MAX = max(Status)


@dataclass(frozen=True, slots=True)
class DecodedColumns:
    """A decoded body.

    Attributes:
        columns: the readings; `physical` is all NaN where it is to be derived.
        physical_digest: of the physical column that the sender computed and left out, else None.
    """

    columns: Columns
    physical_digest: bytes | None


def physical_digest(physical: Float64) -> bytes:
    """Eight bytes that stand for the exact bits of a column (every NaN counts as the same)."""
    missing = np.isnan(physical)
    return _digest(np.where(missing, np.nan, physical) if missing.any() else physical)


def _digest(canonical: Float64) -> bytes:
    return hashlib.blake2b(canonical.astype("<f8", copy=False).tobytes(), digest_size=DIGEST_BYTES).digest()


def extremes(values: NDArray[np.integer[Any]]) -> tuple[int, int]:
    """The least and the greatest of at least one value."""
    if len(values) <= _FEW:
        few = values.tolist()
        return min(few), max(few)
    return int(values.min()), int(values.max())


def encode_columns(columns: Columns, *, derivable: bool) -> bytes:
    """The body for these readings.

    Args:
        columns: sorted by (series, timestamp), at most `READINGS_MAX` rows.
        derivable: whether the hub gets the same physical values from raw and profile (no formula among them).

    Raises: LimitExceeded for too many rows.
    """
    n = len(columns)
    if n > READINGS_MAX:
        raise LimitExceeded(f"{n} readings in a batch, at most {READINGS_MAX}")
    if n == 0:
        return _COUNTS.pack(0, 0)
    series, timestamp_us = columns.series, columns.timestamp_us
    change = series[1:] != series[:-1]
    starts, lengths = _runs(change, n)
    k = len(starts)
    steps = timestamp_us[1:] - timestamp_us[:-1]
    parts = [
        _COUNTS.pack(n, k),
        _pack_ints(_differences(series[starts].astype(np.int64))),
        _pack_ints(lengths),
        _pack_ints(_differences(timestamp_us[starts])),
        _pack_ints(steps[~change] if k > 1 else steps),
        _pack_raw(columns.raw),
        _pack_ints(columns.status),
        _pack_profile(columns.profile, starts, change),
        _pack_physical(columns.physical, derivable=derivable),
    ]
    return b"".join(parts)


def decode_columns(body: bytes | memoryview) -> DecodedColumns:
    """The readings of a body. Raises: CorruptBatch, LimitExceeded."""
    reader = _Reader(memoryview(body))
    n, k = _COUNTS.unpack(reader.take(_COUNTS.size))
    if n > READINGS_MAX:
        raise LimitExceeded(f"{n} readings in a batch, at most {READINGS_MAX}")
    if k > n or (n > 0 and k == 0):
        raise CorruptBatch(f"{k} runs for {n} readings")
    if n == 0:
        reader.finish()
        empty = np.empty(0, np.uint32)
        floats = np.empty(0, np.float64)
        return DecodedColumns(Columns(empty, np.empty(0, np.int64), floats, floats, np.empty(0, np.uint8), empty), None)
    refs = _running_sum(reader.ints(k))
    lengths = reader.ints(k)
    firsts = _running_sum(reader.ints(k))
    steps = reader.ints(n - k)
    _check_runs(refs, lengths, n)
    timestamp_us = _timestamps(firsts, lengths, steps, n)
    raw = _unpack_raw(reader, n)
    status = _unpack_status(reader, n)
    profile = _unpack_profile(reader, n, k, lengths)
    physical, digest = _unpack_physical(reader, n)
    reader.finish()
    series = (refs if k == n else np.repeat(refs, lengths)).astype(np.uint32)
    return DecodedColumns(Columns(series, timestamp_us, raw, physical, status, profile), digest)


def _runs(change: NDArray[np.bool_], n: int) -> tuple[Int64, Int64]:
    """Where each run of equal series begins, and its length; `change`: whether it ends, bool (n - 1,)."""
    (ends,) = change.nonzero()
    bounds = np.empty(len(ends) + 2, np.int64)
    bounds[0], bounds[-1] = 0, n
    np.add(ends, 1, out=bounds[1:-1])
    return bounds[:-1], bounds[1:] - bounds[:-1]


def _differences(values: Int64) -> Int64:
    """First differences, the first one from 0."""
    found = values.copy()
    found[1:] -= values[:-1]
    return found


def _pack_ints(values: NDArray[np.integer[Any]]) -> bytes:
    if len(values) == 0:
        return b"\x00" + _INT64.pack(0)
    low, high = extremes(values)
    if low == high:
        return b"\x00" + _INT64.pack(low)
    extreme = max(high, -low - 1)
    width = 1 if extreme < 1 << 7 else 2 if extreme < 1 << 15 else 4 if extreme < 1 << 31 else 8
    return _CODES[width] + _planes(values.astype(_SIGNED[width]))


def _planes(values: NDArray[Any]) -> bytes:
    width = values.dtype.itemsize
    if width == 1:
        return values.tobytes()
    return np.ascontiguousarray(values).view(np.uint8).reshape(-1, width).T.tobytes()


def _pack_raw(raw: Float64) -> bytes:
    first = float(raw[0])
    bits = raw.view(np.int64)
    if first.is_integer() and abs(first) < 1 << 31:
        with np.errstate(invalid="ignore"):
            integers = raw.astype(np.int64)
        if (integers.astype(np.float64).view(np.int64) == bits).all():
            return bytes((_RAW_INTEGERS,)) + _pack_ints(integers)
    with np.errstate(over="ignore", invalid="ignore"):
        if np.float32(first) == first:
            narrow = raw.astype(np.float32)
            if (narrow.astype(np.float64).view(np.int64) == bits).all():
                return bytes((_RAW_FLOAT32,)) + _planes(narrow.astype("<f4", copy=False))
    return bytes((_RAW_FLOAT64,)) + _planes(raw.astype("<f8", copy=False))


def _pack_profile(profile: UInt32, starts: Int64, change: NDArray[np.bool_]) -> bytes:
    one_a_run = len(starts) == len(profile) or bool((change | (profile[1:] == profile[:-1])).all())
    if one_a_run:
        return bytes((_PROFILE_PER_RUN,)) + _pack_ints(profile[starts])
    return bytes((_PROFILE_PER_READING,)) + _pack_ints(profile)


def _pack_physical(physical: Float64, *, derivable: bool) -> bytes:
    missing = np.isnan(physical)
    count = np.count_nonzero(missing)
    if count == len(physical):
        return bytes((_PHYSICAL_NONE,))
    if derivable:
        return bytes((_PHYSICAL_DERIVED,)) + _digest(np.where(missing, np.nan, physical) if count else physical)
    return bytes((_PHYSICAL_EXPLICIT,)) + _planes(physical.astype("<f8", copy=False))


class _Reader:
    """Takes a body apart from front to back; every length is checked before anything is allocated."""

    def __init__(self, body: memoryview) -> None:
        self._body = body
        self._at = 0

    def take(self, size: int) -> memoryview:
        end = self._at + size
        if end > len(self._body):
            raise CorruptBatch(f"body ends at byte {len(self._body)}, at least {end} expected")
        part = self._body[self._at : end]
        self._at = end
        return part

    def code(self) -> int:
        return self.take(1)[0]

    def planes(self, count: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        width = dtype.itemsize
        planes = np.frombuffer(self.take(count * width), np.uint8).reshape(width, count)
        return np.ascontiguousarray(planes.T).view(dtype).reshape(count)

    def ints(self, count: int) -> Int64:
        code = self.code()
        if code == 0:
            return np.full(count, _INT64.unpack(self.take(8))[0], np.int64)
        if code not in _SIGNED:
            raise CorruptBatch(f"unknown integer code {code}")
        return self.planes(count, _SIGNED[code]).astype(np.int64)

    def finish(self) -> None:
        if self._at != len(self._body):
            raise CorruptBatch(f"{len(self._body) - self._at} bytes behind the end of the body")


def _running_sum(differences: Int64) -> Int64:
    return np.cumsum(differences, dtype=np.int64)  # wraps on overflow; the range checks that follow refuse the result


def _check_runs(refs: Int64, lengths: Int64, n: int) -> None:
    if refs[0] < 1 or refs[-1] > 0xFFFFFFFF or (len(refs) > 1 and int(np.diff(refs).min()) < 1):
        raise CorruptBatch("series references do not rise")
    if int(lengths.min()) < 1 or int(lengths.max()) > n or int(lengths.sum()) != n:
        raise CorruptBatch("run lengths do not add up to the number of readings")


def _timestamps(firsts: Int64, lengths: Int64, steps: Int64, n: int) -> Int64:
    if len(steps) and int(steps.min()) < 1:
        raise CorruptBatch("timestamps of a series do not rise")
    if int(firsts.min()) < 0 or int(firsts.max()) > TIMESTAMP_US_MAX or (len(steps) and steps.max() > TIMESTAMP_US_MAX):
        raise CorruptBatch("a timestamp lies outside 1970 … 9999")
    if not len(steps):  # one of each series, as with every poll that goes by itself
        return firsts
    starts = np.cumsum(lengths) - lengths
    offsets = np.zeros(n, np.int64)
    inner = np.ones(n, bool)
    inner[starts] = False
    offsets[inner] = steps
    total = np.cumsum(offsets, dtype=np.int64)
    timestamp_us = np.repeat(firsts - total[starts], lengths) + total
    if int(timestamp_us.min()) < 0 or int(timestamp_us.max()) > TIMESTAMP_US_MAX:
        raise CorruptBatch("a timestamp lies outside 1970 … 9999")
    # Where no sum can have wrapped, steps from 1 prove that times rise.
    may_wrap = int(steps.max()) > _STEP_US_SAFE
    if may_wrap and not (np.diff(timestamp_us)[inner[1:]] > 0).all():
        raise CorruptBatch("timestamps of a series do not rise")
    return timestamp_us


def _unpack_raw(reader: _Reader, n: int) -> Float64:
    code = reader.code()
    if code == _RAW_INTEGERS:
        return reader.ints(n).astype(np.float64)
    if code == _RAW_FLOAT32:
        with np.errstate(invalid="ignore"):
            return reader.planes(n, np.dtype("<f4")).astype(np.float64)
    if code == _RAW_FLOAT64:
        return reader.planes(n, np.dtype("<f8")).astype(np.float64, copy=False)
    raise CorruptBatch(f"unknown raw code {code}")


def _unpack_status(reader: _Reader, n: int) -> NDArray[np.uint8]:
    wide = reader.ints(n)
    low, high = int(wide.min()), int(wide.max())
    if low < 0 or high > 255:
        raise CorruptBatch("unknown status")
    if low == high:
        if not _is_status(low):
            raise CorruptBatch("unknown status")
        return np.full(n, low, np.uint8)
    status = wide.astype(np.uint8)
    _check_status(status)
    return status


def _is_status(byte: int) -> bool:
    kind, reason = byte & 0x0F, byte >> 4
    return kind <= _STATUS_MAX and reason <= _REASON_MAX and (kind == Status.CONVERSION_FAILED) == (reason > 0)


def _check_status(status: NDArray[np.uint8]) -> None:
    kind, reason = status & 0x0F, status >> 4
    failed = kind == Status.CONVERSION_FAILED
    if (kind > _STATUS_MAX).any() or (reason > _REASON_MAX).any() or (failed != (reason > 0)).any():
        raise CorruptBatch("unknown status")


def _unpack_profile(reader: _Reader, n: int, k: int, lengths: Int64) -> NDArray[np.uint32]:
    code = reader.code()
    if code == _PROFILE_PER_RUN:
        wide = reader.ints(k)
    elif code == _PROFILE_PER_READING:
        wide = reader.ints(n)
    else:
        raise CorruptBatch(f"unknown profile code {code}")
    if int(wide.min()) < 0 or int(wide.max()) > 0xFFFFFFFF:
        raise CorruptBatch("a profile reference is out of range")
    profile = wide.astype(np.uint32)
    return np.repeat(profile, lengths) if code == _PROFILE_PER_RUN and k < n else profile


def _unpack_physical(reader: _Reader, n: int) -> tuple[Float64, bytes | None]:
    code = reader.code()
    if code == _PHYSICAL_NONE:
        return np.full(n, np.nan), None
    if code == _PHYSICAL_DERIVED:
        return np.full(n, np.nan), bytes(reader.take(DIGEST_BYTES))
    if code == _PHYSICAL_EXPLICIT:
        return reader.planes(n, np.dtype("<f8")).astype(np.float64, copy=False), None
    raise CorruptBatch(f"unknown physical code {code}")
