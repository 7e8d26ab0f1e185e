"""Batches: round trip, and every kind of damage is detected."""

from __future__ import annotations

import json
import struct
import tracemalloc
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shared import columns as columns_module
from shared import wire
from shared.columns import READINGS_MAX, decode_columns, encode_columns, physical_digest
from shared.errors import CorruptBatch, LimitExceeded, UnsupportedVersion, WireError
from shared.readings import Columns, Reason, Status, status_byte
from shared.records import ClockRecord, Dictionary, Gap, Opening, ProfileEntry, SeriesEntry

AGENT = UUID("019a0000-0000-7000-8000-000000000001")
EPOCH = bytes(range(16))
GOOD_STATUS = [status_byte(Status.RAW_ONLY), status_byte(Status.CONVERTED), status_byte(Status.CLIENT_PROVIDED)]
BAD_STATUS = [status_byte(Status.CONVERSION_FAILED, reason) for reason in Reason if reason]


def seal(body: wire.Body, seq: int = 1) -> bytes:
    return wire.seal(
        body,
        agent_id=AGENT,
        epoch=EPOCH,
        seq=seq,
        created_us=1_700_000_000_000_000,
        taken_through_us=1_700_000_000_000_001,
        clock_segment=3,
        generation=7,
    )


@st.composite
def readings(draw: st.DrawFn) -> Columns:
    """Any columns that the invariants allow."""
    lengths = draw(st.lists(st.integers(1, 40), max_size=8))
    n = sum(lengths)
    refs = np.cumsum(draw(arrays(np.int64, len(lengths), elements=st.integers(1, 1 << 20))))
    stamps = [
        np.cumsum(draw(arrays(np.int64, length, elements=st.integers(1, 1 << 40)))) + draw(st.integers(0, 1 << 50))
        for length in lengths
    ]
    numbers = draw(
        st.sampled_from(
            [
                st.integers(-40_000, 40_000).map(float),
                st.floats(width=32, allow_nan=False),
                st.floats(allow_nan=True),
                st.sampled_from([-0.0, 0.0, 1.0, 2.0**31, -(2.0**31), 2.0**53]),
            ]
        )
    )
    physical = draw(arrays(np.float64, n, elements=st.floats(allow_nan=True)))
    return Columns(
        np.repeat(refs, lengths).astype(np.uint32),
        np.concatenate(stamps) if stamps else np.empty(0, np.int64),
        draw(arrays(np.float64, n, elements=numbers)),
        physical,
        draw(arrays(np.uint8, n, elements=st.sampled_from(GOOD_STATUS + BAD_STATUS))),
        draw(arrays(np.uint32, n, elements=st.integers(0, 0xFFFFFFFF))),
    )


def same_bits(left: np.ndarray, right: np.ndarray) -> bool:
    both_nan = np.isnan(left) & np.isnan(right)
    return bool(np.where(both_nan, True, left.view(np.int64) == right.view(np.int64)).all())


@given(readings())
def test_readings_come_back_bit_for_bit(columns: Columns) -> None:
    batch = wire.decode(seal(wire.data_body(columns, derivable=False)))
    decoded = batch.content.columns  # type: ignore[union-attr]
    assert np.array_equal(decoded.series, columns.series)
    assert np.array_equal(decoded.timestamp_us, columns.timestamp_us)
    assert same_bits(decoded.raw, columns.raw)
    assert same_bits(decoded.physical, columns.physical)
    assert np.array_equal(decoded.status, columns.status)
    assert np.array_equal(decoded.profile, columns.profile)
    assert batch.header.agent_id == AGENT
    assert (batch.header.epoch, batch.header.seq, batch.header.clock_segment, batch.header.generation) == (
        EPOCH,
        1,
        3,
        7,
    )


@given(readings())
def test_a_derivable_physical_column_is_replaced_by_its_digest(columns: Columns) -> None:
    decoded = decode_columns(encode_columns(columns, derivable=True))
    if np.isnan(columns.physical).all():
        assert decoded.physical_digest is None
    else:
        assert decoded.physical_digest == physical_digest(columns.physical)
    assert np.isnan(decoded.columns.physical).all()


