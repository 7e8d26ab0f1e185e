"""One thread per bus: opens it, polls what is due or listens, and keeps one device's trouble from the others.

* A bus that cannot be opened, or is lost, is opened again with back-off.
* A device that does not answer is left alone with back-off, so that a dead unit costs the others on its bus one timeout
  of its own, once per back-off. One that refuses some request answers, and keeps its schedule.
* A worker that crashes (a driver's bug) is reported with its traceback and starts over with back-off.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol, TypeGuard

from agent.acquisition.backoff import Backoff
from agent.acquisition.condition import Condition
from agent.acquisition.intake import Arrival, Intake
from agent.acquisition.roster import Roster
from agent.acquisition.schedule import FLUSH_S, Schedule, Task, flush_interval_s
from agent.acquisition.timekeeper import Timekeeper
from agent.logging import event_log
from drivers.api import Bus, Device, Driver, Exchange, ListeningBus, Point, PolledBus
from shared.clock import Clock
from shared.columns import TIMESTAMP_US_MAX
from shared.errors import InstrumentError, InstrumentUnavailable, InvalidAnswer, LabrelayError
from shared.readings import Samples

BUS_BACKOFF_S = (0.5, 15.0)
DEVICE_BACKOFF_S = (1.0, 30.0)
CRASH_BACKOFF_S = (1.0, 60.0)
IDLE_S = 60.0
CLOSE_S = 2.0
"""A poll under way at the stop may take so long before the port is closed under it."""

_log = event_log("worker")


class Pause(Protocol):
    """Waits, and says whether to stop; `threading.Event` is one."""

    def wait(self, timeout: float) -> bool:
        """True, at once, when it is time to stop; False after `timeout` seconds."""
        ...

    def is_set(self) -> bool:
        """Whether it is time to stop."""
        ...

    def set(self) -> None:
        """Make it time to stop."""
        ...


@dataclass(frozen=True, slots=True)
class Outlet:
    """What a bus's thread has for its samples: where they go and how they are marked."""

    intake: Intake
    roster: Roster
    clock: Clock

    def arrival(
        self, device: Device, samples: Samples, segment: int, flush_s: float, done: Future[None] | None = None
    ) -> Arrival:
        """Samples, at least one, marked with device, clock segment and deadline.

        Raises: InvalidAnswer for points and times that cannot be.
        """
        number = self.roster.number(device)
        if int(samples.point.max()) >= self.roster.points(number):
            raise InvalidAnswer("the driver returned a point that the device does not have", hint="report this")
        if int(samples.timestamp_us.min()) < 0 or int(samples.timestamp_us.max()) > TIMESTAMP_US_MAX:
            raise InvalidAnswer("the driver returned a time outside 1970 … 9999", hint="report this")
        return Arrival(number, samples, segment, self.clock.monotonic_s() + flush_s, done)


def listens(bus: Bus) -> TypeGuard[ListeningBus]:
    """Whether a bus delivers by itself."""
    return hasattr(bus, "listen")


def polls(bus: Bus) -> TypeGuard[PolledBus]:
    """Whether a bus answers when asked."""
    return hasattr(bus, "read")


