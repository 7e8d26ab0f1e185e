"""Turns the answers of one poll into readings, all values of a kind in one numpy call.

The registers of all answers go into one buffer of uint16 (a coil is a register of 0 or 1). Which places of it make up
which value is worked out once for a plan; a poll then costs by the kind of value and not by the value.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.modbus.plan import Block
from drivers.modbus.registers import Register
from shared.readings import Float64, Reason, Samples

_DTYPES: dict[str, np.dtype[Any]] = {
    "int16": np.dtype(np.int16),
    "uint16": np.dtype(np.uint16),
    "int32": np.dtype(np.int32),
    "uint32": np.dtype(np.uint32),
    "int64": np.dtype(np.int64),
    "uint64": np.dtype(np.uint64),
    "float32": np.dtype(np.float32),
    "float64": np.dtype(np.float64),
    "bit": np.dtype(np.uint16),
    "bits": np.dtype(np.uint16),
}

_MANTISSA_END = np.uint64(1 << 53)

Places = NDArray[np.intp]
Words = NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class Answer:
    """What one block's request brought.

    Attributes:
        data: the registers (big-endian) or coils (packed, lowest address in bit 0 of the first byte) as sent.
        timestamp_us: the middle of the exchange.
    """

    data: bytes
    timestamp_us: int


@dataclass(frozen=True, slots=True)
class _Group:
    """Values of one type and byte order.

    Attributes:
        places: (n, words), where in the buffer each value's words are, in the order of this machine's memory.
        columns: (n,), which readings they are.
        shift: (n,) for bit fields.
        mask: (n,) for bit fields, all ones else.
    """

    dtype: np.dtype[Any]
    swapped: bool
    places: Places
    columns: Places
    shift: Words | None
    mask: Words | None

    def values(self, words: Words) -> NDArray[Any]:
        """The values (n,) in their own type."""
        taken = words[self.places]
        if self.swapped:
            taken = taken.byteswap()
        values = taken.view(self.dtype)[:, 0]
        if self.shift is None or self.mask is None:
            return values
        return (taken[:, 0] >> self.shift) & self.mask


@dataclass(frozen=True, slots=True)
class _Text:
    value: int
    place: int
    register: Register


@dataclass(slots=True)
class _Members:
    places: list[list[int]] = field(default_factory=list)
    columns: list[int] = field(default_factory=list)
    registers: list[Register] = field(default_factory=list)


class Decoder:
    """Knows where in the answers to `blocks` every value is.

    Args:
        registers: of the values polled; `Span.value` of the blocks indexes into them.
        points: index within the device of each of them.
        blocks: that bring all of them.
    """

    def __init__(self, registers: Sequence[Register], points: Sequence[int], blocks: Sequence[Block]) -> None:
        self.blocks = tuple(blocks)
        self._starts = np.cumsum([0, *(block.count for block in blocks)]).tolist()
        place_of, block_of = self._locate(len(registers))
        numbers = [i for i, register in enumerate(registers) if register.type != "string"]
        self._points = np.array([points[i] for i in numbers], np.uint32)
        self._block = np.array([block_of[i] for i in numbers], np.intp)
        self._texts = tuple(
            _Text(i, place_of[i], register) for i, register in enumerate(registers) if register.type == "string"
        )
        self._text_blocks = [block_of[text.value] for text in self._texts]
        self._groups = _groups([registers[i] for i in numbers], [place_of[i] for i in numbers])
        self._float = any(group.dtype.kind == "f" for group in self._groups)
        self._arrange_scales([registers[i] for i in numbers])

    def _locate(self, count: int) -> tuple[list[int], list[int]]:
        """For each value its first place in the buffer, and its block."""
        place_of, block_of = [0] * count, [0] * count
        for number, block in enumerate(self.blocks):
            for span in block.spans:
                place_of[span.value] = self._starts[number] + span.address - block.address
                block_of[span.value] = number
        return place_of, block_of

    def _arrange_scales(self, registers: Sequence[Register]) -> None:
        scaled = [i for i, r in enumerate(registers) if (r.scale, r.offset) != (1.0, 0.0)]
        self._scaled = np.array(scaled, np.intp)
        self._scale = np.array([registers[i].scale for i in scaled])
        self._offset = np.array([registers[i].offset for i in scaled])
        ranged = [i for i, r in enumerate(registers) if r.valid_min is not None or r.valid_max is not None]
        self._ranged = np.array(ranged, np.intp)
        lows, highs = [registers[i].valid_min for i in ranged], [registers[i].valid_max for i in ranged]
        self._valid_min = np.array([-np.inf if low is None else low for low in lows])
        self._valid_max = np.array([np.inf if high is None else high for high in highs])

    def decode(self, answers: Sequence[Answer | None]) -> tuple[Samples, Mapping[int, str]]:
        """Readings, and texts by value.

        Args:
            answers: to each block in order, each as long as its block; None where there was none.
        """
        words = self._words(answers)
        raw, reason = self._raw(words)
        timestamp_us = np.array([answer.timestamp_us if answer else 0 for answer in answers], np.int64)[self._block]
        samples = Samples(self._points, timestamp_us, raw, reason)
        texts = {
            text.value: _text(words, text)
            for text, block in zip(self._texts, self._text_blocks, strict=True)
            if answers[block] is not None
        }
        if None not in answers:
            return samples, texts
        there = np.array([answer is not None for answer in answers])[self._block]
        return Samples(samples.point[there], samples.timestamp_us[there], raw[there], reason[there]), texts

    def _words(self, answers: Sequence[Answer | None]) -> Words:
        words = np.zeros(self._starts[-1], np.uint16)
        for start, block, answer in zip(self._starts, self.blocks, answers, strict=False):
            if answer is None:
                continue
            if block.table.of_bits:
                packed = np.frombuffer(answer.data, np.uint8)
                words[start : start + block.count] = np.unpackbits(packed, count=block.count, bitorder="little")
            else:
                words[start : start + block.count] = np.frombuffer(answer.data, ">u2")
        return words

    def _raw(self, words: Words) -> tuple[Float64, NDArray[np.uint8]]:
        raw = np.empty(len(self._points), np.float64)
        reason = np.zeros(len(self._points), np.uint8)
        with np.errstate(over="ignore", invalid="ignore"):
            for group in self._groups:
                values = group.values(words)
                raw[group.columns] = values
                if group.dtype.itemsize == 8 and group.dtype.kind in "iu":
                    reason[group.columns[~_exact(values)]] = Reason.NOT_REPRESENTABLE
            if len(self._scaled):
                raw[self._scaled] = raw[self._scaled] * self._scale + self._offset
            if len(self._ranged):
                values = raw[self._ranged]
                outside = ~((values >= self._valid_min) & (values <= self._valid_max))
                beyond = self._ranged[outside]
                reason[beyond[reason[beyond] == Reason.NONE]] = Reason.OUT_OF_RANGE
        if self._float or len(self._scaled):
            reason[np.isinf(raw)] = Reason.INFINITE
            reason[np.isnan(raw)] = Reason.NOT_A_NUMBER
        if reason.any():
            raw[(reason != Reason.NONE) & (reason != Reason.OUT_OF_RANGE)] = np.nan
        return raw, reason


def _groups(registers: Sequence[Register], places: Sequence[int]) -> tuple[_Group, ...]:
    members: defaultdict[tuple[str, bool], _Members] = defaultdict(_Members)
    for column, (register, place) in enumerate(zip(registers, places, strict=True)):
        group = members[register.type, register.byte_order == "little"]
        order = range(place, place + register.width)
        # The word that this machine keeps first in memory: the least significant one on a little-endian machine.
        forward = (register.word_order == "big") == (sys.byteorder == "big")
        group.places.append(list(order if forward else reversed(order)))
        group.columns.append(column)
        group.registers.append(register)
    return tuple(_group(type_, swapped, group) for (type_, swapped), group in members.items())


def _group(type_: str, swapped: bool, members: _Members) -> _Group:
    shift = mask = None
    if type_ in ("bit", "bits"):
        shift = np.array([register.bit for register in members.registers], np.uint16)
        mask = np.array([(1 << register.bits) - 1 for register in members.registers], np.uint16)
    places = np.array(members.places, np.intp)
    return _Group(_DTYPES[type_], swapped, places, np.array(members.columns, np.intp), shift, mask)


def _exact(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Which 64-bit integers float64 holds exactly: those with at most 53 significant bits."""
    bits = values.view(np.uint64)
    size = np.where(values < 0, ~bits + np.uint64(1), bits) if values.dtype.kind == "i" else bits
    lowest = size & (~size + np.uint64(1))
    return np.asarray(size // np.maximum(lowest, np.uint64(1)) < _MANTISSA_END)


def _text(words: Words, text: _Text) -> str:
    """A string register's text: up to the first NUL, without padding; what is not UTF-8 becomes U+FFFD."""
    taken = words[text.place : text.place + text.register.width]
    data = taken.astype("<u2" if text.register.byte_order == "little" else ">u2").tobytes()
    return data[: text.register.length].split(b"\0")[0].decode("utf-8", "replace").strip()