@given(readings(), st.data())
def test_any_truncation_is_detected(columns: Columns, data: st.DataObject) -> None:
    whole = seal(wire.data_body(columns, derivable=False))
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(WireError):
        wire.decode(whole[:cut])


@given(readings(), st.data())
def test_any_flipped_bit_is_detected(columns: Columns, data: st.DataObject) -> None:
    whole = bytearray(seal(wire.data_body(columns, derivable=False)))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(WireError):
        wire.decode(bytes(whole))


def test_every_single_byte_of_a_small_batch_counts() -> None:
    whole = seal(wire.record_body(Opening(started_us=1, host="bench")))
    for at in range(len(whole)):
        for flip in (0x01, 0x80, 0xFF):
            broken = bytearray(whole)
            broken[at] ^= flip
            with pytest.raises(WireError):
                wire.decode(bytes(broken))


def forged(plain: bytes, kind: wire.Kind = wire.Kind.DATA, size: int | None = None, compressed: bool = False) -> bytes:
    """A batch with a valid checksum around any body."""
    return seal(wire.Body(kind, plain, len(plain) if size is None else size, compressed, 0))


@given(st.binary(max_size=300))
def test_a_forged_body_is_refused_or_harmless(plain: bytes) -> None:
    for kind in wire.Kind:
        for compressed in (False, True):
            try:
                batch = wire.decode(forged(plain, kind, compressed=compressed))
            except WireError:
                continue
            assert batch.header.kind is kind


@settings(max_examples=300)
@given(readings(), st.data())
def test_a_forged_change_within_a_valid_frame_keeps_the_invariants(columns: Columns, data: st.DataObject) -> None:
    plain = bytearray(encode_columns(columns, derivable=False))
    plain[data.draw(st.integers(0, len(plain) - 1))] = data.draw(st.integers(0, 255))
    try:
        decoded = wire.decode(forged(bytes(plain))).content.columns  # type: ignore[union-attr]
    except WireError:
        return
    assert len(decoded) <= READINGS_MAX
    order = np.lexsort((decoded.timestamp_us, decoded.series))
    assert np.array_equal(order, np.arange(len(decoded)))


def test_a_body_that_decompresses_to_more_than_announced_is_refused() -> None:
    bomb = wire._zstd.compressor.compress(bytes(50_000_000))
    assert len(bomb) < 10_000
    with pytest.raises(WireError):
        wire.decode(forged(bomb, size=1000, compressed=True))
    tracemalloc.start()
    try:
        with pytest.raises(WireError):
            wire.decode(forged(bomb, size=wire.BODY_BYTES_MAX, compressed=True))
        assert tracemalloc.get_traced_memory()[1] < 4 * wire.BODY_BYTES_MAX
    finally:
        tracemalloc.stop()


def test_the_smallest_timestamp_may_not_wrap() -> None:
    """A first timestamp near the end of int64 plus a step wraps to a negative one."""
    plain = bytearray(encode_columns(linear_16_bit(1, 2), derivable=False))
    first = plain.index(struct.pack("<q", 1_700_000_000_000_000 >> 8)[:4]) - 1
    plain[first : first + 8] = struct.pack("<q", (1 << 63) - 5)
    with pytest.raises(CorruptBatch):
        decode_columns(bytes(plain))


def test_counts_are_bounded_before_anything_is_allocated() -> None:
    with pytest.raises(LimitExceeded):
        decode_columns(struct.pack("<HH", 0xFFFF, 1))
    with pytest.raises(CorruptBatch):
        decode_columns(struct.pack("<HH", 3, 4))


def test_too_many_readings_are_not_encoded() -> None:
    n = READINGS_MAX + 1
    with pytest.raises(LimitExceeded):
        encode_columns(
            Columns(
                np.ones(n, np.uint32),
                np.arange(n, dtype=np.int64),
                np.zeros(n),
                np.zeros(n),
                np.zeros(n, np.uint8),
                np.zeros(n, np.uint32),
            ),
            derivable=False,
        )