class BusWorker:
    """Reads the devices of one bus until it is stopped.

    Args:
        conditions: one per device, in the same order.
        flush_s: per device, how long its readings may wait for others; None for what suits it.
    """

    def __init__(
        self,
        driver: Driver,
        conditions: Sequence[Condition],
        flush_s: Sequence[float | None],
        outlet: Outlet,
        *,
        pause: Pause | None = None,
    ) -> None:
        self._driver = driver
        self._conditions = list(conditions)
        self._devices = [condition.device for condition in conditions]
        self._flush_s = [
            flush_interval_s(device) if flush is None else flush
            for device, flush in zip(self._devices, flush_s, strict=True)
        ]
        self._listening_flush_s = [FLUSH_S if flush is None else flush for flush in flush_s]
        self._outlet = outlet
        self._timekeeper = Timekeeper(outlet.clock)
        self._pause: Pause = threading.Event() if pause is None else pause
        self._bus: Bus | None = None
        self._retry_at_s = [0.0] * len(self._devices)
        self._held_up = False
        self._backoffs = [Backoff(*DEVICE_BACKOFF_S) for _ in self._devices]
        self.name = self._devices[0].bus
        self.thread = threading.Thread(target=self.run, name=f"bus {self.name}", daemon=True)

    def run(self) -> None:
        """The thread: work, and after a crash start over, until stopped."""
        backoff = Backoff(*CRASH_BACKOFF_S)
        while not self._pause.is_set():
            try:
                self._work()
            except Exception as error:  # noqa: BLE001 - the supervisor's edge: a driver's bug must not end acquisition
                wait_s = backoff.next_s()
                _log.error("worker_crashed", bus=self.name, driver=self._driver.name, retry_s=wait_s, exc_info=error)
                for condition in self._conditions:
                    condition.failed(LabrelayError(f"the driver crashed: {error!r}"), waiting=True)
                self._pause.wait(wait_s)

    def stop(self) -> None:
        """Ask the thread to end. A listening bus is closed at once, a poll may finish; returns immediately."""
        self._pause.set()
        if self._bus is not None and listens(self._bus):
            self._bus.close()

    def join(self) -> bool:
        """Wait for the thread's end, closing the port under a poll that takes long. False if it does not end."""
        if self.thread.ident is None:  # never started
            return True
        self.thread.join(CLOSE_S)
        if self.thread.is_alive() and self._bus is not None:
            self._bus.close()
            self.thread.join(CLOSE_S)
        return not self.thread.is_alive()

    def _work(self) -> None:
        backoff = Backoff(*BUS_BACKOFF_S)
        while not self._pause.is_set():
            try:
                bus = self._driver.open(self._devices, self._timekeeper)
            except LabrelayError as error:
                self._lost(error)
            else:
                self._bus = bus
                try:
                    self._use(bus, backoff)
                except InstrumentError as error:
                    self._lost(error)
                finally:
                    self._bus = None
                    bus.close()
            self._pause.wait(backoff.next_s())

    def _use(self, bus: Bus, backoff: Backoff) -> None:
        if polls(bus):
            self._poll_until_lost(bus, backoff)
        elif listens(bus):
            self._listen(bus, backoff)

    def _listen(self, bus: ListeningBus, backoff: Backoff) -> None:
        with self._outlet.intake.listening(self.name):
            if self._pause.is_set():  # stopped before it could be closed
                return
            self._timekeeper.settle()
            bus.listen(
                WorkerSink(self._conditions, self._listening_flush_s, self._outlet, self._timekeeper, backoff.reset)
            )

    def _lost(self, error: LabrelayError) -> None:
        if not self._pause.is_set():
            for condition in self._conditions:
                condition.failed(error, waiting=True)

    def _poll_until_lost(self, bus: PolledBus, backoff: Backoff) -> None:
        """Raises: InstrumentUnavailable when the bus has to be opened again."""
        clock = self._outlet.clock
        schedule = Schedule(self._devices, clock.monotonic_s())
        while not self._pause.is_set():
            now_s = clock.monotonic_s()
            task = schedule.take(now_s)
            if task is None:
                self._pause.wait(min(schedule.next_due_s() - now_s, IDLE_S))
            elif now_s >= self._retry_at_s[task.device]:
                self._poll(bus, task, backoff)

    def _poll(self, bus: PolledBus, task: Task, backoff: Backoff) -> None:
        device, condition = self._devices[task.device], self._conditions[task.device]
        if task.overruns:
            condition.overran(task.overruns)
            self._count_missed(task)
        intake = self._outlet.intake
        with intake.reading(self.name):
            self._timekeeper.settle()
            exchange = _read(bus, device, task.points)
            segment = self._timekeeper.settle()
            if len(exchange.samples):
                arrival = self._outlet.arrival(device, exchange.samples, segment, self._flush_s[task.device])
                self._held_up = intake.put(arrival, abandoned=self._pause.is_set)
        if not exchange.errors or len(exchange.samples):
            backoff.reset()
        self._judge(task.device, exchange)

    def _count_missed(self, task: Task) -> None:
        """Polls that were skipped while the queue to the spool was full are readings that the spool's state cost."""
        if self._held_up:
            interval_s = self._devices[task.device].points[task.points[0]].interval_s
            from_us = self._outlet.clock.now_us() - round(task.overruns * interval_s * 1e6)
            self._outlet.intake.miss(task.overruns * len(task.points), from_us)

    def _judge(self, place: int, exchange: Exchange) -> None:
        """Note how the device did. Raises: InstrumentUnavailable when the bus is lost."""
        condition, samples = self._conditions[place], exchange.samples
        last_us = int(samples.timestamp_us.max()) if len(samples) else 0
        if not exchange.errors:
            self._backoffs[place].reset()
            condition.succeeded(len(samples), last_us, exchange.texts)
            return
        if self._pause.is_set():
            return
        error = exchange.errors[0]
        if len(samples) or exchange.texts:
            self._backoffs[place].reset()
            condition.partly_failed(len(samples), last_us, exchange.texts, error)
            return
        silent = any(error.retryable for error in exchange.errors)
        condition.failed(error, waiting=silent)
        if silent:
            self._retry_at_s[place] = self._outlet.clock.monotonic_s() + self._backoffs[place].next_s()
        for lost in exchange.errors:
            if isinstance(lost, InstrumentUnavailable):
                raise lost


def _read(bus: PolledBus, device: Device, points: tuple[int, ...]) -> Exchange:
    try:
        return bus.read(device, points)
    except InstrumentError as error:
        return Exchange(Samples.empty(), (error,))


class WorkerSink:
    """What a listening bus delivers to; see `drivers.api.Sink`."""

    def __init__(
        self,
        conditions: Sequence[Condition],
        flush_s: Sequence[float],
        outlet: Outlet,
        timekeeper: Timekeeper,
        heard: Callable[[], None],
    ) -> None:
        self._conditions = {condition.device.name: condition for condition in conditions}
        self._flush_s = {c.device.name: flush for c, flush in zip(conditions, flush_s, strict=True)}
        self._outlet = outlet
        self._timekeeper = timekeeper
        self._heard = heard

    def deliver(self, device: Device, samples: Samples) -> Future[None]:
        """Hand over readings; the future is done when they are committed. Raises: SpoolFull."""
        done: Future[None] = Future()
        segment = self._timekeeper.settle()
        if not len(samples):
            done.set_result(None)
            return done
        self._outlet.intake.offer(self._outlet.arrival(device, samples, segment, self._flush_s[device.name], done))
        self._heard()
        self._conditions[device.name].succeeded(len(samples), int(samples.timestamp_us.max()), {})
        return done

    def add_point(self, device: Device, point: Point) -> int:
        """The index of a new point. Raises: ConfigurationError."""
        return self._outlet.roster.add_point(device, point)

    def failed(self, device: Device, error: InstrumentError) -> None:
        """Note what could not be understood."""
        self._timekeeper.settle()
        self._conditions[device.name].failed(error)
