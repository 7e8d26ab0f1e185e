"""Registers into readings."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.modbus.decode import Answer, Decoder
from drivers.modbus.plan import Limits, plan
from drivers.modbus.registers import WORDS, Register, Table
from shared.readings import Reason

AT_US = 1_700_000_000_000_000
FORMATS = {
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "uint64": "Q",
    "float32": "f",
    "float64": "d",
}
RANGES = {
    "int16": (-(2**15), 2**15 - 1),
    "uint16": (0, 2**16 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "uint32": (0, 2**32 - 1),
}


def register(type_, address=0, table=Table.HOLDING, **more):
    return Register(table, address, type_, WORDS.get(type_, more.pop("width", 1)), **more)


def read(registers, memory):
    """Decode `registers` from the bytes of a whole table."""
    blocks = plan([(r.table, r.address, r.width) for r in registers], Limits())
    decoder = Decoder(registers, range(len(registers)), blocks)
    answers = [Answer(memory[2 * block.address : 2 * (block.address + block.count)], AT_US) for block in blocks]
    return decoder.decode(answers)


def one(type_, data, **more):
    samples, _ = read([register(type_, **more)], data)
    return float(samples.raw[0]), Reason(samples.reason[0])


def laid_out(big, word_order, byte_order):
    """The bytes of a big-endian value as a device with these orders sends them."""
    words = [big[i : i + 2] for i in range(0, len(big), 2)]
    if word_order == "little":
        words.reverse()
    return b"".join(word[::-1] if byte_order == "little" else word for word in words)


orders = st.sampled_from(["big", "little"])


@given(st.sampled_from(sorted(FORMATS)), st.data(), orders, orders)
def test_every_type_in_every_order_comes_back(type_, data, word_order, byte_order):
    if type_.startswith("float"):
        value = data.draw(st.floats(width=int(type_[5:]), allow_nan=False, allow_infinity=False))
    else:
        value = data.draw(st.integers(*RANGES.get(type_, (0, 2**53))))
    sent = laid_out(struct.pack(">" + FORMATS[type_], value), word_order, byte_order)
    raw, reason = one(type_, sent, word_order=word_order, byte_order=byte_order)
    assert struct.pack(">d", raw) == struct.pack(">d", value)
    assert reason is Reason.NONE


@pytest.mark.parametrize(
    ("word_order", "byte_order", "sent"),
    [
        ("big", "big", "40490fdb"),
        ("little", "big", "0fdb4049"),
        ("big", "little", "4940db0f"),
        ("little", "little", "db0f4940"),
    ],
)
def test_pi_in_the_four_orders_that_manuals_call_abcd_cdab_badc_and_dcba(word_order, byte_order, sent):
    raw, _ = one("float32", bytes.fromhex(sent), word_order=word_order, byte_order=byte_order)
    assert raw == float(np.float32(math.pi))


@given(st.integers(-(2**63), 2**64 - 1))
def test_a_64_bit_integer_that_float64_cannot_hold_fails_instead_of_being_rounded(value):
    type_ = "int64" if value < 2**63 else "uint64"
    raw, reason = one(type_, struct.pack(">" + FORMATS[type_], value))
    if int(float(value)) == value:
        assert (raw, reason) == (float(value), Reason.NONE)
    else:
        assert math.isnan(raw)
        assert reason is Reason.NOT_REPRESENTABLE


@pytest.mark.parametrize("value", [-(2**63), -(2**53) - 1, 2**53 + 1, 2**63 - 1, 2**62, 0, -1])
def test_the_edges_of_what_float64_holds(value):
    raw, reason = one("int64", struct.pack(">q", value))
    assert (reason is Reason.NONE) == (int(float(value)) == value)
    assert reason is not Reason.NONE or raw == value


@pytest.mark.parametrize(
    ("value", "reason"),
    [(math.nan, Reason.NOT_A_NUMBER), (math.inf, Reason.INFINITE), (-math.inf, Reason.INFINITE)],
)
@pytest.mark.parametrize("type_", ["float32", "float64"])
def test_what_is_no_number_fails_and_has_no_raw_value(type_, value, reason):
    raw, found = one(type_, struct.pack(">" + FORMATS[type_], value), valid_min=0, valid_max=1)
    assert math.isnan(raw)
    assert found is reason


def test_scale_and_offset_apply_to_the_points_that_have_them_alone():
    memory = struct.pack(">3h", -123, 7, -123)
    samples, _ = read(
        [register("int16", 0, scale=0.1), register("int16", 1), register("int16", 2, scale=2.0, offset=0.5)], memory
    )
    assert samples.raw.tolist() == [-123 * 0.1, 7.0, -245.5]


def test_minus_zero_stays_minus_zero():
    raw, _ = one("float64", struct.pack(">d", -0.0))
    assert math.copysign(1, raw) == -1


def test_a_scale_that_overflows_is_infinite():
    raw, reason = one("float64", struct.pack(">d", 1e300), scale=1e300)
    assert math.isnan(raw)
    assert reason is Reason.INFINITE


@pytest.mark.parametrize(
    ("value", "reason"),
    [(-0.1, Reason.OUT_OF_RANGE), (0.0, Reason.NONE), (10.0, Reason.NONE), (10.1, Reason.OUT_OF_RANGE)],
)
def test_a_value_out_of_its_range_fails_and_keeps_its_raw_value(value, reason):
    raw, found = one("float64", struct.pack(">d", value), valid_min=0, valid_max=10)
    assert (raw, found) == (value, reason)


def test_the_range_is_that_of_the_scaled_value():
    assert one("int16", struct.pack(">h", 500), scale=0.1, valid_max=60) == (50.0, Reason.NONE)


def test_bits_are_cut_out_of_their_register():
    memory = struct.pack(">H", 0b1011_0010)
    samples, _ = read(
        [register("bit", bit=1), register("bit", bit=2), register("bits", bit=4, bits=4), register("bits", bits=16)],
        memory,
    )
    assert samples.raw.tolist() == [1, 0, 0b1011, 0b1011_0010]


def test_bits_of_a_device_that_swaps_bytes():
    assert one("bit", struct.pack("<H", 0b1000), bit=3, byte_order="little")[0] == 1


def test_coils_come_lowest_address_first_in_the_lowest_bit():
    registers = [Register(Table.COIL, address, "bit") for address in (3, 4, 12)]
    blocks = plan([(r.table, r.address, r.width) for r in registers], Limits())
    samples, _ = Decoder(registers, [0, 1, 2], blocks).decode([Answer(bytes([0b01, 0b10]), AT_US)])
    assert samples.raw.tolist() == [1, 0, 1]


def test_texts_are_no_readings():
    memory = b"Probe 7\0xx" + struct.pack(">H", 5)
    samples, texts = read([register("string", width=5, length=10), register("uint16", 5)], memory)
    assert texts == {0: "Probe 7"}
    assert samples.point.tolist() == [1]


def test_a_text_of_a_device_that_swaps_bytes_and_of_odd_length():
    _, texts = read([register("string", width=3, length=5, byte_order="little", word_order="little")], b"BADC.E")
    assert texts == {0: "ABCDE"}


def test_bytes_that_are_no_text_do_no_harm():
    _, texts = read([register("string", width=2, length=4)], b"\xff\xfeAB")
    assert texts == {0: "��AB"}


def test_values_of_a_block_without_answer_are_left_out_and_the_others_keep_their_times():
    registers = [register("uint16", 0), register("uint16", 500), register("uint16", 1)]
    blocks = plan([(r.table, r.address, r.width) for r in registers], Limits())
    decoder = Decoder(registers, [10, 11, 12], blocks)
    samples, _ = decoder.decode([None, Answer(b"\0\x07", 99)])
    assert (samples.point.tolist(), samples.raw.tolist(), samples.timestamp_us.tolist()) == ([11], [7], [99])
    samples, _ = decoder.decode([Answer(b"\0\1\0\2", 5), None])
    assert (samples.point.tolist(), samples.raw.tolist(), samples.timestamp_us.tolist()) == ([10, 12], [1, 2], [5, 5])


def test_a_poll_of_texts_alone_has_no_samples():
    samples, texts = read([register("string", width=1, length=2)], b"OK")
    assert len(samples) == 0
    assert texts == {0: "OK"}
