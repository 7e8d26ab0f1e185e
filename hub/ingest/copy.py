"""Readings as PostgreSQL's binary COPY, built with numpy and never row by row.

Layout of the stream (big endian)::

    "PGCOPY\\n" 0xFF "\\r\\n" 0x00   int32 flags = 0   int32 length of extension = 0
    one tuple a reading:          int16 number of fields = 7, then for each field
                                  int32 length (-1 for null, without data) and its data
    int16 -1

Fields are those of `COLUMNS`; time counts microseconds since 2000. A NaN becomes null. As that changes the length of a
tuple, readings are laid out in up to four blocks, by which of raw and physical are null; the order of tuples in a COPY
means nothing, ids say what came first.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from shared.readings import Float64, Int64, UInt8

COLUMNS = ("series_id", "profile", "time", "id", "raw", "physical", "status")
POSTGRES_EPOCH_US = 946_684_800_000_000
"""2000-01-01 in microseconds since 1970."""

Int32: TypeAlias = NDArray[np.int32]

_HEAD = b"PGCOPY\n\xff\r\n\x00" + struct.pack(">ii", 0, 0)
_TAIL = struct.pack(">h", -1)
_NULL = -1
_BLANK_ROWS = 4096


@dataclass(frozen=True, slots=True)
class Rows:
    """Readings ready to be stored.

    Attributes:
        series_id: int32 (n,), `series.id`.
        profile: int32 (n,), `conversion_profiles.ref`, 0 for none.
        time_us: int64 (n,), UTC microseconds since 1970.
        id: int64 (n,)
        raw, physical: float64 (n,), NaN for null, never infinite.
        status: uint8 (n,), status bytes.
    """

    series_id: Int32
    profile: Int32
    time_us: Int64
    id: Int64
    raw: Float64
    physical: Float64
    status: UInt8

    def __len__(self) -> int:
        return len(self.id)

    def numbered(self, first_id: int) -> Rows:
        """The same with ids from `first_id` on, where they counted from 0."""
        return replace(self, id=self.id + first_id)

    def chosen(self, which: NDArray[np.bool_]) -> Rows:
        """Those rows where `which`, bool (n,), is true."""
        if which.all():
            return self
        return Rows(
            self.series_id[which],
            self.profile[which],
            self.time_us[which],
            self.id[which],
            self.raw[which],
            self.physical[which],
            self.status[which],
        )


def _layout(*, raw_null: bool, physical_null: bool) -> np.dtype[Any]:
    fields: list[tuple[str, str]] = [("fields", ">i2")]
    for name, kind, null in (
        ("series_id", ">i4", False),
        ("profile", ">i4", False),
        ("time", ">i8", False),
        ("id", ">i8", False),
        ("raw", ">f8", raw_null),
        ("physical", ">f8", physical_null),
        ("status", ">i2", False),
    ):
        fields.append((f"{name}_length", ">i4"))
        if not null:
            fields.append((name, kind))
    return np.dtype(fields)


_LAYOUTS = {
    (raw_null, physical_null): _layout(raw_null=raw_null, physical_null=physical_null)
    for raw_null in (False, True)
    for physical_null in (False, True)
}


def _blank(layout: np.dtype[Any]) -> NDArray[Any]:
    """`_BLANK_ROWS` tuples with everything that is the same in all of them; values are to be filled in."""
    assert layout.names is not None
    blank = np.zeros(_BLANK_ROWS, layout)
    blank["fields"] = len(COLUMNS)
    for name in COLUMNS:
        blank[f"{name}_length"] = layout[name].itemsize if name in layout.names else _NULL
    return blank


_BLANKS = {nulls: _blank(layout) for nulls, layout in _LAYOUTS.items()}


def encode_rows(rows: Rows) -> memoryview:
    """The whole stream for these readings."""
    raw_null, physical_null = np.isnan(rows.raw), np.isnan(rows.physical)
    if not raw_null.any() and not physical_null.any():
        chosen: list[tuple[tuple[bool, bool], slice | NDArray[np.intp]]] = [((False, False), slice(0, len(rows)))]
    else:
        chosen = [(nulls, np.flatnonzero((raw_null == nulls[0]) & (physical_null == nulls[1]))) for nulls in _LAYOUTS]
    counts = [len(rows.id[which]) for _, which in chosen]
    sizes = [count * _LAYOUTS[nulls].itemsize for count, (nulls, _) in zip(counts, chosen, strict=True)]
    stream = bytearray(len(_HEAD) + sum(sizes) + len(_TAIL))
    stream[: len(_HEAD)], stream[-len(_TAIL) :] = _HEAD, _TAIL
    at = len(_HEAD)
    for (nulls, which), count, size in zip(chosen, counts, sizes, strict=True):
        _fill(np.frombuffer(stream, _LAYOUTS[nulls], count, at), rows, which, nulls)
        at += size
    return memoryview(stream)


def _fill(block: NDArray[Any], rows: Rows, which: slice | NDArray[np.intp], nulls: tuple[bool, bool]) -> None:
    blank = _BLANKS[nulls]
    for start in range(0, len(block), _BLANK_ROWS):
        block[start : start + _BLANK_ROWS] = blank[: len(block) - start]
    block["series_id"] = rows.series_id[which]
    block["profile"] = rows.profile[which]
    block["time"] = rows.time_us[which] - POSTGRES_EPOCH_US
    block["id"] = rows.id[which]
    if not nulls[0]:
        block["raw"] = rows.raw[which]
    if not nulls[1]:
        block["physical"] = rows.physical[which]
    block["status"] = rows.status[which]
