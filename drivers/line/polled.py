"""Prompt–response instruments: ask, wait, and never take one prompt's answer for another's.

Before each prompt the input is drained. After a timeout the answer may still come: for `late_s` the port is only
listened to and what arrives is thrown away; then the first answer is taken only if no second one follows it, since two
answers to one prompt mean that the first belonged to an earlier one. After an invalid answer the line must fall
silent for `SILENCE_S`. Readings carry the time at which the first byte of their answer arrived.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from drivers.api import Device, Exchange
from drivers.line.device import LineDevice
from drivers.line.extract import Value
from drivers.line.framing import LineSplitter, excerpt
from drivers.line.ports import LinePort
from shared.clock import Clock
from shared.errors import (
    ConfigurationError,
    InstrumentError,
    InstrumentTimeout,
    InstrumentUnavailable,
    InvalidAnswer,
    RequestRefused,
)
from shared.readings import Samples

SILENCE_S = 0.05
"""A line that was silent for so long has finished what it was saying (48 characters at 9600 baud)."""


@dataclass(frozen=True, slots=True)
class Inquiry:
    """One prompt and the points that its answer serves."""

    prompt: str
    points: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer's text, and when its first byte arrived (UTC µs)."""

    text: str
    timestamp_us: int


def inquiries(device: LineDevice, points: Sequence[int]) -> tuple[Inquiry, ...]:
    """The fewest prompts that serve these points, in the points' order."""
    by_prompt: dict[str, list[int]] = {}
    for point in points:
        by_prompt.setdefault(device.prompts[point], []).append(point)
    return tuple(Inquiry(prompt, tuple(indices)) for prompt, indices in by_prompt.items())


class PolledLineBus:
    """One port and the prompt–response instruments on it.

    Args:
        devices: all devices of the port.
        clock: for timestamps; timeouts follow the system's monotonic clock, as the port does.
        connect: opens the port; called again after the port was lost.

    Raises: InstrumentUnavailable if the port cannot be opened.
    """

    def __init__(self, devices: Sequence[LineDevice], clock: Clock, connect: Callable[[], LinePort]) -> None:
        self._devices = {device.name: device for device in devices}
        self._clock = clock
        self._connect = connect
        self._plans: dict[tuple[str, tuple[int, ...]], tuple[Inquiry, ...]] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._silent_from = 0.0
        """Monotonic time until which the port is only listened to."""
        self._suspect = False
        """A prompt went unanswered since the last answer that was beyond doubt."""
        self._port: LinePort | None = connect()

    def read(self, device: Device, points: Sequence[int]) -> Exchange:
        """See `PolledBus.read`."""
        known = self._devices.get(device.name)
        if known is None:
            raise ConfigurationError(f"{device.name} is not on this port", key=("devices", device.name))
        parts: list[Samples] = []
        errors: list[InstrumentError] = []
        with self._lock:
            self._check_open()
            for inquiry in self._plan(known, points):
                try:
                    parts.append(self._inquire(known, inquiry, errors))
                except (InstrumentTimeout, InstrumentUnavailable) as error:
                    errors.append(error)
                    break
                except InstrumentError as error:
                    errors.append(error)
        return Exchange(Samples.concatenate(parts), errors)

    def close(self) -> None:
        """See `PolledBus.close`."""
        self._closed.set()
        if (port := self._port) is not None:
            port.interrupt()
        with self._lock:
            self._drop_port()

    def _plan(self, device: LineDevice, points: Sequence[int]) -> tuple[Inquiry, ...]:
        key = (device.name, tuple(points))
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = inquiries(device, points)
        return plan

    def _inquire(self, device: LineDevice, inquiry: Inquiry, errors: list[InstrumentError]) -> Samples:
        port = self._open_port()
        try:
            answer = self._exchange(port, device, inquiry.prompt)
        except InstrumentTimeout:
            self._suspect = True
            self._silent_from = time.monotonic() + device.speech.late_s
            raise
        except InvalidAnswer:
            self._silent_from = time.monotonic() + SILENCE_S
            raise
        except InstrumentUnavailable:
            self._drop_port()
            raise
        return _samples(device, inquiry, answer, errors)

    def _open_port(self) -> LinePort:
        if self._port is None:
            self._port = self._connect()
            self._suspect = False
            self._silent_from = 0.0
        return self._port

    def _drop_port(self) -> None:
        port, self._port = self._port, None
        if port is not None:
            port.close()

    def _exchange(self, port: LinePort, device: LineDevice, prompt: str) -> Answer:
        speech = device.speech
        self._fall_silent(port, device)
        port.write(speech.outgoing(prompt), device.timeout_s)
        lines, timestamp_us, surplus = self._collect(port, device, prompt)
        if self._suspect:
            surplus = surplus or port.read(SILENCE_S)
            if surplus:
                self._silent_from = time.monotonic() + SILENCE_S
                raise InvalidAnswer(
                    f"{device.name} gave more than one answer after one that was late: {excerpt(surplus)}",
                    hint="timeout_s is shorter than the instrument needs, or late_s is",
                )
            self._suspect = False
        return Answer(_understood(device, prompt, lines), timestamp_us)

    def _fall_silent(self, port: LinePort, device: LineDevice) -> None:
        """Throw away what has arrived, and wait where an answer may still be on its way.

        Raises: InvalidAnswer if the line does not fall silent within the device's timeout beyond that.
        """
        limit = max(self._silent_from, time.monotonic()) + device.timeout_s
        discarded = port.read(0)
        while discarded or time.monotonic() < self._silent_from:
            self._check_open()
            if time.monotonic() >= limit:
                raise InvalidAnswer(
                    f"the line of {device.name} does not fall silent: {excerpt(discarded)}",
                    hint='does the instrument talk unasked (mode = "stream")? is the baud rate right?',
                )
            wait_s = self._silent_from - time.monotonic()
            discarded = port.read(min(wait_s, 0.25) if wait_s > 0 else SILENCE_S)

    def _collect(self, port: LinePort, device: LineDevice, prompt: str) -> tuple[list[bytes], int, bytes]:
        """The answer's lines, the time of its first byte, and what came after it in the same breath."""
        speech = device.speech
        wanted = speech.answer_lines + speech.echo
        splitter = LineSplitter(speech.terminator, speech.line_bytes_max, trailer_bytes=speech.checksum.trailer_bytes)
        lines: list[bytes] = []
        timestamp_us = 0
        deadline = time.monotonic() + device.timeout_s
        while len(lines) < wanted:
            chunk = port.read(deadline - time.monotonic())
            self._check_open()
            if chunk and not timestamp_us:
                timestamp_us = self._clock.now_us()
            lines += splitter.feed(chunk)
            if splitter.oversized:
                raise InvalidAnswer(
                    f"{device.name} answered a line of more than {speech.line_bytes_max} bytes: {excerpt(chunk)}",
                    hint="are baud rate, parity and terminator right?",
                )
            if not chunk and time.monotonic() >= deadline:
                raise _timeout(device, prompt, lines, splitter.pending)
        surplus = b"".join(lines[wanted:]) + splitter.pending
        return lines[:wanted], timestamp_us, surplus

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise InstrumentUnavailable("the port has been closed")


