"""Where every listener hands in what it was told, and learns when that is on disk."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future
from enum import Enum

import msgspec
import numpy as np

from drivers.api import Point, Sink
from drivers.push.device import PushDevice, Range
from drivers.push.message import Entry, parse_line
from shared.clock import Clock
from shared.errors import InstrumentError, InvalidAnswer, LabrelayError, SpoolError
from shared.readings import Reason, Samples

ANYTHING = Range()


class Outcome(Enum):
    """What became of a line."""

    STORED = "stored"
    INVALID = "invalid"
    BLOCKED = "blocked"
    TIMEOUT = "timeout"


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the sender of a line is told."""

    ok: bool
    error: str = ""
    hint: str = ""

    def line(self) -> bytes:
        """As a line of JSON."""
        return msgspec.json.encode(self) + b"\n"


class Reception:
    """Turns entries into samples of the device's points, delivers them and waits for the disk.

    All of it runs in the one event loop of the bus.

    Args:
        device: whose points are pushed.
        sink: the agent.
        clock: for values without a time.
    """

    def __init__(self, device: PushDevice, sink: Sink, clock: Clock) -> None:
        self._device = device
        self._sink = sink
        self._clock = clock
        self._indices = {point.name: sink.add_point(device, point) for point in device.points}

    async def take_lines(self, lines: Sequence[bytes]) -> list[Answer]:
        """Take lines that arrived together; those that are wrong do not hold up the others.

        Returns: one answer a line, in order, once what could be taken is on disk.
        """
        answers: list[Answer | None] = []
        entries: list[Entry] = []
        for line in lines:
            try:
                said = self.known(parse_line(line))
            except LabrelayError as error:
                answers.append(self.refuse(error))
            else:
                entries += said
                answers.append(None)
        _, stored = await self.store(entries)
        return [stored if answer is None else answer for answer in answers]

    def refuse(self, error: LabrelayError) -> Answer:
        """Report a line that cannot be taken to the agent, and say so to its sender."""
        seen = error if isinstance(error, InstrumentError) else InvalidAnswer(error.message, hint=error.hint)
        self._sink.failed(self._device, seen)
        return Answer(False, error.message, error.hint)

    def known(self, entries: list[Entry]) -> list[Entry]:
        """The same entries, once all their points are known.

        Raises: ConfigurationError beyond `points_max`, InvalidAnswer for another unit than the point has.
        """
        for entry in entries:
            point = self._device.point(entry.point, entry.signal)
            if point is None:
                point = self._device.new_point(entry.point, entry.signal, entry.unit or "")
                index = self._indices[point.name] = self._sink.add_point(self._device, point)
                self._device.add(entry.point, index, point)
            elif entry.unit is not None and entry.unit != point.unit:
                raise InvalidAnswer(
                    f"the unit of {entry.point} is {point.unit!r}, not {entry.unit!r}",
                    hint="another unit is another point, or another signal",
                )
        return entries

    async def store(self, entries: Sequence[Entry]) -> tuple[Outcome, Answer]:
        """Deliver entries whose points are known; returns when they are on disk, or will not be."""
        if not entries:
            return Outcome.STORED, Answer(True)
        limit_s = self._device.limits.answer_timeout_s
        try:
            await _committed(self._sink.deliver(self._device, self._samples(entries)), limit_s)
        except SpoolError as error:
            return Outcome.BLOCKED, Answer(False, error.message, error.hint or "try again later")
        except CancelledError:
            return Outcome.BLOCKED, Answer(False, "the agent is stopping", "try again later")
        except TimeoutError:
            error_text = f"not on disk within {limit_s:g} s"
            return Outcome.TIMEOUT, Answer(False, error_text, "it may be stored yet; see `labrelay agent status`")
        return Outcome.STORED, Answer(True)

    def _samples(self, entries: Sequence[Entry]) -> Samples:
        now_us = self._clock.now_us()
        points = [self._point(entry) for entry in entries]
        return Samples(
            np.array([self._indices[point.name] for point in points], np.uint32),
            np.array([now_us if entry.timestamp_us is None else entry.timestamp_us for entry in entries], np.int64),
            np.array([entry.raw for entry in entries], np.float64),
            np.array([self._reason(e, point) for e, point in zip(entries, points, strict=True)], np.uint8),
        )

    def _point(self, entry: Entry) -> Point:
        point = self._device.point(entry.point, entry.signal)
        assert point is not None  # `known` came first
        return point

    def _reason(self, entry: Entry, point: Point) -> Reason:
        allowed = self._device.ranges.get(point.name, ANYTHING)
        in_range = entry.reason is not Reason.NONE or allowed.low <= entry.raw <= allowed.high
        return entry.reason if in_range else Reason.OUT_OF_RANGE


async def _committed(future: Future[None], timeout_s: float) -> None:
    """Wait for the spool without ever cancelling what it promised. Raises: what the future holds, TimeoutError."""
    loop = asyncio.get_running_loop()
    told = asyncio.Event()

    def tell(_: Future[None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
            loop.call_soon_threadsafe(told.set)

    future.add_done_callback(tell)
    async with asyncio.timeout(timeout_s):
        await told.wait()
    future.result()
