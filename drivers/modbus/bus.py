"""Polls the units of one connection: plans, asks, learns what a unit refuses, decodes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from drivers.api import Device, Exchange
from drivers.modbus.decode import Answer, Decoder
from drivers.modbus.plan import Block, plan, settle, split
from drivers.modbus.protocol import ModbusRefusal, Query
from drivers.modbus.registers import Register
from drivers.modbus.settings import ModbusDevice
from shared.errors import InstrumentError, InstrumentUnavailable

_READERS_MAX = 1024
"""Polls remembered, one for each combination of points that fall due together; beyond it the oldest is planned anew."""


class Link(Protocol):
    """A connection on which one question at a time is asked."""

    def connect(self, timeout_s: float) -> None:
        """Be ready to ask. Raises: InstrumentUnavailable."""
        ...

    def exchange(self, query: Query, timeout_s: float) -> Answer:
        """Raises: InstrumentUnavailable, InstrumentTimeout, InvalidAnswer, ModbusRefusal."""
        ...

    def close(self) -> None:
        """End a blocked exchange and let go of the port; from any thread."""
        ...


@dataclass(slots=True)
class _Reader:
    """How one combination of points is read."""

    registers: tuple[Register, ...]
    decoder: Decoder


@dataclass(slots=True)
class _Poll:
    """What one poll has brought so far."""

    parts: list[tuple[Block, Answer | None]]
    errors: list[InstrumentError]
    learnt: bool = False


class ModbusBus:
    """The `PolledBus` of all devices on one connection."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._readers: OrderedDict[tuple[str, tuple[int, ...]], _Reader] = OrderedDict()

    def read(self, device: Device, points: Sequence[int]) -> Exchange:
        """Read some points; see `drivers.api.PolledBus`.

        A block that the unit refuses for its addresses is asked for in halves, down to single values, and how it could
        be read is remembered for as long as the bus is open.

        Raises: InstrumentUnavailable if the connection is not there and cannot be made.
        """
        if not isinstance(device, ModbusDevice):
            raise TypeError(f"{device.name} is not a device of this bus")
        reader = self._reader(device, points)
        poll = self._poll(device, reader.decoder.blocks)
        if poll.learnt:
            reader.decoder = Decoder(reader.registers, points, [block for block, _ in poll.parts])
        samples, texts = reader.decoder.decode([answer for _, answer in poll.parts])
        named = {device.points[points[value]].name: text for value, text in texts.items()}
        return Exchange(samples, tuple(poll.errors), named)

    def close(self) -> None:
        """Close the connection and end a blocked `read`."""
        self._link.close()

    def _reader(self, device: ModbusDevice, points: Sequence[int]) -> _Reader:
        key = (device.name, tuple(points))
        reader = self._readers.get(key)
        if reader is None:
            registers = tuple(device.registers[i] for i in points)
            blocks = plan(((r.table, r.address, r.width) for r in registers), device.limits)
            reader = self._readers[key] = _Reader(registers, Decoder(registers, points, blocks))
            if len(self._readers) > _READERS_MAX:
                self._readers.popitem(last=False)
        return reader

    def _poll(self, device: ModbusDevice, blocks: Sequence[Block]) -> _Poll:
        """Ask for all blocks, until one fails in a way that concerns the rest."""
        poll = _Poll([], [])
        for number, block in enumerate(blocks):
            if not self._ask(device, block, poll):
                poll.parts += [(unasked, None) for unasked in blocks[number + 1 :]]
                break
        nothing = all(answer is None for _, answer in poll.parts)
        if nothing and poll.errors and isinstance(poll.errors[-1], InstrumentUnavailable):
            raise poll.errors[-1]
        return poll

    def _ask(self, device: ModbusDevice, block: Block, poll: _Poll) -> bool:
        """Ask for one block and note what came. Returns: whether the poll may go on."""
        try:
            answer = self._link.exchange(_query(device, block), device.timeout_s)
        except ModbusRefusal as refusal:
            if refusal.may_be_partial and block.divisible:
                return self._ask_in_parts(device, block, poll)
            poll.parts.append((block, None))
            poll.errors.append(refusal)
            return True
        except InstrumentError as error:
            poll.parts.append((block, None))
            poll.errors.append(error)
            return False
        poll.parts.append((block, answer))
        return True

    def _ask_in_parts(self, device: ModbusDevice, block: Block, poll: _Poll) -> bool:
        """Find out which parts of a refused block can be read."""
        answers: dict[Block, Answer] = {}
        refusals: dict[Block, ModbusRefusal] = {}
        pending = list(reversed(split(block)))
        while pending:
            part = pending.pop()
            try:
                answers[part] = self._link.exchange(_query(device, part), device.timeout_s)
            except ModbusRefusal as refusal:
                if refusal.may_be_partial and part.divisible:
                    pending += reversed(split(part))
                else:
                    refusals[part] = refusal
            except InstrumentError as error:  # nothing is learnt from an interrupted search
                poll.parts.append((block, None))
                poll.errors.append(error)
                return False
        parts = sorted([*answers, *refusals], key=lambda part: part.address)
        for part in settle([(part, part in answers) for part in parts], device.limits):
            poll.parts.append((part, answers.get(part)))
            if part not in answers:
                poll.errors.append(next(error for old, error in refusals.items() if old.address == part.address))
        poll.learnt = True
        return True


def _query(device: ModbusDevice, block: Block) -> Query:
    return Query(device.unit, block.table, block.address, block.count)
