"""Line instruments that do not exist: they answer prompts or talk unasked, and misbehave on command.

POSIX only (pseudo-terminals); never imported by the drivers. One thread an instrument. Texts are format strings of the
instrument's quantities: `"S S {mass:10.3f} g"`.
"""

from __future__ import annotations

import contextlib
import heapq
import random
import selectors
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType

from drivers.line.checksum import Checksum
from drivers.line.framing import LineSplitter
from drivers.simulators.scenarios import Chain, Reading
from drivers.simulators.signals import Waveform
from drivers.simulators.wires import Peer, Wire

TICK_S = 0.05
PROMPT_BYTES_MAX = 1000
PENDING_MAX = 1000
GARBAGE_BYTES = 24


@dataclass(frozen=True, slots=True)
class LineInstrument:
    """How a simulated instrument speaks.

    Attributes:
        quantities: what it measures, by the names that its texts use.
        answers: text for each prompt that it knows; others are answered with `unknown`, or not at all if that is empty.
        stream: texts of the lines that it sends each `stream_interval_s`, unasked.
        answer_s: time from prompt to answer.
        echo: repeats each prompt before the answer.
        scenario: what happens to the stream's moments; a line is written for each reading that it lets through, with
            the quantities at that reading's time. The value that it is shown is that of the first quantity, and a
            value that it changed replaces that quantity's.
    """

    quantities: Mapping[str, Waveform]
    answers: Mapping[str, str] = field(default_factory=dict)
    stream: Sequence[str] = ()
    stream_interval_s: float = 1.0
    terminator: bytes = b"\r\n"
    prompt_terminator: bytes = b"\r\n"
    encoding: str = "ascii"
    checksum: Checksum = field(default_factory=Checksum)
    prompt_checksum: bool = False
    answer_s: float = 0.005
    echo: bool = False
    unknown: str = ""
    scenario: Chain = field(default_factory=lambda: Chain(()))


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong, as probabilities (0 … 1) per line sent.

    Attributes:
        silent: the line is not sent.
        late: it is sent `late_s` later.
        garbage: binary garbage is sent instead, with the terminator.
        wrong_checksum: one character is changed after the checksum was made.
        vanish_every_s: the port goes away after each such time, for `vanish_s`; 0 for never.
    """

    silent: float = 0.0
    late: float = 0.0
    late_s: float = 1.0
    garbage: float = 0.0
    wrong_checksum: float = 0.0
    vanish_every_s: float = 0.0
    vanish_s: float = 5.0
    seed: int = 0


class LineSimulator:
    """A line instrument on a wire, run by a thread of its own.

    Attributes:
        faults: what goes wrong; may be replaced at any time.
    """

    def __init__(self, instrument: LineInstrument, wire: Wire, faults: Faults | None = None) -> None:
        self.faults = faults or Faults()
        self._instrument = instrument
        self._wire = wire
        self._random = random.Random(self.faults.seed)
        self._selector = selectors.DefaultSelector()
        self._splitters: dict[Peer, LineSplitter] = {}
        self._pending: list[tuple[float, int, Peer, bytes]] = []
        self._sent = 0
        self._stopping = threading.Event()
        self._gone = threading.Event()
        self._settled = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"simulator {wire.address}", daemon=True)
        self._started_at = 0.0

    @property
    def address(self) -> str:
        """What a driver is to be told."""
        return self._wire.address

    @property
    def lines_sent(self) -> int:
        """Lines sent so far, garbage included."""
        return self._sent

    def start(self) -> None:
        """Appear on the wire; returns when connections are possible. Raises: OSError if the wire cannot be opened."""
        self._started_at = time.monotonic()
        try:
            self._wire.open(self._selector)
        except OSError:
            self._wire.close(self._selector)
            self._selector.close()
            raise
        self._thread.start()

    def stop(self) -> None:
        """Vanish and end the thread."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)
        self._wire.close(self._selector)
        self._selector.close()

    def vanish(self) -> None:
        """Pull the plug: whoever is connected loses the port, and nobody can open it. Returns when it is gone."""
        self._change(gone=True)

    def reappear(self) -> None:
        """Put the plug back in. Returns when the port is there again."""
        self._change(gone=False)

    def __enter__(self) -> LineSimulator:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _change(self, *, gone: bool) -> None:
        self._settled.clear()
        if gone:
            self._gone.set()
        else:
            self._gone.clear()
        self._settled.wait(timeout=5)

    def _run(self) -> None:
        next_line_at = time.monotonic()
        while not self._stopping.is_set():
            self._plug()
            now = time.monotonic()
            if self._instrument.stream and now >= next_line_at:
                next_line_at += self._instrument.stream_interval_s
                if next_line_at < now:
                    next_line_at = now + self._instrument.stream_interval_s
                self._tell(now - self._started_at)
            self._send_due(now)
            self._wait(next_line_at)

    def _plug(self) -> None:
        faults, age_s = self.faults, time.monotonic() - self._started_at
        vanished = faults.vanish_every_s > 0 and (
            age_s % (faults.vanish_every_s + faults.vanish_s) >= faults.vanish_every_s
        )
        if self._gone.is_set() or vanished:
            self._wire.close(self._selector)
            self._splitters.clear()
            self._pending.clear()
        else:
            with contextlib.suppress(OSError):  # its place is taken: tried again at the next tick
                self._wire.open(self._selector)
        self._settled.set()

    def _wait(self, next_line_at: float) -> None:
        until = time.monotonic() + TICK_S
        if self._instrument.stream:
            until = min(until, next_line_at)
        if self._pending:
            until = min(until, self._pending[0][0])
        wait_s = max(until - time.monotonic(), 0)
        if not self._selector.get_map():
            time.sleep(wait_s)
            return
        for key, _ in self._selector.select(wait_s):
            received = self._wire.receive(key.fd)
            if received is not None:
                self._hear(*received)

    def _hear(self, peer: Peer, data: bytes) -> None:
        instrument = self._instrument
        splitter = self._splitters.setdefault(peer, LineSplitter(instrument.prompt_terminator, PROMPT_BYTES_MAX))
        for line in splitter.feed(data):
            prompt = line.decode(instrument.encoding, errors="replace")
            if instrument.prompt_checksum:
                prompt = prompt[: -instrument.checksum.width - len(instrument.checksum.separator)]
            if instrument.echo:
                self._queue(peer, line + instrument.terminator, 0.0)
            text = instrument.answers.get(prompt, instrument.unknown)
            if text:
                values = self._values(time.monotonic() - self._started_at)
                self._say(peer, text.format(**values), instrument.answer_s)

    def _values(self, t_s: float) -> dict[str, float]:
        return {name: quantity(t_s) for name, quantity in self._instrument.quantities.items()}

    def _tell(self, t_s: float) -> None:
        first = next(iter(self._instrument.quantities))
        value = self._instrument.quantities[first](t_s)
        for reading in self._instrument.scenario.step(Reading(t_s, value)):
            values = {**self._values(reading.t_s), first: reading.value}
            for text in self._instrument.stream:
                for peer in self._wire.peers():
                    self._say(peer, text.format(**values), 0.0)

    def _say(self, peer: Peer, text: str, delay_s: float) -> None:
        faults, chance = self.faults, self._random.random
        instrument = self._instrument
        line = instrument.checksum.guard(text.encode(instrument.encoding), instrument.terminator)
        if chance() < faults.silent:
            return
        if chance() < faults.wrong_checksum:
            middle = len(text) // 2
            line = line[:middle] + bytes([line[middle] ^ 0x01]) + line[middle + 1 :]
        if chance() < faults.garbage:
            line = self._random.randbytes(GARBAGE_BYTES).replace(instrument.terminator, b"?") + instrument.terminator
        if chance() < faults.late:
            delay_s += faults.late_s
        self._queue(peer, line, delay_s)

    def _queue(self, peer: Peer, line: bytes, delay_s: float) -> None:
        if len(self._pending) < PENDING_MAX:
            heapq.heappush(self._pending, (time.monotonic() + delay_s, self._sent, peer, line))
            self._sent += 1

    def _send_due(self, now: float) -> None:
        while self._pending and self._pending[0][0] <= now:
            _, _, peer, line = heapq.heappop(self._pending)
            self._wire.send(peer, line)
