"""The registers of a simulated Modbus unit: computed from waveforms, or replayed from a recording row by row."""

from __future__ import annotations

import struct
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from drivers.modbus.protocol import ILLEGAL_ADDRESS, Query
from drivers.modbus.registers import TABLES, WORDS, Order, Table, ValueType
from shared.readings import Float64

Source = Callable[[float], float] | float | str
"""Seconds since the simulator's start → value; or a constant."""

_FORMATS = {
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "uint64": "Q",
    "float32": "f",
    "float64": "d",
}
_FLOAT64_WORDS = 4
_WIDTH_MAX = 125


@dataclass(frozen=True, slots=True)
class SimulatedRegister:
    """One value of a simulated unit.

    Attributes:
        table: `coil`, `discrete`, `input` or `holding`.
        source: the value, before `scale` and `offset` are taken off it: `registers = (value − offset) / scale`, rounded
            and limited to what an integer type holds.
        bit: for `bit` and `bits`, the lowest bit; several may share a register.
    """

    table: str
    address: int
    type: ValueType
    source: Source
    unit: int = 1
    scale: float = 1.0
    offset: float = 0.0
    word_order: Order = "big"
    byte_order: Order = "big"
    bit: int = 0

    @property
    def width(self) -> int:
        """Registers (or coils) that it takes."""
        return -(-len(str(self.source).encode()) // 2) if self.type == "string" else WORDS[self.type]

    def words(self, t_s: float) -> Sequence[int]:
        """What the registers hold at `t_s`."""
        value = self.source(t_s) if callable(self.source) else self.source
        if isinstance(value, str):
            data = value.encode().ljust(2 * self.width, b"\0")
        elif self.type in ("bit", "bits"):
            data = struct.pack(">H", (int(value) << self.bit) & 0xFFFF)
        else:
            data = self._packed(value)
        words = struct.unpack(f"{'<' if self.byte_order == 'little' else '>'}{len(data) // 2}H", data)
        return words[::-1] if self.word_order == "little" and self.type != "string" else words

    def _packed(self, value: float) -> bytes:
        if (self.scale, self.offset) != (1.0, 0.0):
            value = (value - self.offset) / self.scale
        if self.type in ("float32", "float64"):
            return struct.pack(">" + _FORMATS[self.type], value)
        bits = 16 * self.width
        low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if self.type.startswith("int") else (0, (1 << bits) - 1)
        return struct.pack(">" + _FORMATS[self.type], min(max(round(value), low), high))


class Replay:
    """A recording, served one row a poll as float64 registers (big word order), the row's index behind its columns.

    The index (0, 1, 2, … as float64) is the last value, so that a poll that needs several requests asks for it last.
    The next row is served once an answer that held the whole index has been sent; until then every request sees the
    same row, so none is torn. An answer that is lost on its way skips its row.

    Args:
        rows: float64 (n_rows, n_columns).
        repeat: start again after the last row; else its registers answer with `illegal data address` from then on.
    """

    def __init__(
        self, rows: Float64, *, table: str = "holding", address: int = 0, unit: int = 1, repeat: bool = False
    ) -> None:
        self.table = TABLES[table]
        self.address = address
        self.unit = unit
        self.finished = threading.Event()
        self._repeat = repeat
        self._row = 0
        numbers = np.arange(len(rows), dtype=np.float64)[:, np.newaxis]
        self._words = np.hstack([np.asarray(rows, np.float64), numbers]).astype(">f8").view(">u2")
        if not len(rows):
            self.finished.set()

    @property
    def row(self) -> int:
        """Index of the row that the next poll gets."""
        return self._row

    @property
    def index_address(self) -> int:
        """Where the row's index is."""
        return self.end - _FLOAT64_WORDS

    @property
    def end(self) -> int:
        """The address after the last one."""
        return self.address + int(self._words.shape[1])

    def column_address(self, column: int) -> int:
        """Where a column is, counting from 0."""
        return self.address + _FLOAT64_WORDS * column

    def words(self) -> Sequence[int]:
        """What the registers hold now."""
        row: list[int] = self._words[self._row].tolist()
        return row

    def answered(self, query: Query) -> None:
        """An answer has been sent; go on if it held the index."""
        if not (query.address <= self.index_address and self.end <= query.address + query.count):
            return
        if self._row + 1 < len(self._words):
            self._row += 1
        elif self._repeat:
            self._row = 0
        else:
            self.finished.set()


class UnitImage:
    """All that one unit holds.

    Args:
        gaps_readable: unused addresses between used ones read as 0; else they are refused, as below and above them.
    """

    def __init__(
        self, registers: Iterable[SimulatedRegister], replays: Iterable[Replay], *, gaps_readable: bool
    ) -> None:
        self._registers: dict[Table, list[SimulatedRegister]] = {table: [] for table in Table}
        self._replays = list(replays)
        self._used: dict[Table, set[int]] = {table: set() for table in Table}
        for register in sorted(registers, key=lambda register: register.address):
            self._registers[TABLES[register.table]].append(register)
            self._used[TABLES[register.table]].update(range(register.address, register.address + register.width))
        for replay in self._replays:
            self._used[replay.table].update(range(replay.address, replay.end))
        if gaps_readable:
            self._used = {table: _filled(used) for table, used in self._used.items()}
        self._starts = {table: [r.address for r in registers] for table, registers in self._registers.items()}

    def read(self, query: Query, t_s: float) -> bytes | int:
        """The data of the answer, or a Modbus exception code."""
        end = query.address + query.count
        if not self._used[query.table].issuperset(range(query.address, end)):
            return ILLEGAL_ADDRESS
        words = [0] * query.count
        for replay in self._touched_replays(query):
            if replay.finished.is_set():
                return ILLEGAL_ADDRESS
            _overlay(words, query.address, replay.address, replay.words())
        registers, starts = self._registers[query.table], self._starts[query.table]
        for register in registers[bisect_left(starts, query.address - _WIDTH_MAX) : bisect_left(starts, end)]:
            _overlay(words, query.address, register.address, register.words(t_s))
        if query.table.of_bits:
            return np.packbits(np.array(words, np.uint8), bitorder="little").tobytes()
        return struct.pack(f">{len(words)}H", *words)

    def answered(self, query: Query) -> None:
        """The answer has been sent."""
        for replay in self._touched_replays(query):
            replay.answered(query)

    def _touched_replays(self, query: Query) -> list[Replay]:
        end = query.address + query.count
        return [
            replay
            for replay in self._replays
            if replay.table is query.table and replay.address < end and query.address < replay.end
        ]


def _filled(used: set[int]) -> set[int]:
    """All addresses from the lowest used to the highest."""
    return set(range(min(used), max(used) + 1)) if used else used


def _overlay(words: list[int], base: int, address: int, values: Sequence[int]) -> None:
    """Put `values`, which live at `address`, into `words`, which start at `base`; bit fields share a word."""
    for place, value in enumerate(values, start=address - base):
        if 0 <= place < len(words):
            words[place] |= value
