"""Instruments that talk unasked: every line that is understood is delivered, every other one is reported.

Readings carry the time at which the end of their line arrived. What arrives in one read becomes one `Samples`. The
first, possibly half, line after the port was opened is dropped unless a checksum proves it whole.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

import numpy as np

from drivers.api import Sink
from drivers.line.device import LineDevice
from drivers.line.framing import LineSplitter, excerpt
from drivers.line.ports import LinePort
from shared.clock import Clock
from shared.errors import InstrumentError, InstrumentTimeout, InstrumentUnavailable, InvalidAnswer, SpoolError
from shared.readings import Samples

LISTEN_S = 0.25
"""So long a read waits before it looks whether to end."""


class StreamingLineBus:
    """One port and the one streaming instrument on it.

    Args:
        device: the instrument.
        clock: for timestamps.
        connect: opens the port; called again when `listen` is called after the port was lost.

    Raises: InstrumentUnavailable if the port cannot be opened.
    """

    def __init__(self, device: LineDevice, clock: Clock, connect: Callable[[], LinePort]) -> None:
        self._device = device
        self._clock = clock
        self._connect = connect
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._port: LinePort | None = connect()

    def listen(self, sink: Sink) -> None:
        """See `ListeningBus.listen`. A line whose readings the spool refuses is lost, and reported to the sink."""
        with self._lock:
            try:
                self._listen(sink)
            finally:
                port, self._port = self._port, None
                if port is not None:
                    port.close()

    def close(self) -> None:
        """See `ListeningBus.close`."""
        self._closed.set()
        with self._lock:  # `listen` looks every LISTEN_S whether to end, and says `stop` while the port is open
            port, self._port = self._port, None
            if port is not None:
                port.close()

    def _listen(self, sink: Sink) -> None:
        device, speech = self._device, self._device.speech
        if self._closed.is_set():
            return
        if self._port is None:
            self._port = self._connect()
        port = self._port
        splitter = LineSplitter(
            speech.terminator,
            speech.line_bytes_max,
            trailer_bytes=speech.checksum.trailer_bytes,
            synchronised=speech.checksum.kind != "none",
        )
        self._say(port, speech.start)
        heard_at = time.monotonic()
        while not self._closed.is_set():
            chunk = port.read(LISTEN_S)
            now = time.monotonic()
            if chunk:
                heard_at = now
                self._take(splitter, chunk, sink)
            elif now - heard_at > device.timeout_s:
                heard_at = now
                sink.failed(device, _silence(device))
        with contextlib.suppress(InstrumentError):
            self._say(port, speech.stop)

    def _say(self, port: LinePort, command: str) -> None:
        if command:
            port.write(self._device.speech.outgoing(command), self._device.timeout_s)

    def _take(self, splitter: LineSplitter, chunk: bytes, sink: Sink) -> None:
        timestamp_us = self._clock.now_us()
        oversized = splitter.oversized
        lines = splitter.feed(chunk)
        if splitter.oversized > oversized:
            sink.failed(self._device, _oversized(self._device, chunk))
        points: list[int] = []
        raws: list[float] = []
        reasons: list[int] = []
        for line in lines:
            try:
                self._understand(line, points, raws, reasons)
            except InvalidAnswer as error:
                sink.failed(self._device, error)
        if not points:
            return
        samples = Samples(
            np.array(points, np.uint32),
            np.full(len(points), timestamp_us, np.int64),
            np.array(raws, np.float64),
            np.array(reasons, np.uint8),
        )
        try:
            sink.deliver(self._device, samples)
        except SpoolError as error:
            sink.failed(self._device, _lost(self._device, len(samples), error))

    def _understand(self, line: bytes, points: list[int], raws: list[float], reasons: list[int]) -> None:
        """Append the line's values. Raises: InvalidAnswer, after what could be understood was appended."""
        speech = self._device.speech
        content = speech.checksum.verify(line)
        try:
            text = content.decode(speech.encoding)
        except UnicodeDecodeError:
            raise InvalidAnswer(
                f"{self._device.name} sent no {speech.encoding} text: {excerpt(content)}",
                hint="are baud rate, parity and encoding right?",
            ) from None
        concerned = False
        failure: InvalidAnswer | None = None
        for index, extraction in enumerate(self._device.extractions):
            try:
                value = extraction.extract(text)
            except InvalidAnswer as error:
                failure = error
                continue
            if value is not None:
                concerned = True
                points.append(index)
                raws.append(value.raw)
                reasons.append(value.reason)
        if speech.ignore is not None and speech.ignore.search(text):
            return
        if failure is not None:
            raise failure
        if not concerned:
            raise InvalidAnswer(
                f"{self._device.name} sent a line that no point wants: {excerpt(content)}",
                hint="a pattern in `ignore` says which lines are no error",
            )


def _silence(device: LineDevice) -> InstrumentTimeout:
    return InstrumentTimeout(
        f"nothing heard from {device.name} for {device.timeout_s:g} s",
        hint="is it switched on and wired? timeout_s says how long a silence is usual",
    )


def _oversized(device: LineDevice, chunk: bytes) -> InvalidAnswer:
    return InvalidAnswer(
        f"{device.name} sent a line of more than {device.speech.line_bytes_max} bytes: {excerpt(chunk)}",
        hint="are baud rate, parity and terminator right?",
    )


def _lost(device: LineDevice, count: int, error: SpoolError) -> InstrumentUnavailable:
    return InstrumentUnavailable(
        f"{count} readings of {device.name} could not be spooled: {error.message}", hint=error.hint
    )
