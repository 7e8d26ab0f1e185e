import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager

import pytest

from drivers.api import Device, ListeningBus, Point
from shared.errors import InstrumentError, SpoolFull
from shared.readings import Samples


class RecordingSink:
    """Keeps what a listening bus delivers; `full` makes it refuse."""

    def __init__(self) -> None:
        self.samples: list[Samples] = []
        self.errors: list[InstrumentError] = []
        self.full = False
        self._changed = threading.Condition()

    def deliver(self, device: Device, samples: Samples) -> Future[None]:
        if self.full:
            raise SpoolFull("the spool is full", hint="free some disk")
        with self._changed:
            self.samples.append(samples)
            self._changed.notify_all()
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def add_point(self, device: Device, point: Point) -> int:
        raise AssertionError("a line instrument adds no points")

    def failed(self, device: Device, error: InstrumentError) -> None:
        with self._changed:
            self.errors.append(error)
            self._changed.notify_all()

    def values(self, point: int = 0) -> list[float]:
        """All raw values of a point so far."""
        return [
            float(raw)
            for part in list(self.samples)
            for index, raw in zip(part.point, part.raw, strict=True)
            if index == point
        ]

    def wait(self, condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
        """Return when the condition holds. Raises: AssertionError after the timeout."""
        with self._changed:
            assert self._changed.wait_for(condition, timeout_s), (self.samples, self.errors)


@contextmanager
def listening(bus: ListeningBus, sink: RecordingSink) -> Iterator[list[BaseException]]:
    """Run `listen` in a thread; afterwards the bus is closed and the thread must end."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            bus.listen(sink)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield raised
    finally:
        bus.close()
        thread.join(timeout=5)
        assert not thread.is_alive()


@pytest.fixture
def sink() -> RecordingSink:
    return RecordingSink()


@pytest.fixture
def listen() -> Callable[[ListeningBus, RecordingSink], object]:
    return listening