def test_the_worst_batch_fits_a_message() -> None:
    random = np.random.default_rng(1)
    n = READINGS_MAX
    columns = Columns(
        np.cumsum(random.integers(1, 2_000_000, n)).astype(np.uint32),
        random.integers(0, columns_module.TIMESTAMP_US_MAX, n),
        random.random(n),
        random.random(n),
        random.choice(np.array(GOOD_STATUS + BAD_STATUS, np.uint8), n),
        random.integers(0, 0xFFFFFFFF, n).astype(np.uint32),
    )
    assert len(seal(wire.data_body(columns, derivable=False))) <= wire.MESSAGE_BYTES_MAX


def test_a_message_holds_several_batches() -> None:
    batches = [seal(wire.record_body(Opening(started_us=n)), seq=n) for n in (1, 2, 3)]
    parts = wire.split(b"".join(batches))
    assert [wire.read_header(part).seq for part in parts] == [1, 2, 3]


@pytest.mark.parametrize("payload", [b"", b"L", b"not a batch at all" * 10, b"LRB\x01" + b"\xff" * 200])
def test_garbage_is_no_message(payload: bytes) -> None:
    with pytest.raises(WireError):
        wire.split(payload)


def test_an_oversized_message_is_refused_unread() -> None:
    with pytest.raises(LimitExceeded):
        wire.split(bytes(wire.MESSAGE_BYTES_MAX + 1))


def test_another_version_is_named() -> None:
    batch = bytearray(seal(wire.record_body(Opening(started_us=1))))
    batch[3] = 9
    with pytest.raises(UnsupportedVersion, match="wire version 9"):
        wire.split(bytes(batch))


@pytest.mark.parametrize(
    "record",
    [
        Opening(started_us=5, previous_epoch="0f" * 16, previous_last_seq=9, version="1", host="pc"),
        Dictionary(series=[SeriesEntry(1, "oven", "temp", "°C")], profiles=[ProfileEntry(1, AGENT)]),
        Gap(cause="downtime", from_us=1, to_us=2, counts=[(1, 5)], batches=[("0f" * 16, 1, 2)]),
        ClockRecord(segment=1, opened_us=1, offset_us=-5, uncertainty_us=100, measured_us=9),
    ],
)
def test_records_come_back(record: object) -> None:
    assert wire.decode(seal(wire.record_body(record))).content == record  # type: ignore[arg-type]


def test_describe_is_json() -> None:
    columns = Columns(
        np.array([1, 1], np.uint32),
        np.array([10, 20], np.int64),
        np.array([1.5, np.nan]),
        np.array([3.0, np.nan]),
        np.array([GOOD_STATUS[1], BAD_STATUS[0]], np.uint8),
        np.array([1, 0], np.uint32),
    )
    described = json.loads(json.dumps(wire.describe(seal(wire.data_body(columns, derivable=False)))))
    assert described[0]["kind"] == "data"
    assert described[0]["readings"][1] == {
        "series": 1,
        "timestamp_us": 20,
        "raw": None,
        "physical": None,
        "status": "conversion_failed",
        "reason": "not_a_number",
        "profile": 0,
    }


def linear_16_bit(series: int, per_series: int) -> Columns:
    random = np.random.default_rng(1)
    n = series * per_series
    refs = np.arange(1, series + 1, dtype=np.uint32)
    stamps = 1_700_000_000_000_000 + np.arange(per_series) * 10_000 + random.integers(0, 200, per_series)
    raw = random.integers(-30_000, 30_000, n).astype(float)
    return Columns(
        np.repeat(refs, per_series),
        np.tile(stamps, series).astype(np.int64),
        raw,
        raw * 0.5 - 1.0,
        np.full(n, GOOD_STATUS[1], np.uint8),
        np.repeat(refs, per_series),
    )


@pytest.mark.parametrize(("series", "per_series", "bytes_max"), [(10, 100, 3.0), (1000, 1, 8.0)])
def test_readings_stay_small_on_the_wire(series: int, per_series: int, bytes_max: float) -> None:
    batch = seal(wire.data_body(linear_16_bit(series, per_series), derivable=True))
    assert len(batch) / (series * per_series) <= bytes_max