def _timeout(device: LineDevice, prompt: str, lines: list[bytes], pending: bytes) -> InstrumentTimeout:
    said = b"".join(lines) + pending
    message = f"{device.name} did not answer {prompt!r} within {device.timeout_s:g} s"
    if said:
        return InstrumentTimeout(
            f"{message}, only {excerpt(said)} came", hint="is the terminator right, and how many lines it answers?"
        )
    return InstrumentTimeout(message, hint="is it switched on and wired, and are port and baud rate right?")


def _understood(device: LineDevice, prompt: str, lines: list[bytes]) -> str:
    """The answer's text. Raises: InvalidAnswer, RequestRefused."""
    speech = device.speech
    if speech.echo:
        echoed = lines.pop(0)
        if echoed.strip() != speech.outgoing(prompt).strip(speech.write_terminator).strip():
            raise InvalidAnswer(f"{device.name} echoed {excerpt(echoed)} to {prompt!r}", hint="set echo = false?")
    content = b"\n".join(speech.checksum.verify(line) for line in lines)
    try:
        text = content.decode(speech.encoding)
    except UnicodeDecodeError:
        raise InvalidAnswer(
            f"{device.name} answered no {speech.encoding} text: {excerpt(content)}",
            hint="are baud rate, parity and encoding right?",
        ) from None
    if speech.refused is not None and speech.refused.search(text):
        raise RequestRefused(f"{device.name} refused {prompt!r}: {excerpt(content)}")
    if speech.expect is not None and not speech.expect.search(text):
        raise InvalidAnswer(f"{device.name} answered {prompt!r} with {excerpt(content)}, which is not what is expected")
    return text


def _samples(device: LineDevice, inquiry: Inquiry, answer: Answer, errors: list[InstrumentError]) -> Samples:
    good: list[int] = []
    values: list[Value] = []
    for point in inquiry.points:
        try:
            value = device.extractions[point].extract(answer.text)
        except InvalidAnswer as error:
            errors.append(error)
            continue
        if value is None:
            name = device.points[point].name
            errors.append(InvalidAnswer(f"{device.name}: no {name} in {excerpt(answer.text.encode())}"))
            continue
        good.append(point)
        values.append(value)
    return Samples(
        np.array(good, np.uint32),
        np.full(len(good), answer.timestamp_us, np.int64),
        np.array([value.raw for value in values], np.float64),
        np.array([value.reason for value in values], np.uint8),
    )
